"""Client: the same protocol as a client, for bots and tests, with stock timers.

Imports the ENet host and asyncio; the socket is one datagram socket of its own,
read through `add_reader`. Works on asyncio and uvloop.
"""

from __future__ import annotations

import asyncio
import collections
import os
import socket
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any

from ..address import Address, AnyAddress
from .delivery import Delivery
from .enet import Enet, caps_of
from .peer import CODES, Leave, PeerStats
from .typed import encode

TOKEN_CODE = 254
"""First byte of the message that carries a resume token, in both directions; 16 bytes follow."""
MOST_WAITING = 100_000
_BATCH = 64


class Client:
    """A connection to a game. `async with` opens it and leaves at the end.

    `token` takes over a peer that vanished (see `Game(resume=)`); the one of this connection is `.token`.
    Raises `ConnectionRefusedError` when the server refuses, `TimeoutError` when nobody answers in `timeout` s.

    >>> async with Client("127.0.0.1:2000") as me:
    ...     me.send(b"hello")
    ...     async for message in me:
    ...         print(message.data)
    """

    def __init__(
        self,
        address: AnyAddress,
        channels: int = 2,
        data: int = 0,
        *,
        checksum: bool = False,
        compress: bool = False,
        token: bytes | None = None,
        timeout: float = 10.0,
        max_message: int = 65_536,
        native: bool | None = None,
    ) -> None:
        self.address = Address.parse(address)
        self.leave: Leave | None = None
        """How it ended; None while it has not."""
        self.token = token
        self.peer: Any = None
        self._asked = (channels, data)
        self._timeout = timeout
        self._host = Enet(checksum=checksum).host(
            os.urandom(16), native=native, accept=0, ping=500, compress=int(compress), **caps_of(max_message)
        )
        self._host.encode = encode
        self._host.wake = self._soon
        self._messages: collections.deque[Any] = collections.deque(maxlen=MOST_WAITING)
        self._changed: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sock: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: int | None = None
        self._flushing = False
        self._final = PeerStats()

    # ---- what users call ----

    @property
    def open(self) -> bool:
        """Whether messages can be sent."""
        return self.leave is None and self.peer is not None and self.peer.open

    @property
    def stats(self) -> PeerStats:
        """The figures of this connection; after its end the last ones."""
        return self.peer.stats if self.peer is not None and self.leave is None else self._final

    def send(
        self, data: Any, channel: int = 0, delivery: Delivery = Delivery.RELIABLE, fragment: bool = False
    ) -> bool:
        """Queue a message; see `Peer.send`. False when the connection has ended."""
        return self.peer is not None and bool(self.peer.send(data, channel, delivery, fragment))

    async def sleep(self, seconds: float) -> None:
        """Wait, or until the connection ends."""
        if self.leave is not None:
            return
        ended = asyncio.ensure_future(self._ended())
        await asyncio.wait([ended], timeout=seconds)
        ended.cancel()

    async def receive(self, timeout: float | None = None) -> Any:
        """The next message. `ConnectionError` when the connection has ended, `TimeoutError` after `timeout` s."""
        async with asyncio.timeout(timeout):
            while not self._messages:
                if self.leave is not None:
                    raise ConnectionError(f"the connection to {self.address} has ended: {self.leave.word}")
                await self._wait()
        return self._messages.popleft()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        while not self._messages:
            if self.leave is not None:
                raise StopAsyncIteration
            await self._wait()
        return self._messages.popleft()

    async def close(self, code: int = 0) -> None:
        """Leave: what is queued is sent, the server is told `code`, and its answer is awaited (at most 1 s)."""
        try:
            if self.leave is None and self.peer is not None:
                self.peer.close(2, code, "left")
                ended = asyncio.ensure_future(self._ended())
                await asyncio.wait([ended], timeout=1.0)
                ended.cancel()
        finally:  # also when the wait is cancelled
            self._shut()

    def abandon(self) -> None:
        """Vanish without a word, as a crash does."""
        self._shut()

    async def __aenter__(self) -> Client:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """Open the connection; `async with` does it."""
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._sock = socket.socket(self.address.family, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        self._sock.connect(self.address.sockaddr())
        self._loop.add_reader(self._sock.fileno(), self._readable)
        self.peer = self._host.connect(self.address, *self._asked, now=time.monotonic_ns())
        try:
            async with asyncio.timeout(self._timeout):
                while not self.peer.open:
                    if self.leave is not None:
                        why = CODES.get(self.leave.code, f"code {self.leave.code}")
                        raise ConnectionRefusedError(f"{self.address} refused the connection: {why}")
                    await self._wait()
        except BaseException:
            self._shut()
            raise

    # ---- the socket ----

    def _readable(self) -> None:
        assert self._sock is not None
        for _ in range(_BATCH):
            try:
                data = self._sock.recv(65536)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                continue  # ECONNREFUSED: nobody listens (yet); the timers know what to do
            self._host.receive(time.monotonic_ns(), self.address, data)
            if self._sock is None:
                return
        self._turn()

    def _soon(self) -> None:
        if not self._flushing and self._loop is not None:
            self._flushing = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._flushing = False
        if self._sock is None:
            return
        self._host.advance(time.monotonic_ns())
        for event in self._host.events():
            self._take(event)
        for data, _ in self._host.outgoing():
            try:
                self._sock.send(data)
            except OSError:
                pass  # lost, as datagrams are
        self._rearm()

    def _rearm(self) -> None:
        due = self._host.deadline()
        if due == self._timer_at and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = due
        if due is not None and self._loop is not None:
            wait = max(0.0, (due - time.monotonic_ns()) / 1e9)
            self._timer = self._loop.call_later(wait, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._turn()

    def _take(self, event: tuple[str, Any, Any]) -> None:
        kind, peer, what = event
        if kind == "join":
            if self.token is not None:
                peer.send(bytes((TOKEN_CODE,)) + self.token)
        elif kind == "leave":
            word, code, by_peer, seconds = what
            known = CODES.get(code) if by_peer else None
            self.leave = Leave(known or word, code, "server" if by_peer else "peer", seconds)
        elif len(what.data) == 17 and what.data[0] == TOKEN_CODE:
            self.token = what.data[1:]
        else:
            self._messages.append(what)
        if self._changed is not None:
            self._changed.set()

    async def _wait(self) -> None:
        assert self._changed is not None
        self._changed.clear()
        await self._changed.wait()

    async def _ended(self) -> None:
        while self.leave is None:
            await self._wait()

    def _shut(self) -> None:
        if self._sock is None:
            return
        if self.peer is not None and self.leave is None:
            self._final = self.peer.stats
        if self._loop is not None:
            self._loop.remove_reader(self._sock.fileno())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._sock.close()
        self._sock = None
        if self.leave is None:
            self.leave = Leave("left", 0, "peer", 0.0)
        if self._changed is not None:
            self._changed.set()
