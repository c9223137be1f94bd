"""ENet 1.3 on the wire in plain Python: header, commands, checksum.

Imports nothing of ours. Called by the Python ENet host and by tests; the oracle
of native/enet_wire.c. Big-endian, no padding.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

ACKNOWLEDGE, CONNECT, VERIFY_CONNECT, DISCONNECT, PING = 1, 2, 3, 4, 5
SEND_RELIABLE, SEND_UNRELIABLE, SEND_FRAGMENT, SEND_UNSEQUENCED = 6, 7, 8, 9
BANDWIDTH_LIMIT, THROTTLE_CONFIGURE, SEND_UNRELIABLE_FRAGMENT = 10, 11, 12

FLAG_ACK = 0x80
FLAG_UNSEQUENCED = 0x40
SENT_TIME = 0x8000
COMPRESSED = 0x4000
NO_ID = 0xFFF
CONTROL = 0xFF
MTU = 1392
MTU_LEAST, MTU_MOST = 576, 4096
WINDOW_LEAST, WINDOW_MOST = 4096, 65536
COMMANDS_MOST = 32
FRAGMENTS_MOST = 1 << 20

_FIELDS: dict[int, str] = {
    ACKNOWLEDGE: "HH",
    CONNECT: "HBBIIIIIIII4sI",
    VERIFY_CONNECT: "HBBIIIIIIII4s",
    DISCONNECT: "I",
    PING: "",
    SEND_RELIABLE: "H",
    SEND_UNRELIABLE: "HH",
    SEND_FRAGMENT: "HHIIII",
    SEND_UNSEQUENCED: "HH",
    BANDWIDTH_LIMIT: "II",
    THROTTLE_CONFIGURE: "III",
    SEND_UNRELIABLE_FRAGMENT: "HHIIII",
}
_LAYOUT = {kind: struct.Struct(">BBH" + fields) for kind, fields in _FIELDS.items()}
SIZE = {kind: layout.size for kind, layout in _LAYOUT.items()}
"""Bytes of each command without its data."""
_SENDING = {SEND_RELIABLE: 0} | dict.fromkeys(
    (SEND_UNRELIABLE, SEND_FRAGMENT, SEND_UNSEQUENCED, SEND_UNRELIABLE_FRAGMENT), 1
)


@dataclass(slots=True)
class Header:
    """The first 2 or 4 bytes of a datagram."""

    id: int
    session: int
    timed: bool
    compressed: bool
    time: int
    size: int


@dataclass(slots=True)
class Command:
    """One command. `fields` are those after byte 3, in wire order, lengths of data included."""

    type: int
    flags: int
    channel: int
    number: int
    fields: tuple[int | bytes, ...] = ()
    data: bytes = field(default=b"")


def read_header(data: bytes) -> Header | None:
    """The header, or None when the datagram is shorter than its own header.

    >>> read_header(bytes.fromhex("b0051020")).session
    3
    """
    if len(data) < 2:
        return None
    word = int.from_bytes(data[:2])
    timed = bool(word & SENT_TIME)
    if timed and len(data) < 4:
        return None
    time = int.from_bytes(data[2:4]) if timed else 0
    return Header(word & 0xFFF, word >> 12 & 3, timed, bool(word & COMPRESSED), time, 4 if timed else 2)


def write_header(id: int, session: int, time: int | None = None) -> bytes:
    """2 bytes, or 4 when there is a time."""
    if time is None:
        return (id | session << 12).to_bytes(2)
    return (id | session << 12 | SENT_TIME).to_bytes(2) + (time & 0xFFFF).to_bytes(2)


def read_command(data: bytes, at: int) -> tuple[Command, int] | None:
    """The command at `at` and the place after it, or None: too short, unknown type, data beyond the end."""
    if len(data) - at < 4:
        return None
    kind = data[at] & 0x0F
    layout = _LAYOUT.get(kind)
    if layout is None or len(data) - at < layout.size:
        return None
    first, channel, number, *fields = layout.unpack_from(data, at)
    end = at + layout.size
    body = b""
    if kind in _SENDING:
        length = fields[_SENDING[kind]]
        if length > len(data) - end:
            return None
        body = data[end : end + length]
        end += length
    return Command(kind, first & (FLAG_ACK | FLAG_UNSEQUENCED), channel, number, tuple(fields), body), end


def write_command(command: Command) -> bytes:
    """The bytes of a command, its data included."""
    layout = _LAYOUT[command.type]
    head = layout.pack(command.type | command.flags, command.channel, command.number, *command.fields)
    return head + command.data


def checksum(header: bytes, connect_id: bytes, commands: bytes) -> bytes:
    """The 4 bytes of a datagram's checksum: CRC-32 with the connect id in the field's place."""
    return zlib.crc32(header + connect_id + commands).to_bytes(4)
