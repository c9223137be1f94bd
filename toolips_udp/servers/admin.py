"""The admin listener: /healthz, /readyz, /metrics and /counters over plain HTTP. Below base.py.

A few lines of asyncio rather than a web framework: it answers GET, closes each
connection, takes at most 8 KiB and 5 seconds of a request, and says nothing that
came from a packet. Meant for loopback or a unix socket (`unix:/run/x/admin`); there is no login.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import json
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..address import Address
from ..counters import AGE_BOUNDS, DROPS, WORDS, age_quantile
from ..errors import StartError
from ..modes import HTTP
from .lag import Lag

if TYPE_CHECKING:
    from .base import Server

MOST = 8192
PATIENCE = 5.0
UNIX = "unix:"
"""What an address begins with that is the path of a unix socket."""
CONNECTIONS = 64

Page = tuple[int, str, str]

_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}

_TRIES = 8
_TOLD = {
    "refused_calls": ("refused_calls_total", "counter", "System calls that hardened workers were refused."),
    "workers": ("workers", "gauge", "Worker processes that serve."),
    "restarts": ("restarts_total", "counter", "Workers that died and were replaced."),
    "generation": ("generation", "gauge", "How often the module was loaded: 1 and one for each reload."),
    "receive_buffer": (
        "receive_buffer_bytes",
        "gauge",
        "What the kernel has granted one UDP socket, the smallest.",
    ),
    "receive_buffer_asked": (
        "receive_buffer_asked_bytes",
        "gauge",
        "What was asked of it; Linux grants twice that.",
    ),
    "loop_lag": (
        "loop_lag_seconds",
        "gauge",
        "How late this process's loop was, at most, in the last minute.",
    ),
}
"""What `/counters` tells besides the words: its name, kind and help on `/metrics`."""


def healthz(server: Server) -> Page:
    """The process lives and its loop answers."""
    return 200, "text/plain", "ok\n"


def readyz(server: Server) -> Page:
    """It takes work. False from the first moment of a drain on, and while nearly all is refused for want of memory."""
    if server.takes_work:
        return 200, "text/plain", "ready\n"
    why = "memory is above 95 % of its limit" if server.ready else "it starts or stops"
    return 503, "text/plain", f"not ready: {why}\n"


def counters(server: Server) -> Page:
    """Both ledgers as JSON, and how the server is.

    `send_waiting` are messages queued and not yet sent, where they can be counted: not those of workers and of HTTP.
    `queue_age_p50` and `queue_age_p99`, in seconds, are there once the age drop was armed.
    """
    found: dict[str, Any] = _of_one_moment(server)
    ages = server.queue_ages
    for name, share in (("queue_age_p50", 0.5), ("queue_age_p99", 0.99)):
        if (age := age_quantile(ages, share)) is not None:
            found[name] = age
    found["addresses"] = {mode.name: str(address) for mode, address in server.addresses.items()}
    return 200, "application/json", json.dumps(found | _state(server)) + "\n"


def _of_one_moment(server: Server) -> dict[str, int]:
    """Both ledgers and what is under way, so that they close. On the loop's thread, where all else stands still."""
    found: dict[str, int] = {}
    for _ in range(_TRIES):  # the kernel alone goes on: it may drop between the words received and kernel
        before = server.counters["kernel"]
        found = dict(server.counters.items())
        if found["kernel"] == before:
            break
    if getattr(server, "group", None) is not None:
        # with workers, what is in flight is the rest: of the same reading
        found["in_flight"] = found["received"] - found["handled"] - sum(found[word] for word in DROPS)
        return found
    found["in_flight"] = server.in_flight
    if all(mode.mode is not HTTP for mode in server.modes):
        endpoints = [mode.endpoint for mode in server.modes if mode.endpoint is not None]
        found["send_waiting"] = sum(each.waiting + each.queued for each in endpoints)
    return found


def _state(server: Server) -> dict[str, int | float]:
    """What there is to tell besides the words; each has its line in `_TOLD`."""
    found: dict[str, int | float] = {}
    refused = getattr(server, "refused_calls", None)
    if refused is not None:
        found["refused_calls"] = sum(refused.values())
    group = getattr(server, "group", None)
    if group is not None:
        found |= {"workers": len(group.active), "restarts": group.restarts, "generation": group.generation}
    buffers = [mode.receive_buffer for mode in server.modes if mode.receive_buffer]
    if buffers:
        found |= {"receive_buffer": min(buffers), "receive_buffer_asked": server.settings.receive_buffer}
    if server.admin is not None:
        found["loop_lag"] = round(server.admin.lag.worst, 6)
    return found


