"""uvicorn under our own roof: its protocols on our listener, with our limits.

uvicorn parses HTTP and WebSockets; accepting, caps, deadlines and drain are those
of every stream transport (`transports/stream.py`). Needs the extra `http`. Used
by `servers/http.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from ..address import Address
from ..transports.stream import MALFORMED, QUEUE_FULL, RECEIVED, STALE, Listener

MAX_HEAD = 64 * 1024
"""Bytes of request line and headers; more is answered 431."""

WORD = "toolips_udp.word"
"""Key in a scope: why its connection was cut."""

ABORT = "toolips_udp.abort"
"""Key in a scope's state: cuts the connection at once, which ASGI has no word for."""

TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class _Quiet:
    """uvicorn's logger, in which what a stranger can cause is no warning but info."""

    def __init__(self) -> None:
        self._logger = logging.getLogger("uvicorn.error")
        self.info, self.error, self.exception = self._logger.info, self._logger.error, self._logger.exception
        self.debug = self.log = self._nothing

    level = logging.WARNING

    def warning(self, text: str, *args: Any) -> None:
        self._logger.info(text, *args)

    def isEnabledFor(self, level: int) -> bool:
        return level >= logging.INFO and self._logger.isEnabledFor(level)

    def _nothing(self, *args: Any, **options: Any) -> None:
        return


class HttpStream(HttpToolsProtocol):
    """One HTTP connection: uvicorn's protocol, as the listener wants a client to be."""

    def __init__(self, listener: Listener, address: Address, site: Uvicorn) -> None:
        super().__init__(site.config, site.server_state, site.lifespan.state, listener.loop)
        self.logger = _Quiet()  # type: ignore[assignment]
        self.access_log = False
        self.address = address
        self.task: asyncio.Task[None] | None = None
        self.lost = False
        self.settled = False
        self.idle_for = 0.0
        self._listener = listener
        self._head = 0  # bytes of a head that is not complete
        self._in_head = False
        self._asked = False  # a request was complete enough to be counted
        self._partial = 0.0
        self.app_state = {ABORT: self.abort}
        self._over: asyncio.Future[None] = listener.loop.create_future()
        self._socket: SocketStream | None = None

    async def until_over(self) -> None:
        """What the listener's task for this client waits for."""
        await self._over

    # -- the listener's side -----------------------------------------------

    def settle(self, word: int) -> None:
        """Requests are counted where they are answered; a connection is not."""
        if not self.settled:
            self.settled = True
            self._listener.in_flight -= 1

    def finish(self) -> None:
        """The listener's task has ended."""
        self.task = None
        if not self.lost and self.transport is not None:
            self.transport.close()

    def waits_idle(self) -> bool:
        """Whether this client is between two requests."""
        return self._socket is None and not self._in_head and not self._busy

    def end_input(self) -> None:
        """The server drains: close between two requests, else after the answer."""
        if self.transport is not None and self._socket is None:
            self.shutdown()

    def drop(self, word: int) -> None:
        """Cut the connection now. A request that is being answered counts under `word` there, else here."""
        if self.settled:
            return
        if self._busy:
            self.cycle.scope[WORD] = word  # type: ignore[literal-required]
        elif self._in_head or not self._asked:
            self._count(word)
        self.settle(word)
        if self.transport is not None:
            self.transport.abort()

    def tick(self, seconds: float) -> None:
        """Called by the sweep: deadlines of the head, the body, the answer and the silence between."""
        limits = self._listener.limits
        if self._socket is not None or self.lost or self.transport is None:
            return
        self.idle_for += seconds
        if self._in_head or (self._busy and self.cycle.more_body):
            self._partial += seconds
            if self._partial > limits.message_timeout:
                self.drop(STALE)
        elif self._busy:
            if self.flow.write_paused and self.idle_for > limits.idle_timeout:
                self.drop(QUEUE_FULL)
        elif self.idle_for > limits.idle_timeout:
            self.drop(STALE)

    def abort(self) -> None:
        """Cut the connection, whatever it is by now."""
        if self.transport is not None:
            self.transport.abort()

    @property
    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _count(self, word: int) -> None:
        self._listener.counters[RECEIVED] += 1
        self._listener.counters[word] += 1

    # -- callbacks of transport and parser ------------------------------------

    def data_received(self, data: bytes) -> None:
        """From the loop: parse, and bound what is not yet a request."""
        self.idle_for = 0.0
        super().data_received(data)
        if self._in_head:
            self._head += len(data)
            if self._head > MAX_HEAD and not self.transport.is_closing():
                self._count(MALFORMED)
                self._asked, self._in_head = True, False
                self.transport.write(TOO_LARGE)
                self.transport.close()

    def on_message_begin(self) -> None:
        """From the parser: the first byte of a request."""
        super().on_message_begin()
        self._head, self._in_head, self._partial = 0, True, 0.0

    def on_headers_complete(self) -> None:
        """From the parser: the head is complete."""
        self._in_head, self._asked = False, True
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """From the parser: this is no HTTP."""
        if not self._busy:
            self._count(MALFORMED)
        else:
            self.cycle.scope[WORD] = MALFORMED  # type: ignore[literal-required]
        self._asked, self._in_head = True, False
        super().send_400_response(msg)

    def resume_writing(self) -> None:
        """From the transport: the client has caught up."""
        self.idle_for = 0.0
        super().resume_writing()

    def handle_websocket_upgrade(self) -> None:
        """From the parser: the connection is a WebSocket from now on."""
        self._in_head, self._asked = False, True
        super().handle_websocket_upgrade()
        protocol = self.transport.get_protocol()
        if isinstance(protocol, SocketStream):
            self._socket = protocol
            protocol.stream = self

    def connection_lost(self, exc: BaseException | None) -> None:
        """From the loop: the socket is closed."""
        super().connection_lost(exc)  # type: ignore[arg-type]
        self.over()

    def over(self) -> None:
        """The socket is closed, here or under the WebSocket."""
        if self._in_head and not self.settled:
            self._count(MALFORMED)  # left in the middle of a head
        self.lost = True
        self.app_state = {}
        if not self._over.done():
            self._over.set_result(None)
        self._listener.gone(self)


