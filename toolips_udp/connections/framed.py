"""Lines and frames of one TCP client, as an async iterator.

The twin of `Messages` in `_native/streams.pyx`. What breaks the framing drops the
client (`malformed`); the iteration ends as if it had left. Made by
`SocketConnection.lines` and `.frames`; imports transports and the ground floor.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from ..errors import FormatError, TooLong
from ..transports.stream import MALFORMED

if TYPE_CHECKING:
    from .tcp import SocketConnection


class Messages:
    """The lines (`prefix` 0) or frames of one client: what `async for` goes through."""

    __slots__ = ("_c", "_end", "_limit", "_prefix")

    def __init__(self, c: SocketConnection, end: bytes, limit: int, prefix: int) -> None:
        self._c = c
        self._end = end
        self._limit = limit
        self._prefix = prefix

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        c = self._c
        inbox = c._inbox
        while True:
            if not c._writing_paused:
                try:
                    message = (
                        inbox.frame(self._prefix, self._limit)
                        if self._prefix
                        else inbox.line(self._end, self._limit)
                    )
                except (TooLong, FormatError):
                    c.drop(MALFORMED)
                    raise StopAsyncIteration from None
                if message is not None:
                    c._partial = 0.0
                    c.packet = message
                    return message
                if c._at_end():
                    raise StopAsyncIteration
                if c._reading_paused:
                    c._resume()
            await c._wake
