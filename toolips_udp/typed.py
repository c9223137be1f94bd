"""Typed packets: from bytes to a msgspec Struct and back. Below handlers.

The first byte tells the kind: `{` or `[` is JSON, anything else msgpack. What
does not fit raises `Malformed`, which is counted and never reaches a handler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from .errors import StartError

try:
    from ._native.depth import json_is_deeper, msgpack_is_deeper
except ImportError:  # a build without the native core
    from .depth import json_is_deeper, msgpack_is_deeper

Decoder = Callable[[bytes], Any]

DEPTH = 32
"""How deep a packet may nest. Checked before decoding: a decoder that recurses could overflow a small stack."""

_JSON_OPEN = (b"{", b"[")


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
    if json_is_deeper(packet, DEPTH):
        raise Malformed(f"nested deeper than {DEPTH}")


def check_msgpack_depth(packet: bytes) -> None:
    """Raise `Malformed` when msgpack nests deeper than `DEPTH`. Truncated input is left to the decoder."""
    if msgpack_is_deeper(packet, DEPTH):
        raise Malformed(f"nested deeper than {DEPTH}")
