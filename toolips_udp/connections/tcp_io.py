"""SocketIOConnection: a TCP client as a `def` handler holds it, in a thread.

The same names as `SocketConnection`, with reading verbs that block and return
the value. What a thread writes happens on the server's loop, in the order
called. Imports `connections/tcp.py` and the floors below.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from ..transports.framing import Line, framed
from .tcp import MIB, SocketConnection, check_prefix
from .verbs import StreamVerbs

T = TypeVar("T")

HANDED_OVER = 256 * 1024
"""Bytes a thread may have written that the loop has not seen; then it waits for the loop."""


class SocketIOConnection(StreamVerbs):
    """One TCP client, for a handler in a thread. Made by the server.

    >>> @handler
    ... def main(c):
    ...     for line in c.lines():
    ...         c.respond(line.text.upper() + "\\n")
    """

    __slots__ = ("_c", "_lock", "_loop", "_worker", "_written", "packet")

    def __init__(self, c: SocketConnection, worker: int) -> None:
        self._c = c
        self._loop: asyncio.AbstractEventLoop = c._loop
        self._worker = worker
        self._written = 0
        self._lock = threading.Lock()
        self.packet: bytes = c.packet

    @property
    def server(self) -> Any:
        """The server that serves this client."""
        return self._c.server

    @property
    def address(self) -> Any:
        """The client's address. Still known after it has left."""
        return self._c.address

    @property
    def tls(self) -> Any:
        """The `ssl.SSLObject` of an encrypted connection, else None."""
        return self._c.tls

    @property
    def session(self) -> Any:
        """This connection's own mapping."""
        return self._c.session

    @property
    def worker(self) -> int:
        """The number of the thread that runs this; 1 is the main loop."""
        return self._worker

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address}{'' if self.is_connected() else ' closed'}>"

    def is_connected(self) -> bool:
        """True until either side closed and all received bytes were read. Never waits."""
        return self._c.is_connected()

    def is_closed(self) -> bool:
        """The opposite of `is_connected`. Never waits."""
        return self._c.is_closed()

    def read(self, limit: int = 65536, timeout: float | None = None) -> bytes:
        """The next bytes as they come; `b""` when the client has closed its side. Blocks."""
        self.packet = data = self._wait(self._c.read(limit, timeout))
        return data

    def read_all(self, limit: int = MIB, timeout: float | None = None, idle: float | None = 0.05) -> bytes:
        """Everything until the client closes its side or is quiet for `idle` seconds. Blocks."""
        self.packet = data = self._wait(self._c.read_all(limit, timeout, idle))
        return data

    def lines(self, end: bytes = b"\n", limit: int = 65536) -> Iterator[Line]:
        """The client's lines: `for line in c.lines()`. Each step blocks."""
        return self._each(self._c.lines(end, limit))

    def frames(self, prefix: int = 2, limit: int = 65536) -> Iterator[bytes]:
        """The client's length-prefixed messages: `for frame in c.frames()`. Each step blocks."""
        return self._each(self._c.frames(prefix, limit))

    def continue_connection(
        self, fn: Callable[[Any, Line], Any], end: bytes = b"\n", limit: int = 65536
    ) -> None:
        """Call `fn(c, line)` for each line until it returns exactly `False` or the client is done."""
        for line in self.lines(end, limit):
            if fn(self, line) is False:
                return

    def respond(self, data: bytes | bytearray | memoryview | str) -> None:
        """Queue `data` for the client. Never raises for a client that is gone.

        A thread that writes faster than the loop can take it waits for the loop.
        """
        piece = data.encode() if isinstance(data, str) else bytes(data)
        with self._lock:
            self._written += len(piece)
            wait = self._written > HANDED_OVER
        self._effect(self._respond, piece)
        if wait:
            self._wait(self._nothing())

    def write(self, *parts: object) -> None:
        """Queue each part; what is neither bytes nor text is sent as `str(part)`."""
        for part in parts:
            self.respond(part if isinstance(part, (bytes, bytearray, memoryview)) else str(part))

    def write_frame(self, data: bytes | bytearray | memoryview | str, prefix: int = 2) -> None:
        """Queue `data` behind its length in `prefix` (1, 2 or 4) bytes."""
        check_prefix(prefix)
        self.respond(framed(data.encode() if isinstance(data, str) else bytes(data), prefix))

    def drain(self) -> None:
        """Block until the client has taken most of what was written, or is gone."""
        self._wait(self._c.drain())

    def close(self) -> None:
        """Close the connection when what was written has been sent."""
        self._effect(self._c.close)

    def set_handler(self, name: str, client: Any = None) -> None:
        """The next connection of this, or another, client goes to the handler called `name`."""
        self._wait(_call(self._c.set_handler, name, client))

    def remove_handler(self, client: Any = None) -> None:
        """Back to the main handler."""
        self._wait(_call(self._c.remove_handler, client))

    def _respond(self, piece: bytes) -> None:
        with self._lock:
            self._written -= len(piece)
        self._c.respond(piece)

    def _effect(self, fn: Callable[..., object], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(fn, *args)
        except RuntimeError:
            pass  # the loop has ended, and the client with it

    def _wait(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run `coro` on the loop and block for its result."""
        try:
            return asyncio.run_coroutine_threadsafe(coro, self._loop).result()
        except CancelledError:
            raise ConnectionAbortedError(f"the server stopped while {self.address} was served") from None
        except RuntimeError:
            coro.close()
            if self._loop.is_closed():
                raise ConnectionAbortedError(f"the server stopped while {self.address} was served") from None
            raise

    def _each(self, messages: Any) -> Iterator[Any]:
        while True:
            try:
                self.packet = message = self._wait(_next(messages))
            except StopAsyncIteration:
                return
            yield message

    @staticmethod
    async def _nothing() -> None:
        """A turn of the loop: everything handed over before has happened."""


async def _next(messages: Any) -> Any:
    return await messages.__anext__()


async def _call(fn: Callable[..., Any], *args: Any) -> Any:
    return fn(*args)
