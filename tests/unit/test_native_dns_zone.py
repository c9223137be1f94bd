"""Answers from the zone image; each test names the rule it proves."""

import base64
import hashlib
import os
import struct

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.zone
import pytest

from toolips_udp._native import dns as native
from toolips_udp.errors import FormatError

SERVER = native.Server(secrets=())
SOA = "@ 300 SOA ns1 admin 7 3600 600 86400 60\n@ 300 NS ns1\nns1 300 A 192.0.2.53\n"


def rrsets(text, origin):
    zone = dns.zone.from_text(text, origin, relativize=False, check_origin=False)
    for name, rdataset in zone.iterate_rdatasets():
        yield name.to_wire(), int(rdataset.rdtype), rdataset.ttl, [r.to_wire() for r in rdataset]


def image(text, origin="example."):
    return native.build_image(dns.name.from_text(origin).to_wire(), rrsets(text, origin))


def zones(text, origin="example."):
    return native.Zones([image(text, origin)])


def ask(where, name, rtype="A", *, flags=0, stream=False, size=1232, edns=0, do=False, options=()):
    query = dns.message.make_query(
        name, rtype, flags=flags, use_edns=edns, payload=size, want_dnssec=do, options=options
    )
    q = native.Question.parse(SERVER, query.to_wire(), stream=stream)
    assert q.verdict == 0
    wire = where.answer(q)
    return None if wire is None else dns.message.from_wire(wire)


def lines(section):
    return sorted(f"{r.name} {r.ttl} {dns.rdatatype.to_text(r.rdtype)} {d}" for r in section for d in r)


def types(section):
    return sorted((str(r.name), dns.rdatatype.to_text(r.rdtype)) for r in section)


def aa(reply):
    return bool(reply.flags & dns.flags.AA)


def test_a1_a_wildcard_is_used_at_the_closest_encloser_only():
    z = zones(SOA + "*.w 60 A 192.0.2.1\nb.w 60 TXT x\n*.w 60 MX 5 mail.w\nx.ent.w 60 A 192.0.2.2\n")
    assert lines(ask(z, "Any.thing.w.example.").answer) == ["Any.thing.w.example. 60 A 192.0.2.1"]
    assert lines(ask(z, "q.w.example.", "MX").answer) == ["q.w.example. 60 MX 5 mail.w.example."]
    assert ask(z, "a.b.w.example.").rcode() == dns.rcode.NXDOMAIN
    assert ask(z, "a.ent.w.example.").rcode() == dns.rcode.NXDOMAIN
    assert (ask(z, "ent.w.example.").rcode(), ask(z, "ent.w.example.").answer) == (0, [])
    assert lines(ask(z, "*.w.example.").answer) == ["*.w.example. 60 A 192.0.2.1"]
    assert ask(z, "q.w.example.", "AAAA").rcode() == 0


def test_a2_ds_belongs_to_the_parent_and_the_child_denies_it_with_its_own_soa():
    parent = image(SOA + "sub 60 NS ns1.sub\nns1.sub 60 A 192.0.2.9\nsub 60 DS 1 13 2 " + "00" * 32 + "\n")
    child = image(SOA, "sub.example.")
    both = native.Zones([parent, child])
    assert types(ask(both, "sub.example.", "DS").answer) == [("sub.example.", "DS")]
    assert types(ask(native.Zones([parent]), "sub.example.", "DS").answer) == [("sub.example.", "DS")]
    alone = ask(native.Zones([child]), "sub.example.", "DS")
    assert aa(alone) and not alone.answer and types(alone.authority) == [("sub.example.", "SOA")]
    assert types(ask(both, "sub.example.", "SOA").answer) == [("sub.example.", "SOA")]
    referral = ask(native.Zones([parent]), "www.sub.example.")
    assert not aa(referral) and lines(referral.additional) == ["ns1.sub.example. 60 A 192.0.2.9"]


def test_a3_dname_rewrites_below_its_owner_and_too_long_is_yxdomain():
    z = zones(
        SOA
        + "d 60 DNAME t.example.\na.t 60 A 192.0.2.3\nd 60 TXT own\nlong 60 DNAME "
        + ".".join(["x" * 60] * 3)
        + ".\n"
    )
    assert lines(ask(z, "A.d.example.").answer) == [
        "A.d.example. 60 CNAME A.t.example.",
        "A.t.example. 60 A 192.0.2.3",
        "d.example. 60 DNAME t.example.",
    ] or lines(ask(z, "A.d.example.").answer) == [
        "A.d.example. 60 CNAME A.t.example.",
        "a.t.example. 60 A 192.0.2.3",
        "d.example. 60 DNAME t.example.",
    ]
    assert lines(ask(z, "d.example.", "TXT").answer) == ['d.example. 60 TXT "own"']
    assert ask(z, "y" * 63 + "." + "z" * 40 + ".long.example.").rcode() == dns.rcode.YXDOMAIN


