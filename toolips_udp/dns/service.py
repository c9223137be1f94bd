"""Service: the extension that answers DNS questions by asking its steps in order.

A step has `ask(q)`, which returns a `Result`, None to pass, or an awaitable of
these. Zones, forwarders, lists and views are steps; functions under
`@service.answers` are asked before them. `reply` is the whole trip of one
message, the same for UDP, TCP, TLS, HTTPS and tests. Imports what is below it
in this house and `Extension`.
"""

from __future__ import annotations

import inspect
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..errors import StartError, ToolipsError
from ..extensions.base import Extension
from ..handlers import UDPHandler
from ..typed import Malformed
from . import edns, lookup, names, rrtypes, streams
from .access import LOOPBACK, Prefixes
from .handlers import Handler, HandlerFailed, Handlers, made_up_soa, no_data, to_result
from .listeners import Listeners
from .lookup import Zones
from .query import Query, parse_query
from .question import Question, derived
from .ratelimit import RateLimit
from .reply import encode_error, encode_reply, limit_of
from .result import Result, error
from .transfers import Transfers
from .tsig import Keys, Session
from .zone import RRset, Zone

log = logging.getLogger("toolips_udp.dns")
F = TypeVar("F", bound=Callable[..., Any])

STREAMS = ("tcp", "tls", "https", "quic")
PAD_TO = 468
KEPT = ("forward", "cache")
"""Sources of answers that the native cache may have."""
IDLE = 10.0
"""Seconds that a quiet stream stays open."""
STREAM_DEFAULTS = {"max_connections": 150, "max_per_address": 8}
"""Connections of all and of one client (IPv6: of a /64; loopback exempt), where `start` says nothing (spec 8)."""


class Step(Protocol):
    """What a service asks, in order."""

    def ask(self, q: Question) -> Result | Awaitable[Result | None] | None: ...


class Authority:
    """The step made of zones that stand next to one another."""

    recursive = False

    def __init__(self, zones: Iterable[Zone]) -> None:
        self.zones = Zones(zones)

    def ask(self, q: Question) -> Result | None:
        query = q.query
        if self.zones.find(query.key, query.qtype) is None:
            return None
        return lookup.answer(self.zones, query.name, query.qtype, do=query.do)


