"""The C message layer through its Python face; each test names the rule it proves."""

import struct

import dns.edns
import dns.message
import dns.name
import dns.rdata
import dns.rrset
import pytest

from toolips_udp._native import dns as native
from toolips_udp.errors import FormatError

SERVER = native.Server(id=b"ns1", secrets=(bytes(16),))
PLAIN = native.Server(secrets=())


def header(*, ident=0x1234, flags=0, qd=1, an=0, ns=0, ar=0):
    return struct.pack("!6H", ident, flags, qd, an, ns, ar)


def question(name=b"\3www\7example\0", qtype=1, qclass=1):
    return name + struct.pack("!2H", qtype, qclass)


def opt(options=b"", *, size=1232, ttl=0, owner=b"\0"):
    return owner + struct.pack("!HHIH", 41, size, ttl, len(options)) + options


def option(code, data=b""):
    return struct.pack("!2H", code, len(data)) + data


def ask(data, server=PLAIN, **more):
    return native.Question.parse(server, data, **more)


def reply_to(data, server=PLAIN, **more):
    return ask(data, server, **more).refuse()


def test_a_plain_question_is_read():
    q = ask(header(flags=0x0110) + question(b"\3wWw\7Example\0", 28))
    assert (q.verdict, q.id, q.name, q.labels, q.qtype, q.klass) == (
        0,
        0x1234,
        "www.example.",
        ("www", "example"),
        28,
        1,
    )
    assert q.wire_name == b"\3wWw\7Example\0" and q.folded == b"\3www\7example\0"
    assert q.recursion_desired and q.checking_disabled and not q.has_edns and q.udp_size == 512


def test_m2_counts_that_cannot_be_true_are_formerr():
    for an, ns, ar in ((65535, 65535, 65535), (0, 0, 65535), (65535, 0, 0), (0, 65535, 0)):
        assert reply_to(header(an=an, ns=ns, ar=ar) + question())[3] & 15 == 1


def test_m1_a_hundred_options_pass_and_one_more_is_formerr():
    many = option(65001) * 100
    assert ask(header(ar=1) + question() + opt(many)).verdict == 0
    assert ask(header(ar=1) + question() + opt(many + option(65001))).verdict == 1
    assert ask(header(ar=1) + question() + opt(option(65001) * 16000)).verdict == 1


@pytest.mark.parametrize("first", range(256))
def test_n1_every_length_octet(first):
    q = ask(
        header() + bytes([first]) + b"a" * 63 + b"\0" + b"\0\1\0\1"
        if first < 64
        else header() + bytes([first]) + b"a" * 80
    )
    if first == 63:
        assert q.verdict == 0
    elif first > 63:
        assert q.verdict == 1


def test_n1_a_label_may_hold_any_octet_and_is_escaped_when_printed():
    for octet in range(256):
        q = ask(header() + question(bytes([1, octet, 0])))
        assert q.verdict == 0
        assert dns.name.from_text(q.name).labels[0].lower() == bytes([octet]).lower()
    assert ask(header() + question(b"\0")).name == "."


def test_n2_names_of_255_octets_and_127_labels_are_the_longest():
    label = b"\x3f" + b"a" * 63
    assert ask(header() + question(label * 3 + b"\x3d" + b"b" * 61 + b"\0")).verdict == 0
    assert ask(header() + question(label * 3 + b"\x3e" + b"b" * 62 + b"\0")).verdict == 1
    assert ask(header() + question(b"\1a" * 127 + b"\0")).verdict == 0
    assert ask(header() + question(b"\1a" * 128 + b"\0")).verdict == 1


def test_n2_a_name_that_is_too_long_only_behind_the_pointer_is_malformed():
    long = b"\x3f" + b"a" * 63
    qname = long * 3 + b"\x3d" + b"b" * 61 + b"\0"
    message = (
        header(flags=0x8000, an=1)
        + question(qname)
        + b"\1x\xc0\x0c"
        + struct.pack("!HHIH", 1, 1, 0, 4)
        + b"\1\2\3\4"
    )
    with pytest.raises(FormatError):
        native.read_message(message)


