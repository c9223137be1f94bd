"""TCP mode: a listening socket, and the module's handlers for each connection.

Extensions run once per connection (`route(c)`, then `stream(c)`), then the
handler: `async def` on the loop, `def` in a thread of its own pool, because it
may block. With `framing` the handler runs once per message instead, exactly as
it does on UDP. Above pipeline and transports; called by `base.py`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..address import Address
from ..connections.tcp import FramedConnection, ReadTimeout, SocketConnection, StreamTooLong, Wire, stepped
from ..connections.tcp_io import SocketIOConnection
from ..counters import DROPS, WORDS
from ..errors import StartError
from ..extensions.base import hook
from ..modes import TCP
from ..pipeline import Pipeline
from ..runners.threads import Pool
from ..transports.stream import (
    ENDED,
    HANDLED,
    HANDLER_FAILED,
    MALFORMED,
    NO_HANDLER,
    QUEUE_FULL,
    STALE,
    Listener,
)
from ..typed import Malformed
from .choosing import Choosing
from .listening import THREADS, StreamMode, stream_limits

if TYPE_CHECKING:
    from ..handlers import UDPHandler
    from .base import Server


class TCPMode(StreamMode):
    """One listening socket of a server. See `ModeServer` for what is called when."""

    mode = TCP

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.pipeline: Pipeline | None = None
        self.choosing: Choosing | None = None
        self.framing: str | int | None = checked_framing(server.settings.framing)
        self._streams: list[Callable[[Any], Any]] = []
        self._pool: Pool | None = None
        self._unfinished: list[str] = []

    def bind(self, address: Address) -> None:
        """Make and bind the socket, and listen."""
        self._check_threads()
        super().bind(address)

    def _check_threads(self) -> None:
        manifest = self.server.manifest
        blocking = [
            h for h in (manifest.main, *manifest.handlers.values()) if h is not None and self._needs_thread(h)
        ]
        if blocking and self.server.threads == 1:
            raise StartError(
                f"handler {manifest.called(blocking[0])} ({blocking[0].place}) is a plain def, which runs in a thread "
                "on TCP, but threads=1 leaves none for it. Fix: threads=2 or more, or async def",
                code="no-threads",
            )

    def _needs_thread(self, handler: UDPHandler) -> bool:
        return handler.kind == "threaded" or (handler.kind == "inline" and self.framing is None)

    async def open(self) -> None:
        """Fold the pipeline and accept from now on."""
        server = self.server
        assert self.sock is not None
        self._fold()
        self.listener = Listener(
            self.sock,
            SocketConnection if self.framing is None else FramedConnection,
            self._serve,
            limits=stream_limits(server.settings, **self._defaults()),
            counters=self._totals,
            tls=self._tls,
            owner=self,
            guard=self._guard,
            wire=Wire,
        )
        self.listener.attach(asyncio.get_running_loop())

    def _defaults(self) -> dict[str, Any]:
        """Limits that the extensions of this server bring; the settings of `start` come before them."""
        found: dict[str, Any] = {}
        for extension in self.server.extensions:
            found |= getattr(extension, "stream_defaults", {})
        return found

    def _fold(self) -> None:
        """The pipeline of the server's manifest, and a pool when a handler needs one."""
        server = self.server
        pipeline, self.choosing = self._folded()
        self.pipeline = pipeline
        found = (hook(extension, "stream") for extension in server.extensions)
        self._streams = [stream for stream in found if stream is not None]
        if self._pool is None and any(self._needs_thread(handler) for handler in pipeline.calls):
            size = THREADS if server.threads is None else server.threads - 1
            pool = self._pool = Pool(size, f"toolips_udp {server.manifest.name} tcp")
            server.at_stop(lambda: pool.close(0.5))

    def swap(self) -> None:
        """Serve the server's new manifest; connections that are open go on as they began."""
        self._fold()

    async def drain(self, until: float) -> None:
        """Accept nothing new; a client between two messages is closed, one within a message may end it."""
        if self.listener is not None:
            left = max(0.0, until - asyncio.get_running_loop().time())
            self._unfinished = await self.listener.drain(left)

    @property
    def in_flight(self) -> int:
        """Connections that are being served."""
        return 0 if self.listener is None else self.listener.in_flight

    @property
    def unfinished(self) -> list[str]:
        """The clients whose handler had not ended when the drain time was over."""
        return self._unfinished

    def _guard(self, address: Address, now: float) -> str | None:
        """The word for a source that may not ask, or not so often."""
        assert self.pipeline is not None
        for guard in self.pipeline.guards:
            word = guard(address, now)
            if word is not None:
                return word
        return None

    # -- one connection ----------------------------------------------------

    async def _serve(self, c: SocketConnection) -> int:
        """Extensions, then the handler. Returns the word under which the connection counts."""
        pipeline, choosing, streams = self.pipeline, self.choosing, self._streams
        assert pipeline is not None and choosing is not None
        who: Any = None
        try:
            for step in pipeline.steps:
                said = step(c)
                if said is False:
                    return HANDLED if c.answered else ENDED
                if said in DROPS:
                    return WORDS.index(said)
            for stream in streams:
                result = stream(c)
                if inspect.isawaitable(result):
                    result = await result
                if result is False or c.closing:
                    return HANDLED if c.answered or result is not False else ENDED
            who = choosing.pick(c)
            if who is None:
                return HANDLED if streams else NO_HANDLER
            if self.framing is not None:
                await stepped(self._each_message(c, who, pipeline, choosing))
            else:
                if who.decode is not None:
                    await c.read_all()
                await self._call(c, who, pipeline)
            return HANDLED
        except (ReadTimeout, StreamTooLong) as error:
            word = STALE if isinstance(error, ReadTimeout) else MALFORMED
            self.server.journal.event(WORDS[word], logging.INFO, str(error), c.address, None, WORDS[word])
            return word
        except Malformed:
            return MALFORMED
        except Exception as error:
            pipeline.failed(c, error, who)
            return HANDLER_FAILED

    async def _each_message(
        self, c: SocketConnection, handler: UDPHandler, pipeline: Pipeline, choosing: Choosing
    ) -> None:
        messages: Any = c.lines() if self.framing == "lines" else c.frames(int(self.framing or 0))
        async for _ in messages:
            await self._call(c, handler, pipeline)
            handler = choosing.pick(c) or handler

    async def _call(self, c: SocketConnection, handler: UDPHandler, pipeline: Pipeline) -> None:
        call = pipeline.calls[handler]
        if self._needs_thread(handler):
            await self._in_thread(call, c)
        else:
            result = call(c)
            if handler.kind == "async":
                await (stepped(result) if self.framing is None and inspect.iscoroutine(result) else result)

    async def _in_thread(self, call: Callable[[Any], Any], c: SocketConnection) -> None:
        """Run a blocking handler in the pool. A client that waits too long for a thread is dropped (`queue_full`)."""
        assert self._pool is not None and self.listener is not None
        loop = asyncio.get_running_loop()
        ticket = Ticket(loop, call, c)
        self._pool.submit(ticket.run)
        patience = loop.call_later(self.listener.limits.message_timeout, ticket.give_up)
        try:
            await ticket.done
        finally:
            ticket.abandoned = True
            patience.cancel()


