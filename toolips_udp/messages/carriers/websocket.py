"""WebSocket: links through HTTP mode, for networks that let no datagrams through.

Imports the link and routes; the client's half needs `websockets` (extra `http`). A frame longer than a WebSocket
message may be is cut: the first byte of each part is 1 when more follow, else 0.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

from ...address import Address, is_loopback
from ...errors import missing_extra
from ...handlers import Route, route
from ..errors import ConnectError
from .link import Link

PART = 48 * 1024
DEFAULT_PATH = "/messages"


def cut(data: bytes) -> list[bytes]:
    """The parts of a frame."""
    if len(data) <= PART:
        return [b"\0" + data]
    parts = [data[at : at + PART] for at in range(0, len(data), PART)]
    return [b"\1" + part for part in parts[:-1]] + [b"\0" + parts[-1]]


class Joiner:
    """Parts back to frames; None while more are to come. `ValueError` for what is no part, or too much."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: list[bytes] = []
        self._size = 0

    def take(self, part: Any) -> bytes | None:
        if not isinstance(part, bytes) or part[:1] not in (b"\0", b"\1"):
            raise ValueError("no part of a frame")
        if part[0] == 0 and not self._parts:
            return part[1:]
        self._size += len(part)
        if self._size > self._most:
            raise ValueError("a frame that is too long")
        self._parts.append(part[1:])
        if part[0]:
            return None
        data, self._parts, self._size = b"".join(self._parts), [], 0
        return data


class ServerSocketLink(Link):
    """The server's end: a WebSocket of HTTP mode."""

    def __init__(self, c: Any) -> None:
        super().__init__()
        self._c = c
        self._loop = asyncio.get_running_loop()
        self.address = c.address
        self.host = c.ip
        self.near = is_loopback(self.host)
        self._parts: deque[bytes] = deque()
        self._waiting = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False

    def send(self, data: bytes) -> bool:
        """See `Link.send`."""
        if not self.open or self._closing:
            return False
        for part in cut(data):
            self._parts.append(part)
            self._waiting += len(part)
        self._pump()
        return True

    def _pump(self) -> None:
        self._timer = None
        room = self._c.max_unsent // 2
        while self._parts and self._c.unsent + len(self._parts[0]) <= room:
            part = self._parts.popleft()
            self._waiting -= len(part)
            self._c.respond(part)
        if self._parts and self._c.is_connected():
            self._timer = self._loop.call_later(0.002, self._pump)
        elif self._closing:
            self._c.close()

    @property
    def unsent(self) -> int:
        """See `Link.unsent`."""
        return self._waiting + int(self._c.unsent)

    def close(self) -> None:
        """See `Link.close`."""
        self._closing = True
        if not self._parts:
            self._c.close()

    def abort(self, word: str = "kicked") -> None:
        """See `Link.abort`."""
        self._c.close(1001)
        self.ended("closed")

    async def serve(self, most: int) -> None:
        """Hand on what comes, until the end."""
        joiner = Joiner(most)
        word = "left"
        try:
            async for part in self._c.messages():
                data = joiner.take(part)
                if data is not None:
                    self.on_message(data)
        except ValueError:
            word = "malformed"
            self._c.close(1002)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self.ended("closed" if self._closing else word)


def page(path: str, accept: Callable[[Link], None], max_message: int) -> Route:
    """The route of HTTP mode on which clients connect."""

    async def messages(c: Any) -> None:
        link = ServerSocketLink(c)
        accept(link)
        await link.serve(max_message + PART)

    made = route(path, messages, methods=("WEBSOCKET",))
    assert isinstance(made, Route)
    return made


class ClientSocketLink(Link):
    """The client's end: a connection of the `websockets` library."""

    def __init__(self, socket: Any, address: str, most: int) -> None:
        super().__init__()
        self._socket = socket
        host, port = socket.remote_address[:2]
        self.address = Address(host, port)
        self.host = host
        self.near = is_loopback(host)
        self._queue: deque[bytes] = deque()
        self._waiting = 0
        self._ring = asyncio.Event()
        self._closing = False
        self._most = most
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._read()), loop.create_task(self._write())]

    def send(self, data: bytes) -> bool:
        """See `Link.send`."""
        if not self.open or self._closing:
            return False
        for part in cut(data):
            self._queue.append(part)
            self._waiting += len(part)
        self._ring.set()
        return True

    @property
    def unsent(self) -> int:
        """See `Link.unsent`."""
        return self._waiting

    def progress(self) -> tuple[int, int]:
        """See `PeerLink.progress`."""
        return self._waiting, 0

    def close(self) -> None:
        """See `Link.close`."""
        self._closing = True
        self._ring.set()

    def abort(self, word: str = "kicked") -> None:
        """See `Link.abort`."""
        self.close()
        self._socket.transport.abort()

    async def _read(self) -> None:
        from websockets.exceptions import ConnectionClosed

        joiner = Joiner(self._most)
        word = "left"
        try:
            while True:
                data = joiner.take(await self._socket.recv())
                if data is not None:
                    self.on_message(data)
        except ConnectionClosed as error:
            word = "left" if error.rcvd is not None else "lost"
        except ValueError:
            word = "malformed"
        finally:
            self._tasks[1].cancel()
            self.ended("closed" if self._closing else word)
            with contextlib.suppress(Exception):
                await self._socket.close()

    async def _write(self) -> None:
        with contextlib.suppress(Exception):  # the reader says how it ended
            while True:
                while self._queue:
                    part = self._queue.popleft()
                    await self._socket.send(part)
                    self._waiting -= len(part)
                if self._closing:
                    await self._socket.close()
                    return
                self._ring.clear()
                await self._ring.wait()


async def open_websocket(url: str, timeout: float, max_message: int) -> ClientSocketLink:
    """Connect to `ws://host:port[/path]`. `ConnectError` when nobody takes it within `timeout` seconds."""
    try:
        from websockets.asyncio.client import connect
        from websockets.exceptions import WebSocketException
    except ImportError:
        raise missing_extra("the WebSocket carrier", "http") from None
    scheme, _, rest = url.partition("://")
    if "/" not in rest:
        url = f"{scheme}://{rest}{DEFAULT_PATH}"
    try:
        socket = await connect(
            url, open_timeout=timeout, compression=None, ping_interval=None, max_size=2 * PART, proxy=None,
            close_timeout=1.0,
        )  # fmt: skip
    except (OSError, WebSocketException, ValueError) as error:
        raise ConnectError(f"nobody took the connection at {url}: {error or type(error).__name__}") from None
    return ClientSocketLink(socket, url, max_message + PART)
