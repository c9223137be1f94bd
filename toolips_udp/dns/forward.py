"""Forward: the step that asks other servers and remembers what they said (spec section 5, C9 to C11).

Owns no socket: a `Network` sends its attempts (`sockets.py` over asyncio,
`testing/dns.py` in memory). Imports exchange, cache, belief, upstream.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

from . import loops, names, rrtypes
from .belief import believed
from .cache import STALE_AGAIN, AnswerCache, Entry, Key, aged
from .exchange import Attempt, Exchange
from .question import Question
from .result import Result, error
from .upstream import Group, HedgeBudget, Upstream

MOST_WAITING = 1000
MOST_FLIGHTS = 10_000
STALE_AFTER = 1.8
TOO_LATE = 1.9
"""Seconds after which an answer is kept, but not sent to who may not have asked (C11)."""
PREFETCH_LEAST = 10
PREFETCH_SHARE = 0.1


class Network(Protocol):
    """What sends attempts: `report(data)` for each message that comes, `lost(cause)` at most once."""

    def send(
        self, attempt: Attempt, report: Callable[[bytes], Any], lost: Callable[[str], Any]
    ) -> Callable[[], Any]: ...

    def later(self, delay: float, fn: Callable[[], Any]) -> Callable[[], Any]: ...


class Hint(NamedTuple):
    """What C knows of a question that it gives back: since when it waits, and whom to ask by TCP (by UDP too)."""

    since: float
    by_tcp: Upstream | None
    both: bool


class Flight:
    """One exchange on its way and those who wait for it."""

    def __init__(self, forward: Forward, key: Key, exchange: Exchange) -> None:
        self.forward = forward
        self.key = key
        self.exchange = exchange
        self.waiting: list[asyncio.Future[Result]] = []
        self.closers: list[Callable[[], Any]] = []
        self.timer: Callable[[], Any] | None = None
        self.landed = False
        self.before = 0  # questions that C asked for it

    def begin(self, hint: Hint | None = None) -> None:
        now = self.forward.clock()
        self.before = int(hint is not None)
        self._do(self.exchange.start(now, hint.by_tcp, hint.both) if hint else self.exchange.start(now))

    def _do(self, attempts: list[Attempt]) -> None:
        network = self.forward.network
        for attempt in attempts:
            if self.forward.tap is not None:
                self.forward.tap.asked(attempt.packet, attempt.upstream.address, attempt.transport)
            self.closers.append(
                network.send(attempt, partial(self._came, attempt), partial(self._lost, attempt))
            )
        if self.exchange.over:
            self._land()
        else:
            if self.timer is not None:
                self.timer()
            delay = max(0.0, self.exchange.next_at - self.forward.clock())
            self.timer = network.later(delay, self._tick)

    def _came(self, attempt: Attempt, data: bytes) -> None:
        now = self.forward.clock()
        if self.forward.tap is not None:
            upstream = attempt.upstream
            self.forward.tap.told(data, upstream.address, attempt.transport, now - attempt.sent_at)
        self._do(self.exchange.datagram(attempt, data, now))

    def _lost(self, attempt: Attempt, cause: str) -> None:
        self._do(self.exchange.failed(attempt, cause, self.forward.clock()))

    def _tick(self) -> None:
        self._do(self.exchange.tick(self.forward.clock()))

    def _land(self) -> None:
        if self.landed:
            return
        self.landed = True
        if self.timer is not None:
            self.timer()
            self.timer = None
        closers, self.closers = self.closers, []
        for close in closers:
            close()
        self.forward.landed(self)


class Forward:
    """Ask other servers, each question once, and keep their answers.

    Upstreams are written `"192.0.2.1"`, `"tls://9.9.9.9#dns.quad9.net"`,
    `"https://..."`. `zone` limits it to names in a zone; `policy` is `"fastest"`,
    `"ordered"`, `"round-robin"` or `"hash"`; `hedge` is the delay in seconds after
    which the next upstream is asked too (default: what 19 of 20 answers take).
    Only clients in `access["recursion"]` are served.

    >>> Forward("udp://10.0.0.53", zone="corp.example")
    """

    recursive = True

    def __init__(
        self,
        *upstreams: Any,
        zone: str = ".",
        policy: str = "fastest",
        hedge: float | None = None,
        size: int = 8 << 20,
        stale: float = 86_400.0,
        dnssec: bool = False,
        rng: random.Random | None = None,
    ) -> None:
        self.zone = names.fold(names.from_text(zone))
        self.group = Group([u if isinstance(u, Upstream) else Upstream(str(u)) for u in upstreams], policy)
        self.hedge = hedge
        self.dnssec = dnssec
        self.cache = AnswerCache(size, stale)
        self.rng: random.Random = rng or random.SystemRandom()
        self.budget = HedgeBudget()
        self.flights: dict[Key, Flight] = {}
        self.clock: Callable[[], float] = lambda: 0.0
        self.network: Network
        self.tap: Any = None
        """Told of what goes upstream and comes back: a `Dnstap`, or None."""
        self.counters = dict.fromkeys(("coalesced", "prefetched", "upstream", "refused"), 0)
        self.sizes: Counter[int] = Counter()
        """Questions of clients that went upstream, by how many were asked for one of them."""
        self.late = 0  # questions that took all their time
        self.probes: set[int] = set()
        self.hints: dict[Key, Hint] = {}
        self.loops: dict[bytes, Upstream] = {}
        self.remembered: Callable[[bytes, Key, bytes, float], Entry | None] | None = None
        """Expired answers that C keeps."""

    def start(self, service: Any) -> None:
        """Called when the service starts."""
        self.clock = service.clock
        self.network = service.network()
        if service.server is not None:  # in a test without a server, nobody can be ourselves
            self.loops = loops.look(self, service.server)
        self.tap = service.dnstap

    async def stop(self) -> None:
        for flight in list(self.flights.values()):
            flight.exchange.over = True
            flight._land()

    def ask(self, q: Question) -> Result | Awaitable[Result | str] | None:
        """From the cache at once; else an awaitable of what the upstreams say, or of `"drop"`."""
        query = q.query
        if not names.encloses(self.zone, query.key):
            return None
        if q.client.host not in q.service.may_recurse:
            return error(rrtypes.REFUSED, 18)
        if query.key in self.loops:
            loops.met(self.loops[query.key])
            return error(rrtypes.REFUSED, 0)
        now = self.clock()
        key = Key(query.key, query.qtype, query.do, query.cd, q.view)
        entry = self.cache.find(key, now)
        if entry is None and self.remembered is not None:
            entry = self.remembered(query.packet, key, self.zone, now)
            if entry is not None:
                self.cache.keep(entry)
        if entry is not None and now < entry.fresh_until:
            self._prefetch(key, entry, now)
            return aged(entry, now)
        if not query.rd:
            return error(rrtypes.REFUSED, 20)
        if entry is not None and not entry.failures and now < entry.tried_at + STALE_AGAIN:
            return aged(entry, now)  # the refresh failed lately
        return self._wait(key, entry, q)

    def _prefetch(self, key: Key, entry: Entry, now: float) -> None:
        whole = entry.fresh_until - entry.stored
        if (
            entry.hits >= 2
            and whole >= PREFETCH_LEAST
            and entry.fresh_until - now < whole * PREFETCH_SHARE
            and key not in self.flights
        ):
            self.counters["prefetched"] += 1
            self._fly(key)

    def _fly(self, key: Key, first: asyncio.Future[Result] | None = None) -> None:
        """Ask upstream, with a first passenger (its answer may come at once)."""
        order = self.group.order(key.name, self.rng)
        exchange = Exchange(
            key.name, key.qtype, order, self.rng, do=key.do or self.dnssec, cd=key.cd or self.dnssec,
            hedge=self.hedge, budget=self.budget,
        )  # fmt: skip
        flight = self.flights[key] = Flight(self, key, exchange)
        if first is not None:
            flight.waiting.append(first)
        self.counters["upstream"] += 1
        self.probe()
        flight.begin(self.hints.pop(key, None))

    def hint(self, key: Key, hint: Hint) -> None:
        """C gives this question back; the next flight for it begins with what C knows."""
        if len(self.hints) >= MOST_FLIGHTS:
            self.hints.clear()  # of questions that never came to a flight
        self.hints.setdefault(key, hint)

    async def _wait(self, key: Key, entry: Entry | None, q: Question) -> Result | str:
        known = self.flights.get(key)
        hint = self.hints.get(key)
        since = hint.since if hint is not None else self.clock()
        if known is not None:
            self.counters["coalesced"] += 1
            self.hints.pop(key, None)
        full = error(rrtypes.SERVFAIL, 0, "too many questions are waiting")
        if known is None and len(self.flights) >= MOST_FLIGHTS:
            self.counters["refused"] += 1
            return full
        if known is not None and len(known.waiting) >= MOST_WAITING:
            self.counters["refused"] += 1
            oldest = known.waiting.pop(0)  # it has waited longest, and asks again first
            if not oldest.done():
                oldest.set_result(full)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        if known is None:
            self._fly(key, future)
        else:
            known.waiting.append(future)
        timer: Callable[[], Any] | None = None
        if entry is not None and not entry.failures and not future.done():
            # stale data is better than a long wait (RFC 8767)
            left = max(0.0, STALE_AFTER - (self.clock() - since))
            timer = self.network.later(left, partial(self._stale, future, entry))
        try:
            result = await future
        finally:
            if timer is not None:
                timer()
        if entry is not None and not entry.failures and result.rcode == rrtypes.SERVFAIL:
            entry.tried_at = self.clock()
            return aged(entry, self.clock())
        if self.clock() - since > TOO_LATE and not q.verified and result.rcode != rrtypes.SERVFAIL:
            return "drop"  # held back by a slow server, answers to forged sources would leave in one burst
        return result

    def _stale(self, future: asyncio.Future[Result], entry: Entry) -> None:
        if not future.done():
            future.set_result(aged(entry, self.clock()))

    def landed(self, flight: Flight) -> None:
        """An exchange is over: store, and answer all who wait."""
        self.flights.pop(flight.key, None)
        now = self.clock()
        exchange = flight.exchange
        self.sizes[len(exchange.attempts) + flight.before] += 1
        self.late += exchange.late
        if exchange.message is not None:
            result, outside = believed(exchange.message, flight.key.name, flight.key.qtype, self.zone)
            if outside is not None and not result.answer:
                result = error(rrtypes.SERVFAIL, 22)
        else:
            result = error(rrtypes.SERVFAIL, 22)
            if exchange.causes:
                result.ede.append((23, exchange.causes[-1]))
        result.source = "forward"
        result.upstream = exchange.source.url if exchange.source is not None else ""
        self.cache.put(flight.key, result, now)
        for future in flight.waiting:
            if not future.done():
                future.set_result(result)

    def probe(self) -> None:
        """Ask servers that are down whether they are back (F2)."""
        now = self.clock()
        for upstream in self.group.upstreams:
            if upstream.down and now >= upstream.probe_at and id(upstream) not in self.probes:
                self.probes.add(id(upstream))
                exchange = Exchange(names.ROOT, rrtypes.NS, [upstream], self.rng, probe=True)
                _Probe(self, upstream, exchange).begin()


class _Probe(Flight):
    """A probe of one upstream: its answer only tells that the server is there."""

    def __init__(self, forward: Forward, upstream: Upstream, exchange: Exchange) -> None:
        super().__init__(forward, Key(names.ROOT, 0, False, False, ""), exchange)
        self.upstream = upstream

    def _land(self) -> None:
        if self.timer is not None:
            self.timer()
        for close in self.closers:
            close()
        self.forward.probes.discard(id(self.upstream))
        if self.upstream.down and self.upstream.good:
            self.upstream.probe_at = self.forward.clock() + 1.0
