"""TCP listeners: accept, caps, deadlines, drain. One set of limits for every stream.

A `Listener` owns a listening socket that was handed in, makes one connection
object per client and runs `serve(c)` for it. It knows nothing of handlers:
`servers/tcp.py` gives it `serve`, and `connections/tcp.py` the class of `c`.
Imports the ground floor and stream_limits.

The unit of the ledger is a connection: received = handled + drops + in flight.

| word | the connection ... |
|---|---|
| `handled` | was served until its handler ended |
| `limited` | was over the number of connections of its address |
| `shed` | was refused, or closed while idle, because too many are open or no descriptor or memory is left |
| `stale` | was silent too long, or began a message and did not finish it in time |
| `malformed` | sent a line or frame over the limit, an empty frame, or no TLS |
| `queue_full` | did not read what was written to it, or found every thread busy |
| `ended` | was ended unanswered by an extension |
| `no_handler` | found no handler |
| `handler_failed` | made a handler raise |
| `stopping` | was still being served when the drain time ended |
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from array import array
from collections.abc import Awaitable, Callable, MutableSequence
from typing import Any, Protocol

from ..address import Address, is_loopback
from ..counters import SIZE, WORDS
from . import proxied
from .spare import Spare
from .stream_limits import StreamLimits, keep_alive, place_of

log = logging.getLogger("toolips_udp.stream")

RECEIVED = WORDS.index("received")
HANDLED = WORDS.index("handled")
LIMITED = WORDS.index("limited")
SHED = WORDS.index("shed")
STALE = WORDS.index("stale")
MALFORMED = WORDS.index("malformed")
ENDED = WORDS.index("ended")
NO_HANDLER = WORDS.index("no_handler")
HANDLER_FAILED = WORDS.index("handler_failed")
QUEUE_FULL = WORDS.index("queue_full")
STOPPING = WORDS.index("stopping")
SEND_QUEUED = WORDS.index("send_queued")
SENT = WORDS.index("sent")
SEND_REFUSED = WORDS.index("send_refused")
BYTES_IN = WORDS.index("bytes_in")
BYTES_OUT = WORDS.index("bytes_out")

ACCEPTS_PER_TURN = 64
SHED_IDLE_AFTER = 1.0
"""Seconds of silence after which a connection may be closed to make room for a new one."""
NEWCOMER = 0.5
"""Seconds that a client has for its first message when the server drains."""
OUT_OF_MEANS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Client(Protocol):
    """What a listener needs of a connection object."""

    address: Address
    idle_for: float
    answered: bool
    settled: bool

    def data_received(self, data: bytes, /) -> None: ...
    def tick(self, seconds: float) -> None: ...
    def waits_idle(self) -> bool: ...
    def end_input(self) -> None: ...
    def drop(self, word: int) -> None: ...
    def settle(self, word: int) -> None: ...
    def finish(self) -> None: ...


class Listener:
    """Accepts clients on `sock` and runs `serve(c)` for each, in a task of its own.

    `serve` returns the index of the word under which the connection counts. With
    `counts_connections=False` only refused ones are counted here. `owner` is for
    the connections, which reach their server through it. `guard` is asked with
    address and time before a connection is made; a word refuses it. `wire` makes
    the transport of a connection without TLS; without it the loop does.
    `counters` is a writable sequence of `SIZE` integers, shared with other
    endpoints of the same server if they run on the same loop.
    """

    def __init__(
        self,
        sock: socket.socket,
        connect: Callable[[Listener, Address], Any],
        serve: Callable[[Any], Awaitable[int]],
        *,
        limits: StreamLimits | None = None,
        counters: MutableSequence[int] | None = None,
        tls: ssl.SSLContext | None = None,
        owner: Any = None,
        counts_connections: bool = True,
        guard: Callable[[Address, float], str | None] | None = None,
        wire: Callable[[asyncio.AbstractEventLoop, socket.socket, Any], object] | None = None,
    ) -> None:
        self.sock = sock
        self.owner = owner
        self.limits = limits or StreamLimits()
        self.counters: MutableSequence[int] = array("Q", bytes(8 * SIZE)) if counters is None else counters
        self.tls = tls
        self.address = Address.of(sock.getsockname())
        self.in_flight = 0
        self.draining = False
        self.hears_newcomers = False
        """While it drains: whether clients without an answer may still ask."""
        self.pressed = False
        """Memory is short: new connections are refused."""
        self.outbox: Any = None  # of the connections: what leaves at the end of the turn
        self.counts_connections = counts_connections
        self.connections: set[Any] = set()
        self._guard = guard
        self._wire = wire if tls is None else None
        self._connect = connect
        self._serve = serve
        self._per_address: dict[str | bytes, int] = {}
        self._spare = Spare()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._candidates: list[Any] = []
        self._candidates_from = 0.0
        self._empty: asyncio.Future[None] | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None, "the listener is not attached to a loop"
        return self._loop

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to accept. Loop thread only."""
        self._loop = loop
        self.sock.setblocking(False)
        keep_alive(self.sock)
        self._spare.keep()
        loop.add_reader(self.sock.fileno(), self.accept)
        self._sweep_later()

    def detach(self) -> None:
        """Stop accepting; the connections go on."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._loop is not None and self.sock.fileno() >= 0:
            self._loop.remove_reader(self.sock.fileno())

    async def drain(self, timeout: float) -> list[str]:
        """Stop accepting, let what is in flight end, then cut what is left (`stopping`) and name it.

        A client that is between two messages is closed at once; one that has had no answer yet, because it
        has only just been accepted, may still ask for a moment.
        """
        self.detach()
        self.draining = self.hears_newcomers = True
        for c in list(self.connections):
            if c.answered:
                c.end_input()
        moment = self.loop.call_later(NEWCOMER, self._end_newcomers)
        try:
            await self._until_empty(timeout)
            return []
        except TimeoutError:
            left = [c for c in self.connections if not c.settled]
            for c in list(self.connections):
                c.drop(STOPPING)
                if c.task is not None:
                    c.task.cancel()
            with contextlib.suppress(TimeoutError):
                await self._until_empty(1.0)
            return [f"the handler of {c.address}" for c in left]
        finally:
            moment.cancel()

    def _end_newcomers(self) -> None:
        self.hears_newcomers = False
        for c in list(self.connections):
            c.end_input()

    def close(self) -> None:
        """Close the socket and what is still open. Call `drain` first to be kind."""
        self.detach()
        self.draining = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for c in list(self.connections):
            c.drop(STOPPING)
            if c.task is not None:
                c.task.cancel()
        self._spare.give()
        self.sock.close()

    # -- accepting ---------------------------------------------------------

    def accept(self) -> None:
        """Take what waits in the backlog, a bounded number at a time."""
        for _ in range(ACCEPTS_PER_TURN):
            try:
                client, peer = self.sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue  # gone before it was accepted
            except OSError as error:
                self._out_of_means(error)
                return
            self._admit(client, Address.of(peer))

    def _admit(self, client: socket.socket, address: Address) -> None:
        limits = self.limits
        word = None if self._guard is None else self._guard(address, self.loop.time())
        if word is not None:
            self._refuse(client, WORDS.index(word))
            return
        place = place_of(address.host)
        held = self._per_address.get(place, 0)
        if address.host not in limits.proxies and self._is_full(address, held):
            self._refuse(client, LIMITED)
            return
        many = len(self.connections) >= limits.max_connections
        if self.pressed or (many and not self._shed_an_idle_one()):
            self._refuse(client, SHED)
            return
        if self.counts_connections:
            self.counters[RECEIVED] += 1
        self._per_address[place] = held + 1
        self.in_flight += 1
        client.setblocking(False)
        c = self._connect(self, address)
        self.connections.add(c)
        c.task = self.loop.create_task(self._run(c, client))

    def _is_full(self, address: Address, held: int) -> bool:
        limits = self.limits
        return held >= limits.max_per_address and not (limits.exempt_loopback and is_loopback(address.host))

    def _refuse(self, client: socket.socket, word: int) -> None:
        self.counters[RECEIVED] += 1
        self.counters[word] += 1
        client.close()

    async def _run(self, c: Any, client: socket.socket) -> None:
        word = STOPPING
        try:
            refused = await self._let_in(c, client) if c.address.host in self.limits.proxies else None
            if refused is not None:
                word = refused
            elif await self._open(c, client):
                word = await self._serve(c)
            else:
                word = MALFORMED
        except asyncio.CancelledError:
            if not self.draining and not c.settled:
                raise
        finally:
            c.settle(word)
            c.finish()  # from here on `c.task` is None
            self.gone(c)

    async def _let_in(self, c: Any, client: socket.socket) -> int | None:
        """A connection of a proxy. None, or the word that refuses it."""
        word: int | None = STOPPING
        try:
            word = await self._introduced(c, client)
        finally:
            if word is not None:
                c.lost = True
                client.close()
        return word

    async def _introduced(self, c: Any, client: socket.socket) -> int | None:
        """A proxy says for whom it connects: that client's place counts from now on. A word refuses it."""
        try:
            async with asyncio.timeout(self.limits.message_timeout):
                header = await proxied.take(self.loop, client)
        except TimeoutError:
            return STALE
        except OSError:
            return MALFORMED
        if header is None:
            return MALFORMED
        if header.client is None:
            return None
        word = None if self._guard is None else self._guard(header.client, self.loop.time())
        if word is not None:
            return WORDS.index(word)
        place = place_of(header.client.host)
        held = self._per_address.get(place, 0)
        if self._is_full(header.client, held):
            return LIMITED
        self._leave(c.address)
        c.address = header.client
        self._per_address[place] = held + 1
        return None

    async def _open(self, c: Any, client: socket.socket) -> bool:
        seconds = self.limits.message_timeout if self.tls else None
        try:
            if self._wire is not None:
                self._wire(self.loop, client, c)
                return True
            await self.loop.connect_accepted_socket(
                lambda: c, client, ssl=self.tls, ssl_handshake_timeout=seconds
            )
            return True
        except (OSError, EOFError) as error:  # ssl.SSLError is an OSError; a handshake may also end early
            log.debug("%s: no connection: %s", c.address, error)
            client.close()
            c.lost = True
            return False

    def gone(self, c: Any) -> None:
        """The socket of `c` is closed and its task has ended: forget it."""
        if c.task is not None or not c.lost or c not in self.connections:
            return
        self.connections.discard(c)
        self._leave(c.address)
        if self._empty is not None and not self.connections and not self._empty.done():
            self._empty.set_result(None)

    def _leave(self, address: Address) -> None:
        place = place_of(address.host)
        left = self._per_address[place] - 1
        if left:
            self._per_address[place] = left
        else:
            del self._per_address[place]

    async def _until_empty(self, timeout: float) -> None:
        if self.connections:
            self._empty = self.loop.create_future()
            await asyncio.wait_for(self._empty, timeout)

    # -- too many ----------------------------------------------------------

    def _shed_an_idle_one(self) -> bool:
        """Close the longest idle connection, if one is idle at all."""
        now = self.loop.time()
        if not self._candidates and now - self._candidates_from >= 0.1:
            self._candidates_from = now
            idle = [c for c in self.connections if c.idle_for >= SHED_IDLE_AFTER and c.waits_idle()]
            self._candidates = sorted(idle, key=lambda c: c.idle_for)
        while self._candidates:
            c = self._candidates.pop()
            if c.idle_for >= SHED_IDLE_AFTER and c.waits_idle():
                c.drop(SHED)
                return True
        return False

    def _out_of_means(self, error: OSError) -> None:
        """No descriptor or memory is left: refuse one client with the spare descriptor, or wait a little.

        Without it the backlog stays readable and the loop spins.
        """
        if error.errno not in OUT_OF_MEANS:
            log.warning("%s: accept failed: %s", self.address, error)
        elif error.errno in (errno.EMFILE, errno.ENFILE) and self._spare.give():
            with contextlib.suppress(OSError):
                self._refuse(self.sock.accept()[0], SHED)
            kept = self._spare.keep()
            self._shed_an_idle_one()
            if kept:
                return
        self.loop.remove_reader(self.sock.fileno())
        self._pause = self.loop.call_later(0.1, self._accept_again)

    def _accept_again(self) -> None:
        self._pause = None
        self._spare.keep()
        self.loop.add_reader(self.sock.fileno(), self.accept)

    # -- deadlines ---------------------------------------------------------

    def _sweep_later(self) -> None:
        self._sweeper = self.loop.call_later(self.limits.sweep_period, self._sweep)

    def _sweep(self) -> None:
        period = self.limits.sweep_period
        for c in list(self.connections):
            c.tick(period)
        self._sweep_later()
