"""The trip of one message through a service: parsed, judged, asked of handlers and steps, written.

`Answering` is the part of `Service` that every transport calls, the same for UDP, TCP,
TLS, HTTPS and tests. Imports handlers, steps, reply, edns, transfers.
"""

from __future__ import annotations

import inspect
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from ..errors import FormatError
from ..transports import proxied
from ..typed import Malformed
from . import edns, names, rrtypes, steps, streams
from .access import Prefixes
from .handlers import Handler, HandlerFailed, Handlers, made_up_soa, no_data, to_result
from .query import Query, parse_query
from .question import Question, derived
from .ratelimit import RATIO, RateLimit
from .reply import encode_error, encode_reply, limit_of
from .result import Result, error
from .transfers import Transfers
from .tsig import Keys, Session
from .zone import RRset, Zone

if TYPE_CHECKING:
    from .dnstap import Dnstap
    from .metrics import Metrics
    from .service import Service

log = logging.getLogger("toolips_udp.dns")

STREAMS = ("tcp", "tls", "https", "quic")
PAD_TO = 468
KEPT = ("forward", "cache")
"""Sources of answers that the native cache may have."""
IDLE = 10.0
"""Seconds that a quiet stream stays open."""


RECURSERS = 1 / 20
"""What a reply to a client that may recurse counts, against the rate limit of others: 1,000 a second for 50."""