def test_a4_a_chain_takes_the_rcode_of_its_last_name_and_crosses_zones():
    a = image(
        SOA
        + "c 60 CNAME d\nd 60 CNAME www.other.\nn 60 CNAME gone\nout 60 CNAME x.elsewhere.\nl 60 CNAME l\n"
        "cut 60 NS ns1\nt 60 CNAME www.cut\n"
    )
    b = image(SOA + "www 60 A 192.0.2.8\n", "other.")
    z = native.Zones([a, b])
    assert len(ask(z, "c.example.").answer) == 3
    gone = ask(z, "n.example.")
    assert gone.rcode() == 3 and aa(gone) and types(gone.authority) == [("example.", "SOA")]
    left = ask(z, "out.example.")
    assert left.rcode() == 0 and len(left.answer) == 1 and not left.authority
    assert len(ask(z, "l.example.").answer) == 1
    cut = ask(z, "t.example.")
    assert aa(cut) and types(cut.authority) == [("cut.example.", "NS")]
    assert ask(z, "www.nowhere.") is None


def test_a5_a7_negative_answers_carry_the_soa_with_the_lower_ttl():
    z = zones(SOA + "a.b 60 A 192.0.2.1\n")
    for name, rcode in (("b.example.", 0), ("a.b.example.", 0), ("x.example.", 3), ("x.a.b.example.", 3)):
        reply = ask(z, name, "TXT")
        assert (reply.rcode(), aa(reply), reply.authority[0].ttl) == (rcode, True, 60)
        assert types(reply.authority) == [("example.", "SOA")] and not reply.answer


def test_a6_service_records_bring_the_addresses_of_their_targets():
    z = zones(
        SOA + "@ 60 HTTPS 1 . alpn=h2\n@ 60 A 192.0.2.1\n@ 60 AAAA 2001:db8::1\nsvc 60 HTTPS 0 pool\n"
        "pool 60 HTTPS 1 back alpn=h3\nback 60 A 192.0.2.4\npool 60 A 192.0.2.5\nloop 60 SVCB 0 loop\n"
    )
    assert types(ask(z, "example.", "HTTPS").additional) == [("example.", "A"), ("example.", "AAAA")]
    assert types(ask(z, "svc.example.", "HTTPS").additional) == [
        ("back.example.", "A"),
        ("pool.example.", "A"),
        ("pool.example.", "HTTPS"),
    ]
    assert len(ask(z, "loop.example.", "SVCB").answer) == 1
    assert not ask(zones(SOA + "m 60 MX 1 ns1\n"), "m.example.", "MX").additional


def test_a8_an_rrset_has_one_ttl_and_repeated_records_count_once():
    origin = dns.name.from_text("example.").to_wire()
    made = native.build_image(
        origin,
        [
            *rrsets(SOA, "example."),
            (b"\1a" + origin, 1, 90, [b"abcd"]),
            (b"\1A" + origin, 1, 30, [b"abcd", b"efgh"]),
            (b"\3org\0", 1, 1, [b"abcd"]),
        ],
    )
    assert lines(ask(native.Zones([made]), "a.example.").answer) == [
        "a.example. 30 A 101.102.103.104",
        "a.example. 30 A 97.98.99.100",
    ]
    assert made.ignored == 2 and made.records == 5 and made.serial == 7 and made.negative_ttl == 60


def test_a_zone_that_is_not_loaded_gets_servfail_with_its_ede():
    z = native.Zones([(b"\4late\0", 14), (b"\3old\0", 24)])
    for name, code in (("x.late.", 14), ("old.", 24)):
        reply = ask(z, name)
        assert reply.rcode() == 2 and not aa(reply) and reply.options[0].code == code


