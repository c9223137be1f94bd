"""Names: wire form, escapes, limits (spec N1, N2, N6)."""

import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolips_udp.dns import names
from toolips_udp.errors import FormatError

labels = st.lists(st.binary(min_size=1, max_size=20), max_size=8)


@given(labels)
def test_any_octets_in_labels_survive_the_way_to_text_and_back(parts):
    wire = names.join(parts)
    assert names.from_text(names.to_text(wire)) == wire
    assert names.split(wire) == tuple(parts)
    assert dns.name.from_text(names.to_text(wire)).to_wire() == wire


@given(labels, labels)
def test_enclosing_is_decided_by_whole_labels(a, b):
    zone, name = names.join(a), names.join(b)
    assert names.encloses(zone, name) == (b[len(b) - len(a) :] == a if len(a) <= len(b) else False)


def test_a_suffix_of_octets_that_is_no_suffix_of_labels_does_not_enclose():
    zone = names.from_text("com.")
    assert not names.encloses(zone, names.join([b"ab\3com"]))


@pytest.mark.parametrize("text", ["a..b", "." * 2, "x" * 64 + ".org", "a." * 128, r"a\99.", r"a\256.", "a\\"])
def test_a_malformed_name_is_refused_with_the_reason(text):
    with pytest.raises(FormatError, match=r"expected|at most"):
        names.from_text(text)


def test_a_name_of_255_octets_is_accepted_and_of_256_refused():
    longest = ".".join(["x" * 63] * 3 + ["x" * 61]) + "."
    assert len(names.from_text(longest)) == 255
    with pytest.raises(FormatError):
        names.from_text(".".join(["x" * 63] * 3 + ["x" * 62]) + ".")


def test_relative_names_are_completed_and_at_is_the_origin():
    origin = names.from_text("example.org.")
    assert names.from_text("@", origin) == origin
    assert names.from_text("a.b", origin) == names.from_text("a.b.example.org.")
    with pytest.raises(FormatError, match="relative"):
        names.from_text("a", None)


@pytest.mark.parametrize(
    "wire", [b"", b"\1a", b"\1a\0x", b"\x40" + b"a" * 64 + b"\0", b"\xc0\x0c", (b"\1a" * 127) + b"\1a\0"]
)
def test_octets_that_are_not_one_plain_name_are_refused(wire):
    with pytest.raises(FormatError):
        names.check(wire)
