"""Typed messages: a code, then a Struct as msgpack or JSON. Imports the ground floor and `typed`.

On the wire: `[code u8][msgpack or JSON]`. What does not decode is malformed and
never reaches a handler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import msgspec

from ..typed import Malformed, decoder_for

MOST_KEYS = 1024
_codes: WeakKeyDictionary[type, tuple[int, Callable[[Any], bytes]]] = WeakKeyDictionary()
T = TypeVar("T", bound=type)


def encode(value: Any) -> bytes:
    """A Struct that has a code, as it goes over the wire. `TypeError` for anything else.

    >>> @game.message(1)
    ... class Say(Struct):
    ...     text: str
    >>> encode(Say("hi"))
    b'\\x01\\x81\\xa4text\\xa2hi'
    """
    known = _codes.get(type(value))
    if known is None:
        raise TypeError(
            f"a message is bytes, text or a Struct with a code, found {type(value).__name__}. "
            f"Fix: decorate the class with @game.message(code)"
        )
    return bytes((known[0],)) + known[1](value)


class TypedMessages:
    """The types of one game, by code. `codec` is "msgpack" or "json"."""

    def __init__(self, codec: str = "msgpack") -> None:
        if codec not in ("msgpack", "json"):
            raise ValueError(f"codec is 'msgpack' or 'json', found {codec!r}")
        self._encode = msgspec.msgpack.encode if codec == "msgpack" else msgspec.json.encode
        self._decoders: dict[int, tuple[type, Callable[[bytes], Any]]] = {}

    def __bool__(self) -> bool:
        return bool(self._decoders)

    def add(self, code: int, kind: T) -> T:
        """Give a Struct class its code, 0 to 253."""
        if not 0 <= code <= 253:
            raise ValueError(
                f"the code of {kind.__name__} is 0 to 253 (254 and 255 are ours), found {code!r}"
            )
        if code in self._decoders:
            raise ValueError(f"code {code} is already that of {self._decoders[code][0].__name__}")
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            raise TypeError(f"a typed message is a msgspec.Struct class, found {kind!r}")
        self._decoders[code] = (kind, decoder_for(kind, f"message {kind.__name__}"))
        _codes[kind] = (code, self._encode)
        return kind

    def decode(self, data: bytes) -> Any:
        """The value of a message, or None when its code is not one of ours. Raises `Malformed`."""
        known = self._decoders.get(data[0]) if data else None
        if known is None:
            return None
        body = data[1:]
        if len(body) > MOST_KEYS and _keys(body) > MOST_KEYS:
            raise Malformed(f"{known[0].__name__}: more than {MOST_KEYS} keys")
        return known[1](body)


def _keys(body: bytes) -> int:
    """At most how many keys a body can have: pairs in JSON, or what its map headers may open."""
    if body[:1] in (b"{", b"["):
        return body.count(b":")
    most, at = 0, 0
    while at < len(body):
        first = body[at]
        if first == 0xDF:
            most = max(most, int.from_bytes(body[at + 1 : at + 5]))
        elif first == 0xDE:
            most = max(most, int.from_bytes(body[at + 1 : at + 3]))
        elif first & 0xF0 == 0x80:
            most = max(most, first & 0x0F)
        at += _size(body, at)
    return most


def _size(body: bytes, at: int) -> int:
    """Bytes of the msgpack head at `at`, with its text or bytes, so that their content is passed over."""
    first = body[at]
    if 0xA0 <= first <= 0xBF:
        return 1 + (first & 0x1F)
    if first in (0xD9, 0xC4):
        return 2 + int.from_bytes(body[at + 1 : at + 2])
    if first in (0xDA, 0xC5):
        return 3 + int.from_bytes(body[at + 1 : at + 3])
    if first in (0xDB, 0xC6):
        return 5 + int.from_bytes(body[at + 1 : at + 5])
    if 0xC7 <= first <= 0xC9:  # extension: length, type, data
        width = 1 << (first - 0xC7)
        return 2 + width + int.from_bytes(body[at + 1 : at + 1 + width])
    fixed = {0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9}
    fixed |= {0xD4: 3, 0xD5: 4, 0xD6: 6, 0xD7: 10, 0xD8: 18, 0xDC: 3, 0xDD: 5, 0xDE: 3, 0xDF: 5}
    return fixed.get(first, 1)
