"""Lines and frames of one TCP client, as async iterators.

What breaks the framing drops the client (`malformed`); the iteration ends as if
it had left. Made by `SocketConnection.lines` and `.frames`; imports transports
and the ground floor.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from ..errors import FormatError, TooLong
from ..transports.framing import Line
from ..transports.stream import MALFORMED

if TYPE_CHECKING:
    from .tcp import SocketConnection


class Lines:
    """The lines of one client, as an async iterator. Made by `SocketConnection.lines`."""

    __slots__ = ("_c", "_end", "_limit")

    def __init__(self, c: SocketConnection, end: bytes, limit: int) -> None:
        self._c = c
        self._end = end
        self._limit = limit

    def __aiter__(self) -> AsyncIterator[Line]:
        return self

    async def __anext__(self) -> Line:
        c = self._c
        if c._writing_paused:
            await c.drain()
        while True:
            try:
                line = c._inbox.line(self._end, self._limit)
            except TooLong:
                c.drop(MALFORMED)
                raise StopAsyncIteration from None
            if line is not None:
                c._partial = 0.0
                c.packet = line
                return line
            if c._at_end():
                raise StopAsyncIteration
            if c._reading_paused:
                c._resume()
            await c._wake


class Frames:
    """The length-prefixed messages of one client. Made by `SocketConnection.frames`."""

    __slots__ = ("_c", "_limit", "_prefix")

    def __init__(self, c: SocketConnection, prefix: int, limit: int) -> None:
        self._c = c
        self._prefix = prefix
        self._limit = limit

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        c = self._c
        if c._writing_paused:
            await c.drain()
        while True:
            try:
                frame = c._inbox.frame(self._prefix, self._limit)
            except (TooLong, FormatError):
                c.drop(MALFORMED)
                raise StopAsyncIteration from None
            if frame is not None:
                c._partial = 0.0
                c.packet = frame
                return frame
            if c._at_end():
                raise StopAsyncIteration
            if c._reading_paused:
                c._resume()
            await c._wake
