"""C reads lists as Python does: the plain lines itself, the others by handing them back."""

from __future__ import annotations

import random

import pytest

from toolips_udp.dns import lists, namelist, names
from toolips_udp.dns.lists import NameList

PIECES = [
    "0.0.0.0 ads.net", "127.0.0.1 localhost www.Ads.net # mine", "::1 ip6-localhost", "0.0.0.0 b..ad good.org",
    "0.0.0.0", "0.0.0.0 @", "0.0.0.0 grün.de", "0.0.0.0 a\\.b.net", "0.0.0.0 tab\tnext.org", "ads.net", "*.Track.org",
    "*.", ".", "@", "api.org.", "api.org..", "a" * 63 + ".net", "a" * 64 + ".net", ".".join(["x" * 60] * 5),
    "||ads.net^", "@@||www.ads.net^", "@@good.org", "||ads.net^$important", "||x.org^$third-party", "|one.org|",
    "||two*.org^", "||t.org^|", "/banner/", "@@", "||^", "www.two.org^", "# note", "! note", "; note", "[Adblock]", "",
    "   ", "x.org # y", "x.org#y", "grün.org", "a\x0bb.org", "\u2028.org", "a b c d", "q\x7f.org",
]  # fmt: skip
ENDS = ["\n", "\r\n", "\n\n", " \n", "\t\r\n"]


def described(found: NameList) -> tuple[object, ...]:
    tables = (found.exact, found.below, found.allow_exact, found.allow_below)
    asked = {names.fold(names.from_text(text)) for text in WORDS}
    return (
        found.kind,
        found.count,
        found.unsupported,
        [len(table) for table in tables],
        [(name, [table.find(name) for table in tables]) for name in sorted(asked)],
        [(name, found.match(name, 1, "192.0.2.1")) for name in sorted(asked)],
    )


WORDS = (
    "ads.net www.ads.net x.www.ads.net good.org track.org a.track.org api.org next.org x.org tab one.org two.org"
    " t.org www.two.org xn--grn-hoa.org xn--grn-hoa.de a b localhost"
).split()


@pytest.mark.parametrize("seed", range(60))
def test_a_list_means_the_same_to_c_and_to_python(monkeypatch, seed):
    dice = random.Random(seed)
    lead = ["0.0.0.0 first.net\n", "first.net\n", "||first.net^\n"][seed % 3]
    text = lead + "".join(dice.choice(PIECES) + dice.choice(ENDS) for _ in range(dice.randrange(60)))
    in_c = described(NameList.read(text))
    monkeypatch.setattr(lists, "native", None)
    monkeypatch.setattr(lists, "NameSet", namelist.NameSet)
    assert in_c == described(NameList.read(text))


def test_of_two_lines_for_one_name_the_first_is_named():
    found = NameList.read("0.0.0.0 a.net\n0.0.0.0 b.net a.net\n", "ads.txt")
    assert str(found.match(names.from_text("a.net"), 1, "192.0.2.1")) == "ads.txt:1"


def test_a_list_of_no_lines_holds_no_rules():
    found = NameList.read(b"")
    assert found.count == 0 and found.match(names.from_text("a.net"), 1, "192.0.2.1") is None
