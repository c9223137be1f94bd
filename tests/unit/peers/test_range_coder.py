"""ENet's range coder: fixed vectors, both ways, in both languages, and its limits."""

from __future__ import annotations

import random
import zlib

import pytest

from toolips_udp._native import enet as native
from toolips_udp.peers import range_coder

VECTORS = {
    b"A": "41be41be",
    b"AA": "41fefce6",
    b"hello": "68fbe0c33d21e0",
    b"abracadabra": "6202df74d8204cda03311d",
    bytes(16): "0103e73d17cf",
    bytes(range(16)): "0103f1068d929142466659664b8723d963ef",
    b"\xff" * 100: "fffffffc226790",
    bytes(1000): "0103e861fd98cf36",
    b"hello hello hello hello": "68fbe0c33d7072bdd5e06ce58e",
}


def _scrambled(count: int) -> bytes:
    x, out = 1, bytearray()
    for _ in range(count):
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
        out.append(x >> 16 & 255)
    return bytes(out)


LONG = [
    (bytes(i * i % 256 for i in range(256)), 150, 0xF0FAC012),
    (bytes(i // 3 % 7 for i in range(2000)), 225, 0x9526E6CB),
    (_scrambled(3000), 3239, 0x27B46D72),
]


@pytest.mark.parametrize("coder", [native, range_coder], ids=["c", "python"])
def test_the_published_vectors_code_and_open_exactly(coder):
    for plain, coded in VECTORS.items():
        assert coder.compress(plain).hex() == coded
        assert coder.decompress(bytes.fromhex(coded), 4092) == plain
    for plain, size, crc in LONG:
        coded = coder.compress(plain)
        assert (len(coded), zlib.crc32(coded)) == (size, crc)
        assert coder.decompress(coded, 4092) == plain


def _inputs(seed: int, count: int, most: int):
    r = random.Random(seed)
    for _ in range(count):
        size = r.randrange(most)
        letters = r.choice((1, 2, 5, 40, 256))
        yield bytes(r.randrange(letters) for _ in range(size))


def test_c_and_python_code_random_inputs_to_the_same_bits_and_open_them():
    for data in _inputs(7, 250, 500):
        coded = native.compress(data)
        assert coded == range_coder.compress(data)
        assert native.decompress(coded, 4092) == data == range_coder.decompress(coded, 4092)


def test_b13_damaged_cut_and_random_inputs_open_to_the_same_answer_in_both_languages():
    r = random.Random(8)
    for data in _inputs(9, 300, 200):
        coded = bytearray(native.compress(data))
        for _ in range(r.randrange(3)):
            if coded:
                coded[r.randrange(len(coded))] ^= 1 << r.randrange(8)
        damaged = bytes(coded[: r.randrange(len(coded) + 1)]) if r.random() < 0.3 else bytes(coded)
        assert native.decompress(damaged, 600) == range_coder.decompress(damaged, 600)


def test_b13_a_bomb_stops_at_the_room_it_is_given():
    bomb = native.compress(bytes(60_000))
    assert len(bomb) < 300
    assert native.decompress(bomb, 4092) is None
    assert range_coder.decompress(bomb, 4092) is None
    assert native.decompress(native.compress(bytes(4092)), 4092) == bytes(4092)


def test_nothing_codes_to_nothing_and_nothing_opens_to_what_zeros_mean():
    assert native.compress(b"") == range_coder.compress(b"") == b""
    assert native.decompress(b"", 4092) == range_coder.decompress(b"", 4092)
