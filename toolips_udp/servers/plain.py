"""Plain data between processes: msgpack in which tuples, sets and addresses keep their type.

Imports address. Never pickle: what goes through here may have come from a packet.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..address import Address

_TUPLE, _SET, _ADDRESS = 1, 2, 3
_PLAIN = (type(None), bool, int, float, str, bytes)
DEEPEST = 32
NAMED = 10
"""Values named in one report; the rest is only counted."""


class NotPlain(TypeError):
    """A value that cannot travel between processes."""


def encode(value: Any) -> bytes:
    """The bytes of a plain value: None, a number, text, bytes, an Address; dicts, lists, tuples, sets of it.

    Raises `NotPlain` that names what is not.
    """
    data, lost = pack(value)
    if lost:
        raise NotPlain(
            f"{', '.join(lost)} cannot travel to another process. "
            "Expected numbers, text, bytes, and dicts, lists, tuples or sets of them"
        )
    return data


def pack(state: Any) -> tuple[bytes, list[str]]:
    """The bytes of `state`, and where in it the values lay that were dropped."""
    lost: list[str] = []
    try:
        data = msgspec.msgpack.encode(_plain(state, "", lost, 0))
    except _Dropped:
        return msgspec.msgpack.encode(None), [type(state).__name__]
    if len(lost) > NAMED:
        lost = [*lost[:NAMED], f"and {len(lost) - NAMED} more"]
    return data, lost


def decode(data: bytes | memoryview) -> Any:
    """What `encode` or `pack` was given, without what was dropped."""
    return msgspec.msgpack.decode(data, ext_hook=_restore)


class _Dropped(Exception):
    """There is no plain form of a value."""


def _plain(value: Any, where: str, lost: list[str], depth: int) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        if kind is int and not -(2**63) <= value < 2**64:
            raise _Dropped
        return value
    if depth > DEEPEST:
        raise _Dropped
    if isinstance(value, dict):
        return _plain_map(value, where, lost, depth)
    if isinstance(value, Address):
        return msgspec.msgpack.Ext(_ADDRESS, str(value).encode())
    if kind in (list, tuple, set, frozenset):
        items = _plain_items(value, where, lost, depth)
        if kind is list:
            return items
        return msgspec.msgpack.Ext(_TUPLE if kind is tuple else _SET, msgspec.msgpack.encode(items))
    raise _Dropped


def _plain_items(value: Any, where: str, lost: list[str], depth: int) -> list[Any]:
    items = []
    for at, item in enumerate(value):
        try:
            items.append(_plain(item, f"{where}[{at}]", lost, depth + 1))
        except _Dropped:
            lost.append(f"{where}[{at}] ({type(item).__name__})")
            items.append(None)
    return items


def _plain_map(value: dict[Any, Any], where: str, lost: list[str], depth: int) -> dict[Any, Any]:
    found = {}
    for key, item in value.items():
        inside = f"{where}.{key}" if where else str(key)
        if type(key) not in (str, int, bytes, bool):
            lost.append(f"{inside} (a key of type {type(key).__name__})")
            continue
        try:
            found[key] = _plain(item, inside, lost, depth + 1)
        except _Dropped:
            lost.append(f"{inside} ({type(item).__name__})")
    return found


def _restore(code: int, data: memoryview) -> Any:
    if code == _ADDRESS:
        return Address.parse(bytes(data).decode())
    items = msgspec.msgpack.decode(data, ext_hook=_restore)
    return tuple(items) if code == _TUPLE else set(items)
