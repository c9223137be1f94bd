"""Memory: links inside this process, between two loops or on one. For tests, and for clients beside their server.

Imports the link. `pair` makes both ends; `open_memory` connects to a running server object.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ..errors import ConnectError
from .link import Link


class MemoryLink(Link):
    """One end. `pause` keeps what arrives, as a client does that does not read."""

    near = True

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        super().__init__()
        self.address = name
        self.host = name.partition(":")[0]
        self.loop = loop
        self.other: MemoryLink | None = None
        self.sent = 0
        self.taken = 0  # written by the reader's loop only
        self._kept: list[bytes] | None = None

    def send(self, data: bytes) -> bool:
        """See `Link.send`."""
        other = self.other
        if not self.open or other is None:
            return False
        self.sent += len(data)
        return other.run(other.arrive, data)

    def run(self, function: Any, *args: Any) -> bool:
        """Call something on the loop of this end."""
        try:
            self.loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            return False  # that loop has ended
        return True

    def arrive(self, data: bytes) -> None:
        """A message is here."""
        if self._kept is not None:
            self._kept.append(data)
        elif self.open:
            self.taken += len(data)
            self.on_message(data)

    def pause(self) -> None:
        """Take nothing more, until `resume`."""
        self._kept = self._kept or []

    def resume(self) -> None:
        """Take what was kept, and everything that comes."""
        kept, self._kept = self._kept or [], None
        for data in kept:
            self.arrive(data)

    @property
    def unsent(self) -> int:
        """See `Link.unsent`."""
        return 0 if self.other is None else self.sent - self.other.taken

    def close(self) -> None:
        """See `Link.close`."""
        if self.open and self.other is not None:
            self.other.run(self.other.ended, "left")
        self.ended("closed")

    def vanish(self) -> None:
        """Be gone without a word, as a machine that loses its power."""
        self.other = None


def pair(
    server_loop: asyncio.AbstractEventLoop, client_loop: asyncio.AbstractEventLoop, name: str = "memory"
) -> tuple[MemoryLink, MemoryLink]:
    """Two ends of one connection: the server's and the client's."""
    server, client = MemoryLink(server_loop, f"{name}:client"), MemoryLink(client_loop, f"{name}:server")
    server.other, client.other = client, server
    return server, client


async def open_memory(server: Any) -> MemoryLink:
    """Connect to a running `Messages` of this process. `ConnectError` when it does not run."""
    loop = server.loop
    if loop is None:
        raise ConnectError(f"{server!r} does not run, so nothing can connect to it. Fix: start it first")
    theirs, ours = pair(loop, asyncio.get_running_loop())
    try:
        loop.call_soon_threadsafe(server.accept, theirs)
    except RuntimeError:
        raise ConnectError(f"{server!r} has ended") from None
    return ours