def test_n3_no_pointer_value_at_any_place_loops_or_reads_outside():
    base = bytearray(
        header(flags=0x8000, an=1)
        + question()
        + b"\1a\1b\1c\0"
        + struct.pack("!HHIH", 1, 1, 0, 4)
        + b"\1\2\3\4"
        + b"\0" * 9
    )
    for at in range(12, len(base) - 1, 3):
        for value in range(0, 65536, 7):
            message = base.copy()
            message[at : at + 2] = struct.pack("!H", value)
            ask(bytes(message[:2] + b"\0\0" + message[4:]))
            try:
                native.read_message(bytes(message))
            except FormatError:
                pass


def test_n3_a_forward_or_own_pointer_is_refused():
    for target in (29, 30, 0, 11, 500):
        owner = struct.pack("!H", 0xC000 | target)
        message = (
            header(flags=0x8000, an=1) + question() + owner + struct.pack("!HHIH", 1, 1, 0, 4) + b"\1\2\3\4"
        )
        with pytest.raises(FormatError):
            native.read_message(message)


def test_n4_a_compressed_question_is_formerr():
    assert reply_to(header() + b"\xc0\x0c\0\1\0\1") == header(flags=0x8001, qd=0)


def test_n5_compressed_rdata_is_taken_for_old_types_only():
    def message(rtype, rdata):
        return (
            header(flags=0x8000, an=1)
            + question()
            + b"\xc0\x0c"
            + struct.pack("!HHIH", rtype, 1, 9, len(rdata))
            + rdata
        )

    for rtype, rdata, want in (
        (2, b"\xc0\x10", b"\7example\0"),
        (33, b"\0\1\0\2\0\3\xc0\x10", b"\0\1\0\2\0\3\7example\0"),
    ):
        assert native.read_message(message(rtype, rdata)) == [(1, b"\3www\7example\0", rtype, 1, 9, want)]
    for rtype, rdata in ((39, b"\xc0\x10"), (47, b"\xc0\x10\0\1\1"), (64, b"\0\1\xc0\x10")):
        with pytest.raises(FormatError):
            native.read_message(message(rtype, rdata))


def test_q2_q3_short_messages_and_replies_get_silence():
    for n in range(12):
        assert reply_to(header()[:n]) is None
    assert reply_to(header(flags=0x8000) + question()) is None
    assert ask(header(flags=0x8000) + question()).verdict == native.DROP


@pytest.mark.parametrize("opcode", [1, 2, 3, *range(6, 16)])
def test_q4_other_opcodes_get_twelve_octets_of_notimp(opcode):
    flags = opcode << 11
    assert reply_to(header(flags=flags | 0x07B0, ar=1) + question() + opt()) == header(
        flags=0x8004 | flags, qd=0
    )


def test_q5_tc_in_a_query_is_ignored():
    assert ask(header(flags=0x0200) + question()).verdict == 0


def test_q6_question_counts_other_than_one_are_formerr():
    assert reply_to(header(qd=0)) == header(flags=0x8001, qd=0)
    assert reply_to(header(qd=2) + question() * 2) == header(flags=0x8001, qd=0)


def test_q6_no_question_but_a_cookie_gets_noerror_and_a_cookie():
    q = ask(header(qd=0, ar=1) + opt(option(10, b"12345678")), SERVER)
    assert q.verdict == native.COOKIE_ONLY
    reply = dns.message.from_wire(q.refuse())
    assert (
        reply.rcode() == 0 and reply.options[0].client == b"12345678" and len(reply.options[0].server) == 16
    )


def test_q7_records_in_wrong_sections_echo_the_question():
    soa = b"\xc0\x0c" + struct.pack("!HHIH", 6, 1, 0, 22) + b"\0\0" + struct.pack("!5I", 7, 1, 1, 1, 1)
    a = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 4) + b"\1\2\3\4"
    for data in (
        header(an=1) + question() + a,
        header(ns=1) + question() + a,
        header(ns=1) + question() + soa,
    ):
        assert reply_to(data) == header(flags=0x8001) + question()
    ixfr = ask(header(ns=1) + question(qtype=251) + soa)
    assert (ixfr.verdict, ixfr.serial) == (0, 7)
    notify = ask(header(flags=4 << 11, an=1) + question(qtype=6) + soa)
    assert (notify.verdict, notify.opcode, notify.serial) == (0, 4, 7)
    assert ask(header(flags=4 << 11, an=2) + question(qtype=6) + soa * 2).verdict == 1


