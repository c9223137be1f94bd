"""Service: the extension that answers DNS questions by asking its steps in order.

Zones, forwarders, lists and views are steps; functions under `@service.answers` are
asked before them. `answering` has the trip of one message; here are the settings, the
life and the reload of a service. Imports what is below it in this house and `Extension`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..errors import StartError, ToolipsError
from ..extensions.base import Extension
from ..handlers import UDPHandler
from . import edns, history
from .access import LOOPBACK, Prefixes
from .answering import Answering
from .fragments import believe_no_icmp
from .handlers import Handler, Handlers
from .listeners import Listeners, brought
from .question import Question
from .ratelimit import RateLimit
from .result import Result
from .steps import grouped
from .transfers import Transfers
from .zone import Zone

if TYPE_CHECKING:
    from ..servers.further import Listen
    from .dnstap import Dnstap
    from .metrics import Metrics
    from .querylog import QueryLog

log = logging.getLogger("toolips_udp.dns")
F = TypeVar("F", bound=Callable[..., Any])

STREAM_DEFAULTS = {"max_connections": 150, "max_per_address": 8}
"""Connections of all and of one client (IPv6: of a /64; loopback exempt), where `start` says nothing (spec 8)."""


class Service(Answering, Extension):
    """Answers DNS questions, on UDP and on TCP.

    `steps` are zones, forwarders, lists and views, asked in order until one
    answers; if none does, REFUSED. `id` is given to clients that ask for NSID or
    `id.server`. `access` maps `"query"` and `"recursion"` to address prefixes;
    by default anyone may query and only loopback may recurse. Others are REFUSED, or with
    `silent=True` not answered. `native=False` lets Python see every question. `listen` adds
    addresses beside those of `start`: `"127.0.0.2:53"` (UDP and TCP), `"tls://..."` and `"https://..."` with `tls`, the
    paths of a certificate and its key. `limit` bounds the replies to clients that may be forged,
    loopback exempt; `limit=None` turns it off. `any="all"` answers ANY with everything, over
    streams only; `minimal=False` adds addresses to MX and SRV; `ecs=True` reads client subnets
    (RFC 7871), which are ignored otherwise. `proxies` are the prefixes of load balancers: each message and
    connection from them must begin with a PROXYv2 header, and access, views, limits and cookies go by the
    client in it. From all others such a header is garbage.

    >>> service = Service(Zone.load("example.org.zone"), id="ns1")
    """

    if TYPE_CHECKING:
        answers: Decorator  # type: ignore[assignment]
    else:
        answers = True
        """The flag of an extension; in an instance, the decorator of `Decorator`."""

    def __init__(
        self,
        *steps: Any,
        listen: Iterable[str] = (),
        tls: tuple[str, str] | None = None,
        id: str | None = None,
        native: bool = True,
        access: Mapping[str, Iterable[str]] | None = None,
        timeout: float = 2.0,
        udp_size: int = edns.UDP_SIZE,
        limit: RateLimit | Literal[True] | None = True,
        transfers: Transfers | None = None,
        cookies: bool = True,
        cache_size: int = 8 << 20,
        secret: bytes | None = None,
        silent: bool = False,
        any: Literal["minimal", "all"] = "minimal",
        minimal: bool = True,
        ecs: bool = False,
        proxies: Iterable[str] = (),
    ) -> None:
        self.handlers = Handlers()
        self.proxies = Prefixes(proxies)
        self.stream_defaults: dict[str, Any] = {**STREAM_DEFAULTS, "proxies": self.proxies}
        self.answers = Decorator(self, timeout)
        self.steps: list[Any] = grouped(steps)
        self.listen = tuple(listen)
        self.tls = tls
        self.listeners: Listeners | None = None
        self.id = id
        self.native = native
        self.udp_size = min(max(udp_size, 512), 4096)
        wanted = dict(access or {})
        self.may_query = Prefixes(wanted.pop("query", ("any",)))
        self.may_recurse = Prefixes(wanted.pop("recursion", LOOPBACK))
        if wanted:
            raise StartError(f"access has {', '.join(wanted)}: expected query and recursion. "
                             "Transfers are allowed per zone.", code="bad-dns-setting")  # fmt: skip
        self.recursive = recurses(self.steps)
        self.cookies = _cookies(cookies, secret)
        self.server: Any = None
        self._network: Any = None
        self.handler = UDPHandler(self._serve)
        self.clock: Callable[[], float] = time.monotonic
        self.wall: Callable[[], float] = time.time
        self.limit = RateLimit() if limit is True else limit
        self.silent = silent
        self.whole_any = any_is_whole(any)
        self.minimal = minimal
        self.ecs = ecs
        self.query_log: QueryLog | None = None
        self.log_path: Path | None = None
        self.dnstap: Dnstap | None = None
        self.transfers = transfers
        self.cache_size = cache_size
        self.metrics: Metrics | None = None
        self.reloads = 0
        self.over_budget = 0  # questions that asked over 50 others
        self.reload_results = {"ok": 0, "failed": 0}
        self.connections: Counter[str] = Counter()
        self.watchers: list[Callable[[Question, Result], Any]] = []
        self.blocked: list[Callable[[Question, Any], Any]] = []
        self.half: Any = None

    # -- life

    def stages(self) -> list[Any]:
        """The native stage, which answers what needs no Python (spec 4.4)."""
        half = self._native_half()
        if half is None:
            return []
        self.handler.fn = half.dispatcher
        return [half.stage]

    def _native_half(self) -> Any:
        if self.half is None and self.native:
            try:
                from .native import NativeHalf, available
            except ImportError:
                return None
            self.half = NativeHalf(self) if available() else None
        return self.half

    def listens(self) -> list[Listen]:
        """The addresses beside those of `start`, for the server that opens their sockets."""
        return brought(self)

    async def on_start(self, server: Any) -> None:
        self.server = server
        if isinstance(self.cookies, edns.Rolling) and server is not None:
            self.cookies.adopt(server.secret, int(self.wall()))
        if self.dnstap is not None:
            self.dnstap.start()
        if self.transfers is not None:
            self.transfers.start(self)
        for step in self.steps:
            started = getattr(step, "start", None)
            if started is not None:
                await _settled(started(self))
        if self.listen:
            self.listeners = Listeners(self, server)
        believe_no_icmp(server)
        half = self._native_half()
        if half is not None:
            half.start()
        elif not self.native:
            log.info("native=False: Python is asked every question, none is answered by C")
        if self.transfers is not None:
            if server is None:
                self.transfers.relieve(True)
            else:
                server.duty.watch(self.transfers.relieve)

    async def on_stop(self, server: Any) -> None:
        if self.half is not None:
            self.half.stop()
        if self.transfers is not None:
            if server is not None:
                server.duty.unwatch(self.transfers.relieve)
            await self.transfers.stop()
        for step in reversed(self.steps):
            stop = getattr(step, "stop", None)
            if stop is not None:
                await _settled(stop())
        network, self._network = self._network, None
        if network is not None:
            await network.close()
        if self.dnstap is not None:
            await asyncio.get_running_loop().run_in_executor(None, self.dnstap.close)

    def export(self) -> Any:
        """The history of our zones, for the process that takes over."""
        return history.export(self, self.transfers) if self.transfers is not None else None

    def restore(self, state: Any) -> None:
        """What `export` gave in the process before."""
        if state and self.transfers is not None:
            history.restore(self, self.transfers, state)

    def on_blocked(self, fn: F) -> F:
        """`f(q, rule)` is called whenever a list blocks a question."""
        self.blocked.append(fn)
        return fn

    def reload(self) -> dict[str, str]:
        """Read zones, lists and certificates that changed. What is bad keeps its old state.

        May be called from any thread. Returns what was wrong, by name; nothing on
        success.
        """
        problems: dict[str, str] = {}
        before = self._deciding()
        for step in self.every_step():
            again = getattr(step, "reload", None)
            if again is None:
                continue
            try:
                report = again()
                problems |= getattr(report, "problems", {})
            except (OSError, ToolipsError) as wrong:
                problems[type(step).__name__] = str(wrong)
        if self.listeners is not None:
            try:
                self.listeners.reload_certificates()
            except (OSError, ToolipsError) as wrong:
                problems["certificates"] = str(wrong)
        if self.query_log is not None:
            self.query_log.reopen()
        self.reloads += 1
        self.reload_results["failed" if problems else "ok"] += 1
        if self.half is not None:
            self.half.refresh()
            if self._deciding() != before and self.server is not None and self.server.loop is not None:
                self.server.call_soon(self.half.flush)  # what it has went by others
        for name, text in problems.items():
            log.error("reload: %s keeps its old state: %s", name, text)
        return problems

    def _deciding(self) -> list[Any]:
        """What decides whether a question is for other servers at all: lists, local data, names of zones."""
        found: list[Any] = [zone.key for zone in self.zones()]
        for step in self.every_step():
            found += [id(one) for one in getattr(step, "lists", ())]
            found += [step.stamps] if hasattr(step, "stamps") else []
        return found

    def files(self) -> list[Path]:
        """What zones and lists were read from: a change of one of them wants a reload."""
        found = [path for zone in self.zones() for path in zone.files]
        for step in self.every_step():
            found += step.files() if hasattr(step, "files") and not isinstance(step, Zone) else []
        return found

    def log_to(self, log: QueryLog | None) -> None:
        """Write answers to this log from now on; on the server's loop. The one before is the caller's to close."""
        self.query_log = log
        if self.half is not None:
            self.half.refresh()

    def every_step(self) -> list[Any]:
        """All steps, those inside views included."""
        found: list[Any] = []
        waiting = list(self.steps)
        while waiting:
            step = waiting.pop(0)
            found.append(step)
            waiting += list(getattr(step, "steps", ()))
        return found

    def network(self) -> Any:
        """What sends questions to other servers; tests give another one."""
        from .sockets import Sockets

        if self._network is None:
            self._network = Sockets()
        return self._network

    def zones(self) -> list[Zone]:
        """Every zone of every step, views included."""
        found: list[Zone] = []
        for step in self.every_step():
            found += list(getattr(step, "zones", ()))
        return found


def recurses(steps: Iterable[Any]) -> bool:
    """Whether a step asks other servers."""
    return any(getattr(step, "recursive", False) for step in steps)


def any_is_whole(wanted: str) -> bool:
    """The setting `any`: whether ANY is answered with everything (RFC 8482 asks for less)."""
    if wanted not in ("minimal", "all"):
        raise StartError(f'any is {wanted!r}: expected "minimal" or "all".', code="bad-dns-setting")
    return wanted == "all"


def _cookies(wanted: bool, secret: bytes | None) -> edns.Cookies | None:
    """A secret that is given stays, for servers that share an address; else it rolls."""
    if not wanted:
        return None
    return edns.Cookies(secret) if secret else edns.Rolling(os.urandom(32), int(time.time()))


class Decorator:
    """`service.answers`: true as the flag of an extension, callable as a decorator."""

    def __init__(self, service: Service, timeout: float) -> None:
        self.service = service
        self.timeout = timeout

    def __bool__(self) -> bool:
        return True

    def __call__(
        self,
        pattern: str,
        *types: str | int,
        timeout: float | None = None,
        at_most: int = 1000,
        threaded: bool = False,
    ) -> Callable[[F], F]:
        """Let a function answer a name (or, with `*.`, all names below one) for some types.

        `timeout` in seconds and `at_most` in flight bound async and threaded
        functions; past them the client gets SERVFAIL.

        >>> @service.answers("time.example.test", "TXT")
        ... def now(q):
        ...     return dns.TXT(time.ctime(), ttl=0)
        """

        def add(fn: F) -> F:
            limit = self.timeout if timeout is None else timeout
            self.service.handlers.add(Handler(fn, pattern, types or ("*",), limit, at_most, threaded))
            return fn

        return add


async def _settled(value: Any) -> None:
    if inspect.isawaitable(value):
        await value
