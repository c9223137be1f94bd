"""The checks on a client message, in their order (spec 2.3), and what is sent back."""

# ruff: noqa: E501

import itertools
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolips_udp.dns import edns, names, reply, rrtypes
from toolips_udp.dns.message import Message, Record, ask
from toolips_udp.dns.query import parse_query
from toolips_udp.dns.result import Result
from toolips_udp.dns.zone import RRset
from toolips_udp.errors import FormatError


def packet(**kw):
    return bytearray(ask("www.Example.org", "A", id=0xC3A9, **kw).encode())


def test_q2_fewer_than_twelve_octets_are_dropped():
    for size in range(12):
        assert parse_query(bytes(packet())[:size]).drop == "malformed"


def test_q3_a_response_is_dropped_even_when_broken():
    data = packet()
    data[2] |= 0x80
    assert parse_query(bytes(data)).drop == "malformed"
    assert parse_query(bytes(data[:14])).drop == "malformed"


@pytest.mark.parametrize("opcode", [1, 2, 3, *range(6, 16)])
def test_q4_other_opcodes_get_notimp_in_twelve_octets(opcode):
    data = packet()
    data[2] = opcode << 3 | 7
    data[3] = 0xFF
    answer = reply.encode_error(parse_query(bytes(data)))
    assert answer == struct.pack("!HHHHHH", 0xC3A9, 0x8000 | opcode << 11 | 4, 0, 0, 0, 0)


def test_q5_tc_in_a_query_is_ignored():
    data = packet()
    data[2] |= 2
    assert parse_query(bytes(data)).rcode == -1


@pytest.mark.parametrize("count", [0, 2, 65535])
def test_q6_other_than_one_question_is_a_format_error(count):
    data = packet()
    data[4:6] = count.to_bytes(2, "big")
    query = parse_query(bytes(data))
    assert query.rcode == rrtypes.FORMERR
    assert Message.parse(reply.encode_error(query)).question == []


def test_q6_a_cookie_without_question_is_answered():
    data = Message(id=1, udp_size=1232, options={edns.COOKIE: b"12345678"}).encode()
    query = parse_query(data)
    assert query.rcode == rrtypes.NOERROR and query.options[edns.COOKIE] == b"12345678"
    answer = Message.parse(reply.encode_error(query, edns.option(edns.COOKIE, bytes(24))))
    assert answer.options[edns.COOKIE] == bytes(24)


@pytest.mark.parametrize("place", [6, 8])
def test_q7_records_in_answer_or_authority_are_a_format_error_with_the_question(place):
    data = packet(size=0)
    data[place + 1] = 1
    data += b"\0" + struct.pack("!HHIH", 1, 1, 0, 4) + bytes(4)
    query = parse_query(bytes(data))
    answer = Message.parse(reply.encode_error(query))
    assert answer.rcode == rrtypes.FORMERR and answer.question


def test_q8_an_additional_record_that_is_no_opt_or_signature_is_a_format_error():
    data = packet(size=0)
    data[11] = 1
    data += b"\0" + struct.pack("!HHIH", 1, 1, 0, 4) + bytes(4)
    assert parse_query(bytes(data)).rcode == rrtypes.FORMERR


@pytest.mark.parametrize(
    "tail", [b"\x40" + bytes(80), b"\x80\0", b"\xc0\x0c\0\1\0\1", b"\3www", b"\3www\0\0\1", b"\x3f" * 300]
)
def test_q9_a_broken_question_is_a_format_error_in_twelve_octets(tail):
    data = bytes(packet()[:12])[:10] + b"\0\0" + tail
    query = parse_query(data)
    assert query.rcode == rrtypes.FORMERR and len(reply.encode_error(query)) == 12


@pytest.mark.parametrize("size", [1, 2, 511])
def test_q10_trailing_octets_are_a_format_error(size):
    query = parse_query(bytes(packet()) + bytes(size))
    answer = Message.parse(reply.encode_error(query))
    assert answer.rcode == rrtypes.FORMERR and answer.question and answer.udp_size == 1232


def opt(owner=b"\0", version=0, options=b"", lie=0):
    return owner + struct.pack("!HHIH", 41, 4096, version << 16, len(options) + lie) + options


@pytest.mark.parametrize(
    "opts",
    [[opt(), opt()], [opt(owner=b"\1a\0")], [opt(options=b"\0\x0a\0\x09xxxxxxxx")], [opt(lie=5)], [opt(options=b"\0\x0a\0\x07" + bytes(7))],
     [opt(options=b"\0\x63\0\0" * 101)]],
)  # fmt: skip
def test_q11_broken_opt_records_are_format_errors(opts):
    data = packet(size=0)
    data[11] = len(opts)
    assert parse_query(bytes(data) + b"".join(opts)).rcode == rrtypes.FORMERR


