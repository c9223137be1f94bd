"""Typed packets: kinds, depth, what does not fit."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolips_udp.errors import StartError
from toolips_udp.typed import (
    DEPTH,
    Malformed,
    check_json_depth,
    check_msgpack_depth,
    decoder_for,
    encode,
    is_json,
)


class Point(msgspec.Struct):
    x: int
    tags: list[str] = []


decode = decoder_for(Point, "test")


def test_the_first_byte_tells_the_kind():
    assert decode(b'{"x": 1}') == Point(1)
    assert decode(msgspec.msgpack.encode({"x": 1})) == Point(1)
    assert is_json(b"[1]") and not is_json(b"\x81") and not is_json(b"")
    assert encode(Point(1), True).startswith(b"{") and encode(Point(1), False)[0] == 0x82


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_malformed(packet):
    try:
        decode(packet)
    except Malformed:
        pass


nested = st.recursive(
    st.integers(-(2**40), 2**40) | st.text() | st.binary() | st.none() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner, max_size=20),
    max_leaves=60,
)


@given(nested)
def test_what_is_shallow_passes_the_depth_scan(value):
    check_msgpack_depth(msgspec.msgpack.encode([value] * 40))
    check_json_depth(msgspec.json.encode([value] * 40))


@pytest.mark.parametrize("depth, fits", [(DEPTH, True), (DEPTH + 1, False), (65_000, False)])
@pytest.mark.parametrize("kind", ["list", "map", "list16", "map32", "mixed"])
def test_p1_a_depth_bomb_is_refused_before_decoding(depth, fits, kind):
    opener = {
        "list": b"\x91",
        "map": b"\x81\xa1a",
        "list16": b"\xdc\x00\x01",
        "map32": b"\xdf\x00\x00\x00\x01\xa1a",
        "mixed": b"\x92\xc4\x05[[[[[\x91" if depth == 1 else b"\x91",
    }[kind]
    packet = opener * depth + b"\xc0"
    if fits:
        check_msgpack_depth(packet)
    else:
        with pytest.raises(Malformed):
            check_msgpack_depth(packet)


def test_p1_brackets_in_json_text_are_no_depth():
    check_json_depth(b'["' + b"[{" * 1000 + b'\\"[[[", 1]')
    with pytest.raises(Malformed):
        check_json_depth(b"[" * (DEPTH + 1))
    with pytest.raises(Malformed):
        check_json_depth(b'{"a":' * (DEPTH + 1))
    check_json_depth(b"[1,[2]]," * 1000)


def test_p2_declared_lengths_beyond_the_packet_are_malformed():
    for packet in (
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ):
        with pytest.raises(Malformed):
            decode(packet)
        with pytest.raises(Malformed):
            decode(b"\x81\xa4tags" + packet)


def test_a_type_that_cannot_be_decoded_is_a_start_error_that_names_the_handler():
    with pytest.raises(StartError, match="my_handler"):
        decoder_for(dict[Point, int] | dict[str, int], "my_handler")
