"""`https://` addresses: hypercorn's HTTP/2 and HTTP/1.1 on our own listener (RFC 8484; spec T4, T6).

The listener accepts, counts, limits and encrypts, and reads a proxy's header, as for every other stream;
hypercorn parses and frames; `asgi` answers. Needs the extra `doh`. Imports asgi, listeners, resets.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from typing import TYPE_CHECKING, Any

from ..errors import missing_extra
from ..servers.tcp import TCPMode
from ..transports.stream import LIMITED, MALFORMED, STALE
from .asgi import asgi
from .listeners import Encrypted
from .resets import Resets

if TYPE_CHECKING:
    from .service import Service

log = logging.getLogger("toolips_udp.dns")

IDLE = 30.0
REQUEST = 30.0
"""Seconds for one question, until its answer is taken."""
LIMITS = {"max_connections": 300, "max_per_address": 8, "idle_timeout": IDLE}
MOST_STREAMS = 100
MOST_HEADERS = 16_384
LOOK = 0.02
ROOMS = ("config", "app_wrappers", "events", "asyncio.worker_context", "asyncio.task_group",
         "protocol.h2", "protocol.h11")  # fmt: skip


class DoH(Encrypted, TCPMode):
    """One `https://` address: a TCP mode whose connections speak HTTP."""

    protocols = ("h2", "http/1.1")

    def __init__(self, server: Any, service: Service, path: str) -> None:
        try:
            self.rooms = {name: importlib.import_module(f"hypercorn.{name}") for name in ROOMS}
        except ImportError:
            raise missing_extra("DNS over HTTPS", "doh") from None
        super().__init__(server, service)
        self.framing = None
        self.path = path
        config = self.config = self.rooms["config"].Config()
        config.h2_max_concurrent_streams = MOST_STREAMS
        config.h2_max_header_list_size = config.h11_max_incomplete_size = MOST_HEADERS
        config.include_server_header = False
        config.keep_alive_max_requests = 1 << 31  # a forwarder keeps its connection; the resets are counted
        config.accesslog = config.errorlog = None
        self.context = self.rooms["asyncio.worker_context"].WorkerContext(None)
        self.visits: set[Visit] = set()

    def _defaults(self) -> dict[str, Any]:
        return {**super()._defaults(), **LIMITS}

    def _fold(self) -> None:
        super()._fold()
        self._streams = [self._visit]
        self.app = self.rooms["app_wrappers"].ASGIWrapper(asgi(self.extension, path=self.path))

    async def _visit(self, c: Any) -> bool:
        """One connection, to its end."""
        visit, connections = Visit(self, c), self.extension.connections
        self.visits.add(visit)
        connections["https"] += 1
        try:
            await visit.run()
        finally:
            connections["https"] -= 1
            self.visits.discard(visit)
        return False

    async def drain(self, until: float) -> None:
        """Accept nothing new; who asks nothing is closed now, the others when they have their answers."""
        if self.listener is not None:
            loop = asyncio.get_running_loop()
            self.listener.detach()
            await self.context.terminated.set()
            for visit in list(self.visits):
                visit.end_if_idle()
            while self.visits and loop.time() < until:
                await asyncio.sleep(LOOK)
        await super().drain(until)


class Visit:
    """One connection: hypercorn's protocol between the bytes of `c` and the app."""

    def __init__(self, mode: DoH, c: Any) -> None:
        self.mode = mode
        self.c = c
        self.loop = asyncio.get_running_loop()
        self.is_h2 = c.tls.selected_alpn_protocol() == "h2"
        self.resets = Resets()
        self.writing = asyncio.Lock()
        self.protocol: Any = None
        self.patience: asyncio.TimerHandle | None = None
        """Runs while nothing is asked, whatever octets trickle in; None while something is."""

    async def run(self) -> None:
        """Until one side closes. What is no HTTP, or too many resets, cuts the connection."""
        rooms, mode, c = self.mode.rooms, self.mode, self.c
        kind = rooms["protocol.h2"].H2Protocol if self.is_h2 else rooms["protocol.h11"].H11Protocol
        try:
            async with rooms["asyncio.task_group"].TaskGroup(self.loop) as group:
                self.protocol = kind(
                    self._app, mode.config, mode.context, group, {}, True,
                    tuple(c.address), tuple(c.listener), self._send,
                )  # fmt: skip
                if (
                    self.is_h2
                ):  # its own limit holds only from the moment at which the client has confirmed it
                    self.protocol.connection.decoder.max_header_list_size = MOST_HEADERS
                await self.protocol.initiate()
                self._waits(True)
                while data := await c.read():
                    if self.is_h2 and self.resets.too_many(data, self.loop.time()):
                        c.drop(LIMITED)
                    else:
                        await self.protocol.handle(rooms["events"].RawData(data))
                await self.protocol.handle(rooms["events"].Closed())
        except Exception as error:  # whatever hypercorn makes of what a stranger sent
            log.debug("%s over https: %s", c.address, error)
            c.drop(MALFORMED)
        finally:
            self._waits(False)

    async def _app(self, *given: Any) -> None:
        """One request, until the client has its answer; one that does not take it holds the connection no longer."""
        try:
            async with asyncio.timeout(REQUEST):
                await self.mode.app(*given)  # of this moment: a reload in place brings another
        except TimeoutError:
            self.c.drop(STALE)

    async def _send(self, event: Any) -> None:
        """What hypercorn says."""
        kind = type(event).__name__
        if kind == "RawData":
            if self.is_h2 and self.resets.too_many(event.data, self.loop.time(), sent=True):
                self.c.drop(LIMITED)
            async with self.writing:
                self.c.write(event.data)
                await self.c.drain()
        elif kind == "Closed":
            self.c.close()
        elif kind == "Updated":
            self._waits(event.idle)
            if event.idle and self.mode.context.terminated.is_set():
                self.c.close()

    def _waits(self, idle: bool) -> None:
        if self.patience is not None:
            self.patience.cancel()
        self.patience = self.loop.call_later(IDLE, self.c.close) if idle else None

    def end_if_idle(self) -> None:
        """The server drains."""
        if self.patience is not None:
            if self.is_h2:
                self.protocol.connection.close_connection()
                self.c.write(self.protocol.connection.data_to_send())
            self.c.close()