class Ticket:
    """One connection that waits for, or has, a thread."""

    __slots__ = ("_c", "_call", "_loop", "abandoned", "done", "started")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, call: Callable[[Any], Any], c: SocketConnection
    ) -> None:
        self._loop = loop
        self._call = call
        self._c = c
        self.done: asyncio.Future[None] = loop.create_future()
        self.started = False
        self.abandoned = False

    def run(self, worker: int) -> None:
        """In the thread."""
        if self.abandoned:
            return
        self.started = True
        error: BaseException | None = None
        try:
            self._call(SocketIOConnection(self._c, worker))
        except BaseException as caught:
            error = caught
        try:
            self._loop.call_soon_threadsafe(self._end, error)
        except RuntimeError:
            pass  # the loop has ended; the connection is counted as `stopping`

    def give_up(self) -> None:
        """On the loop: no thread became free in time."""
        if not self.started and not self.done.done():
            self.abandoned = True
            self._c.drop(QUEUE_FULL)
            self.done.set_result(None)

    def _end(self, error: BaseException | None) -> None:
        if self.done.done():
            return
        if error is None or isinstance(error, ConnectionAbortedError):
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


def checked_framing(framing: Any) -> str | int | None:
    """`framing` of `start`: None, `"lines"`, or a length prefix of 1, 2 or 4 bytes, also as text."""
    if framing in ("1", "2", "4"):
        return int(framing)
    if framing is None or framing == "lines" or (framing in (1, 2, 4) and framing is not True):
        return framing  # type: ignore[no-any-return]
    raise StartError(
        f"framing={framing!r} is not a framing. Expected 'lines', or 1, 2 or 4 for a length prefix of so many bytes",
        code="bad-setting",
    )