def test_q11_an_opt_in_the_answer_section_is_a_format_error():
    data = packet(size=0)
    data[7] = 1
    query = parse_query(bytes(data) + opt())
    assert query.rcode == rrtypes.FORMERR and Message.parse(reply.encode_error(query)).udp_size == 1232


def test_q12_a_later_edns_version_gets_badvers():
    data = packet(size=0)
    data[11] = 1
    answer = Message.parse(reply.encode_error(parse_query(bytes(data) + opt(version=1))))
    assert (
        answer.rcode == rrtypes.BADVERS and answer.version == 0 and not answer.aa and answer.udp_size == 1232
    )


@pytest.mark.parametrize(
    ("qtype", "rcode"),
    [(0, 1), (41, 1), (128, 1), (249, 1), (250, 1), (253, 4), (254, 4), (1000, -1), (65535, -1)],
)
def test_q14_and_q15_meta_types_are_refused_and_unknown_ones_answered(qtype, rcode):
    assert parse_query(ask("a.", qtype).encode()).rcode == rcode


def test_q13_other_classes_are_refused_but_for_the_server_id():
    data = packet()
    at = parse_query(bytes(data)).question_end
    data[at - 2 : at] = b"\0\3"
    assert parse_query(bytes(data)).rcode == rrtypes.REFUSED
    chaos = bytearray(ask("id.server.", "TXT").encode())
    end = parse_query(bytes(chaos)).question_end
    chaos[end - 2 : end] = b"\0\3"
    assert parse_query(bytes(chaos)).rcode == -1


def test_a_name_keeps_its_case_and_is_folded_beside_it():
    query = parse_query(bytes(packet()))
    assert names.to_text(query.name) == "www.Example.org." and query.key == query.name.lower()


@pytest.mark.parametrize("size", [253, 254, 255, 256])
def test_n2_a_name_over_255_octets_is_refused(size):
    parts, left = [], size - 1
    while left > 0:
        part = min(63, left - 1) if left != 65 else 62
        parts.append(bytes((part,)) + b"x" * part)
        left -= part + 1
    query = parse_query(bytes(packet(size=0)[:12]) + b"".join(parts) + b"\0\0\1\0\1")
    assert (query.rcode == -1) == (size <= 255)


@given(st.binary(max_size=80))
def test_any_octets_are_dropped_refused_or_parsed_and_never_an_exception(data):
    query = parse_query(bytes(packet()[:12]) + data)
    if not query.drop and query.rcode >= 0:
        reply.encode_error(query)
    try:
        Message.parse(bytes(packet()[:12]) + data)
    except FormatError:
        pass


def test_a_message_cut_at_every_octet_is_a_format_error():
    message = ask("a.example", "MX")
    message.flags |= 0x8000
    message.answer.append(
        Record(names.from_text("a.example"), 15, 1, 60, b"\0\1" + names.from_text("mx.a.example"))
    )
    data = message.encode()
    for end in range(len(data)):
        with pytest.raises(FormatError):
            Message.parse(data[:end])
    assert Message.parse(data).answer[0].data == message.answer[0].data


def test_m1_many_long_pointer_chains_exceed_the_budget():
    chain = b"".join([b"\1a" + (0xC000 | 12 + 5 * i + 5).to_bytes(2, "big") + b"\0" for i in range(3)])
    data = struct.pack("!HHHHHH", 1, 0x8000, 0, 65535, 0, 0) + chain
    with pytest.raises(FormatError, match="counts more"):
        Message.parse(data)
    body = b"\0" + struct.pack("!HHIH", 10, 1, 0, 0)
    at = 12 + len(body)
    names_ = b""
    for _ in range(200):  # every name hops through all names before it
        names_ += b"\1a" + (0xC000 | (at - 1 if not names_ else at)).to_bytes(2, "big")
    with pytest.raises(FormatError):
        Message.parse(struct.pack("!HHHHHH", 1, 0x8000, 0, 2, 0, 0) + body + names_)


def test_pointers_go_strictly_backwards_to_at_least_twelve():
    for target in range(64):
        data = (
            struct.pack("!HHHHHH", 1, 0x8000, 1, 1, 0, 0)
            + b"\1a\0\0\1\0\1"
            + (0xC000 | target).to_bytes(2, "big")
            + struct.pack("!HHIH", 1, 1, 0, 4)
            + bytes(4)
        )
        if target in (12, 14):
            assert Message.parse(data).answer[0].name in (b"\1a\0", b"\0")
        else:
            try:
                Message.parse(data)
            except FormatError:
                continue
            assert target < 19  # octets of the question that happen to spell a name


