"""The game house: peers, rooms, ticks, snapshots, prediction. Stands on `peers/`."""

from __future__ import annotations

import importlib

_ROOMS = {
    "game": "Game",
    "inputs": "InputMap",
    "snapshot": "Snapshots",
    "replica": "Replica Snapshot",
    "interest": "Near",
    "fields": "fixed angle quaternion number counter dial flag",
    "clocks": "ClockSync InputClock",
    "interpolation": "Interpolation",
    "prediction": "Prediction",
    "record": "Recorder ReplayDiffers replay",
    "lag": "Lag",
    "room": "Room RoomFull",
    "tick": "Tick",
    "history": "History",
}
_PEERS = "Client Delivery RELIABLE SEQUENCED UNSEQUENCED Enet Leave Peer PeerStats Refuse WebSocket"
_HOMES = {name: f"{__name__}.{room}" for room, names in _ROOMS.items() for name in names.split()}
_HOMES |= dict.fromkeys(_PEERS.split(), "toolips_udp.peers")

__all__ = [*_HOMES, "simulate"]


def __getattr__(name: str) -> object:
    if name == "simulate":
        return importlib.import_module("toolips_udp.testing")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
