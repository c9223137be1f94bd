"""Verbs that every connection has, whatever its transport: log, timers, broadcast, jobs.

Mixins without state; a connection gives `server`, `address` and `data`. Imports
the ground floor and `asking`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..address import Address, AnyAddress
from ..asking import ask, raw_bytes, request

if TYPE_CHECKING:
    from ..servers.base import Server, Timer


class Verbs:
    """What `UDPConnection`, `SocketConnection` and `Connection` share."""

    __slots__ = ()

    if TYPE_CHECKING:
        server: Any
        address: Any
        data: Any

    def __contains__(self, key: object) -> bool:
        return key in self.data

    @property
    def worker(self) -> int:
        """The id of the worker that runs this: 1 is the main loop."""
        return 1

    def log(self, message: str, level: str | int = "info") -> None:
        """Say one line with server and peer."""
        self.server.log(message, level, peer=self.address)

    def after(self, seconds: float, fn: Callable[[], Any]) -> Timer:
        """Call `fn()` on the server's loop in `seconds`, unless `.cancel()` comes first.

        With a `Session` in the module it also ends with the client's session.
        """
        timer: Timer = self.server.after(seconds, fn)
        if self.server.client_timer is not None:
            self.server.client_timer(self, timer)
        return timer

    def broadcast(
        self, data: Any, to: Iterable[AnyAddress] | None = None, exclude: Iterable[AnyAddress] = ()
    ) -> int:
        """One datagram to each of `to`, or to each UDP client with a live session. The number queued."""
        number: int = self.server.broadcast(data, to, exclude)
        return number

    # jobs: the same verbs as on the server's manager

    def assign(self, worker: Any, *jobs: Any, **options: Any) -> Any:
        """Queue jobs on that worker of the server; one future per job."""
        return self.server.processes.assign(worker, *jobs, **options)

    def assign_open(self, *jobs: Any, **options: Any) -> Any:
        """Give jobs to the first idle worker of the server."""
        return self.server.processes.assign_open(*jobs, **options)

    def distribute(self, *jobs: Any, **options: Any) -> Any:
        """Deal jobs out to the server's workers in turn."""
        return self.server.processes.distribute(*jobs, **options)

    def distribute_open(self, *jobs: Any, **options: Any) -> Any:
        """Deal jobs out to the idle workers of the server."""
        return self.server.processes.distribute_open(*jobs, **options)


class StreamVerbs(Verbs):
    """What TCP and HTTP connections share besides: who asks, the server's data, and its UDP side."""

    __slots__ = ()

    if TYPE_CHECKING:
        packet: bytes

        @property
        def server(self) -> Server:
            """The server that serves this client."""

        @property
        def address(self) -> Address:
            """The client's address."""

    @property
    def ip(self) -> str:
        """The client's host, as text."""
        return self.address.host

    @property
    def port(self) -> int:
        """The client's port."""
        return self.address.port

    @property
    def text(self) -> str:
        """`packet` as UTF-8. What is not UTF-8 becomes U+FFFD; never raises."""
        return self.packet.decode("utf-8", "replace")

    @property
    def data(self) -> dict[Any, Any]:
        """The server's mapping, shared by all its connections. Each operation is atomic."""
        return self.server.data

    def __getitem__(self, key: Any) -> Any:
        return self.server.data[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.server.data[key] = value

    def __delitem__(self, key: Any) -> None:
        del self.server.data[key]

    def send(self, data: Any, to: AnyAddress) -> None:
        """One datagram to any address, out of the server's own UDP socket."""
        self.server.send(data, to)

    def request(self, data: Any, to: AnyAddress, timeout: float = 1.0, retries: int = 0) -> Any:
        """Ask a UDP server and wait for its answer: awaited in `async def`, blocking in a thread.

        Raises `TimeoutError` after `timeout` seconds, tried 1 + `retries` times.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return request(data, to, timeout, retries)
        return ask(raw_bytes(data), Address.parse(to), timeout, retries)