class SocketStream(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, which tells the connection it came from when it is over."""

    stream: HttpStream | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.logger = self.conn.logger = _Quiet()  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        """From the loop: the socket is closed."""
        super().connection_lost(exc)
        if self.stream is not None:
            self.stream.over()


class _Closer:
    """A listener, as uvicorn wants its servers to be."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def close(self) -> None:
        self._listener.detach()

    async def wait_closed(self) -> None:
        return


class Uvicorn(uvicorn.Server):
    """uvicorn's server without its sockets and signals: those are ours."""

    lifespan: Any

    def __init__(self, app: Any, listener: Listener, proxies: list[str]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                lifespan="off",
                server_header=False,
                http=HttpStream,
                ws=SocketStream,
                ws_max_size=64 * 1024,
                ws_per_message_deflate=False,
                proxy_headers=bool(proxies),
                forwarded_allow_ips=proxies or None,
                timeout_keep_alive=int(max(1, min(5, listener.limits.idle_timeout))),
            )
        )
        self._listener = listener
        self.ready = asyncio.Event()
        library = logging.getLogger("uvicorn")
        if library.level == logging.NOTSET:
            library.setLevel(logging.WARNING)  # its life is ours to tell; whoever set a level keeps it

    async def startup(self, sockets: Any = None) -> None:
        """Instead of making sockets: let the listener accept."""
        self._listener.attach(asyncio.get_running_loop())
        self.servers = [_Closer(self._listener)]  # type: ignore[list-item]
        self.started = True
        self.ready.set()

    def stop(self, seconds: float) -> None:
        """Take nothing new and end what is in flight, within `seconds`."""
        self.config.timeout_graceful_shutdown = max(1, round(seconds))
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the server, not to a mode."""
        yield