def test_e3_optional_addresses_are_left_out_and_missing_glue_sets_tc():
    many = "".join(
        f"sub 60 NS n{i:02}.sub\nn{i:02}.sub 60 A 192.0.2.{i}\nn{i:02}.sub 60 AAAA 2001:db8::{i}\n"
        for i in range(12)
    )
    z = zones(SOA + many)
    short = ask(z, "www.sub.example.", edns=-1)
    assert short.flags & dns.flags.TC and not short.authority and not short.additional
    assert len(ask(z, "www.sub.example.").additional) == 24
    sibling = "".join(
        f"sub 60 NS n{i:02}\nn{i:02} 60 A 192.0.2.{i}\nn{i:02} 60 AAAA 2001:db8::{i}\n" for i in range(12)
    )
    cut = ask(zones(SOA + sibling), "www.sub.example.", edns=-1)
    assert not cut.flags & dns.flags.TC and len(cut.authority[0]) == 12 and 0 < len(cut.additional) < 24


def test_e3_e4_a_large_rrset_is_truncated_over_udp_and_whole_over_streams():
    z = zones(SOA + "".join(f"big 60 TXT {'x' * 200}{i}\n" for i in range(90)))
    for size in (512, 1232, 65535):
        reply = ask(z, "big.example.", "TXT", size=size)
        assert reply.flags & dns.flags.TC and not reply.answer and aa(reply)
    assert len(ask(z, "big.example.", "TXT", stream=True).answer[0]) == 90
    too_big = zones(SOA + "".join(f"big 60 TXT {'x' * 250}{i:03}\n" for i in range(300)))
    assert ask(too_big, "big.example.", "TXT", stream=True).rcode() == 2


def test_e9_any_gives_the_smallest_rrset_or_the_cname():
    z = zones(
        SOA + f"h 60 TXT {'x' * 99}\nh 60 A 192.0.2.1\nh 60 MX 1 ns1\nc 60 CNAME h\n*.w 60 A 192.0.2.2\n"
    )
    assert types(ask(z, "h.example.", "ANY").answer) == [("h.example.", "A")]
    assert types(ask(z, "c.example.", "ANY").answer) == [("c.example.", "CNAME")]
    assert types(ask(z, "q.w.example.", "ANY").answer) == [("q.w.example.", "A")]
    assert ask(z, "h.example.", "RRSIG").rcode() == 0 and not ask(z, "h.example.", "RRSIG").answer


def test_the_question_is_echoed_in_its_own_case_and_other_names_keep_theirs():
    z = zones(SOA + "Www 60 CNAME Target\ntarget 60 A 192.0.2.1\n")
    reply = ask(z, "wWW.eXample.")
    assert str(reply.question[0].name) == "wWW.eXample." and str(reply.answer[0].name) == "wWW.eXample."
    assert str(reply.answer[0][0]).startswith("Target.")


# -- DNSSEC: a zone with made-up signatures is enough to see which records are sent


def signature(covered):
    return f"RRSIG {covered} 13 2 60 20300101000000 20200101000000 1 example. AAAA"


def signed(text, denial):
    """Adds a signature to every RRset of the authoritative names and the records of `denial`."""
    body = SOA + text + denial
    zone = dns.zone.from_text(body, "example.", relativize=False, check_origin=False)
    for name, rdataset in list(zone.iterate_rdatasets()):
        kind = dns.rdatatype.to_text(rdataset.rdtype)
        below_cut = name.is_subdomain(dns.name.from_text("cut.example.")) or str(name) in (
            "safe.example.",
            "ns.safe.example.",
        )
        if not below_cut or kind in ("DS", "NSEC"):
            body += f"{name} {rdataset.ttl} {signature(kind)}\n"
    return image(body)


NSEC_ZONE = signed(
    "a 60 A 192.0.2.1\nx.ent 60 A 192.0.2.2\n*.w 60 A 192.0.2.3\nb.w 60 A 192.0.2.4\nd 60 DNAME a\n"
    "cut 60 NS ns.cut\nns.cut 60 A 192.0.2.6\nsafe 60 NS ns.safe\nns.safe 60 A 192.0.2.7\nsafe 60 DS 1 13 2 "
    + "11" * 32
    + "\n",
    "".join(
        f"{a}.example. 60 NSEC {b}.example. A\n".replace("@.", "")
        for a, b in [
            ("@", "a"),
            ("a", "cut"),
            ("cut", "d"),
            ("d", "x.ent"),
            ("x.ent", "ns1"),
            ("ns1", "safe"),
            ("safe", "*.w"),
            ("*.w", "b.w"),
            ("b.w", "@"),
        ]
    ),
)


def proofs(reply, kind="NSEC"):
    return sorted(str(r.name) for r in reply.authority if dns.rdatatype.to_text(r.rdtype) == kind)


