"""The bad network between real sockets: a UDP proxy.

Testing floor: imports the network and the address. Each client that sends to
the proxy gets a socket of its own towards the server and a link of its own, in
order of appearance: `client1`, `client2` ... The dice are those of the seed;
the times are those of the machine, so only the fates repeat exactly.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ..address import Address
from .clock import SECOND
from .knobs import Knobs
from .network import BadNetwork, Link

_BATCH = 64
_BUFFER = 4 << 20


class Client:
    """One client of the proxy: its link, its socket towards the server."""

    __slots__ = ("address", "last", "link", "sock")

    def __init__(self, address: Any, link: Link, sock: socket.socket, now: int):
        self.address = address
        self.link = link
        self.sock = sock
        self.last = now


class Proxy:
    """Carries datagrams between clients and one server, with the given weather.

    `up` and `down` are `Knobs` or their text. Inside a loop: `await start()`, then
    `close()`. From anywhere else it is a context manager that runs a loop in a thread
    of its own. A client silent for `idle` seconds is forgotten; of more than
    `max_clients` the newcomers are refused and counted.

    >>> with Proxy("127.0.0.1:2000", seed=7, down="loss=0.1,latency=0.05") as proxy:
    ...     talk_to(proxy.address)
    """

    def __init__(
        self,
        to: Address | str,
        listen: Address | str = "127.0.0.1:0",
        *,
        seed: int | str = 0,
        up: Knobs | str | None = None,
        down: Knobs | str | None = None,
        idle: float = 120.0,
        max_clients: int = 4096,
        clock: Callable[[], int] = time.monotonic_ns,
        **knobs: Any,
    ):
        self.to = Address.parse(to)
        self.network = BadNetwork(seed, up=up, down=down, **knobs)
        self.clients: dict[Any, Client] = {}
        self.refused = 0
        """Datagrams of clients over `max_clients`."""
        self.unsent = 0
        """Datagrams that the system did not take: the server is not there, or a buffer is full."""
        self._idle = int(idle * SECOND)
        self._max = max_clients
        self._clock = clock
        self._names = itertools.count(1)
        self._order = itertools.count()
        self._heap: list[tuple[int, int, bytes, Client, bool]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        listen = Address.parse(listen)
        family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        self._sock = _socket(family)
        try:
            self._sock.bind((listen.host, listen.port))
        except OSError:
            self._sock.close()
            raise
        self.address = Address.of(self._sock.getsockname())
        self._start = clock()

    # Inside a loop.

    async def start(self) -> None:
        """Carry from now on, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock.fileno(), self._from_clients)

    def close(self) -> None:
        """Stop; what is under way is dropped."""
        if self._timer is not None:
            self._timer.cancel()
        for client in self.clients.values():
            self._drop(client)
        self.clients.clear()
        self._heap.clear()
        if self._loop is not None and self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
        self._sock.close()

    def set(self, profile: str | None = None, **knobs: Any) -> None:
        """Turn knobs of every link, in both directions, now."""
        self.network.set(profile, **knobs)

    def link(self, client: Any) -> Link:
        """The link of a client, by its address, to turn its knobs alone."""
        return self.clients[tuple(client)].link

    # From outside a loop.

    def __enter__(self) -> Proxy:
        ready = threading.Event()
        self._done = asyncio.Event()

        async def carry() -> None:
            await self.start()
            ready.set()
            await self._done.wait()
            self.close()

        self._thread = threading.Thread(target=lambda: asyncio.run(carry()), name="lag-proxy", daemon=True)
        self._thread.start()
        ready.wait(5.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        assert self._loop is not None and self._thread is not None
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(5.0)

    # Carrying.

    def _now(self) -> int:
        return self._clock() - self._start

    def _from_clients(self) -> None:
        now = self._now()
        for _ in range(_BATCH):
            try:
                data, source = self._sock.recvfrom(65_535)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                self.unsent += 1
                continue
            client = self.clients.get(source[:2]) or self._join(source, now)
            if client is not None:
                client.last = now
                self._push(client, True, now, data)
        self._carry()

    def _from_server(self, client: Client) -> None:
        now = self._now()
        for _ in range(_BATCH):
            try:
                data = client.sock.recv(65_535)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:  # the server's port is closed: what was sent there is gone
                self.unsent += 1
                continue
            self._push(client, False, now, data)
        self._carry()

    def _push(self, client: Client, up: bool, now: int, data: bytes) -> None:
        way = client.link.up if up else client.link.down
        for at, copy in way.push(now, data):
            heapq.heappush(self._heap, (at, next(self._order), copy, client, up))

    def _carry(self) -> None:
        """Send what is due and set the timer for what is not."""
        heap, now = self._heap, self._now()
        while heap and heap[0][0] <= now:
            _, _, data, client, up = heapq.heappop(heap)
            try:
                if up:
                    client.sock.send(data)
                else:
                    self._sock.sendto(data, client.address)
            except OSError:
                self.unsent += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if heap and self._loop is not None:
            self._timer = self._loop.call_later((heap[0][0] - now) / SECOND, self._carry)

    def _join(self, source: Any, now: int) -> Client | None:
        if len(self.clients) >= self._max:
            for old in [c for c in self.clients.values() if now - c.last > self._idle]:
                del self.clients[old.address[:2]]
                self._drop(old)
            if len(self.clients) >= self._max:
                self.refused += 1
                return None
        link = self.network.link(f"client{next(self._names)}")
        client = self.clients[source[:2]] = Client(source, link, self._upstream(), now)
        self._listen(client)
        link.on_rebind = lambda: self._rebind(client)
        return client

    def _upstream(self) -> socket.socket:
        sock = _socket(socket.AF_INET6 if ":" in self.to.host else socket.AF_INET)
        sock.connect((self.to.host, self.to.port))
        return sock

    def _listen(self, client: Client) -> None:
        assert self._loop is not None
        self._loop.add_reader(client.sock.fileno(), self._from_server, client)

    def _drop(self, client: Client) -> None:
        if self._loop is not None:
            self._loop.remove_reader(client.sock.fileno())
        client.sock.close()

    def _rebind(self, client: Client) -> None:
        self._drop(client)
        client.sock = self._upstream()
        self._listen(client)


def _socket(family: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
    return sock
