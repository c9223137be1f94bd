"""Sends attempts over real sockets: a pool of random UDP ports, kept TCP and TLS streams, HTTPS (F5, F8, F9).

One `Sockets` per service and loop. Imports exchange, upstream and resumption; HTTPS needs the
extra `doh` (h2).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
from collections.abc import Callable
from typing import Any

from . import pins
from .exchange import Attempt
from .resumption import Contexts, Resuming
from .upstream import Upstream

PORTS_PER_UPSTREAM = 8
QUESTIONS_PER_PORT = 128
PORT_AGE = 10.0
LOWEST_PORT, HIGHEST_PORT = 1024, 65535
DENIED_PORTS = frozenset((1900, 5353, 5355, 11211))
STREAMS_PER_UPSTREAM = 4
QUESTIONS_PER_STREAM = 50
STREAM_IDLE = 10.0

Report = Callable[[bytes], Any]
Lost = Callable[[str], Any]


class Port:
    """One UDP socket, connected to one upstream from a random port."""

    def __init__(self, loop: asyncio.AbstractEventLoop, upstream: Upstream, rng: random.Random) -> None:
        self.loop = loop
        self.waiting: dict[int, tuple[Report, Lost]] = {}
        self.past: set[int] = set()  # ids whose late replies are no forgeries
        self.used = 0
        self.born = loop.time()
        address = upstream.address
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        for _ in range(16):
            port = rng.randint(LOWEST_PORT, HIGHEST_PORT)
            if port in DENIED_PORTS:
                continue
            with contextlib.suppress(OSError):
                self.sock.bind(("", port))
                break
        self.sock.connect((address.host, address.port))
        loop.add_reader(self.sock.fileno(), self._readable)

    @property
    def spent(self) -> bool:
        return self.used >= QUESTIONS_PER_PORT or self.loop.time() - self.born > PORT_AGE

    def send(self, attempt: Attempt, report: Report, lost: Lost) -> Callable[[], None]:
        self.used += 1
        number = attempt.id
        self.past.add(number)
        self.waiting[number] = (report, lost)
        try:
            self.sock.send(attempt.packet)
        except OSError as error:
            cause = error.strerror or "send failed"
            self.loop.call_soon(self._lose, number, cause)
        return lambda: self._done(number)

    def _lose(self, number: int, cause: str) -> None:
        found = self.waiting.get(number)
        if found:
            found[1](cause)

    def _done(self, number: int) -> None:
        self.waiting.pop(number, None)
        if self.spent and not self.waiting:
            self.close()

    def _readable(self) -> None:
        for _ in range(64):
            try:
                data = self.sock.recv(65535)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:  # an ICMP error: the port is closed, the host unreachable
                for _, lost in list(self.waiting.values()):
                    lost(error.strerror or "unreachable")
                return
            self._deliver(data)
            if self.sock.fileno() < 0:
                return

    def _deliver(self, data: bytes) -> None:
        """To the question with this id; one with an unknown id is a mismatch for all who wait here."""
        number = int.from_bytes(data[:2], "big")
        found = self.waiting.get(number)
        if found:
            found[0](data)
        elif number not in self.past:
            for report, _ in list(self.waiting.values()):
                report(data)

    def close(self) -> None:
        if self.sock.fileno() >= 0:
            self.loop.remove_reader(self.sock.fileno())
            self.sock.close()


class Stream:
    """One TCP or TLS connection to an upstream, many questions at a time, replies in any order."""

    def __init__(self, upstream: Upstream, tls: Resuming | None) -> None:
        self.upstream = upstream
        self.tls = tls
        self.answered = False
        self.waiting: dict[int, tuple[Report, Lost]] = {}
        self.closed = False
        self.writer: asyncio.StreamWriter | None = None
        self.queue: list[bytes] = []
        self.task = asyncio.ensure_future(self._run())

    def send(self, attempt: Attempt, report: Report, lost: Lost) -> Callable[[], None]:
        self.waiting[attempt.id] = (report, lost)
        framed = len(attempt.packet).to_bytes(2, "big") + attempt.packet
        if self.writer is not None:
            self.writer.write(framed)
        else:
            self.queue.append(framed)
        return lambda: self.waiting.pop(attempt.id, None) and None

    async def _run(self) -> None:
        cause = "connection closed"
        try:
            address = self.upstream.address
            name = self.upstream.name if self.tls else None
            reader, self.writer = await asyncio.open_connection(
                address.host, address.port, ssl=self.tls, server_hostname=name
            )
            if self.tls is not None:
                pins.check(self.writer, self.upstream.pin)
                self.upstream.shook_hands(self.writer)
            self.writer.writelines(self.queue)
            self.queue.clear()
            while True:
                async with asyncio.timeout(STREAM_IDLE):
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    data = await reader.readexactly(size)
                found = self.waiting.get(int.from_bytes(data[:2], "big"))
                if not self.answered:
                    self.answered = True
                    if self.tls is not None:
                        self.tls.learn(self.writer)
                if found:
                    found[0](data)
        except (OSError, EOFError, TimeoutError, ssl.SSLError) as error:
            cause = str(error) or type(error).__name__
        finally:
            self.closed = True
            if self.tls is not None and not self.answered:
                self.tls.forget()
            if self.writer is not None:
                self.writer.close()
            for _, lost in list(self.waiting.values()):
                lost(cause)


class Sockets:
    """The network of a service on its running loop."""

    def __init__(self, rng: random.Random | None = None, ca: str | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.rng: random.Random = rng or random.SystemRandom()
        self.ports: dict[int, list[Port]] = {}
        self.streams: dict[tuple[int, str], list[Stream]] = {}
        self.https: dict[int, Any] = {}
        self.contexts = Contexts(ca)

    def later(self, delay: float, fn: Callable[[], Any]) -> Callable[[], Any]:
        return self.loop.call_later(delay, fn).cancel

    def send(self, attempt: Attempt, report: Report, lost: Lost) -> Callable[[], Any]:
        if attempt.transport == "udp":
            return self._udp(attempt, report, lost)
        if attempt.transport == "https":
            from .doh import Client

            client = self.https.get(id(attempt.upstream))
            if client is None or client.closed:
                client = self.https[id(attempt.upstream)] = Client(
                    attempt.upstream, self.tls("h2", attempt.upstream)
                )
            close: Callable[[], Any] = client.send(attempt, report, lost)
            return close
        key = (id(attempt.upstream), attempt.transport)
        kept = self.streams.setdefault(key, [])
        kept[:] = [s for s in kept if not s.closed]
        free = [s for s in kept if len(s.waiting) < QUESTIONS_PER_STREAM and attempt.id not in s.waiting]
        if free and (len(kept) >= STREAMS_PER_UPSTREAM or not free[0].waiting):
            return free[0].send(attempt, report, lost)
        if len(kept) >= STREAMS_PER_UPSTREAM:
            self.loop.call_soon(lost, "every connection is busy")
            return lambda: None
        tls = self.tls("dot", attempt.upstream) if attempt.transport == "tls" else None
        kept.append(Stream(attempt.upstream, tls))
        return kept[-1].send(attempt, report, lost)

    def _udp(self, attempt: Attempt, report: Report, lost: Lost) -> Callable[[], Any]:
        ports = self.ports.setdefault(id(attempt.upstream), [])
        for port in [p for p in ports if p.spent]:
            ports.remove(port)
            if not port.waiting:
                port.close()
        if len(ports) < PORTS_PER_UPSTREAM:
            try:
                ports.append(Port(self.loop, attempt.upstream, self.rng))
            except OSError as error:
                self.loop.call_soon(lost, error.strerror or "no socket")
                return lambda: None
        free = [port for port in ports if attempt.id not in port.waiting] or ports
        return self.rng.choice(free).send(attempt, report, lost)

    def tls(self, alpn: str, upstream: Upstream) -> Resuming:
        """The context for the next connection to an upstream."""
        return self.contexts.get(upstream, alpn, self.loop.time())

    async def close(self) -> None:
        for ports in self.ports.values():
            for port in ports:
                port.close()
        tasks = [s.task for kept in self.streams.values() for s in kept]
        tasks += [client.task for client in self.https.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)
        self.ports.clear()
        self.streams.clear()
