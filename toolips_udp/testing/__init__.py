"""Tests without a network, and with a bad one.

Imports nothing until a name is used: the pytest plugin is loaded by every test
run of the environment.

`World(seed, ...)` puts servers and clients on a simulated bad network under a
virtual clock; `BadNetwork` is the weather alone; `FakeClock` is time that moves
when told.
"""

from __future__ import annotations

import importlib

_ROOMS = {
    "clock": "FakeClock",
    "knobs": "Knobs PROFILES",
    "pair": "Pair",
    "network": "BadNetwork Direction Link",
    "nodes": "Node SansIo Caller",
    "trace": "Trace TraceEntry FATES ARRIVED",
    "world": "World Broken",
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names.split()}

__all__ = [*_HOMES]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