def test_q8_q10_extra_additionals_and_trailing_octets_are_formerr():
    a = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 4) + b"\1\2\3\4"
    assert reply_to(header(ar=1) + question() + a) == header(flags=0x8001) + question()
    for tail in (b"\0", b"x" * 512):
        assert ask(header() + question() + tail).verdict == 1
        assert ask(header(ar=1) + question() + opt() + tail).verdict == 1


def test_q8_a_tsig_stands_last():
    tsig = b"\3key\0" + struct.pack("!HHIH", 250, 255, 0, 3) + b"abc"
    q = ask(header(ar=2) + question() + opt() + tsig)
    assert (q.verdict, q.tsig_at) == (0, 12 + 17 + 11)
    assert ask(header(ar=2) + question() + tsig + opt()).verdict == 1
    assert ask(header(ar=2) + question() + tsig * 2).verdict == 1


def test_q9_a_cut_question_gets_a_bare_header():
    whole = header() + question()
    for n in range(12, len(whole)):
        assert reply_to(whole[:n]) == header(flags=0x8001, qd=0)


def test_q11_bad_opt_records_are_formerr_with_opt():
    for additional, n in ((opt() + opt(), 2), (opt(struct.pack("!2H", 3, 9) + b"x"), 1), (opt(b"abc"), 1)):
        reply = dns.message.from_wire(reply_to(header(ar=n) + question() + additional))
        assert reply.rcode() == 1 and reply.edns == 0 and len(reply.question) == 1
    for head, broken in ((header(ar=1), opt(owner=b"\1a\0")), (header(an=1), opt()), (header(ns=1), opt())):
        reply = dns.message.from_wire(reply_to(head + question() + broken))
        assert reply.rcode() == 1 and reply.edns == 0 and len(reply.question) == 1


def test_q12_a_later_edns_version_gets_badvers():
    q = ask(header(ar=1) + question() + opt(option(100, b"x"), ttl=0x00018040))
    reply = dns.message.from_wire(q.refuse())
    assert (
        reply.rcode() == 16 and reply.edns == 0 and not reply.options and reply.ednsflags & 0xFFFF == 0x8000
    )
    assert not reply.flags & 0x0400


def test_q13_other_classes_are_refused_and_chaos_ids_pass():
    for qclass in (2, 3, 4, 254, 255):
        assert reply_to(header() + question(qclass=qclass))[3] & 15 == 5
    for name in (b"\2id\6server\0", b"\x08hostname\4bind\0"):
        assert ask(header() + question(name, 16, 3)).verdict == 0
    assert ask(header() + question(b"\7version\4bind\0", 16, 3)).verdict == 5


@pytest.mark.parametrize(
    ("qtype", "rcode"), [(0, 1), (41, 1), (128, 1), (249, 1), (250, 1), (253, 4), (254, 4)]
)
def test_q14_meta_types(qtype, rcode):
    q = ask(header(ar=1) + question(qtype=qtype) + opt())
    assert q.verdict == rcode and q.ede == (30 if qtype == 128 else None)


def test_q15_unknown_types_are_questions():
    assert ask(header() + question(qtype=1000)).verdict == 0
    assert ask(header() + question(qtype=65280)).verdict == 0


def test_x7_update_is_refused_with_its_zone_echoed():
    zone = question(b"\7example\0", 6)
    change = b"\xc0\x0c" + struct.pack("!HHIH", 255, 255, 0, 0)
    assert reply_to(header(flags=5 << 11, ns=1) + zone + change) == header(flags=0x8005 | 5 << 11) + zone


def test_e1_opt_comes_back_exactly_when_it_was_sent():
    assert len(reply_to(header() + question(qclass=4))) == 12 + 17
    reply = dns.message.from_wire(
        reply_to(header(ar=1) + question(qclass=4) + opt(ttl=0xFFFF8000 & 0x0000FFFF))
    )
    assert reply.edns == 0 and reply.payload == 1232 and reply.ednsflags & 0xFFFF == 0x8000


def test_e2_small_sizes_count_as_512_and_large_ones_are_cut():
    assert ask(header(ar=1) + question() + opt(size=100)).limit == 512
    assert ask(header(ar=1) + question() + opt(size=900)).limit == 900
    assert ask(header(ar=1) + question() + opt(size=65535)).limit == 1232
    assert ask(header() + question()).limit == 512
    assert ask(header() + question(), stream=True).limit == 65535