# -- replies


def result_of(count, size, section="answer"):
    result = Result(aa=True)
    rrset = RRset(
        names.from_text("www.example.org"),
        16,
        60,
        [bytes((size - 1,)) + bytes((i,)) * (size - 1) for i in range(count)],
    )
    getattr(result, section).append(rrset)
    return result


def test_e1_opt_goes_back_if_and_only_if_it_came():
    assert Message.parse(reply.encode_reply(parse_query(bytes(packet(size=0))), Result(), 512)).udp_size == 0
    answer = Message.parse(reply.encode_reply(parse_query(bytes(packet(size=4096, do=True))), Result(), 512))
    assert answer.udp_size == 1232 and answer.do and answer.version == 0


@pytest.mark.parametrize(("size", "limit"), [(0, 512), (100, 512), (512, 512), (800, 800), (4096, 1232)])
def test_e2_the_limit_is_the_clients_size_but_never_over_ours(size, limit):
    assert reply.limit_of(parse_query(bytes(packet(size=size))), False) == limit
    assert reply.limit_of(parse_query(bytes(packet(size=size))), True) == 65535


def test_e3_optional_records_are_left_out_before_anything_is_truncated():
    query = parse_query(bytes(packet(size=512)))
    result = result_of(1, 100)
    result.additional = result_of(6, 100).answer
    answer = Message.parse(reply.encode_reply(query, result, 512))
    assert not answer.tc and len(answer.answer) == 1 and answer.additional == []


@pytest.mark.parametrize("section", ["answer", "authority", "glue"])
def test_e3_required_records_that_do_not_fit_leave_an_empty_truncated_reply(section):
    query = parse_query(bytes(packet(size=512)))
    answer = Message.parse(reply.encode_reply(query, result_of(6, 100, section), 512))
    assert (
        answer.tc
        and answer.answer == answer.authority == answer.additional == []
        and answer.question
        and answer.udp_size
    )


def test_e4_over_a_stream_all_of_it_goes_and_too_much_is_servfail():
    query = parse_query(bytes(packet(size=512)))
    answer = Message.parse(reply.encode_reply(query, result_of(50, 200), 65535))
    assert not answer.tc and len(answer.answer) == 50
    result = result_of(250, 250)
    result.answer *= 2
    assert Message.parse(reply.encode_reply(query, result, 65535)).rcode == rrtypes.SERVFAIL


@pytest.mark.parametrize(("rd", "ra"), list(itertools.product([False, True], repeat=2)))
def test_e5_flags_are_copied_and_cleared_as_they_should(rd, ra):
    data = packet(rd=rd)
    data[3] |= 0x70  # Z, AD, CD
    answer = Message.parse(reply.encode_reply(parse_query(bytes(data)), Result(aa=True), 512, ra=ra))
    assert answer.aa and answer.qr and bool(answer.flags & 0x100) == rd and answer.ra == ra
    assert not answer.flags & 0x60 and bool(answer.flags & 0x10) == ra


def test_n6_the_question_comes_back_octet_for_octet_and_owners_point_to_it():
    data = bytes(packet(size=0))
    query = parse_query(data)
    result = Result()
    result.answer.append(RRset(query.name, 1, 60, [bytes(4)]))
    answer = reply.encode_reply(query, result, 512)
    assert answer[12 : query.question_end] == data[12 : query.question_end]
    assert answer[query.question_end : query.question_end + 2] == b"\xc0\x0c"


def test_n7_a_message_that_is_hard_to_compress_is_written_fast():
    rng = random.Random(1)
    rdatas = [b"\0\1" + names.join([rng.randbytes(20), rng.randbytes(20)]) for _ in range(1100)]
    result = Result()
    result.answer.append(RRset(names.from_text("a."), 15, 60, rdatas))
    message = Message.parse(reply.encode_reply(parse_query(bytes(packet())), result, 65535))
    assert [r.data for r in message.answer] == rdatas


def test_extended_errors_and_padding_are_added_only_with_opt():
    result = Result(5)
    result.ede.append((20, "not here"))
    answer = reply.encode_reply(parse_query(bytes(packet())), result, 65535, pad=468)
    assert len(answer) % 468 == 0
    parsed = Message.parse(answer)
    assert parsed.options[edns.EDE] == b"\0\x14not here" and not any(parsed.options[edns.PADDING])
    assert Message.parse(reply.encode_reply(parse_query(bytes(packet(size=0))), result, 512)).udp_size == 0
