"""WebSocketConnection: a WebSocket of HTTP mode, as a route with `methods=("WEBSOCKET",)` holds it.

Messages come one by one; what is sent is queued and leaves in order, and a
client that does not read is dropped. Imports `connections/http.py`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from .http import Connection

CLOSE_TIMEOUT = 5.0
"""Seconds a client gets to take what was queued before the end."""


class WebSocketConnection(Connection):
    """One WebSocket.

    >>> @route("/live", methods=("WEBSOCKET",))
    ... async def live(c):
    ...     async for message in c.messages():
    ...         c.respond(message.upper())
    """

    __slots__ = (
        "_abort",
        "_closing",
        "_max_unsent",
        "_out",
        "_receive",
        "_ring",
        "_send",
        "_unsent",
        "_writer",
        "overrun",
        "word",
    )

    def __init__(
        self,
        site: Any,
        scope: dict[str, Any],
        receive: Any,
        send: Any,
        max_unsent: int,
        abort: Callable[[], None] | None,
    ) -> None:
        super().__init__(site, scope)
        self._receive = receive
        self._send = send
        self._out: deque[dict[str, Any]] = deque()
        self._unsent = 0
        self._ring = asyncio.Event()
        self._closing = False
        self._writer: asyncio.Task[None] | None = None
        self._max_unsent = max_unsent
        self._abort = abort
        self.word = 0
        """Under which word this connection counts, when its route says so; 0: what its end says."""
        self.overrun = False
        """Whether the client was dropped because it did not read."""

    async def accept(self) -> bool:
        """Complete the handshake. False when the client has left before."""
        if (await self._receive())["type"] != "websocket.connect":
            return False
        await self._send(
            {"type": "websocket.accept", "headers": [(b"set-cookie", c) for c in self._cookies_out]}
        )
        self._writer = asyncio.get_running_loop().create_task(self._write())
        return True

    async def refuse(self, status: int) -> None:
        """Answer the handshake with an HTTP error instead."""
        await self._receive()
        await self._send({"type": "websocket.http.response.start", "status": status, "headers": []})
        await self._send({"type": "websocket.http.response.body", "body": b""})

    @property
    def unsent(self) -> int:
        """Bytes that were queued and that the client has not taken."""
        return self._unsent

    @property
    def max_unsent(self) -> int:
        """Above so many bytes unsent the client is dropped."""
        return self._max_unsent

    def is_connected(self) -> bool:
        """Whether both sides are open. Never waits."""
        return not self._closing

    async def read(self) -> bytes | str | None:
        """The next message: text as `str`, binary as `bytes`; None at the end."""
        while not self._closing:
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                self._closing = True
                self._ring.set()
                break
            text = event.get("text")
            if text is not None:
                self.packet = text.encode()
                return str(text)
            self.packet = event["bytes"]
            return self.packet
        return None

    async def messages(self) -> AsyncIterator[Any]:
        """The client's messages until it leaves."""
        while (message := await self.read()) is not None:
            yield message

    def respond(self, data: Any = "", status: int | None = None, headers: Any = None) -> None:
        """Queue one message: text for `str`, binary for bytes. Never waits; a client that is gone gets nothing.

        A client that leaves too much unread is dropped (`queue_full`).
        """
        if self._closing:
            return
        if isinstance(data, str):
            event: dict[str, Any] = {"type": "websocket.send", "text": data}
        else:
            data = bytes(data)
            event = {"type": "websocket.send", "bytes": data}
        self._unsent += len(data)
        if self._unsent > self._max_unsent:
            self.overrun = True
            self._cut()
            return
        self._out.append(event)
        self._ring.set()

    def withdraw(self, match: Callable[[bytes], bool]) -> int:
        """Take back binary messages that wait and that `match` says yes to; how many."""
        stale = [event for event in self._out if "bytes" in event and match(event["bytes"])]
        for event in stale:
            self._out.remove(event)
            self._unsent -= len(event["bytes"])
        return len(stale)

    def write(self, *parts: Any) -> None:
        """Queue each part as a message."""
        for part in parts:
            self.respond(part if isinstance(part, str | bytes | bytearray | memoryview) else str(part))

    def close(self, code: int = 1000) -> None:
        """Close when what was queued has been sent; with a code other than 1000, at once."""
        if not self._closing:
            self._closing = True
            if code != 1000:
                self._out.clear()
            self._out.append({"type": "websocket.close", "code": code})
            self._ring.set()

    async def finish(self) -> None:
        """The route has ended: send what is queued, then close."""
        self.close()
        if self._writer is not None:
            await asyncio.wait([self._writer], timeout=CLOSE_TIMEOUT)
            if not self._writer.done():
                self._cut()

    def _cut(self) -> None:
        self._closing = True
        self._out.clear()
        if self._writer is not None:
            self._writer.cancel()
        if self._abort is not None:
            self._abort()

    async def _write(self) -> None:
        try:
            while True:
                while self._out:
                    event = self._out.popleft()
                    await self._send(event)
                    self._unsent -= len(event.get("text") or event.get("bytes") or b"")
                    if event["type"] == "websocket.close":
                        return
                if self._closing:
                    return
                self._ring.clear()
                await self._ring.wait()
        except Exception:  # uvicorn raises when the client is gone, by a name that is its own
            self._closing = True
