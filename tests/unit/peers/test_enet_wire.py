"""The ENet wire in C and in Python: the worked examples, every cut, random bytes, the checksum."""

from __future__ import annotations

import random
import sys
import zlib
from pathlib import Path

import pytest

from toolips_udp._native import enet as native
from toolips_udp.peers import enet_wire as wire
from toolips_udp.peers import range_coder

sys.path.insert(0, str(Path(__file__).parent))
from enet_examples import CHECKED_COMPRESSED, CHECKED_CONNECT, CHECKED_PING, COMPRESSED, EXAMPLES, OPENED


def read(data: bytes):
    """What the Python reader says, in the native reader's form."""
    head = wire.read_header(data)
    if head is None:
        return None
    at, rows = head.size, []
    while at < len(data) and (got := wire.read_command(data, at)):
        c, at = got
        rows.append((c.type, c.flags, c.channel, c.number, c.fields, c.data))
    return (head.id, head.session, head.timed, head.compressed, head.time, head.size), rows, len(data) - at


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_worked_example_reads_and_writes_back_the_same_in_both_languages(name):
    data = EXAMPLES[name]
    assert native.read(data) == read(data)
    assert native.read(data)[2] == 0
    assert native.rewrite(data) == data
    head = wire.read_header(data)
    out = wire.write_header(head.id, head.session, head.time if head.timed else None)
    at = head.size
    while at < len(data):
        command, at = wire.read_command(data, at)
        out += wire.write_command(command)
    assert out == data


def test_the_connect_example_has_the_fields_that_its_text_names():
    head, [row], _ = native.read(EXAMPLES["E1 connect"])
    assert head == (0xFFF, 0, True, False, 4096, 4)
    fields = (0x203, 1, 2, 1392, 65536, 2, 0, 0, 5000, 2, 2, bytes.fromhex("c0ffee01"), 42)
    assert row == (wire.CONNECT, wire.FLAG_ACK, 0xFF, 1, fields, b"")


def test_b7_every_cut_of_every_example_gives_the_whole_commands_before_the_cut():
    for data in EXAMPLES.values():
        whole = native.read(data)
        for cut in range(len(data)):
            part = native.read(data[:cut])
            assert part == read(data[:cut])
            assert part is None or part[1] == whole[1][: len(part[1])]


def test_b7_lengths_of_0_to_16_of_any_byte_read_the_same_in_both_languages():
    for length in range(17):
        for byte in range(256):
            data = bytes([byte]) * length
            assert native.read(data) == read(data)


def test_random_datagrams_read_the_same_in_both_languages():
    r = random.Random(6)
    for _ in range(20_000):
        data = bytearray(r.randbytes(r.randrange(80)))
        if len(data) > 14 and r.random() < 0.7:
            data[4] = r.randrange(1, 13) | r.choice((0, 0x80, 0x40))
            data[8:12] = r.choice((bytes(4), b"\0\0\0\7", b"\0\3\0\3"))
        assert native.read(data) == read(data)


def test_the_checksum_covers_header_connect_id_and_opened_commands():
    def field(data: bytes, connect_id: bytes, commands: bytes | None = None) -> None:
        head = wire.read_header(data)
        body = data[head.size + 4 :] if commands is None else commands
        assert wire.checksum(data[: head.size], connect_id, body) == data[head.size : head.size + 4]

    field(CHECKED_CONNECT, bytes(4))
    field(CHECKED_PING, bytes.fromhex("c0ffee01"))
    field(CHECKED_COMPRESSED, bytes.fromhex("c0ffee01"), OPENED)


def test_the_compressed_example_opens_and_closes_bit_for_bit():
    assert native.decompress(COMPRESSED[4:], 4092) == OPENED == range_coder.decompress(COMPRESSED[4:], 4092)
    assert native.compress(OPENED) == COMPRESSED[4:] == range_coder.compress(OPENED)


def test_the_native_crc_is_that_of_zlib():
    r = random.Random(1)
    for length in [*range(40), 1392, 4096]:
        data = r.randbytes(length)
        assert native.crc32(data) == zlib.crc32(data)
