"""Connections: what a handler holds in its hand. Names are loaded when first used."""

from __future__ import annotations

import importlib

_ROOMS = {
    "UDPConnection": "udp",
    "UDPIOConnection": "udp",
    "SocketConnection": "tcp",
    "Connection": "http",
}

__all__ = list(_ROOMS)


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        value = getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