def every_set_is_signed(section):
    covered = {(r.name, d.type_covered) for r in section if r.rdtype == 46 for d in r}
    return all((r.name, r.rdtype) in covered for r in section if r.rdtype != 46)


def test_nsec_proofs_of_table_3_2():
    assert NSEC_ZONE.signed == "nsec"
    z = native.Zones([NSEC_ZONE])
    for name, rtype, rcode, wanted in (
        ("a.example.", "TXT", 0, ["a.example."]),
        ("ent.example.", "A", 0, ["d.example."]),
        ("n.example.", "A", 3, ["example.", "x.ent.example."]),
        ("c.a.example.", "A", 3, ["a.example."]),
        ("q.w.example.", "A", 0, ["b.w.example."]),
        ("q.w.example.", "TXT", 0, ["*.w.example.", "b.w.example."]),
        ("www.cut.example.", "A", 0, ["cut.example."]),
        ("cut.example.", "DS", 0, ["cut.example."]),
    ):
        reply = ask(z, name, rtype, do=True)
        assert (reply.rcode(), proofs(reply)) == (rcode, wanted), name
        if not name.endswith("www.cut.example."):
            assert every_set_is_signed(reply.authority)
        assert every_set_is_signed(reply.answer)
        assert not proofs(ask(z, name, rtype)) and all(r.rdtype != 46 for r in ask(z, name, rtype).answer)


def test_signatures_travel_with_their_sets_only_under_do():
    z = native.Zones([NSEC_ZONE])
    assert types(ask(z, "a.example.", do=True).answer) == [("a.example.", "A"), ("a.example.", "RRSIG")]
    safe = ask(z, "www.safe.example.", do=True)
    assert types(safe.authority) == [
        ("safe.example.", "DS"),
        ("safe.example.", "NS"),
        ("safe.example.", "RRSIG"),
    ]
    assert types(ask(z, "www.safe.example.").authority) == [("safe.example.", "NS")]
    dname = ask(z, "q.d.example.", do=True)
    assert types(dname.answer)[:3] == [
        ("d.example.", "DNAME"),
        ("d.example.", "RRSIG"),
        ("q.d.example.", "CNAME"),
    ]
    assert types(ask(z, "a.example.", "ANY", do=True).answer) == [
        ("a.example.", "A"),
        ("a.example.", "RRSIG"),
    ]
    assert [t for _, t in types(ask(z, "a.example.", "RRSIG").answer)] == ["RRSIG"]
    assert types(ask(z, "a.example.", "NSEC", do=True).answer) == [
        ("a.example.", "NSEC"),
        ("a.example.", "RRSIG"),
    ]


def hashed(name):
    digest = hashlib.sha1(dns.name.from_text(name).canonicalize().to_wire()).digest()
    return base64.b32hexencode(digest).decode().lower()


def nsec3_zone(names, text):
    chain = sorted(hashed(n) for n in names)
    denial = "@ 0 NSEC3PARAM 1 0 0 -\n"
    for i, owner in enumerate(chain):
        denial += f"{owner} 60 NSEC3 1 1 0 - {chain[(i + 1) % len(chain)]} A\n"
    return signed(text, denial)


def test_nsec3_proofs_of_table_3_2():
    names = [
        "example.",
        "a.example.",
        "ent.example.",
        "x.ent.example.",
        "ns1.example.",
        "w.example.",
        "*.w.example.",
        "safe.example.",
    ]
    made = nsec3_zone(
        names,
        "a 60 A 192.0.2.1\nx.ent 60 A 192.0.2.2\n*.w 60 A 192.0.2.3\ncut 60 NS ns.cut\n"
        "ns.cut 60 A 192.0.2.6\nsafe 60 NS ns.cut\n",
    )
    assert made.signed == "nsec3"
    z, chain = native.Zones([made]), sorted(hashed(n) for n in names)

    def covers(name):
        smaller = [h for h in chain if h < hashed(name)]
        return (smaller or chain)[-1]

    for name, rtype, rcode, wanted in (
        ("a.example.", "TXT", 0, {hashed("a.example.")}),
        ("ent.example.", "A", 0, {hashed("ent.example.")}),
        ("n.example.", "A", 3, {hashed("example."), covers("n.example."), covers("*.example.")}),
        ("b.c.a.example.", "A", 3, {hashed("a.example."), covers("c.a.example."), covers("*.a.example.")}),
        ("q.w.example.", "A", 0, {covers("q.w.example.")}),
        ("q.w.example.", "TXT", 0, {hashed("w.example."), covers("q.w.example."), hashed("*.w.example.")}),
        ("www.safe.example.", "A", 0, {hashed("safe.example.")}),
        ("www.cut.example.", "A", 0, {hashed("example."), covers("cut.example.")}),
        ("cut.example.", "DS", 0, {hashed("example."), covers("cut.example.")}),
    ):
        reply = ask(z, name, rtype, do=True)
        assert (reply.rcode(), set(proofs(reply, "NSEC3"))) == (rcode, {f"{h}.example." for h in wanted}), (
            name
        )