def big_txt(n, owner=None):
    return [native.Record(owner, 16, 60, bytes([99]) + bytes([i]) * 99) for i in range(n)]


def test_e3_additionals_go_first_and_tc_comes_only_for_required_parts():
    q = ask(header() + question(qtype=16))
    reply = dns.message.from_wire(native.write_answer(q, 0, 0x0400, big_txt(3), (), big_txt(9, b"\1a\0")))
    assert not reply.flags & 0x0200 and len(reply.answer[0]) == 3 and len(reply.additional) == 1
    reply = dns.message.from_wire(native.write_answer(q, 0, 0x0400, big_txt(9)))
    assert reply.flags & 0x0200 and reply.flags & 0x0400 and not reply.answer and len(reply.question) == 1


def test_e4_nothing_is_truncated_over_streams():
    q = ask(header() + question(qtype=16), stream=True)
    assert len(dns.message.from_wire(native.write_answer(q, 0, 0, big_txt(100))).answer[0]) == 100
    reply = dns.message.from_wire(native.write_answer(q, 0, 0, big_txt(256) * 3))
    assert reply.rcode() == 2


def test_e5_flags_of_replies():
    q = ask(header(flags=0x0730) + question())
    reply = dns.message.from_wire(native.write_answer(q, 3, 0x0400))
    assert int(reply.flags) == 0x8503


def test_e6_nsid_is_given_when_asked_and_unknown_options_are_not_copied():
    data = header(ar=1) + question() + opt(option(3) + option(100, b"x") + option(3))
    reply = dns.message.from_wire(native.write_answer(ask(data, SERVER), 0, 0))
    assert [(int(o.otype), o.to_wire()) for o in reply.options] == [(3, b"ns1")]
    assert not dns.message.from_wire(native.write_answer(ask(data), 0, 0)).options


@pytest.mark.parametrize("length", range(48))
def test_e6_cookie_lengths(length):
    good = length == 8 or 16 <= length <= 40
    assert ask(header(ar=1) + question() + opt(option(10, b"c" * length)), SERVER).verdict == (
        0 if good else 1
    )


def test_e7_the_cookie_of_rfc_9018_is_made_and_accepted():
    server = native.Server(secrets=(bytes.fromhex("e5e973e5a6b2a43f48e7dc849e37bfcf"),))
    ip = bytes([198, 51, 100, 100])
    data = header(ar=1) + question() + opt(option(10, bytes.fromhex("2464c4abcf10c957")))
    reply = dns.message.from_wire(native.write_answer(ask(data, server, ip=ip, wall=1559731985), 0, 0))
    assert reply.options[0].to_wire().hex() == "2464c4abcf10c957010000005cf79f111f8130c3eee29480"


def cookie(server, ip, wall, old=b""):
    data = header(ar=1) + question() + opt(option(10, b"01234567" + old))
    q = ask(data, server, ip=ip, wall=wall)
    return q, dns.message.from_wire(native.write_answer(q, 0, 0)).options[0].server


def test_e7_a_cookie_lives_an_hour_is_renewed_after_half_and_belongs_to_one_address():
    server = native.Server(secrets=(b"a" * 16,))
    here, there = bytes([127, 0, 0, 1]), bytes([127, 0, 0, 2])
    q, made = cookie(server, here, 10_000)
    assert q.cookie == 1 and not q.verified
    for wall, address, state in (
        (10_000, here, 3),
        (11_800, here, 3),
        (11_801, here, 4),
        (13_600, here, 4),
        (13_601, here, 2),
        (9_700, here, 3),
        (9_699, here, 2),
        (10_000, there, 2),
    ):
        q, again = cookie(server, address, wall, made)
        assert q.cookie == state and q.verified == (state >= 3)
        assert (again == made) == (state == 3 or (wall == 10_000 and address == here))
    for i in range(16):
        bad = bytearray(made)
        bad[i] ^= 1
        assert i in range(1, 4) or not cookie(server, here, 10_000, bytes(bad))[0].verified