class Service(Extension):
    """Answers DNS questions, on UDP and on TCP.

    `steps` are zones, forwarders, lists and views, asked in order until one
    answers; if none does, REFUSED. `id` is given to clients that ask for NSID or
    `id.server`. `access` maps `"query"` and `"recursion"` to address prefixes;
    by default anyone may query and only loopback may recurse. `native=False`
    lets Python see every question. `listen` adds addresses beside those of `start`:
    `"127.0.0.2:53"` (UDP and TCP), `"tls://..."` and `"https://..."` with `tls`, the
    paths of a certificate and its key.

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
        limit: RateLimit | None = None,
        transfers: Transfers | None = None,
        cookies: bool = True,
        cache_size: int = 8 << 20,
        secret: bytes | None = None,
    ) -> None:
        self.handlers = Handlers()
        self.stream_defaults = STREAM_DEFAULTS
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
        self.recursive = any(getattr(step, "recursive", False) for step in self.steps)
        self.cookies = _cookies(cookies, secret)
        self.server: Any = None
        self._network: Any = None
        self.handler = UDPHandler(self._serve)
        self.clock: Callable[[], float] = time.monotonic
        self.wall: Callable[[], float] = time.time
        self.limit = limit
        self.transfers = transfers
        self.cache_size = cache_size
        self.metrics: Callable[[Question, Result], Any] | None = None
        self.reloads = 0
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

    async def on_start(self, server: Any) -> None:
        self.server = server
        if isinstance(self.cookies, edns.Rolling) and server is not None:
            self.cookies.adopt(server.secret, int(self.wall()))
        if self.transfers is not None:
            self.transfers.start(self)
        for step in self.steps:
            started = getattr(step, "start", None)
            if started is not None:
                await _settled(started(self))
        half = self._native_half()
        if half is not None:
            half.start()
        if self.listen:
            self.listeners = Listeners(self, server)
            await self.listeners.open_all(self.listen)

    async def on_stop(self, server: Any) -> None:
        if self.half is not None:
            self.half.stop()
        if self.listeners is not None:
            await self.listeners.close()
        if self.transfers is not None:
            await self.transfers.stop()
        for step in reversed(self.steps):
            stop = getattr(step, "stop", None)
            if stop is not None:
                await _settled(stop())
        network, self._network = self._network, None
        if network is not None:
            await network.close()

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
            except OSError as wrong:
                problems["certificates"] = str(wrong)
        self.reloads += 1
        if self.half is not None:
            self.half.refresh()
            if self.server is not None and self.server.loop is not None:
                self.server.call_soon(self.half.flush)  # the lists may say something else now
        for name, text in problems.items():
            log.error("reload: %s keeps its old state: %s", name, text)
        return problems

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

    # -- transports

    async def _serve(self, c: Any) -> None:
        """The handler of UDP packets."""
        answer, failed = await self.trip(c.packet, c.address, "udp", c)
        if answer:
            assert isinstance(answer, bytes)
            c.respond(answer)
        if failed is not None:
            raise failed  # after SERVFAIL was sent: counted handler_failed and logged with the peer

    async def _finish(self, c: Any, q: Any, handler: Handler, value: Any) -> None:
        """The rest of the trip, when a plain function that C called returned more than records."""
        options, _ = self._options(q.query, q.client, "udp")
        failed: Exception | None = None
        try:
            if inspect.isawaitable(value):
                value = await value
            result: Any = to_result(value, q, handler, lambda: self._soa(q))
            if result is None:
                result = await self.ask(q, handler)
        except Exception as raised:
            result, failed = error(rrtypes.SERVFAIL, 0), raised
        if result is not None and result != "drop":
            c.respond(self.encode(q, result, options))
        if failed is not None:
            raise failed

    async def stream(self, c: Any) -> bool:
        """A TCP connection: messages behind two octets of length, answered as they are ready."""
        await streams.serve(self, c, "tls" if getattr(c, "tls", None) else "tcp")
        return False

    # -- the trip of one message

    async def reply(self, packet: bytes, client: Any, transport: str = "udp", c: Any = None) -> bytes | None:
        """The octets to send back, or None for silence. A failed handler is logged and is SERVFAIL.

        Of a transfer, only the first message: `replies` gives them all.
        """
        async for answer in self.replies(packet, client, transport, c):
            return answer
        return None

    async def replies(
        self, packet: bytes, client: Any, transport: str = "tcp", c: Any = None
    ) -> AsyncIterator[bytes]:
        """The messages to send back over a stream: one, none, or those of a transfer."""
        answer, failed = await self.trip(packet, client, transport, c)
        if failed is not None:
            log.error("answering %s over %s failed: %s", client, transport, failed, exc_info=failed)
        if isinstance(answer, bytes):
            yield answer
        elif answer is not None:
            for each in answer:
                yield each

    async def trip(
        self, packet: bytes, client: Any, transport: str, c: Any = None
    ) -> tuple[bytes | Iterator[bytes] | None, Exception | None]:
        """The reply, and what a handler raised. Over UDP what is no query raises `Malformed`."""
        if self.half is not None and transport in STREAMS:
            ready = self.half.answer(packet, client, transport)
            if ready is not None:
                return (ready if isinstance(ready, bytes) else None), None
        query = parse_query(packet)
        if query.drop:
            if transport == "udp":
                raise Malformed("no DNS query")
            return None, None
        options, verified = self._options(query, client, transport)
        if query.rcode >= 0:
            return encode_error(query, options), None
        q = Question(query, client, transport, self.clock(), self)
        q.connection = c
        q.verified = q.verified or verified
        if self.limit is not None and not q.verified:
            decision = self.limit.decide(client.host, q.now)
            if decision != "answer":
                return self._limited(query, decision, options), None
        session: Session | None = None
        if query.tsig_at:
            keys = self.transfers.keys if self.transfers is not None else Keys()
            session = keys.open(packet, query.tsig_at, int(self.wall()))
            if not session.valid:
                return self._unsigned(q, session), None
        failed: Exception | None = None
        try:
            result = await self._result(q, session)
        except Exception as raised:
            result, failed = error(rrtypes.SERVFAIL, 0), raised
        if result is None or not isinstance(result, Result):
            return result, failed
        answer = self.encode(q, result, options, 200 if session is not None else 0)
        if result.source in KEPT and self.half is not None and self.half.cache is not None:
            self.half.keep(packet, encode_reply(query, result, 65_535, ra=True))
        if session is not None:
            answer = session.sign(answer, int(self.wall()))
        return answer, failed

    def _unsigned(self, q: Question, session: Session) -> bytes:
        """A TSIG that does not hold: FORMERR, or NOTAUTH with the reason in the TSIG (X6)."""
        if session.malformed:
            return encode_reply(q.query, error(rrtypes.FORMERR), 65_535)
        return session.sign(encode_reply(q.query, error(rrtypes.NOTAUTH), 512), int(self.wall()))

    def _limited(self, query: Query, decision: str, options: bytes) -> bytes | None:
        """Over the rate: BADCOOKIE to who can show a cookie next time, else a truncated reply or silence (E8)."""
        if self.cookies is not None and edns.COOKIE in query.options:
            return encode_reply(query, Result(rrtypes.BADCOOKIE), 512, options=options)
        if decision == "drop":
            return None
        slipped = Result()
        slipped.tc = True
        return encode_reply(query, slipped, 512, options=options)

    def encode(self, q: Question, result: Result, options: bytes = b"", room: int = 0) -> bytes:
        """A result as octets for this client."""
        query = q.query
        ra = self.recursive and q.client.host in self.may_recurse
        if self.metrics is not None:
            self.metrics(q, result)
        for watcher in self.watchers:
            watcher(q, result)
        pad = PAD_TO if q.encrypted and edns.PADDING in query.options else 0
        limit = limit_of(query, q.stream, self.udp_size)
        return encode_reply(
            query, result, limit, ra=ra, options=options, udp_size=self.udp_size, pad=pad, room=room
        )

    def _options(self, query: Query, client: Any, transport: str) -> tuple[bytes, bool]:
        """The options to send back, and whether the client showed a valid cookie."""
        if not query.options:
            return b"", False
        found, verified = b"", False
        if self.id and edns.NSID in query.options:
            found += edns.option(edns.NSID, self.id.encode())
        cookie = query.options.get(edns.COOKIE)
        if cookie is not None and self.cookies:
            fresh, verified = self.cookies.answer(cookie, client.host, int(self.wall()))
            found += edns.option(edns.COOKIE, fresh)
        if (
            edns.EXPIRE in query.options
            and self.transfers is not None
            and query.key in self.transfers.secondaries
        ):
            left = int(self.transfers.secondaries[query.key].expires_in)
            if query.qtype in (rrtypes.SOA, rrtypes.AXFR, rrtypes.IXFR):
                found += edns.option(edns.EXPIRE, left.to_bytes(4, "big"))
        if transport in ("tcp", "tls") and query.options.get(edns.KEEPALIVE) == b"":
            found += edns.option(edns.KEEPALIVE, int(IDLE * 10).to_bytes(2, "big"))
        return found, verified

    async def _result(self, q: Question, session: Session | None) -> Result | Iterator[bytes] | None:
        query = q.query
        if query.qclass == rrtypes.CH:
            return self._chaos(query)
        if q.client.host not in self.may_query:
            return error(rrtypes.REFUSED, 18)
        if query.opcode == rrtypes.NOTIFY:
            return self.transfers.notified(q, session) if self.transfers else error(rrtypes.REFUSED, 18)
        if query.qtype in (rrtypes.AXFR, rrtypes.IXFR):
            return self.transfers.answer(q, session) if self.transfers else error(rrtypes.REFUSED, 18)
        return await self.ask(q)

    async def ask(self, q: Question, asked: Handler | None = None) -> Result | None:
        """Ask handlers (but the one `asked` already), then steps. None: no reply."""
        named = None
        if self.handlers:
            found, named = self.handlers.find(q.query.key, q.query.qtype)
            if found:
                named = None
            for handler in found:
                if handler is asked:
                    continue
                made = await self._handled(handler, q)
                if made == "drop":
                    return None
                if made is not None:
                    return made  # type: ignore[return-value]
        given = await self.walk(self.steps, q)
        if given == "drop":
            return None
        if named is not None and (given is None or given.rcode in (rrtypes.NXDOMAIN, rrtypes.REFUSED)):
            # the name exists: a handler has other types of it
            return no_data(self._soa(q) or made_up_soa(named.base))
        return error(rrtypes.REFUSED, 20) if given is None else given

    async def walk(self, steps: list[Any], q: Question) -> Any:
        """The first answer of these steps, looked at by the lists before it; None when none answers."""
        checks: list[Any] = []
        for step in steps:
            given = step.ask(q)
            if inspect.isawaitable(given):
                given = await given
            if given is None:
                if hasattr(step, "check"):
                    checks.append(step.check)
                continue
            if given != "drop":
                for check in checks:
                    other = check(q, given)
                    if other is not None:
                        return other
            return given
        return None

    async def _handled(self, handler: Handler, q: Question) -> Result | str | None:
        try:
            value = handler.call(q)
            if inspect.isawaitable(value):
                value = await value
        except HandlerFailed:
            raise
        except Exception as raised:
            raise HandlerFailed(
                f"{handler.name} raised {type(raised).__name__} at {q.name} {q.type}"
            ) from raised
        return to_result(value, q, handler, lambda: self._soa(q))

    def _soa(self, q: Question) -> RRset | None:
        """The SOA of the zone of ours that encloses the question."""
        best: Zone | None = None
        for zone in self.zones():
            if names.encloses(zone.key, q.query.key) and (best is None or len(zone.key) > len(best.key)):
                best = zone
        if best is None or best.soa is None:
            return None
        ttl = min(best.soa.ttl, best.timers()[3])
        return best.soa.at(best.origin, ttl)

    async def resolve(self, q: Question, name: bytes, qtype: int) -> Result:
        """Another question on behalf of one (`q.resolve`)."""
        inner = derived(q, name, qtype)
        result = await self.ask(inner)
        q.work = inner.work
        return result or error(rrtypes.SERVFAIL)

    def _chaos(self, query: Query) -> Result:
        if self.id is None:
            return error(rrtypes.REFUSED)
        result = Result(aa=True)
        text = self.id.encode()[:255]
        result.answer.append(RRset(query.name, rrtypes.TXT, 0, [bytes((len(text),)) + text]))
        return result


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


def grouped(steps: Iterable[Any]) -> list[Any]:
    """Zones next to one another become one step."""
    made: list[Any] = []
    zones: list[Zone] = []
    for step in steps:
        if isinstance(step, Zone):
            zones.append(step)
            continue
        if zones:
            made.append(Authority(zones))
            zones = []
        if not callable(getattr(step, "ask", None)):
            raise StartError(
                f"dns.Service got {step!r} as a step. Expected a Zone, Forward, Blocklist, View, "
                "or an object with ask(q).",
                code="bad-dns-setting",
            )
        made.append(step)
    if zones:
        made.append(Authority(zones))
    return made


async def _settled(value: Any) -> None:
    if inspect.isawaitable(value):
        await value
