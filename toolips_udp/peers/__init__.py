"""Clients that stay: peers on the wire, below the houses `game` and `messages`.

Imports the ground floor, transports and extensions; never a house. `game/`,
`messages/` and `testing/` call it.
"""

from __future__ import annotations

import importlib

_ROOMS = {
    "delivery": "Delivery RELIABLE SEQUENCED UNSEQUENCED",
    "peer": "Peer PeerStats Leave Refuse LEAVE_WORDS CODES",
    "enet": "Enet",
    "client": "Client",
    "websocket": "WebSocket",
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names.split()}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
