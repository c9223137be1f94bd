"""A module served inside a world: the real `Server`, on a wire of memory, under virtual time.

Testing floor: imports servers, transports and manifest. With the native core the
datagrams go through the C that ships, whose system calls a memory wire
replaces; without it through the portable transport on a socket of memory.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, cast

from .. import transports
from ..address import Address
from ..counters import DROPS
from ..errors import StartError
from ..manifest import read
from ..modes import UDP
from ..servers import options
from ..servers.base import ModeServer, Server
from ..servers.udp import UDPMode
from .clock import SECOND
from .nodes import Caller
from .virtual import VirtualLoop


class MemorySocket:
    """As much of a socket as the portable transport uses, with queues for a network."""

    family = socket.AF_INET

    def __init__(self, address: Address):
        self.address = address
        self.arrived: deque[tuple[bytes, Any]] = deque()
        self.left: list[tuple[bytes, Any]] = []

    def getsockname(self) -> tuple[str, int]:
        return (self.address.host, self.address.port)

    def fileno(self) -> int:
        return 1 << 30

    def recvfrom(self, size: int) -> tuple[bytes, Any]:
        if not self.arrived:
            raise BlockingIOError
        return self.arrived.popleft()

    def sendto(self, data: bytes, to: Any) -> int:
        self.left.append((bytes(data), Address(to[0], to[1])))
        return len(data)

    def setsockopt(self, *args: Any) -> None: ...

    def getsockopt(self, *args: Any) -> Any:
        raise OSError("a socket of memory has no options")

    def setblocking(self, flag: bool) -> None: ...

    def close(self) -> None:
        self.arrived.clear()


class _PortableWire:
    """The shape of a native `MemoryWire` over a `MemorySocket`."""

    def __init__(self, address: Address):
        self.sock = MemorySocket(address)
        self.now_ns = 0

    @property
    def readable(self) -> bool:
        return bool(self.sock.arrived)

    @property
    def deadline(self) -> float | None:
        return None

    def push(self, data: bytes, peer: Any) -> bool:
        self.sock.arrived.append((data, tuple(peer)))
        return True

    def collect(self) -> list[tuple[bytes, Any]]:
        left, self.sock.left = self.sock.left, []
        return left


class MemoryMode(UDPMode):
    """UDP mode on a wire of memory."""

    wire: Any

    def bind(self, address: Address) -> None:
        """Make the wire."""
        self._check_threads()
        native = transports.choose(self.server.settings.transport)
        if hasattr(native, "MemoryWire"):
            self.wire = native.MemoryWire(address, now=0.0)
            self._transport, self.detail, self.sock = native, "native", self.wire
        else:
            self.wire = _PortableWire(address)
            self._transport, self.detail, self.sock = self, "portable", self.wire.sock
        self.address = address

    # For `UDPMode.open`, this object stands for the portable transport with our clock.

    @property
    def connection_class(self) -> Any:
        from ..transports import portable

        return portable.connection_class

    def Endpoint(self, *args: Any, **more: Any) -> Any:
        from ..transports import portable

        return portable.Endpoint(*args, clock=lambda: self.wire.now_ns / SECOND, **more)

    def close(self) -> None:
        """Let go of the endpoint; memory needs no closing."""
        self.sock = None
        super().close()

    def _warn_of_small_buffer(self) -> None:
        """Memory has no receive buffer to warn of."""


class WorldServer(Server):
    """A `Server` whose one mode is memory. `random` is what protocols draw their secrets from."""

    random: random.Random

    def _bind(self, modes: Any, addresses: tuple[Address, ...]) -> None:
        mode: ModeServer = MemoryMode(self)
        mode.bind(addresses[0])
        self._modes.append(mode)


class HostedServer:
    """A module being served, as a node. Has what `Server` has: `data`, `counters`, `send`, `every`.

    Closing it drains it and checks that both ledgers close.
    """

    def __init__(self, module: Any, address: Address, seed: object = 0, **settings: Any):
        self.ns = 0
        self.touch: Callable[[], None] = lambda: None
        manifest = read(module)
        values = options.read({"watchdog": 0.0, "control": False, **settings})
        self.server = WorldServer((UDP,), manifest, (address,), values, None)
        self.server.random = random.Random(f"{seed}/{address}")
        self.mode = cast(MemoryMode, self.server.modes[0])
        self.wire = self.mode.wire
        self.loop = VirtualLoop(lambda: self.ns)
        self._started: Future[None] = Future()
        self._life: asyncio.Task[None] | None = None
        self.closed = False

    def receive(self, now: int, data: bytes, source: Any) -> None:
        """A datagram for the wire."""
        self._at(now)
        self.wire.push(data, source)

    def turn(self, now: int) -> Iterable[tuple[bytes, Any]]:
        """Start at the first turn; then whatever is due."""
        self._at(now)
        if self._life is None:
            self._start()
        endpoint, wire = self.mode.endpoint, self.wire
        while True:
            if wire.readable:
                self.loop.call_soon(endpoint.turn)
            if wire.deadline is not None and round(wire.deadline * SECOND) <= now:
                self.loop.call_soon(endpoint.pulse)
            self.loop.spin()
            if not wire.readable:
                break
        out: list[tuple[bytes, Any]] = wire.collect()
        return out

    def deadline(self) -> int | None:
        """The wire's or the loop's next, whichever is sooner."""
        wire, loop = self.wire.deadline, self.loop.deadline()
        due = [at for at in (None if wire is None else round(wire * SECOND), loop) if at is not None]
        return min(due) if due else None

    @property
    def game(self) -> Any:
        """The Game among the module's extensions, or None."""
        return next((e for e in self.server.extensions if hasattr(e, "peers") and hasattr(e, "rooms")), None)

    def make_client(self, world: Any, name: str, address: Any, **settings: Any) -> Any:
        """A client of this server's own kind: a `Player` of its game, else a `Caller`."""
        game = self.game
        if game is None:
            return Caller(address, lambda: world.touch(name))
        from .players import Player

        def is_in(player: Any) -> bool:
            here = world.host(name).address
            return any(peer.address == here and peer.open for peer in list(self.game.peers.values()))

        return Player(
            address, lambda: world.touch(name), is_in, game.types, f"{world.seed}/{name}", **settings
        )

    def _at(self, now: int) -> None:
        self.ns = now
        self.wire.now_ns = now

    def _start(self) -> None:
        self._life = self.loop.create_task(self.server._life(self._started))
        self.loop.spin()
        waits = not self._started.done()
        if waits or self._started.exception() is not None:
            self.abandon()
        if waits:
            raise StartError(
                f"{self.server!r}: an on_start waits for something that does not come in a world",
                code="stuck-start",
            )
        self._started.result()

    def abandon(self) -> None:
        """End it as a crash does: no drain, no goodbye."""
        if self.closed:
            return
        self.closed = True
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.spin()
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()  # a crash tells nobody
        self.server.ended.set()
        self.loop.close()

    def close(self) -> None:
        """Drain and end the server; `AssertionError` when a ledger does not close."""
        if self.closed:
            return
        if self._life is not None:
            self.server._stop_asked = True
            assert self.server._stop is not None
            self.server._stop.set()
            for _ in range(100_000):
                self.loop.spin()
                if self._life.done():
                    self._life.result()
                    break
                self._at(max(self.ns + 1, self.deadline() or 0))
        self.closed = True
        self.server.ended.set()
        check_ledgers(self.server.counters, self.server.in_flight)
        self.loop.close()

    def __getattr__(self, name: str) -> Any:
        if name in ("server", "__setstate__"):
            raise AttributeError(name)
        return getattr(self.server, name)


def check_ledgers(counters: Any, in_flight: int = 0) -> None:
    """Both ledgers close: received = handled + drops + in flight, queued = sent + refused + dropped."""
    words = dict(counters)
    ended = words["handled"] + sum(words[word] for word in DROPS) + in_flight
    if words["received"] != ended:
        raise AssertionError(
            f"{words['received']} datagrams received, {ended} accounted for: {_shown(words)}"
        )
    gone = sum(words[w] for w in ("sent", "send_refused", "send_refused_late", "send_dropped_full"))
    if words["send_queued"] != gone:
        raise AssertionError(
            f"{words['send_queued']} datagrams queued, {gone} accounted for: {_shown(words)}"
        )


def _shown(words: dict[str, int]) -> str:
    return ", ".join(f"{word} {number}" for word, number in words.items() if number)


def host_module(module: Any, address: Address, **settings: Any) -> HostedServer:
    """Serve a module in a world; see `World.serve`."""
    return HostedServer(module, address, **settings)
