"""Typed packets: kinds, depth, what does not fit."""

import decimal
import importlib.util
import threading
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolips_udp import depth
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
NATIVE = importlib.util.find_spec("toolips_udp._native.depth")
PIECES = [
    b"\x91", b"\x90", b"\x92", b"\x81", b"\x8f", b"\xdc\x00\x01", b"\xdd\x00\x00\x00\x02", b"\xde\x00\x01", b"\xdf\x00",
    b"\xc4\x02", b"\xc5\x00\x03", b"\xc7\x01", b"\xc8\x00", b"\xc9\xff\xff\xff\xff", b"\xca", b"\xcf", b"\xd4", b"\xd8",
    b"\xd9\x02",    b"\xda\x00\x01", b"\xdb\x00\x00\x00\x01", b"\xa3", b"\xc0", b"\x01", b"\xff",
    b"[", b"]", b"{", b"}", b'"', b"\\", b"a",
]  # fmt: skip


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


class Sets(msgspec.Struct):
    numbers: set[int] = set()
    places: dict[int, str] = {}
    names: dict[str, float] = {}


def test_p3_integers_that_share_a_hash_are_refused_or_cost_no_more_than_others():
    decode = decoder_for(Sets, "test")
    prime = (1 << 61) - 1  # integers that differ by it have the same hash
    bad = ",".join(str(prime * n) for n in range(1, 2500))
    keys = ",".join(f'"{prime * n}":"x"' for n in range(1, 2500))
    for packet in (f'{{"numbers":[{bad}]}}', f'{{"places":{{{keys}}}}}', f'{{"numbers":[-{prime * 1000}]}}'):
        with pytest.raises(Malformed, match="64 bits"):
            decode(packet.encode())
    few = decode(f'{{"numbers":[{",".join(str(prime * n) for n in range(9))}]}}'.encode())
    assert len(few.numbers) == 9
    assert decode(b'{"names":{"a":0.1234567890123456}}').names and decode(b'{"places":{"7":"x"}}').places
    assert decode(msgspec.msgpack.encode({"numbers": [2**64 - 1]})).numbers == {2**64 - 1}


@pytest.mark.parametrize("each", [tuple[int, int], uuid.UUID, decimal.Decimal, Any, int | uuid.UUID])
def test_p3_keys_of_which_a_stranger_makes_thousands_with_one_hash_are_a_start_error(each):
    for annotation in (set[each], frozenset[each], list[dict[str, set[each]]]):
        with pytest.raises(StartError, match="my_handler"):
            decoder_for(annotation, "my_handler")


class Tree(msgspec.Struct):
    leaves: list["Tree"] = []
    names: set[str | int] = set()


def test_a_type_that_holds_itself_is_looked_through_once():
    assert decoder_for(Tree, "test")(b'{"leaves":[{"names":["a",1]}]}').leaves[0].names == {"a", 1}


def test_a_type_that_cannot_be_decoded_is_a_start_error_that_names_the_handler():
    with pytest.raises(StartError, match="my_handler"):
        decoder_for(dict[Point, int] | dict[str, int], "my_handler")


def test_p1_a_bomb_on_a_small_stack_is_malformed_not_the_end_of_the_process():
    """Depth 1 to 65,000 on a thread of 256 KiB."""
    said = []

    def decode_all():
        for deep in (1, 2, 31, 33, 100, 1_000, 10_000, 65_000):
            for packet in (b"\x91" * deep, b"[" * deep, b"\x81\xa1a" * (deep // 3), b'{"a":' * (deep // 5)):
                try:
                    decode(packet)
                except Malformed as error:
                    said.append(str(error))

    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=decode_all)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert len(said) == 32 and sum(f"deeper than {DEPTH}" in text for text in said) >= 15


@pytest.mark.skipif(not NATIVE, reason="needs the native core")
@given(
    st.binary(max_size=300) | st.lists(st.sampled_from(PIECES), max_size=80).map(b"".join), st.integers(0, 64)
)
def test_the_scan_in_c_says_what_the_scan_in_python_says(packet, most):
    from toolips_udp._native import depth as native

    assert native.json_is_deeper(packet, most) == depth.json_is_deeper(packet, most)
    assert native.msgpack_is_deeper(packet, most) == depth.msgpack_is_deeper(packet, most)