def metrics(server: Server) -> Page:
    """Both ledgers as a Prometheus text page. The label set is fixed."""
    words = server.counters
    lines = [
        "# HELP toolips_udp_received_total Datagrams taken out of the socket, or dropped by the kernel for it.",
        "# TYPE toolips_udp_received_total counter",
        f"toolips_udp_received_total {words['received']}",
        "# HELP toolips_udp_handled_total Datagrams that were handled or answered.",
        "# TYPE toolips_udp_handled_total counter",
        f"toolips_udp_handled_total {words['handled']}",
        "# HELP toolips_udp_dropped_total Datagrams that no handler finished, by word.",
        "# TYPE toolips_udp_dropped_total counter",
        *(f'toolips_udp_dropped_total{{word="{word}"}} {words[word]}' for word in DROPS),
    ]
    for word in WORDS[15:]:
        lines += [f"# TYPE toolips_udp_{word}_total counter", f"toolips_udp_{word}_total {words[word]}"]
    lines += ["# TYPE toolips_udp_in_flight gauge", f"toolips_udp_in_flight {server.in_flight}"]
    lines += _ages(server.queue_ages)
    for key, value in _state(server).items():
        name, kind, told = _TOLD[key]
        shown = f"{value:.6f}" if isinstance(value, float) else value
        lines += [f"# HELP toolips_udp_{name} {told}", f"# TYPE toolips_udp_{name} {kind}"]
        lines += [f"toolips_udp_{name} {shown}"]
    lines += ["# TYPE toolips_udp_ready gauge", f"toolips_udp_ready {int(server.takes_work)}"]
    return 200, "text/plain; version=0.0.4", "\n".join(lines) + "\n"


def _ages(ages: Sequence[int]) -> list[str]:
    name, below = "toolips_udp_queue_age_seconds", list(itertools.accumulate(ages))
    bounds = [*map("{:.6f}".format, AGE_BOUNDS), "+Inf"]
    return [
        f"# HELP {name} How long datagrams had waited in the socket, while the age drop was armed.",
        f"# TYPE {name} histogram",
        *(f'{name}_bucket{{le="{le}"}} {count}' for le, count in zip(bounds, below, strict=True)),
        f"{name}_count {below[-1]}",
    ]


PAGES: dict[str, Callable[[Server], Page | Awaitable[Page]]] = {
    "/healthz": healthz,
    "/readyz": readyz,
    "/metrics": metrics,
    "/counters": counters,
}
"""Path to page. Houses add their own, plain or `async def`."""


class Admin:
    """The admin listener of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._listener: asyncio.Server | None = None
        self.lag = Lag()
        self._open: set[asyncio.Task[Any]] = set()
        self.address = Address("127.0.0.1", 0)
        self.path: Path | None = None

    async def open(self, address: Address) -> None:
        """Listen. Raises `BindError`."""
        try:
            self._listener = await asyncio.start_server(self._answer, address.host, address.port, limit=MOST)
        except OSError as error:
            from .holder import bind_error

            raise bind_error("the admin listener", address, error) from error
        self.address = Address.of(self._listener.sockets[0].getsockname())
        self.lag.begin(asyncio.get_running_loop())

    async def open_path(self, path: Path) -> None:
        """Listen on a unix socket, for this user alone. Raises `StartError`."""
        if path.is_socket():
            with socket.socket(socket.AF_UNIX) as other:
                if other.connect_ex(os.fspath(path)) != errno.ECONNREFUSED:
                    raise StartError(
                        f"the admin listener cannot be served on {path}: somebody else does. Fix: another path.",
                        code="port-in-use",
                    )
            path.unlink()  # of one that is gone
        try:
            before = os.umask(0o177)
            try:
                self._listener = await asyncio.start_unix_server(self._answer, path, limit=MOST)
            finally:
                os.umask(before)
        except OSError as error:
            raise StartError(
                f"the admin listener cannot be served on {path}: {error.strerror}. Fix: another path, in a folder "
                "of your own.",
                code="no-such-address",
            ) from error
        self.path = path
        self.lag.begin(asyncio.get_running_loop())

    async def close(self) -> None:
        """Stop listening and end what is open."""
        self.lag.end()
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        if self._listener is not None:
            self._listener.close()
            for task in self._open:
                task.cancel()
            if self._open:
                await asyncio.wait(self._open, timeout=1.0)
            await self._listener.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            if len(self._open) <= CONNECTIONS:
                async with asyncio.timeout(PATIENCE):
                    writer.write(await self._respond(reader))
                    await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.close()
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await writer.wait_closed()

    async def _respond(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return _page((400, "text/plain", "bad request\n"), True)
        parts = head.split(b"\r\n", 1)[0].split(b" ")
        if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
            return _page((400, "text/plain", "bad request\n"), True)
        if parts[0] not in (b"GET", b"HEAD"):
            return _page((405, "text/plain", "only GET\n"), True)
        page = PAGES.get(parts[1].split(b"?", 1)[0].decode("ascii", "replace"))
        if page is None:
            return _page((404, "text/plain", "\n".join(PAGES) + "\n"), parts[0] == b"GET")
        found = page(self._server)
        return _page(found if isinstance(found, tuple) else await found, parts[0] == b"GET")


def _page(page: Page, with_body: bool) -> bytes:
    status, kind, text = page
    body = text.encode()
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (body if with_body else b"")
