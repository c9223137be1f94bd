"""HTTP mode: the module's routes on Starlette and uvicorn, on the server's own loop.

`site.py` is the ASGI callable, `http_stream.py` uvicorn on our listener. Needs the
extra `http`. Above pipeline and transports; called by `base.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..address import Address
from ..errors import missing_extra
from ..modes import HTTP
from ..runners.threads import Pool
from ..transports.stream import HANDLED, Listener
from .listening import THREADS, StreamMode, stream_limits
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


class HTTPMode(StreamMode):
    """One listening socket of a server. See `ModeServer` for what is called when."""

    mode = HTTP

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.site: Site | None = None
        self._uvicorn: Uvicorn | None = None
        self._serving: asyncio.Task[None] | None = None
        self._pool: Pool | None = None
        self._in_threads = 0

    async def open(self) -> None:
        """Fold pipeline and routes, and accept from now on."""
        server, settings = self.server, self.server.settings
        assert self.sock is not None
        pipeline, choosing = self._folded()
        limits = stream_limits(settings, max_connections=MAX_CLIENTS)
        self.site = Site(
            pipeline,
            server.manifest.routes,
            choosing,
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
        pipeline, choosing = self._folded()
        self.site.fold(pipeline, self.server.manifest.routes, choosing)

    def _connect(self, listener: Listener, address: Address) -> HttpStream:
        assert self._uvicorn is not None
        return HttpStream(listener, address, self._uvicorn)

    async def _serve(self, c: Any) -> int:
        await c.until_over()
        return HANDLED

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
        super().close()

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