def test_e7_the_previous_secret_still_counts_and_is_renewed():
    server = native.Server(secrets=(b"a" * 16,))
    _, made = cookie(server, b"\x7f\0\0\1", 100)
    server.roll((b"b" * 16, b"a" * 16))
    q, again = cookie(server, b"\x7f\0\0\1", 100, made)
    assert q.verified and q.cookie == 4 and again != made
    server.roll((b"c" * 16, b"b" * 16))
    assert not cookie(server, b"\x7f\0\0\1", 100, made)[0].verified


def test_e6_padding_only_on_encrypted_transports_to_468():
    data = header(ar=1) + question() + opt(option(12, bytes(20)))
    for records in ([], big_txt(5)):
        q = ask(data, stream=True, encrypted=True)
        assert len(native.write_answer(q, 0, 0, records)) % 468 == 0
    assert len(native.write_answer(ask(data, stream=True), 0, 0)) < 60


def test_e6_keepalive_answers_on_streams_only():
    data = header(ar=1) + question() + opt(option(11))
    reply = dns.message.from_wire(native.write_answer(ask(data, stream=True, idle=100), 0, 0))
    assert [(int(o.otype), o.to_wire()) for o in reply.options] == [(11, b"\0\x64")]
    assert not dns.message.from_wire(native.write_answer(ask(data, idle=100), 0, 0)).options


def test_records_are_written_compressed_and_read_back_by_dnspython():
    q = ask(header(ar=1) + question(b"\3WwW\7eXample\0", 2) + opt())
    names = [dns.name.from_text(t).to_wire() for t in ("ns1.example.", "ns2.Example.", "www.example.")]
    answer = [native.Record(None, 2, 60, n) for n in names]
    extra = [native.Record(n, 1, 60, b"\1\2\3\4") for n in names]
    wire = native.write_answer(q, 0, 0x0400, answer, (), extra)
    reply = dns.message.from_wire(wire)
    assert sorted(str(r).lower() for r in reply.answer[0]) == ["ns1.example.", "ns2.example.", "www.example."]
    assert len(reply.additional) == 3 and b"\3WwW\7eXample\0" in wire
    assert wire.count(b"ample") == 1


def test_n5_dname_and_srv_targets_are_never_compressed():
    q = ask(header() + question())
    for rtype, rdata in ((39, b"\7example\0"), (33, b"\0\1\0\1\0\1\7example\0")):
        assert rdata in native.write_answer(q, 0, 0, [native.Record(None, rtype, 1, rdata)])


def test_n7_an_answer_without_shared_suffixes_costs_a_bounded_number_of_look_ups():
    q = ask(header() + question(b"\0", 2), stream=True)
    records = [
        native.Record(b"\0", 2, 1, b"".join(b"\4%04d" % (i * 6 + j) for j in range(5)) + b"\0")
        for i in range(1500)
    ]
    assert len(dns.message.from_wire(native.write_answer(q, 0, 0, records)).answer[0]) == 1500


def test_read_message_agrees_with_dnspython_and_every_cut_is_refused():
    message = dns.message.make_response(dns.message.make_query("www.example.", "A", want_dnssec=True))
    message.answer.append(dns.rrset.from_text("www.example.", 300, "IN", "CNAME", "a.example."))
    message.answer.append(dns.rrset.from_text("a.example.", 300, "IN", "MX", "10 mail.example."))
    message.authority.append(
        dns.rrset.from_text("example.", 300, "IN", "SOA", "a.example. b.example. 1 2 3 4 5")
    )
    wire = message.to_wire()
    records = native.read_message(wire)
    assert [(s, t) for s, _, t, _, _, _ in records] == [(1, 5), (1, 15), (2, 6), (3, 41)]
    for (_, owner, rtype, _, ttl, rdata), rrset in zip(
        records, [*message.answer, *message.authority], strict=False
    ):
        assert dns.name.from_wire(owner, 0)[0] == rrset.name and ttl == 300
        assert dns.rdata.from_wire(1, rtype, rdata, 0, len(rdata)) == rrset[0]
    for n in range(len(wire)):
        with pytest.raises(FormatError):
            native.read_message(wire[:n])


def test_a_record_refuses_rdata_that_its_type_does_not_have():
    for rtype, rdata in ((1, b"123"), (5, b"\1a"), (15, b"\0"), (6, b"\0\0abc"), (5, b"\xc0\x0c")):
        with pytest.raises(FormatError):
            native.Record(None, rtype, 1, rdata)
