"""What one worker gives the next at a reload. Above servers/plain.py, called by worker.py.

The old worker has stopped reading. Handlers of its that still wait go on with their
own copy of the state: what they change in it reaches nobody, and is counted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..extensions.base import hook
from ..modes import UDP
from ..servers import plain
from ..servers.reloading import settle

if TYPE_CHECKING:
    from ..servers.base import Server
    from ..servers.mode import ModeServer

__all__ = ["changed", "endpoints", "export", "restore", "settle"]


def export(server: Server) -> tuple[bytes, list[str]]:
    """Sessions, positions and what extensions export, as plain data; and what is not plain, by name."""
    carried: dict[str, Any] = {
        "endpoints": [mode.endpoint.export() for mode in endpoints(server)],
        "extensions": {},
    }
    for extension in server.extensions:
        give = hook(extension, "export")
        if give is not None:
            name = server.manifest.called(extension)
            try:
                carried["extensions"][name] = give()
            except Exception as error:
                text = f"export of {name} raised {type(error).__name__}"
                server.journal.say(logging.ERROR, text, None, error)
    return plain.pack(carried)


def restore(server: Server, carried: dict[str, Any]) -> None:
    """Go on with what `export` gave in the worker before."""
    for mode, kept in zip(endpoints(server), carried["endpoints"], strict=True):
        mode.endpoint.restore(kept)
    for extension in server.extensions:
        name = server.manifest.called(extension)
        take = hook(extension, "restore")
        if name in carried.get("extensions", {}) and take is not None:
            try:
                take(carried["extensions"][name])
            except Exception as error:
                text = f"restore of {name} raised {type(error).__name__}; it begins without its state"
                server.journal.say(logging.ERROR, text, None, error)


def endpoints(server: Server) -> list[ModeServer]:
    """The modes that have a datagram endpoint, in the order in which they are served."""
    return [mode for mode in server.modes if mode.mode is UDP]


def changed(given: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The clients whose session or position is not what was given any more, as text.

    `given` has gone through `plain`, `now` comes from the endpoint. A session that
    expired meanwhile is no change.
    """
    after = plain.decode(plain.pack(now)[0])
    sessions = _by_client(given.get("sessions", ()))
    found = [who for who, kept in _by_client(after["sessions"]).items() if sessions.get(who, {}) != kept]
    before, places = _by_client(given.get("positions", ())), _by_client(after["positions"])
    found += [who for who in {**before, **places} if before.get(who) != places.get(who)]
    return sorted({f"{host}:{port}" for host, port in found})


def _by_client(items: Iterable[Any]) -> dict[Any, Any]:
    return {tuple(who): kept for who, kept in items}
