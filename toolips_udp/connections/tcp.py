"""SocketConnection: one TCP client, as a handler holds it.

It *is* the asyncio protocol of its socket: bytes go from the transport into its
`Inbox` and straight on to the handler that waits for them, in the same turn of
the loop, without a StreamReader, a Future or a task switch in between. With the
native core it also reads and writes a plain socket itself (`Wire`), and resumes
the handler without its task (`stepped`).

`SocketConnection` is the form for `async def` handlers, on the loop thread.
`SocketIOConnection` is the form for `def` handlers in a thread: the same names,
blocking. Imports transports and the ground floor.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from ..address import Address, AnyAddress
from ..errors import TooLong
from ..transports.framing import PREFIXES, Line, framed
from ..transports.stream import QUEUE_FULL, STALE
from .verbs import StreamVerbs

MIB = 1024 * 1024
T = TypeVar("T")


if TYPE_CHECKING:
    from .framed import Messages
    from .streaming import Stream as _Stream

    Wire: Callable[[asyncio.AbstractEventLoop, socket.socket, Any], object] | None

    def stepped(coro: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """`coro`, so that bytes of its client resume it in place."""
else:
    try:
        if os.environ.get("TOOLIPS_UDP_PURE") == "1":
            raise ImportError
        from .._native.streams import Messages, Wire
        from .._native.streams import Steps as stepped
        from .._native.streams import Stream as _Stream
    except ImportError:
        from .framed import Messages
        from .streaming import Stream as _Stream

        Wire = None

        def stepped(coro):
            return coro


class ReadTimeout(TimeoutError):
    """A read got nothing within the time it was given."""


class StreamTooLong(TooLong):
    """`read_all` got more than its limit."""


class SocketConnection(_Stream, StreamVerbs, asyncio.Protocol):
    """One TCP client. The reading verbs are awaited; the writing ones queue and return.

    >>> @handler
    ... async def main(c):
    ...     async for line in c.lines():
    ...         c.respond(line.text.upper() + "\\n")

    The socket is closed when the handler ends. What the client sends while
    nobody reads is kept up to a bound, then the client is made to wait. A
    client that does not read what is written to it is dropped.
    """

    __slots__ = ()

    # -- who ---------------------------------------------------------------

    @property
    def server(self) -> Any:
        """The server that serves this client."""
        return self._listener.owner.server

    @property
    def listener(self) -> Address:
        """The `Address` of the socket that accepted this client."""
        address: Address = self._listener.address
        return address

    @property
    def session(self) -> dict[Any, Any]:
        """This connection's own mapping; it ends with the connection."""
        if self._extra is None:
            self._extra = {}
        return self._extra

    def set_handler(self, name: str, client: AnyAddress | None = None) -> None:
        """The next connection of this, or another, client goes to the handler called `name`.

        What a client is, is said by the module's `MultiHandler`. Raises `UnknownHandler`.
        """
        self._listener.owner.choosing.set(self, name, client)

    def remove_handler(self, client: AnyAddress | None = None) -> None:
        """Back to the main handler. Harmless when none is set."""
        self._listener.owner.choosing.remove(self, client)

    @property
    def tls(self) -> Any:
        """The `ssl.SSLObject` of an encrypted connection, else None."""
        return self._transport.get_extra_info("ssl_object") if self._transport else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address}{'' if self.is_connected() else ' closed'}>"

    # -- state -------------------------------------------------------------

    def is_connected(self) -> bool:
        """True until either side closed and all received bytes were read. Never waits."""
        return not self.closing and not (self._inbox.ended and not len(self._inbox))

    def is_closed(self) -> bool:
        """The opposite of `is_connected`. Never waits."""
        return not self.is_connected()

    # -- reading -----------------------------------------------------------

    async def read(self, limit: int = 65536, timeout: float | None = None) -> bytes:
        """The next bytes as they come, at most `limit`; `b""` when the client has closed its side.

        Like every read it first waits until the client has taken its answers:
        that is the back-pressure.

        `timeout` in seconds raises `TimeoutError` when nothing comes.
        """
        deadline = None if timeout is None else self._loop.time() + timeout
        if self._writing_paused:
            await self.drain()
        while not len(self._inbox):
            if self._at_end():
                return b""
            if not await self._more(deadline):
                raise ReadTimeout(f"{self.address} sent nothing within {timeout} s")
        self._partial = 0.0
        self.packet = data = self._inbox.take(limit)
        return data

    async def read_all(
        self, limit: int = MIB, timeout: float | None = None, idle: float | None = 0.05
    ) -> bytes:
        """Everything until the client closes its side or has been quiet for `idle` seconds.

        Waits for the first byte; `idle=None` waits for the close. The
        connection stays open for the answer. More than `limit` bytes raise
        `TooLong`; `timeout`, in seconds for all of it, raises `TimeoutError`.
        """
        end = None if timeout is None else self._loop.time() + timeout
        if timeout is not None:
            self._partial = -timeout  # the caller's own deadline takes the place of message_timeout
        while not self._at_end():
            if len(self._inbox) > limit:
                break
            quiet = None if idle is None or not len(self._inbox) else self._loop.time() + idle
            deadline = quiet if end is None else end if quiet is None else min(end, quiet)
            if not await self._more(deadline):
                if deadline is end:
                    raise ReadTimeout(f"{self.address} was not done within {timeout} s")
                break
        size = len(self._inbox)
        if size > limit:
            self._inbox.clear()
            raise StreamTooLong(f"{self.address} sent {size} bytes or more; the limit of read_all is {limit}")
        self._partial = 0.0
        self.packet = data = self._inbox.take(limit)
        return data

    def lines(self, end: bytes = b"\n", limit: int = 65536) -> AsyncIterator[Line]:
        """The client's lines: `async for line in c.lines()`.

        A line is bytes without its terminator (for `\\n` also without `\\r`),
        with `.text` and `.final`. A line over `limit` bytes drops the client.
        """
        if not end or limit < 1:
            raise ValueError(f"lines need a terminator and a limit above 0, found {end!r} and {limit}")
        return Messages(self, bytes(end), limit, 0)

    def frames(self, prefix: int = 2, limit: int = 65536) -> AsyncIterator[bytes]:
        """The client's length-prefixed messages: `async for frame in c.frames(prefix=2)`.

        The length is big-endian, in `prefix` (1, 2 or 4) bytes. A length of 0
        or above `limit` drops the client.
        """
        check_prefix(prefix)
        return Messages(self, b"", limit, prefix)

    async def continue_connection(
        self, fn: Callable[[SocketConnection, Line], Any], end: bytes = b"\n", limit: int = 65536
    ) -> None:
        """Call `fn(c, line)` for each line until it returns exactly `False` or the client is done.

        `fn` may be `async def`.
        """
        async for line in self.lines(end, limit):
            result = fn(self, line)
            if hasattr(result, "__await__"):
                result = await result
            if result is False:
                return

    async def _more(self, deadline: float | None) -> bool:
        """Wait until something changed: bytes, the end, or False when the deadline passed."""
        if self._reading_paused:
            self._resume()
        if deadline is None:
            await self._wake
            return True
        if deadline <= self._loop.time():
            return False
        before = len(self._inbox)
        timer = self._loop.call_at(deadline, self._wake.later)
        try:
            await self._wake
        finally:
            timer.cancel()
        return len(self._inbox) != before or self._inbox.ended or self._loop.time() < deadline

    def _at_end(self) -> bool:
        """No more bytes will come: the client closed, we did, or the server is draining."""
        listener = self._listener
        if listener.draining and not len(self._inbox) and (self.answered or not listener.hears_newcomers):
            self._inbox.end()
        return self._inbox.ended or self.closing

    def _resume(self) -> None:
        self._reading_paused = False
        if not self.lost:
            self._transport.resume_reading()

    # -- writing -----------------------------------------------------------

    def write(self, *parts: object) -> None:
        """Queue each part; what is neither bytes nor text is sent as `str(part)`."""
        for part in parts:
            if isinstance(part, (bytes, bytearray, memoryview)):
                self.respond(part)
            else:
                self.respond(str(part))

    def write_frame(self, data: bytes | bytearray | memoryview | str, prefix: int = 2) -> None:
        """Queue `data` behind its length in `prefix` (1, 2 or 4) bytes. `TooLong` if it does not fit."""
        check_prefix(prefix)
        _Stream.respond(self, framed(data.encode() if isinstance(data, str) else bytes(data), prefix))

    async def drain(self) -> None:
        """Wait until the client has taken most of what was written, or is gone."""
        self.push()
        while self._writing_paused and not self.lost:
            if self._drained is None:
                self._drained = self._loop.create_future()
            await asyncio.shield(self._drained)

    def overrun(self) -> None:
        """The client leaves too much of what is written to it unread: cut it."""
        self.drop(QUEUE_FULL)

    @property
    def unsent(self) -> int:
        """Bytes written that the kernel has not taken yet."""
        if self._transport is None or self.lost:
            return 0
        return self._held + int(self._transport.get_write_buffer_size())

    def close(self) -> None:
        """Close the connection when what was written has been sent. Harmless when closed."""
        if not self.closing:
            self.closing = True
            self._inbox.clear()
            self._wake.later()
            self._hang_up()

    # -- the listener's side -----------------------------------------------

    def settle(self, word: int) -> None:
        """Count this connection, once."""
        if not self.settled:
            self.settled = True
            self._listener.counters[word] += 1
            self._listener.in_flight -= 1

    def drop(self, word: int) -> None:
        """Cut the connection now, unsent bytes too, and count it under `word`."""
        self.settle(word)
        self.closing = True
        self._inbox.clear()
        self._inbox.end()
        self.discard()
        self._wake.later()
        if self._transport is not None:
            self._transport.abort()

    def finish(self) -> None:
        """The handler has ended: close, so that nothing which was answered is lost."""
        self.closing = True
        self._inbox.clear()
        self.task = None
        self._hang_up()

    def _hang_up(self) -> None:
        """Close without a reset.

        A socket closed over unread bytes sends a reset, which may overtake the
        answer. So our side closes first, and what still comes is thrown away
        until the client closes too, or for one `close_timeout` at most.
        """
        self.push()
        transport = self._transport
        if transport is None or self.lost or transport.is_closing():
            return
        if self._inbox.ended or self._listener.draining or not transport.can_write_eof():
            transport.close()
        elif not self._half_closed:
            self._half_closed = True
            transport.write_eof()
            if self._reading_paused:
                self._resume()

    def waits_idle(self) -> bool:
        """Whether the handler waits for the client, between two messages."""
        return self._wake.callback is not None and not len(self._inbox)

    def end_input(self) -> None:
        """The server drains: a handler between two messages sees the end of the stream."""
        if self.task is None:
            self._hang_up()
        elif self.waits_idle():
            self._inbox.end()
            self._wake.later()

    def tick(self, seconds: float) -> None:
        """Called by the sweep: compare what happened in the last `seconds` with the limits."""
        limits = self._listener.limits
        if self.closing or self.lost:
            self._linger += seconds
            if self._linger > limits.close_timeout:
                if not self.lost and self._transport is not None:
                    self._transport.abort()
                if self.task is not None and self.lost:
                    self.task.cancel()
            return
        if self.fresh:
            self.fresh = False
            self.idle_for = 0.0
        else:
            self.idle_for += seconds
        if self._writing_paused:
            if self.idle_for > limits.idle_timeout and (self._drained or self._wake.callback):
                self.drop(QUEUE_FULL)
        elif self._wake.callback is not None:
            if len(self._inbox):
                self._partial += seconds
                if self._partial > limits.message_timeout:
                    self.drop(STALE)
                    return
            if self.idle_for > limits.idle_timeout:
                self.drop(STALE)

    # -- callbacks of the transport ------------------------------------------

    def eof_received(self) -> bool:
        """From the loop: the client has closed its side. Ours stays open for the answer."""
        self._inbox.end()
        if self.closing:
            return False
        self._wake.now()
        return self._transport is not None and self._transport.can_write_eof()

    def pause_writing(self) -> None:
        """From the transport: the client is slower than the handler."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """From the transport: the client has caught up."""
        self._writing_paused = False
        self.fresh = True
        self._release()
        self._wake.later()

    def connection_lost(self, exc: BaseException | None) -> None:
        """From the loop: the socket is closed."""
        self.lost = True
        self._linger = 0.0
        self._inbox.end()
        self._writing_paused = False
        self.discard()
        self._release()
        self._wake.now()
        self._listener.gone(self)

    def _release(self) -> None:
        if self._drained is not None:
            if not self._drained.done():
                self._drained.set_result(None)
            self._drained = None


class FramedConnection(SocketConnection):
    """A client of a server with `framing`: what is answered goes out framed as what comes in."""

    __slots__ = ()

    def respond(self, data: bytes | bytearray | memoryview | str) -> None:
        """Answer the current message with one message. Text is sent as UTF-8. `TooLong` if it does not fit."""
        framing = self._listener.owner.framing
        raw = data.encode() if isinstance(data, str) else bytes(data)
        super().respond(raw + b"\n" if framing == "lines" else framed(raw, framing))

    def write(self, *parts: object) -> None:
        """Not with framing: a message is one answer, not a stream. Raises `TypeError`."""
        raise TypeError("a server with framing answers with whole messages. Fix: c.respond(data)")


def check_prefix(prefix: int) -> None:
    if prefix not in PREFIXES:
        raise ValueError(f"a length prefix has 1, 2 or 4 bytes, found {prefix!r}")