class Answering:
    """What a service does with one message. `Service` sets the attributes."""

    clock: Callable[[], float]
    cookies: edns.Cookies | None
    ecs: bool
    half: Any
    handlers: Handlers
    connections: Counter[str]
    id: str | None
    limit: RateLimit | None
    may_query: Prefixes
    may_recurse: Prefixes
    proxies: Prefixes
    metrics: Metrics | None
    query_log: Any
    dnstap: Dnstap | None
    recursive: bool
    silent: bool
    steps: list[Any]
    transfers: Transfers | None
    udp_size: int
    wall: Callable[[], float]
    watchers: list[Callable[[Question, Result], Any]]

    def zones(self) -> list[Zone]:
        """Every zone of every step."""
        raise NotImplementedError

    async def _serve(self, c: Any) -> None:
        """The handler of UDP packets that no stage has seen."""
        packet, client = c.packet, c.address
        if self.proxies and client.host in self.proxies:
            header = proxied.read(packet)
            if header is None:
                raise Malformed("no PROXYv2 header, from a proxy")
            packet, client = packet[header.size :], header.client or client
        await self._respond(c, packet, client)

    async def _passed(self, c: Any) -> None:
        """The handler of UDP packets that the stage has passed on, any proxy's header taken off."""
        await self._respond(c, c.packet, c.address)

    async def _respond(self, c: Any, packet: bytes, client: Any) -> None:
        answer, failed = await self.trip(packet, client, "udp", c)
        if answer:
            assert isinstance(answer, bytes)
            c.respond(answer)
        elif self.metrics is not None:
            self.metrics.silent += 1
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
            answer = self.encode(q, result, options)
            c.respond(answer)
            self._tap(c.packet, answer, q.client, "udp", q.now)
            self._keep(q, c.packet, result)
        elif self.metrics is not None:
            self.metrics.silent += 1
        if failed is not None:
            raise failed

    async def stream(self, c: Any) -> bool:
        """A TCP connection: messages behind two octets of length, answered as they are ready."""
        await streams.serve(cast("Service", self), c, "tls" if getattr(c, "tls", None) else "tcp")
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
                self._tap(packet, each, client, transport, self.clock())
                yield each

    async def trip(
        self, packet: bytes, client: Any, transport: str, c: Any = None
    ) -> tuple[bytes | Iterator[bytes] | None, Exception | None]:
        """The reply, and what a handler raised. Over UDP what is no query raises `Malformed`."""
        if self.half is not None and transport in STREAMS:
            ready = self.half.answer(packet, client, transport)
            if ready is not None:
                return (ready if isinstance(ready, bytes) else None), None
        began = self.clock()
        answer, failed = await self._in_python(packet, client, transport, c)
        if isinstance(answer, bytes):
            self._tap(packet, answer, client, transport, began)
        return answer, failed

    def _tap(self, packet: bytes, answer: bytes, client: Any, transport: str, began: float) -> None:
        if self.dnstap is not None:
            self.dnstap.note(packet, answer, client, transport, self.clock() - began)

    async def _in_python(
        self, packet: bytes, client: Any, transport: str, c: Any
    ) -> tuple[bytes | Iterator[bytes] | None, Exception | None]:
        query = parse_query(packet)
        if self.ecs and edns.ECS in query.options:
            _check_subnet(query)
        if query.drop:
            if transport == "udp":
                raise Malformed("no DNS query")
            return None, None
        if self.metrics is not None and self.half is None:
            self.metrics.queries[transport, query.opcode] += 1
        options, verified = self._options(query, client, transport)
        if query.rcode >= 0:
            self._said(query.rcode)
            return encode_error(query, options), None
        q = Question(query, client, transport, self.clock(), cast("Service", self))
        q.connection = c
        q.verified = q.verified or verified
        if self.limit is not None and not q.verified:
            share = RECURSERS if self.recursive and client.host in self.may_recurse else 1.0
            decision = self.limit.decide(client.host, q.now, share)
            if decision == "small":
                q.most = RATIO * len(packet)
            elif decision != "answer":
                return self._limited(query, decision, options), None
        session: Session | None = None
        if query.tsig_at and query.qtype in (rrtypes.AXFR, rrtypes.IXFR) and not self._may_transfer(q):
            self._said(rrtypes.REFUSED)
            return encode_reply(query, error(rrtypes.REFUSED, 18), 512), None
        if query.tsig_at:
            keys = self.transfers.keys if self.transfers is not None else Keys()
            session = keys.open(packet, query.tsig_at, int(self.wall()))
            if not session.valid:
                return self._unsigned(q, session), None
            q.key = session.name
        failed: Exception | None = None
        try:
            result = await self._result(q, session)
        except Exception as raised:
            result, failed = error(rrtypes.SERVFAIL, 0), raised
        if result is None or not isinstance(result, Result):
            return result, failed
        answer = self.encode(q, result, options, 200 if session is not None else 0)
        self._keep(q, packet, result)
        if session is not None:
            answer = session.sign(answer, int(self.wall()))
        return answer, failed

    def _keep(self, q: Any, packet: bytes, result: Result) -> None:
        """Let the native half answer the same question from now on, where others may have the answer."""
        if self.half is None:
            return
        if result.source in KEPT and self.half.forwards:
            self.half.keep(packet, encode_reply(q.query, result, 65_535, ra=True))
        elif result.share and result.source == "python" and not (result.scope or result.ede):
            self.half.share(q, packet, encode_reply(q.query, result, 65_535))

    def _may_transfer(self, q: Question) -> bool:
        """X1: the address comes before the signature."""
        return self.transfers is not None and self.transfers.may_ask(q.query.key, q.client.host)

    def _said(self, rcode: int) -> None:
        if self.metrics is not None:
            self.metrics.said(rcode)

    def _unsigned(self, q: Question, session: Session) -> bytes:
        """A TSIG that does not hold: FORMERR, or NOTAUTH with the reason in the TSIG (X6)."""
        self._said(rrtypes.FORMERR if session.malformed else rrtypes.NOTAUTH)
        if session.malformed:
            return encode_reply(q.query, error(rrtypes.FORMERR), 65_535)
        return session.sign(encode_reply(q.query, error(rrtypes.NOTAUTH), 512), int(self.wall()))

    def _limited(self, query: Query, decision: str, options: bytes) -> bytes | None:
        """Over the rate: BADCOOKIE to who can show a cookie next time, else a truncated reply or silence (E8)."""
        if self.cookies is not None and edns.COOKIE in query.options:
            self._said(rrtypes.BADCOOKIE)
            return encode_reply(query, Result(rrtypes.BADCOOKIE), 512, options=options)
        if decision == "drop":
            return None
        slipped = Result()
        slipped.tc = True
        self._said(rrtypes.NOERROR)
        return encode_reply(query, slipped, 512, options=options)

    def encode(self, q: Question, result: Result, options: bytes = b"", room: int = 0) -> bytes:
        """A result as octets for this client."""
        query = q.query
        ra = getattr(q, "recurses", self.recursive) and q.client.host in self.may_recurse
        if self.metrics is not None:
            self.metrics.note(q, result)
        for watcher in self.watchers:
            watcher(q, result)
        if self.query_log is not None:
            self.query_log.note(q, result)
        if result.scope:
            options = options.replace(subnet(query, 0), subnet(query, result.scope))
        pad = PAD_TO if q.encrypted and edns.PADDING in query.options else 0
        limit = limit_of(query, q.stream, self.udp_size)
        if q.most:
            limit = min(limit, q.most)
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
            if self.metrics is not None and self.half is None:
                self.metrics.cookies["client" if len(cookie) == 8 else "good" if verified else "bad"] += 1
        if self.ecs:
            found += subnet(query, 0)
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
            if self.silent:
                return None
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
        given = await steps.walk(self.steps, q)
        if given == "drop":
            return None
        if named is not None and (given is None or given.rcode in (rrtypes.NXDOMAIN, rrtypes.REFUSED)):
            # the name exists: a handler has other types of it
            return no_data(self._soa(q) or made_up_soa(named.base))
        return error(rrtypes.REFUSED, 20) if given is None else given

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


def _check_subnet(query: Query) -> None:
    """A client subnet that is none is FORMERR, and not given back (RFC 7871 section 6)."""
    try:
        edns.parse_ecs(query.options[edns.ECS])
    except FormatError:
        del query.options[edns.ECS]
        if query.rcode < 0:
            query.rcode = rrtypes.FORMERR


def subnet(query: Query, scope: int) -> bytes:
    """The client's subnet option with the scope that the answer is for; nothing where it sent none."""
    data = query.options.get(edns.ECS)
    return edns.option(edns.ECS, data[:3] + bytes((scope,)) + data[4:]) if data else b""
