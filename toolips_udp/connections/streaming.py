"""The hot half of a TCP connection in Python: the wake-up, receive and respond.

The twin of `_native/streams.pyx`, used where the native core is absent; one
suite tests both. Imports transports and the ground floor; `connections/tcp.py`
builds on it.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from ..address import Address
from ..transports.framing import Inbox
from ..transports.stream import BYTES_IN, BYTES_OUT, SEND_QUEUED, SEND_REFUSED, SENT

if TYPE_CHECKING:
    from ..transports.stream import Listener

HELD_AT_MOST = 65536
"""Bytes of answers to one client that wait for the end of the turn; more leave at once."""


class Wake:
    """What a handler waits on for bytes. One per connection, used again and again.

    A task that waits on a Future is woken by way of the loop. This one looks
    like a Future to the task, but `now()` steps the task in place, which spares
    a Future, a handle and a turn of the loop per message.
    """

    __slots__ = ("_asyncio_future_blocking", "_context", "_loop", "callback", "result")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asyncio_future_blocking = False
        self._context: contextvars.Context | None = None
        self.callback: Callable[[Any], object] | None = None
        self.result: Callable[[], object] = bool  # read by the task when it is woken: nothing to tell

    def __await__(self) -> Generator[Any, Any, None]:
        if self.callback is not None:
            raise RuntimeError("two reads at once on one connection; await the first one before")
        self._asyncio_future_blocking = True
        return iter((self,))  # type: ignore[return-value]  # an iterator is all that await needs

    def add_done_callback(self, fn: Callable[[Any], object], *, context: contextvars.Context) -> None:
        """Called by the task that begins to wait."""
        self.callback = fn
        self._context = context

    def cancel(self, msg: object = None) -> bool:
        """Called by the task when it is cancelled while it waits."""
        if self.callback is None:
            return False
        self.result = self._cancelled
        self.later()
        return True

    def _cancelled(self) -> None:
        self.result = bool
        raise asyncio.CancelledError

    def now(self) -> None:
        """Step the waiting task. Only from a callback of the loop, never from inside a task."""
        fn = self.callback
        if fn is not None:
            self.callback = None
            self._context.run(fn, self)  # type: ignore[union-attr]

    def later(self) -> None:
        """Wake the waiting task by way of the loop."""
        fn = self.callback
        if fn is not None:
            self.callback = None
            self._loop.call_soon(fn, self, context=self._context)


class Outbox:
    """The clients that were answered in this turn of the loop. One per listener.

    What a handler answers is kept until every socket that was readable has been
    read, and then written: sixteen lines of one segment are answered by one
    call of the kernel, and a client is woken when its answers are all there.
    """

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[Stream] = []

    def add(self, c: Stream) -> None:
        """Write what `c` holds at the end of this turn."""
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append(c)

    def flush(self) -> None:
        """Called by the loop. What goes wrong with one client does not reach the others."""
        waiting, self._waiting = self._waiting, []
        for c in waiting:
            try:
                c.push()
            except Exception as error:
                self._loop.call_exception_handler({"message": f"writing to {c.address}", "exception": error})


class Stream:
    """What the loop and a handler touch for every message. `SocketConnection` is the whole."""

    __slots__ = (
        "_drained",
        "_extra",
        "_half_closed",
        "_held",
        "_inbox",
        "_linger",
        "_listener",
        "_loop",
        "_outbox",
        "_partial",
        "_pieces",
        "_reading_paused",
        "_transport",
        "_wake",
        "_writing_paused",
        "address",
        "answered",
        "closing",
        "fresh",
        "idle_for",
        "lost",
        "packet",
        "settled",
        "task",
    )

    def __init__(self, listener: Listener, address: Address) -> None:
        self.address = address
        self.packet: bytes = b""
        self.task: asyncio.Task[None] | None = None
        self.lost = False  # the socket is closed
        self.closing = False  # our side has closed
        self.settled = False  # counted
        self.answered = False  # something was written to it
        self.fresh = True  # bytes came since the last sweep
        self.idle_for = 0.0
        self._partial = 0.0  # age of an unfinished message
        self._linger = 0.0  # time since our side closed
        self._half_closed = False
        self._listener = listener
        self._loop = listener.loop
        self._transport: Any = None
        self._inbox = Inbox()
        self._wake = Wake(self._loop)
        self._drained: asyncio.Future[None] | None = None
        self._reading_paused = False
        self._writing_paused = False
        self._extra: dict[str, Any] | None = None
        self._pieces: list[bytes] = []  # answers that leave at the end of the turn
        self._held = 0  # their bytes
        if listener.outbox is None:
            listener.outbox = Outbox(self._loop)
        self._outbox: Outbox = listener.outbox

    def connection_made(self, transport: Any) -> None:
        """From the loop: the socket is ready."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """From the loop: bytes have come. Steps the handler if it waits for them."""
        self.fresh = True
        self._listener.counters[BYTES_IN] += len(data)
        if self.closing:
            return
        self._inbox.feed(data)
        if self._wake.callback is not None and not self._writing_paused:
            self._wake.now()
        elif len(self._inbox) > self._listener.limits.max_buffer and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def respond(self, data: bytes | bytearray | memoryview | str) -> None:
        """Queue `data` for the client and return. Text is sent as UTF-8.

        It leaves at the end of this turn of the loop, with whatever else was
        answered in it, or as soon as 64 KiB are waiting. Bytes that can change are copied.

        Never waits and never raises for a client that is gone: that is counted
        (`send_refused`). A client that leaves more than `max_unsent` bytes
        unread is dropped (`queue_full`); `await c.drain()` to wait for it.
        """
        if isinstance(data, str):
            data = data.encode()
        size = len(data)
        if not size:
            return
        counters = self._listener.counters
        counters[SEND_QUEUED] += 1
        if self.lost or self.closing or self._transport is None:
            counters[SEND_REFUSED] += 1
            return
        self.answered = True
        counters[SENT] += 1
        counters[BYTES_OUT] += size
        self._pieces.append(data if isinstance(data, bytes) else bytes(data))
        if not self._held:
            self._outbox.add(self)
        self._held += size
        if self._held > HELD_AT_MOST:
            self.push()

    def push(self) -> None:
        """Hand what was answered to the transport now. Harmless when there is nothing."""
        pieces = self._pieces
        if not pieces:
            return
        self.discard()
        if self.lost or self._transport.is_closing():
            return
        self._transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if (
            self._writing_paused
            and self._transport.get_write_buffer_size() > self._listener.limits.max_unsent
        ):
            self.overrun()

    def discard(self) -> None:
        """Forget what was answered and has not left."""
        self._held = 0
        self._pieces = []

    def overrun(self) -> None:
        """The client does not read what is written to it."""
        raise NotImplementedError
