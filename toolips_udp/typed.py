"""Typed packets: from bytes to a msgspec Struct and back. Below handlers.

The first byte tells the kind: `{` or `[` is JSON, anything else msgpack. What
does not fit raises `Malformed`, which is counted and never reaches a handler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from .errors import StartError

Decoder = Callable[[bytes], Any]

DEPTH = 32
"""How deep a packet may nest. Checked before decoding: a decoder that recurses could overflow a small stack."""

_JSON_OPEN = (b"{", b"[")
# Every byte that can open a msgpack container, deleted from what remains: their number bounds the depth from above.
_NOT_MSGPACK_OPEN = bytes(b for b in range(256) if not (0x80 <= b <= 0x9F or 0xDC <= b <= 0xDF))


class Malformed(Exception):
    """A packet that is not what the handler's type says. Counted `malformed`."""


def is_json(packet: bytes) -> bool:
    """Whether a packet is JSON by its first byte."""
    return packet[:1] in _JSON_OPEN


def decoder_for(annotation: Any, who: str) -> Decoder:
    """A function from a packet to a value of this type. `StartError` for a type that cannot be decoded."""
    try:
        from_json = msgspec.json.Decoder(annotation)
        from_msgpack = msgspec.msgpack.Decoder(annotation)
    except TypeError as error:
        raise StartError(
            f"{who}: packets cannot be decoded to {annotation!r}: {error}", code="bad-packet-type"
        ) from None

    def decode(packet: bytes) -> Any:
        try:
            if packet[:1] in _JSON_OPEN:
                check_json_depth(packet)
                return from_json.decode(packet)
            check_msgpack_depth(packet)
            return from_msgpack.decode(packet)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(str(error)) from None

    return decode


def encode(value: Any, as_json: bool) -> bytes:
    """A Struct as the bytes of one packet, in the kind that was asked in."""
    return msgspec.json.encode(value) if as_json else msgspec.msgpack.encode(value)


def check_json_depth(packet: bytes) -> None:
    """Raise `Malformed` when JSON nests deeper than `DEPTH`."""
    if packet.count(b"{") + packet.count(b"[") <= DEPTH:
        return
    depth, at, end = 0, 0, len(packet)
    while at < end:
        byte = packet[at]
        if byte == 0x22:  # a string: skip to its end
            at += 1
            while at < end and packet[at] != 0x22:
                at += 2 if packet[at] == 0x5C else 1
        elif byte in b"{[":
            depth += 1
            if depth > DEPTH:
                raise Malformed(f"nested deeper than {DEPTH}")
        elif byte in b"}]":
            depth -= 1
        at += 1


def check_msgpack_depth(packet: bytes) -> None:
    """Raise `Malformed` when msgpack nests deeper than `DEPTH`. Truncated input is left to the decoder."""
    if len(packet.translate(None, _NOT_MSGPACK_OPEN)) <= DEPTH:
        return
    open_items: list[int] = []  # items still missing in each open container
    at, end = 0, len(packet)
    while at < end:
        while open_items and open_items[-1] == 0:
            open_items.pop()
        if open_items:
            open_items[-1] -= 1
        at, items = _msgpack_step(packet, at)
        if items:
            open_items.append(items)
            if len(open_items) > DEPTH:
                raise Malformed(f"nested deeper than {DEPTH}")


# Bytes that follow a type byte from 0xc0 on; negative: that many bytes hold a length, to which `extra` is added.
_FIXED = {
    **dict.fromkeys((0xC0, 0xC1, 0xC2, 0xC3), 0), 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8,
    0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17,
}  # fmt: skip
_SIZED = {
    0xC4: (1, 0),
    0xC5: (2, 0),
    0xC6: (4, 0),
    0xC7: (1, 1),
    0xC8: (2, 1),
    0xC9: (4, 1),
    0xD9: (1, 0),
    0xDA: (2, 0),
    0xDB: (4, 0),
}
_CONTAINER = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}


def _msgpack_step(packet: bytes, at: int) -> tuple[int, int]:
    """Past one item: where the next one starts, and how many items this one holds."""
    byte = packet[at]
    at += 1
    if byte <= 0x7F or byte >= 0xE0:
        return at, 0
    if byte <= 0x8F:
        return at, (byte & 0x0F) * 2
    if byte <= 0x9F:
        return at, byte & 0x0F
    if byte <= 0xBF:
        return at + (byte & 0x1F), 0
    if byte in _FIXED:
        return at + _FIXED[byte], 0
    if byte in _SIZED:
        width, extra = _SIZED[byte]
        return at + width + extra + int.from_bytes(packet[at : at + width], "big"), 0
    width, per_item = _CONTAINER[byte]
    return at + width, int.from_bytes(packet[at : at + width], "big") * per_item
