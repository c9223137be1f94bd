"""Typed packets: from bytes to a msgspec Struct and back. Below handlers.

The first byte tells the kind: `{` or `[` is JSON, anything else msgpack. What
does not fit raises `Malformed`, which is counted and never reaches a handler.
"""

from __future__ import annotations

import re
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
_HASHED = frozenset("Str Bytes Int Float Bool None Enum Literal DateTime Date Time TimeDelta".split())
"""What a key of a map or a member of a set may be. Of others (tuples, UUIDs, decimals) a stranger can make thousands
with one hash, and a table of those takes its time squared."""
_LONG_NUMBER = re.compile(rb"\d{21}")
"""An integer with more than 64 bits. Of shorter ones at most eight have one hash."""


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
        hashed = _hashed(annotation)
    except TypeError as error:
        raise StartError(
            f"{who}: packets cannot be decoded to {annotation!r}: {error}", code="bad-packet-type"
        ) from None

    if not hashed <= _HASHED:
        raise StartError(
            f"{who}: {annotation!r} has a map or set of {', '.join(sorted(hashed - _HASHED))}, of which a stranger can "
            "make thousands with one hash. Fix: text, bytes, numbers, enums or times there; or a list",
            code="bad-packet-type",
        )
    numbers = "Int" in hashed

    def decode(packet: bytes) -> Any:
        try:
            if packet[:1] in _JSON_OPEN:
                check_json_depth(packet)
                if numbers and _LONG_NUMBER.search(packet):
                    raise Malformed(
                        "an integer of more than 64 bits, beside keys or members that are integers"
                    )
                return from_json.decode(packet)
            check_msgpack_depth(packet)
            return from_msgpack.decode(packet)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(str(error)) from None

    return decode


def _hashed(annotation: Any) -> set[str]:
    """What the keys of all maps and the members of all sets in a type are, as msgspec calls it: `Int`, `Str` ..."""
    from msgspec import inspect  # costs 6 ms, and most servers have no typed handler

    found: set[str] = set()
    seen: dict[int, Any] = {}  # holds what it has seen, so that no id comes twice
    left: list[Any] = [inspect.type_info(annotation)]
    while left:
        each = left.pop()
        if isinstance(each, list | tuple):
            left += each
        elif isinstance(each, inspect.Type | inspect.Field) and id(each) not in seen:
            seen[id(each)] = each
            left += [getattr(each, name) for name in each.__struct_fields__]
            key = getattr(each, "key_type", None)
            if isinstance(each, inspect.SetType | inspect.FrozenSetType):
                key = each.item_type
            choices = key.types if isinstance(key, inspect.UnionType) else (key,) if key is not None else ()
            found |= {type(choice).__name__.removesuffix("Type") for choice in choices}
    return found


def encode(value: Any, as_json: bool) -> bytes:
    """A Struct as the bytes of one packet, in the kind that was asked in."""
    return msgspec.json.encode(value) if as_json else msgspec.msgpack.encode(value)


def check_json_depth(packet: bytes) -> None:
    """Raise `Malformed` when JSON nests deeper than `DEPTH`."""
    if json_is_deeper(packet, DEPTH):
        raise Malformed(f"nested deeper than {DEPTH}")


def check_msgpack_depth(packet: bytes, most: int = DEPTH) -> None:
    """Raise `Malformed` when msgpack nests deeper than `most`. Truncated input is left to the decoder."""
    if msgpack_is_deeper(packet, most):
        raise Malformed(f"nested deeper than {most}")
