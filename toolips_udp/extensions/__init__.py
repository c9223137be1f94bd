"""Extensions: what stands between the wire and the handlers. Names are loaded when first used."""

from __future__ import annotations

import importlib

_ROOMS = {
    "Extension": "base",
    "QuickExtension": "quick",
    "MultiHandler": "multi",
    "Logger": "logger",
    "log": "logger",
    "Session": "session",
    "on": "session",
    "limits": "limits",
    "access": "access",
    "mount": "mount",
}

__all__ = list(_ROOMS)


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        value = getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}"), name)
        globals()[name] = value  # also over a submodule of the same name
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
