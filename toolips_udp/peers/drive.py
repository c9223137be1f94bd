"""A host of peers on the endpoint of a server: in the native turn as a stage, elsewhere called by the loop.

Imports connections for their type. Called by what owns a host and is an extension: games, the carrier of messages.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from ..connections.udp import UDPConnection


class Drive:
    """Brings datagrams to `owner.host` and away from it, and calls it when it wants to be called.

    `most` bounds the addresses of clients that are remembered with the local address they asked, on a wildcard
    bind without a stage. `begin` on the server's loop, `end` when it stops.
    """

    def __init__(self, owner: Any, most: int) -> None:
        self._owner = owner
        self._most = most
        self.clock: Callable[[], int] = time.monotonic_ns
        self.staged = False
        """Whether the native turn drives the host."""
        self._server: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._asked_at: dict[Any, Any] = {}

    def begin(self, server: Any) -> None:
        """The server starts; its loop is the running one."""
        self._server = server
        loop = self._loop = asyncio.get_running_loop()
        self.clock = getattr(loop, "nanoseconds", time.monotonic_ns)

    @property
    def endpoint(self) -> Any:
        """The server's UDP endpoint, or None."""
        modes = () if self._server is None else self._server.modes
        return next((e for e in (getattr(m, "endpoint", None) for m in modes) if e is not None), None)

    def stages(self) -> list[Any]:
        """The host, when it is the native one."""
        if not hasattr(self._owner.host, "__tudp_stage__"):
            return []
        self.staged = True
        return [self._owner.host]

    def take(self, c: Any) -> str | None:
        """Where no stage runs, a packet: the word of its end in the host. None: it is not for the host."""
        host = self._owner.host
        if self.staged or host is None or not isinstance(c, UDPConnection):
            return None
        local = getattr(c, "local", None)
        if local is not None:  # a wildcard bind: answers leave from where they were asked
            if len(self._asked_at) >= self._most:
                knows = self._knows()
                self._asked_at = {a: at for a, at in self._asked_at.items() if knows(a)}
            self._asked_at[c.address] = local
        word: str = host.receive(self.clock(), c.address, c.packet)
        self._pump()
        return None if word == "passed" else word

    def flush(self) -> None:
        """What was queued outside a turn leaves soon."""
        if self.staged:
            endpoint = self.endpoint
            if endpoint is not None:
                endpoint.wake()
        elif self._loop is not None and self._timer is None:
            self._timer = self._loop.call_later(0, self._ring)

    def push(self) -> None:
        """What is queued leaves now, though nothing is read any more."""
        host, endpoint = self._owner.host, self.endpoint
        if host is not None and endpoint is not None:
            host.advance(self.clock())
            self._send(endpoint)
            endpoint.flush()

    def rest(self) -> None:
        """Call the host no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        """The server stops."""
        self.rest()
        self.staged = False
        self._loop = None

    def _knows(self) -> Callable[[Any], bool]:
        """Whether an address is that of a peer, or of one who may become one."""
        host = self._owner.host
        knows: Callable[[Any], bool] | None = getattr(host, "knows", None)
        return {peer.address for peer in host.peers.values()}.__contains__ if knows is None else knows

    def _ring(self) -> None:
        self._timer = None
        host = self._owner.host
        if self.staged:  # asked before the stage had its first turn
            self.flush()
        elif host is not None:
            host.advance(self.clock())
            self._pump()

    def _send(self, endpoint: Any) -> None:
        for data, to in self._owner.host.outgoing():
            local = self._asked_at.get(to)
            if local is None:
                endpoint.send(data, to)
            else:
                endpoint.push(data, to, None, local)

    def _pump(self) -> None:
        """Send what the host has, and be back when it wants to be."""
        self._send(self.endpoint)
        due = self._owner.host.deadline()
        self.rest()
        if due is not None and self._loop is not None:
            self._timer = self._loop.call_later(max(0.0, (due - self.clock()) / 1e9), self._ring)
