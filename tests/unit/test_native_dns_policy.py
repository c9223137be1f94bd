"""Name lists and rate limits in C; each test names the rule it proves."""

import dns.message
import dns.name
import dns.rcode

from toolips_udp._native import dns as native

SERVER = native.Server(secrets=())


def wire(name):
    return dns.name.from_text(name).to_wire()


def rules(*rows):
    return native.Rules([(wire(name), scope, action, number) for name, scope, action, number in rows])


def ask(name, rtype="A", **more):
    return native.Question.parse(SERVER, dns.message.make_query(name, rtype, **more).to_wire())


def test_p1_the_most_specific_rule_decides_and_allow_beats_block_at_one_name():
    made = rules(
        ("ads.example.", native.SUBTREE, native.NXDOMAIN, 1),
        ("good.ads.example.", native.SUBTREE, native.ALLOW, 2),
        ("bad.good.ads.example.", native.SUBTREE, native.REFUSED, 3),
        ("both.example.", native.EXACT, native.ALLOW, 4),
        ("both.example.", native.EXACT, native.NXDOMAIN, 5),
        ("must.example.", native.EXACT, native.ALLOW, 6),
        ("must.example.", native.EXACT, native.NXDOMAIN | native.IMPORTANT, 7),
    )
    for name, want in (
        ("ads.example.", (native.NXDOMAIN, 2, 1)),
        ("x.y.ADS.example.", (native.NXDOMAIN, 2, 1)),
        ("a.good.ads.example.", (native.ALLOW, 3, 2)),
        ("x.bad.good.ads.example.", (native.REFUSED, 4, 3)),
        ("both.example.", (native.ALLOW, 2, 4)),
        ("must.example.", (native.NXDOMAIN, 2, 7)),
        ("example.", None),
        ("xads.example.", None),
        ("sub.both.example.", None),
    ):
        assert made.find(wire(name)) == want, name


def test_p2_kinds_of_names_exact_below_and_subtree():
    made = rules(("e.test.", native.EXACT, native.NODATA, 0), ("b.test.", native.BELOW, native.NODATA, 0))
    assert made.find(wire("e.test.")) and not made.find(wire("a.e.test."))
    assert made.find(wire("a.b.test.")) and not made.find(wire("b.test."))


def test_p3_every_answer_and_its_extended_error():
    made = rules(
        *(
            (f"{n}.test.", native.SUBTREE, a, 0)
            for n, a in (
                ("nx", native.NXDOMAIN),
                ("nodata", native.NODATA),
                ("zero", native.ZERO),
                ("no", native.REFUSED),
                ("drop", native.DROP_IT),
                ("tcp", native.TCP_ONLY),
                ("ok", native.ALLOW),
            )
        )
    )

    def reply(name, rtype="A"):
        return dns.message.from_wire(made.reply(ask(name, rtype, use_edns=0), ede=17))

    nx = reply("a.nx.test.")
    assert nx.rcode() == 3 and nx.options[0].code == 17 and str(nx.authority[0].name) == "."
    assert nx.authority[0].ttl == 60 and reply("nodata.test.").rcode() == 0
    assert (
        str(reply("zero.test.").answer[0][0]) == "0.0.0.0"
        and str(reply("zero.test.", "AAAA").answer[0][0]) == "::"
    )
    assert not reply("zero.test.", "MX").answer and reply("zero.test.", "MX").authority
    assert reply("no.test.").rcode() == dns.rcode.REFUSED and reply("tcp.test.").flags & dns.flags.TC
    assert made.reply(ask("drop.test.")) == b""
    assert made.reply(ask("ok.test.")) is None and made.reply(ask("other.test.")) is None


def test_p5_a_rule_costs_at_most_100_octets_and_every_one_is_found():
    names = [b"\x08%08x\x07example\x03com\x00" % (i * 2654435761 % 2**32) for i in range(200_000)]
    made = native.Rules([(name, native.SUBTREE, native.NXDOMAIN, 1) for name in names])
    assert len(made) == 200_000 and made.size / len(made) <= 100
    assert all(made.find(b"\1a" + name) for name in names[::997])
    assert not any(made.find(b"\x09%09d\x07example\x03com\x00" % i) for i in range(2000))


SMALL = 3
PASSED = (0, SMALL)  # answered; SMALL: with at most three times the octets of the question


def test_7_2_an_address_gets_its_rate_and_burst_and_then_every_second_reply_slips():
    limit = native.RateLimit(50, 125, slots=1024)
    here = bytes([192, 0, 2, 1])
    assert [limit.take(here, 1.0) for _ in range(125)] == [0] * 117 + [SMALL] * 8
    assert [limit.take(here, 1.0) for _ in range(6)] == [1, 2, 1, 2, 1, 2]
    assert limit.take(here, 1.021) == SMALL and limit.take(here, 1.021) not in PASSED
    assert sum(limit.take(here, 2.021 + i / 1000) in PASSED for i in range(1000)) in range(95, 103)


def test_7_2_prefixes_have_multiples_of_the_rate():
    limit = native.RateLimit(50, 125, slip=0, slots=524288)
    passed = sum(limit.take(bytes([198, 51, 100, i % 256]), 5.0) in PASSED for i in range(256 * 100))
    assert passed in range(3900, 4001)  # 32 x 125 for a /24
    six = sum(
        limit.take(bytes.fromhex("20010db8000000000000") + i.to_bytes(6, "big"), 5.0) in PASSED
        for i in range(1000)
    )
    assert six in range(245, 251)  # 2 x 125 for a /64
    assert limit.take(bytes([203, 0, 113, 1]), 5.0) == 0


def test_7_2_memory_does_not_grow_with_the_number_of_sources():
    limit = native.RateLimit(slots=4096)
    for i in range(100_000):
        limit.take((i * 2654435761 % 2**32).to_bytes(4, "big"), 1.0 + i / 1e6)
    assert limit.take(bytes([10, 0, 0, 1]), 100.0) == 0
