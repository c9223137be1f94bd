"""HTTP mode: the module's routes on Starlette and uvicorn, on the server's own loop.

`site.py` is the ASGI callable, `http_stream.py` uvicorn on our listener. Needs the
extra `http`. Above pipeline and transports; called by `base.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from array import array
from collections.abc import Callable, Mapping, MutableSequence
from typing import TYPE_CHECKING, Any

from ..address import Address
from ..counters import SIZE, WORDS
from ..errors import missing_extra
from ..modes import HTTP
from ..pipeline import Pipeline
from ..runners.threads import Pool
from ..transports.stream import HANDLED, Listener
from .base import ModeServer
from .choosing import Choosing
from .tcp import THREADS, listening_socket, stream_limits, tls_context
from .visitors import Visitors

try:
    from .http_stream import HttpStream, Uvicorn
    from .site import QueueFull, Site
except ImportError as error:
    raise missing_extra("HTTP mode", "http") from error

if TYPE_CHECKING:
    from .base import Server

MAX_CLIENTS = 300
MAX_WAITING = 1024
"""Requests that may wait for a thread; one more is answered 503 and counted `queue_full`."""


class HTTPMode(ModeServer):
    """One listening socket of a server. See `ModeServer` for what is called when."""

    mode = HTTP

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.sock: socket.socket | None = None
        self.site: Site | None = None
        self.listener: Listener | None = None
        self._totals: MutableSequence[int] = array("Q", bytes(8 * SIZE))
        self._tls = tls_context(server.settings.tls)
        self._uvicorn: Uvicorn | None = None
        self._serving: asyncio.Task[None] | None = None
        self._pool: Pool | None = None
        self._in_threads = 0

    def bind(self, address: Address) -> None:
        """Make and bind the socket, and listen."""
        self.adopt(listening_socket(address))

    def adopt(self, sock: socket.socket) -> None:
        """Serve a listening socket that was made elsewhere."""
        self.sock = sock
        self.address = Address.of(sock.getsockname())

    async def open(self) -> None:
        """Fold pipeline and routes, and accept from now on."""
        server, settings = self.server, self.server.settings
        assert self.sock is not None
        pipeline = Pipeline(server.manifest, server)
        pipeline.on_error, pipeline.on_drop = settings.on_error, settings.on_drop
        limits = stream_limits(settings, max_connections=MAX_CLIENTS)
        self.site = Site(
            pipeline,
            server.manifest.routes,
            Choosing(pipeline.main, pipeline.handlers, pipeline.chooser),
            Visitors(
                settings.session_timeout,
                settings.max_sessions,
                time.monotonic,
                f"toolips_udp_{self.address.port}",
            ),
            self._in_thread,
            self._totals,
            max_body=settings.max_body,
            max_unsent=limits.max_unsent,
            origins=tuple(settings.origins),
        )
        self.listener = Listener(
            self.sock,
            self._connect,
            self._serve,
            limits=limits,
            counters=self._totals,
            tls=self._tls,
            owner=self,
            counts_connections=False,
        )
        self._uvicorn = Uvicorn(self.site, self.listener, list(settings.proxies))
        self._serving = asyncio.get_running_loop().create_task(self._uvicorn.serve())
        await self._uvicorn.ready.wait()

    def swap(self) -> None:
        """Answer by the server's new manifest from the next request on."""
        assert self.site is not None
        server, settings = self.server, self.server.settings
        pipeline = Pipeline(server.manifest, server)
        pipeline.on_error, pipeline.on_drop = settings.on_error, settings.on_drop
        choosing = Choosing(pipeline.main, pipeline.handlers, pipeline.chooser)
        self.site.fold(pipeline, server.manifest.routes, choosing)

    def _connect(self, listener: Listener, address: Address) -> HttpStream:
        assert self._uvicorn is not None
        return HttpStream(listener, address, self._uvicorn)

    async def _serve(self, c: Any) -> int:
        await c.until_over()
        return HANDLED

    def count_in(self, counters: MutableSequence[int]) -> None:
        """Count in these from now on: memory that a supervisor reads."""
        self._totals = counters

    def halt(self) -> None:
        """Accept nothing more: another process does. Connections that are open go on until `drain`."""
        if self.listener is not None:
            self.listener.detach()

    async def drain(self, until: float) -> None:
        """Accept nothing new, answer what was asked; WebSockets are closed with "going away"."""
        if self._uvicorn is None or self._serving is None or self.listener is None:
            return
        left = max(0.0, until - asyncio.get_running_loop().time())
        self._uvicorn.stop(left)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._serving, left + 1.0)
        await self.listener.drain(0.1)

    def close(self) -> None:
        """Let go of the connections and the socket. The counters stay."""
        if self._serving is not None:
            self._serving.cancel()
        if self.listener is not None:
            self.listener.close()
        elif self.sock is not None:
            self.sock.close()

    @property
    def counters(self) -> Mapping[str, int]:
        """What the site counted; its unit is a request."""
        return dict(zip(WORDS, self._totals, strict=False))

    @property
    def in_flight(self) -> int:
        """Requests and WebSockets that are being answered."""
        return 0 if self.site is None else self.site.in_flight

    async def _in_thread(self, fn: Callable[[Any], Any], c: Any) -> Any:
        """Run a blocking route in the pool. Raises `QueueFull` when too many wait."""
        if self._pool is None:
            size = max(1, (self.server.threads or THREADS + 1) - 1)
            pool = self._pool = Pool(size, f"toolips_udp {self.server.manifest.name} http")
            self.server.at_stop(lambda: pool.close(0.5))
        if self._in_threads >= MAX_WAITING:
            raise QueueFull
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        self._in_threads += 1

        def end(result: Any, error: BaseException | None) -> None:
            self._in_threads -= 1
            if done.done():
                return
            if error is None:
                done.set_result(result)
            elif isinstance(error, StopIteration):
                done.set_exception(RuntimeError("the route raised StopIteration"))
            else:
                done.set_exception(error)

        def run(worker: int) -> None:
            result, failure = None, None
            try:
                result = fn(c)
            except BaseException as error:
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop has ended; the request is counted `stopping`
                loop.call_soon_threadsafe(end, result, failure)

        self._pool.submit(run)
        return await done
