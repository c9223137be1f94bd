"""A server and its client in memory: the smallest test of a handler.

Testing floor: imports the world, and real servers only when asked for them.
"""

from __future__ import annotations

import contextlib
import socket
import time
from types import TracebackType
from typing import Any

from .world import World


class Pair:
    """Client and server over memory with a fake clock: no socket, no sleep, the same result each time.

    With `real=True` the same calls go over sockets on loopback, to a server started
    as users start it. A context manager; leaving it checks both ledgers.

    >>> with Pair(module) as pair:
    ...     assert pair.ask(b"ping") == b"pong"
    """

    def __init__(self, module: Any, *, real: bool = False, **settings: Any):
        self.module = module
        self.real = real
        self._settings = settings
        self._within = contextlib.ExitStack()
        self.world: World | None = None
        self.server: Any = None

    def __enter__(self) -> Pair:
        if self.real:
            from ..modes import UDP
            from ..starting import start

            self.server = start(UDP, self.module, "127.0.0.1:0", **self._settings)
            self._within.callback(self.server.stop)
            self._sock = self._within.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            self._sock.connect(self.server.address)
            return self
        self.world = self._within.enter_context(World(0))
        self.server = self.world.serve(self.module, **self._settings)
        self._client = self.world.client()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._within.close()

    def send(self, data: bytes | str) -> None:
        """One datagram from the client to the server."""
        if self.world is not None:
            self._client.send(data)
        else:
            self._sock.send(data.encode() if isinstance(data, str) else data)

    def receive(self, timeout: float = 1.0) -> bytes:
        """The next datagram from the server; `TimeoutError` when none comes in time."""
        if self.world is not None:
            self.world.run_until(self._client.received, timeout)
            return bytes(self._client.pop())
        self._sock.settimeout(timeout)
        return self._sock.recv(65_535)

    def ask(self, data: bytes | str, timeout: float = 1.0) -> bytes:
        """Send and return the next datagram that comes."""
        self.send(data)
        return self.receive(timeout)

    def silent(self, seconds: float = 0.05) -> bool:
        """Whether nothing comes for this long."""
        try:
            self.receive(seconds)
        except TimeoutError:
            return True
        return False

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        if self.world is not None:
            self.world.run(seconds)
        else:
            time.sleep(seconds)
