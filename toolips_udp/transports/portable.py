"""The portable transport: the shape of the native one in plain Python, for any system.

Above the ground floor and connections. One datagram per system call, so it is
slower; what handlers see and what is counted is the same. Native stages do not
run here: their extensions are absent, and Python answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import sys
import threading
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..address import Address, AnyAddress
from ..clients import ClientTable
from ..clock import Clock, monotonic
from ..connections.udp import unknown_handler
from ..counters import DROPS, SIZE
from ..typed import Malformed
from .portable_connection import PortableUDPConnection
from .portable_counters import NUMBER, Counters, kernel_drops
from .portable_sending import Sending

if TYPE_CHECKING:
    from ..handlers import UDPHandler
    from ..pipeline import Pipeline

BYTES_IN = NUMBER["bytes_in"]
KERNEL = NUMBER["kernel"]
RECEIVE_CALLS = NUMBER["receive_calls"]
RECEIVE_ERRORS = NUMBER["receive_errors"]
RECEIVED = NUMBER["received"]
TURNS = NUMBER["turns"]
ROUND = 256
"""Datagrams of one turn, at most; or 2 ms."""
TURN = 0.002
DENIED_PORTS = frozenset((0, 7, 13, 19, 37))
"""Source ports that are never answered: services that answer everything."""

_IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)
_IPV6_PKTINFO = getattr(socket, "IPV6_PKTINFO", 50)
_GONE = {errno.EBADF, getattr(errno, "ENOTSOCK", errno.EBADF)}
_BATCH_END = (BlockingIOError, InterruptedError)

connection_class = PortableUDPConnection


class Endpoint(Sending):
    """A socket and a pipeline, served in plain Python.

    `sock` is a bound, non-blocking UDP socket. `counters` is a writable buffer of
    48 unsigned 64-bit numbers, for a supervisor that outlives this process. One
    thread: that of the loop; `send` and `respond` may come from any.
    """

    def __init__(
        self,
        sock: socket.socket,
        pipeline: Pipeline,
        *,
        server: Any = None,
        counters: Any = None,
        slot_room: int = 65536,
        session_timeout: float = 600,
        max_sessions: int = 100_000,
        max_async: int = 10_000,
        clock: Clock = monotonic,
    ) -> None:
        self.sock = sock
        self.server = server
        self.loop: asyncio.AbstractEventLoop | None = None
        self.address = Address.of(sock.getsockname())
        self.words = memoryview(bytearray(SIZE * 8) if counters is None else counters).cast("B").cast("Q")
        self.counters: Mapping[str, int] = Counters(self)
        self.in_flight = 0
        self.running_handler: UDPHandler | None = None
        self.heartbeat = clock()
        self._family = sock.family
        self._clock = clock
        self._slot_room = slot_room
        self._session_timeout = session_timeout
        self._max_sessions = max_sessions
        self._max_async = max_async
        self._async_in_flight = 0
        self._sessions: ClientTable | None = None
        self._out: list[tuple[Any, Any, Any]] = []
        self._waiting: deque[tuple[float, Any, Any, Any]] = deque()
        self._in_turn = self._scheduled = self._attached = self._closed = self._retrying = False
        self._thread = threading.get_ident()
        self._drops_before = self._drops_seen = self._pressed = 0
        self._wildcard = self.address.host in ("0.0.0.0", "::") and hasattr(sock, "recvmsg")
        if self._wildcard:
            self._ask_for_local_address()
        self._drops_before = kernel_drops(self.sock)[0]
        self.fold(pipeline)

    def fold(self, pipeline: Pipeline) -> None:
        """Read the pipeline once."""
        self.pipeline = pipeline
        self.press(self._pressed)
        self._main = pipeline.main
        self._handlers = pipeline.handlers
        self._calls = pipeline.calls
        self._pick = pipeline.pick
        self._guards = pipeline.guards
        self.max_ratio = pipeline.max_ratio
        self._on_drop = pipeline.dropped if pipeline.on_drop is not None else None
        chooser = pipeline.chooser
        self._places = None if chooser is None else ClientTable(chooser.ttl, chooser.max_clients)
        self._key = None if chooser is None else chooser.key

    # ---- one turn ----

    def turn(self) -> None:
        """Receive, dispatch, answer: at most 256 datagrams or 2 ms, then others run."""
        if self._in_turn or self._closed:
            return
        self._in_turn = True
        self.words[TURNS] += 1
        self.heartbeat = now = self._clock()
        gone: OSError | None = None
        try:
            for _ in range(ROUND):
                try:
                    received = self._receive()
                except _BATCH_END:
                    break
                except OSError as error:
                    self.words[RECEIVE_ERRORS] += 1
                    if error.errno in _GONE:
                        gone = error
                        break
                    continue  # one peer's, or port-unreachable on Windows: the next call has the next datagram
                self._one(*received, now)
                if self._clock() - now > TURN:
                    break
        finally:
            self._in_turn = False
            self._flush()
        if gone is not None:
            self.detach()
            self.pipeline.failed(None, gone, f"the socket of {self.address}")

    def _receive(self) -> tuple[bytes, Any, Any]:
        self.words[RECEIVE_CALLS] += 1
        if not self._wildcard:
            data, peer = self.sock.recvfrom(65536)
            return data, peer, None
        data, notes, _, peer = self.sock.recvmsg(65536, 256)
        return data, peer, notes or None

    def _one(self, data: bytes, peer: Any, local: Any, now: float) -> None:
        words = self.words
        words[RECEIVED] += 1
        words[BYTES_IN] += len(data)
        address = Address.of(peer)
        word: str | None
        if address[1] in DENIED_PORTS or address == self.address or _is_group(address[0]):
            word = "denied"
        elif len(data) > self._slot_room:
            word = "truncated"
        else:
            for guard in self._guards:
                word = guard(address, now)
                if word is not None:
                    break
            else:
                try:
                    word = self._serve(PortableUDPConnection(self, data, address, now, local))
                except BaseException:  # no memory: what a handler raises does not come here
                    words[NUMBER["shed"]] += 1
                    raise
        if word is not None:
            words[NUMBER[word]] += 1
            if word != "handled" and self._on_drop is not None:
                self._on_drop(word, address)
        if self._sessions:
            self._sessions.lookup(address, now)

    def press(self, level: int) -> None:
        """Memory is short: 0 not any more, 1 strangers are refused, 2 everybody is."""
        self._pressed = level
        first = (((self._shed_stranger if level == 1 else _shed_all), "memory"),) if level else ()
        self._steps = (*first, *zip(self.pipeline.steps, self.pipeline.step_names, strict=True))

    def _shed_stranger(self, c: PortableUDPConnection) -> str | None:
        """The first step while memory is short: who has no session and no handler of its own is refused."""
        if self._sessions and self._sessions.lookup(c.address, c.now) is not None:
            return None
        return None if self._places and self._places.lookup(self._key_of(c), c.now) else "shed"

    def _serve(self, c: PortableUDPConnection) -> str | None:
        """One packet through extensions and its handler. Its word, or None when it goes on."""
        handler = self._main
        chosen = None
        for step, name in self._steps:
            try:
                chosen = step(c)
            except Exception as error:
                self._fail(c, error, name)
                return "handler_failed"
            if chosen is False:
                return "handled" if c.answered else "ended"
            if chosen in DROPS:
                return str(chosen)
            if hasattr(chosen, "kind"):
                handler = chosen
                break
        try:
            if self._places and handler is not chosen:
                handler = self._places.lookup(self._key_of(c), c.now) or handler
            if handler is None:
                return "no_handler"
            self.running_handler = handler
            return self._run(c, handler)
        except Malformed:
            return "malformed"
        except Exception as error:
            self._fail(c, error, handler)
            return "handler_failed"
        finally:
            self.running_handler = None

    def _run(self, c: PortableUDPConnection, handler: UDPHandler) -> str | None:
        if handler.kind == "inline" and (self._pick is None or self._pick(c) < 2):
            self._calls[handler](c)
            return "handled"
        if handler.kind == "async":
            if self._async_in_flight >= self._max_async:
                return "queue_full"
            stepper = self.pipeline.stepper
            assert stepper is not None, "async handlers need a loop"
            coro = self._calls[handler](c)
            try:
                yielded = stepper.step(coro)
            except StopIteration:
                return "handled"
            self.in_flight += 1
            self._async_in_flight += 1
            self.pipeline.continue_async(c, handler, coro, yielded)
            return None
        self.in_flight += 1
        if self.pipeline.submit(c, handler):
            return None
        self.in_flight -= 1
        return "queue_full"

    def _fail(self, c: Any, error: BaseException, who: Any) -> None:
        try:
            self.pipeline.failed(c, error, who)
        except Exception:
            sys.excepthook(*sys.exc_info())

    def finished(self, c: Any, word: str, was_async: bool = True) -> None:
        """The handler of a datagram that was in flight has ended: count it under `word`."""
        self.in_flight -= 1
        if was_async:
            self._async_in_flight -= 1
        self.count(word)
        if word != "handled" and self._on_drop is not None:
            self._on_drop(word, c.address)

    def count(self, word: str, number: int = 1) -> None:
        """Add to a counter."""
        self.words[NUMBER[word]] += number

    # ---- effects ----

    def send(self, data: Any, to: AnyAddress, c: Any = None) -> None:
        """Queue one datagram to `to`; it leaves at the end of the turn, or soon when outside one."""
        self.push(data, Address.parse(to), c, None)

    # ---- clients ----

    def _key_of(self, c: Any, client: Any = None) -> Any:
        if callable(self._key):
            return self._key(c) if client is None else client
        address = c.address if client is None else Address.parse(client)
        return address[0] if self._key == "ip" else address

    def choose(self, c: Any, name: str | None, client: Any = None) -> None:
        """Remember which handler a client is on; None forgets. Raises `UnknownHandler`."""
        if name is not None and name not in self._handlers:
            raise unknown_handler(name, self._handlers)
        if self._places is None:
            return
        if name is None:
            self._places.remove(self._key_of(c, client))
        else:
            self._places.place(self._key_of(c, client), self._handlers[name], self._clock())

    def session(self, address: Address) -> dict[Any, Any]:
        """The mapping of one client; made when it is first asked for."""
        if self._sessions is None:
            self._sessions = ClientTable(self._session_timeout, self._max_sessions)
        now = self._clock()
        found: dict[Any, Any] | None = self._sessions.lookup(address, now)
        if found is None:
            found = {}
            self._sessions.place(address, found, now)
        return found

    def live_sessions(self) -> list[tuple[Any, Any]]:
        """(Address, dict) of each client with a session, the longest silent first."""
        return [] if self._sessions is None else self._sessions.items()

    def tidy(self) -> None:
        """Forget silent clients. The server calls this about once a second."""
        now = self._clock()
        for table in (self._places, self._sessions):
            if table is not None:
                table.expire(now)

    def export(self) -> dict[str, Any]:
        """Positions and sessions as plain data, for the process that takes over."""
        places = [] if self._places is None else self._places.items()
        return {
            "positions": [(tuple(who), at.name) for who, at in places if isinstance(who, Address)],
            "sessions": [(tuple(who), kept) for who, kept in self.live_sessions()],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `export` gave. Names of handlers that are gone are dropped."""
        for (host, port), name in state.get("positions", ()):
            if self._places is not None and name in self._handlers:
                self._places.place(Address(host, port), self._handlers[name], self._clock())
        for (host, port), kept in state.get("sessions", ()):
            self.session(Address(host, port)).update(kept)

    def swap(self, pipeline: Pipeline) -> None:
        """Serve another pipeline from the next packet on; positions and sessions stay."""
        state = self.export()
        self.fold(pipeline)
        self.restore({"positions": state["positions"]})

    def connection(self, data: bytes, peer: AnyAddress) -> PortableUDPConnection:
        """A connection that did not come through the socket: for tests."""
        return PortableUDPConnection(self, bytes(data), Address.parse(peer), self._clock())

    # ---- the kernel ----

    def _ask_for_local_address(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        if self._family == socket.AF_INET6:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.IPPROTO_IPV6, getattr(socket, "IPV6_RECVPKTINFO", 49), 1)

    def refresh(self) -> int:
        """Read the kernel's drop count; returns the bytes that wait in the receive buffer."""
        return self.lost()[1]

    def lost(self) -> tuple[int, int]:
        """Datagrams that the kernel has dropped and no word counts yet, and the bytes that wait in its buffer.

        The words are the loop's: only on another thread something is left that they do not count.
        """
        if self._closed or self.sock.fileno() < 0:
            return 0, 0
        drops, queued = kernel_drops(self.sock)
        new = (drops - self._drops_before - self._drops_seen) & 0xFFFFFFFF
        if self._thread != threading.get_ident():
            return new, queued
        self._drops_seen += new
        self.words[KERNEL] += new
        self.words[RECEIVED] += new
        return 0, queued

    # ---- life ----

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read from now on: the loop says "readable", the rest is ours."""
        self.loop = loop
        self._thread = threading.get_ident()
        self._attached = True
        loop.add_reader(self.sock.fileno(), self.turn)
        self.wake()

    def detach(self) -> None:
        """Stop reading. Answers can still be sent until `close`."""
        if self._attached and self.loop is not None:
            self.loop.remove_reader(self.sock.fileno())
        self._attached = False

    def close(self) -> None:
        """Send what is queued, then let go of everything but the socket, which is its owner's."""
        if self._closed:
            return
        self.detach()
        self.refresh()
        self.pulse()
        self._closed = True
        self.count("send_refused_late", len(self._waiting))
        self._waiting.clear()


def _shed_all(c: PortableUDPConnection) -> str:
    """The first step while there is hardly any memory."""
    return "shed"


def _is_group(host: str) -> bool:
    """Whether a host is a multicast or broadcast address, which cannot be a source."""
    if ":" in host:
        return host[:2].lower() == "ff"
    first = host.partition(".")[0]
    return len(first) == 3 and first >= "224" and (first <= "239" or host == "255.255.255.255")
