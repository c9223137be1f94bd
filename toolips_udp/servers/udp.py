"""UDP mode: a socket, its endpoint and its pipeline. Above transports and pipeline; called by base.py."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import transports
from ..address import Address
from ..errors import StartError
from ..modes import UDP
from ..pipeline import Pipeline
from ..runners.schedule import read as read_schedule
from ..runners.tasks import Stepper
from ..runners.threads import ThreadRunner
from .base import ModeServer

if TYPE_CHECKING:
    from .base import Server

SMALLEST_CHARGE = 832
"""Bytes that Linux charges a receive buffer for the smallest datagram."""
TIDY = 1.0
"""Seconds between two looks for silent clients."""


class UDPMode(ModeServer):
    """One socket of a server. See `ModeServer` for what is called when."""

    mode = UDP

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.sock: socket.socket | None = None
        self.endpoint: Any = None
        self.pipeline: Pipeline | None = None
        self.receive_buffer = 0
        self.endpoint_options: dict[str, Any] = {}
        """More arguments for the endpoint: memory that a supervisor shares."""
        self._transport: Any = None
        self._threads: ThreadRunner | None = None
        self._stepper: Stepper | None = None
        self._tidy: Any = None
        self._final: dict[str, int] | None = None
        self._final_ages: Sequence[int] = ()
        self._unfinished: list[str] = []
        self._draining = False
        self._halted = False

    def bind(self, address: Address) -> None:
        """Make and bind the socket; nobody else may share it."""
        self._check_threads()
        self._choose_transport()
        if self.detail == "memory":
            self.adopt(self._transport.bind(address))
            return
        sock = socket.socket(address.family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            if address.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address.host == "::" else 1)
            if sys.platform == "win32":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.server.settings.receive_buffer)
            sock.bind(address.sockaddr())
            self.take(sock)
        except BaseException:
            sock.close()
            raise

    def take(self, sock: socket.socket) -> None:
        """Serve a socket that is bound, and nothing more."""
        for group in [] if self.name else self.server.settings.multicast:
            join(sock, group)
        self.adopt(sock)

    def adopt(self, sock: socket.socket) -> None:
        """Serve a socket that was made elsewhere: inherited, from systemd, or from a supervisor."""
        self._check_threads()
        self._choose_transport()
        self.sock = sock
        self.address = Address.of(sock.getsockname())
        self.receive_buffer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        asked = self.server.settings.receive_buffer
        if (
            self.receive_buffer < asked and self.detail != "memory"
        ):  # made by somebody who did not ask for as much
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, asked)
            self.receive_buffer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    def _choose_transport(self) -> None:
        self._transport = transports.choose(self.server.settings.transport)
        self.detail = self._transport.__name__.rpartition(".")[2]

    def _check_threads(self) -> None:
        read_schedule(self.server.settings.router_threads, self.server.threads)
        manifest = self.server.manifest
        threaded = [
            h for h in [manifest.main, *manifest.handlers.values()] if h is not None and h.kind == "threaded"
        ]
        if threaded and self.server.threads == 1:
            raise StartError(
                f"handler {manifest.called(threaded[0])} ({threaded[0].place}) is threaded, but threads=1 leaves no "
                "worker for it. Fix: threads=2 or more, or leave threads out",
                code="no-threads",
            )

    async def open(self) -> None:
        """Fold the pipeline and read from now on."""
        server, settings = self.server, self.server.settings
        assert self.sock is not None
        loop = asyncio.get_running_loop()
        pipeline = self._fold(loop)
        limits: dict[str, Any] = {"slot_room": settings.slot}
        if self.detail != "portable":
            limits["age_limit"] = settings.age_limit
            limits["gro"] = settings.gro
        self.endpoint = pipeline.endpoint = self._transport.Endpoint(
            self.sock,
            pipeline,
            server=server,
            session_timeout=settings.session_timeout,
            max_sessions=settings.max_sessions,
            max_async=settings.max_async,
            **limits,
            **self.endpoint_options,
        )
        self.endpoint.attach(loop)
        self._tidy = loop.call_later(TIDY, self._tidy_up, loop)
        self._warn_of_small_buffer()

    def _fold(self, loop: asyncio.AbstractEventLoop) -> Pipeline:
        """The pipeline of the server's manifest, with what its handlers need."""
        server, settings = self.server, self.server.settings
        pipeline = self.pipeline = Pipeline(server.manifest, server, with_stages=self.detail != "portable")
        pipeline.on_error, pipeline.on_drop = settings.on_error, settings.on_drop
        pipeline.connection_class = self._transport.connection_class
        if self.detail != "portable":
            pipeline.stages = [*server.first_stages, *pipeline.stages]
        kinds = {h.kind for h in pipeline.calls}
        if "async" in kinds or any(extension.chooses for extension in server.extensions):
            self._stepper = pipeline.stepper = self._stepper or Stepper(loop, settings.max_async)
        if server.pool is not None:
            schedule = read_schedule(settings.router_threads, server.threads)
            pipeline.pick = schedule.pick if schedule is not None and "inline" in kinds else None
            if self._threads is None:
                self._threads = ThreadRunner(
                    pipeline, loop, server.pool, most=settings.max_jobs, ordered=settings.ordered
                )
            self._threads.pipeline, self._threads.schedule = pipeline, schedule
            pipeline.threads = self._threads
        return pipeline

    def swap(self) -> None:
        """Serve the server's new manifest from the next packet on; what is in flight ends as it began."""
        pipeline = self._fold(asyncio.get_running_loop())
        pipeline.endpoint = self.endpoint
        self.endpoint.swap(pipeline)

    def _tidy_up(self, loop: asyncio.AbstractEventLoop) -> None:
        self.endpoint.tidy()
        self._tidy = loop.call_later(TIDY, self._tidy_up, loop)

    def _warn_of_small_buffer(self) -> None:
        asked = self.server.settings.receive_buffer
        if sys.platform == "linux" and self.receive_buffer < asked:
            self.server.journal.event(
                "receive_buffer",
                logging.INFO,
                f"the kernel gives this socket {self.receive_buffer} bytes of receive buffer, {asked} were asked for; "
                f"bursts of over {self.receive_buffer // SMALLEST_CHARGE} small datagrams are lost. "
                f"Fix: sudo sysctl -w net.core.rmem_max={asked}",
            )

    async def drain(self, until: float) -> None:
        """Take what was queued when the stop came, and let the handlers in flight end."""
        endpoint, loop = self.endpoint, asyncio.get_running_loop()
        if endpoint is None:
            return
        self._draining = True
        left = 0 if self._halted else endpoint.refresh() // SMALLEST_CHARGE + 1
        while left > 0 and loop.time() < until:
            before = endpoint.counters["received"] - endpoint.counters["kernel"]
            endpoint.turn()
            took = endpoint.counters["received"] - endpoint.counters["kernel"] - before
            if took <= 0:
                break
            left -= took
            await asyncio.sleep(0)  # others may run: tasks that end, effects of threads
        endpoint.detach()
        while endpoint.in_flight > 0 and loop.time() < until:
            await asyncio.sleep(0.002)
        if endpoint.in_flight > 0:
            self._unfinished = self._name_unfinished()
            if self._threads is not None:
                self._threads.abandon()
            if self._stepper is not None:
                self._stepper.abandon()
        if self._threads is not None:
            self._threads.close()
        endpoint.flush()
        if self._stepper is not None:
            await self._stepper.close()

    def press(self, level: int) -> None:
        """Refuse strangers, or all that would reach Python."""
        if self.endpoint is not None:
            self.endpoint.press(level)

    def halt(self) -> None:
        """Read nothing more; handlers in flight end, and answer, in `drain`."""
        self._halted = True
        if self.endpoint is not None:
            self.endpoint.detach()

    def _name_unfinished(self) -> list[str]:
        found = [] if self._threads is None else self._threads.running
        if self._stepper is not None and self.pipeline is not None:
            found += [
                self.pipeline.names[h]
                for h in self.pipeline.calls
                if h.kind == "async" and self._stepper.waiting
            ]
        return found

    def close(self) -> None:
        """Let go of the endpoint and the socket. The counters stay."""
        if self._tidy is not None:
            self._tidy.cancel()
        if self.endpoint is not None and self._final is None:
            self.endpoint.close()
            self._final = dict(self.endpoint.counters)
            self._final_ages = self._ages()
        if self._stepper is not None:
            self._stepper.cancel()
        if self.sock is not None:
            self.sock.close()

    @property
    def counters(self) -> Mapping[str, int]:
        """What the endpoint counted; after the stop, its last numbers."""
        if self._final is not None:
            return self._final
        return {} if self.endpoint is None else self.endpoint.counters

    @property
    def queue_ages(self) -> Sequence[int]:
        """Of the native endpoint, which has an age drop."""
        return self._ages() if self._final is None else self._final_ages

    def _ages(self) -> Sequence[int]:
        return getattr(self.endpoint, "queue_ages", ())

    @property
    def in_flight(self) -> int:
        """Packets whose handler has not ended."""
        return 0 if self.endpoint is None else self.endpoint.in_flight

    @property
    def unfinished(self) -> list[str]:
        """The handlers that had not ended when the drain time was over."""
        return self._unfinished

    @property
    def running_handler(self) -> Any:
        """The handler that runs right now, or None."""
        return None if self.endpoint is None else self.endpoint.running_handler