def test_a_set_of_zones_finds_the_longest_and_holds_ten_thousand():
    many = [
        image("@ 60 SOA a b 1 2 3 4 5\nwww 60 TXT " + str(i) + "\n", f"z{i}.example.") for i in range(300)
    ]
    z = native.Zones([image(SOA + "www.z7 60 TXT lost\n"), *many])
    assert len(z) == 301
    for i in (0, 7, 299):
        assert lines(ask(z, f"www.z{i}.example.", "TXT").answer) == [f'www.z{i}.example. 60 TXT "{i}"']
    assert types(ask(z, "www.z300.example.").authority) == [("example.", "SOA")]
    with pytest.raises(ValueError, match="twice"):
        native.Zones([many[0], many[0]])


def test_the_root_zone_is_served():
    z = zones("@ 60 SOA a. b. 1 2 3 4 5\norg. 60 NS ns.org.\nns.org. 60 A 192.0.2.1\n", ".")
    assert types(ask(z, "www.org.").authority) == [("org.", "NS")]
    assert ask(z, "net.").rcode() == 3 and types(ask(z, ".", "SOA").answer) == [(".", "SOA")]


def test_an_image_is_shared_sealed_and_attached_by_another():
    made = image(SOA + "www 60 A 192.0.2.1\n")
    fd = made.share()
    try:
        with pytest.raises(OSError):
            os.write(fd, b"x")
        again = native.Image.attach(fd)
    finally:
        os.close(fd)
    assert list(again) == list(made) and lines(ask(native.Zones([again]), "www.example.").answer)
    with open("/dev/zero", "rb") as zero, pytest.raises(FormatError):
        native.Image.attach(zero.fileno())


def test_an_image_gives_its_rrsets_back():
    text = SOA + "Www 60 MX 1 Mail\nwww 60 MX 2 mail\nx.y 60 TXT a b\n"
    given = {(o.lower(), t, ttl, tuple(sorted(d))) for o, t, ttl, d in rrsets(text, "example.")}
    assert {(o.lower(), t, ttl, tuple(sorted(d))) for o, t, ttl, d in image(text)} == given
    signed_sets = [(t, len(d)) for _, t, _, d in NSEC_ZONE]
    assert signed_sets.count((46, 1)) > 10 and next(iter(NSEC_ZONE))[1] in (1, 2, 6)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([], "no SOA"),
        ([(b"\2ex\0", 6, 1, [bytes(22), b"\0\0" + b"\1" * 20])], "two different SOA"),
        ([(b"\2ex\0", 1, 1, [b"abc"])], "rdata"),
        ([(b"\3exx", 1, 1, [b"abcd"])], "wire name"),
    ],
)
def test_a_zone_that_cannot_be_served_says_why(extra, message):
    with pytest.raises(FormatError, match=message):
        native.build_image(b"\2ex\0", extra)


def test_the_same_question_with_and_without_edns_and_do_in_any_order():
    z = native.Zones([NSEC_ZONE])
    for _ in range(2):
        for edns, do in ((-1, False), (0, False), (0, True), (0, False), (-1, False)):
            reply = ask(z, "a.example.", edns=edns, do=do)
            assert reply.edns == edns and len(reply.answer) == (2 if do else 1)
            assert bool(reply.ednsflags & 0x8000) == do


def test_a_hundred_thousand_records_build_quickly_and_all_answer():
    origin = b"\3big\0"
    sets = [(origin, 6, 60, [b"\0\0" + struct.pack("!5I", 1, 2, 3, 4, 5)])]
    sets += [(b"\6%06d" % i + origin, 1, 60, [struct.pack("!I", i)]) for i in range(100_000)]
    made = native.build_image(origin, sets)
    assert made.records == 100_001
    z = native.Zones([made])
    for i in range(0, 100_000, 7777):
        q = native.Question.parse(SERVER, struct.pack("!6H", 1, 0, 1, 0, 0, 0) + sets[i + 1][0] + b"\0\1\0\1")
        assert z.answer(q).endswith(struct.pack("!I", i))