def join(sock: socket.socket, group: str) -> None:
    """Join a multicast group: `"239.1.2.3"`, or `"239.1.2.3@eth0"` (or an interface's address). Raises `StartError`."""
    host, _, interface = group.partition("@")
    try:
        address = Address(host)
        index = 0 if not interface else _interface(interface)
    except (ValueError, OSError) as error:
        raise StartError(
            f"multicast group {group!r}: {error}. Expected for example '239.1.2.3@eth0'",
            code="bad-multicast",
        ) from None
    if ":" in address.host:
        if sock.family != socket.AF_INET6:
            raise StartError(
                f"multicast group {group!r} is IPv6, but the socket is IPv4. Fix: listen on [::]",
                code="bad-multicast",
            )
        where = struct.pack("=16sI", socket.inet_pton(socket.AF_INET6, address.host), index)
        _join(sock, socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, where, group)
        return
    packed = socket.inet_pton(socket.AF_INET, address.host)
    if interface and _is_ip(interface):
        where = packed + socket.inet_pton(socket.AF_INET, interface)
    else:
        where = struct.pack("=4s4si", packed, bytes(4), index)  # ip_mreqn
    _join(sock, socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, where, group)


def _join(sock: socket.socket, level: int, option: int, where: bytes, group: str) -> None:
    try:
        sock.setsockopt(level, option, where)
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "")
        raise StartError(
            f"multicast group {group!r} cannot be joined: {error.strerror} ({name}). "
            "Fix: a multicast address, and an interface that is up",
            code="bad-multicast",
        ) from None


def _interface(name: str) -> int:
    return 0 if _is_ip(name) else int(name) if name.isdigit() else socket.if_nametoindex(name)


def _is_ip(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET, text)
    except OSError:
        return False
    return True
