"""Forwarders in C: what the stage asks of UDP upstreams by itself, kept in step with the `Forward` steps.

C asks, checks, keeps and answers what takes the plain course. What does not (a timeout, TCP, a
refusal, records that nobody asked for) comes back here and goes the service's own way, `Forward`
in Python, with what C has learnt of the upstream. Made by `native`; imports the native DNS,
forward, cache, belief.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .._native import dns as native
from ..typed import Malformed
from .belief import believed
from .cache import Entry, Key
from .forward import Forward, Hint
from .message import Message
from .query import parse_query
from .sockets import Sockets

if TYPE_CHECKING:
    from .native import NativeHalf

SYNC = 0.25
"""Seconds between looks at what C and Python know of the upstreams."""
SOON = 0.01
MOST = 8
REMEMBERED = 60.0
"""Seconds that an expired answer of C stands in Python's cache, with what is known of its refresh."""


class Asking:
    """One forwarder in C and its step."""

    def __init__(self, forward: Forward, half: NativeHalf) -> None:
        self.forward = forward
        policy = native.POLICIES.index(forward.group.policy)
        self.native = native.Forwarder(forward.zone, half.server, half.cache, policy=policy)
        self.descriptor = -1
        self.seen = [(0, 0, 0, 0, 0)] * len(forward.group.upstreams)
        self.counted: dict[str, int] = dict.fromkeys(self.native.counters, 0)
        for upstream in forward.group.upstreams:
            self.native.add(upstream.address, upstream.cookie_for(forward.rng))

    def sync(self, now: float, serving: bool) -> None:
        """Take over what C has seen, and tell it whom to ask."""
        for number, upstream in enumerate(self.forward.group.upstreams):
            asked, answered, missed, hedged, closed, failures, rtt, variance = self.native.seen(number)
            before, self.seen[number] = self.seen[number], (asked, answered, missed, hedged, closed)
            upstream.asked += asked - before[0]
            upstream.asked_by["udp"] += asked - before[0]
            upstream.hedged += hedged - before[3]
            refused, late = closed - before[4], missed - before[2] - (closed - before[4])
            upstream.missed_often(now, refused, "connection")
            upstream.missed_often(now, late, "timeout")
            if answered > before[1]:
                upstream.rtt, upstream.variance = rtt, variance
                upstream.samples.extend(self.native.samples(number))
                if not upstream.down:
                    upstream.failures = failures
            hedge = upstream.p95 if self.forward.hedge is None else self.forward.hedge
            usable = serving and not upstream.down and upstream.no_edns_until <= now
            self.native.set(number, usable, upstream.broken_case < 2, hedge)
        counted = self.native.counters
        for name, ours in (("coalesced", "coalesced"), ("questions", "upstream"), ("refused", "refused")):
            self.forward.counters[ours] += counted[name] - self.counted[name]
        for name, times in (("one", 1), ("two", 2)):
            self.forward.sizes[times] += counted[name] - self.counted[name]
        self.counted = counted
        if serving:
            self.forward.probe()


def able(step: Any) -> bool:
    """Whether C can do what this forwarder does: ask by UDP, and no more upstreams than it has room for."""
    if not isinstance(step, Forward) or step.dnssec:
        return False
    upstreams = step.group.upstreams
    return len(upstreams) <= 16 and all(upstream.transport == "udp" for upstream in upstreams)


class Forwarders:
    """The forwarders of one service's stage."""

    def __init__(self, half: NativeHalf) -> None:
        self.half = half
        steps = half.service.steps if half.cache is not None else []
        self.asking = {id(step): Asking(step, half) for step in [s for s in steps if able(s)][:MOST]}
        self.numbered = list(self.asking.values())
        for asking in self.numbered:
            half.stage.add_forwarder(asking.native)
            asking.forward.remembered = self._remembered
        half.stage.handed = self._handed
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Handle | None = None
        self._syncing = self._serving = False

    def behind(self, steps: Sequence[Any], whole: Sequence[Any]) -> list[Any]:
        """The forwarders that stand right behind the steps that C knows; None for one that it cannot be."""
        if any(getattr(one, "addresses", None) for step in steps for one in getattr(step, "lists", ())):
            return []  # the addresses in answers are looked at in Python
        found: list[Any] = []
        for step in whole[len(steps) :][:MOST]:
            if not isinstance(step, Forward):
                break
            asking = self.asking.get(id(step))
            found.append(asking.native if asking is not None else None)
        return found

    def urls(self) -> dict[int, str]:
        """Upstreams by the numbers that the stage writes into the query log."""
        return {
            1 + which * native.UPSTREAMS + number: upstream.url
            for which, asking in enumerate(self.numbered)
            for number, upstream in enumerate(asking.forward.group.upstreams)
        }

    # -- life

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """On the server's loop. The stage asks nobody until its endpoint is there."""
        if self.numbered and isinstance(self.half.service.network(), Sockets):
            self._timer = loop.call_soon(self._begin, loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        modes = getattr(self.half.service.server, "modes", ())
        endpoint = next((e for mode in modes if (e := getattr(mode, "endpoint", None)) is not None), None)
        if endpoint is None:
            self._timer = loop.call_later(SOON, self._begin, loop)
            return
        if self.half.stage not in endpoint.pipeline.stages:
            return  # the portable transport has no stages
        for asking in self.numbered:
            asking.descriptor = asking.native.open()
            loop.add_reader(asking.descriptor, self.half.stage.upstream_ready)
        self._serving = True
        self._watch(loop)
        self.half.stage.endpoint = endpoint

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sync()
        self._timer = loop.call_later(SYNC, self._watch, loop)

    def _sync(self) -> None:
        self._syncing = False
        now = self.half.service.clock()
        for asking in self.numbered:
            asking.sync(now, self._serving)

    def stop(self, loop: asyncio.AbstractEventLoop | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.half.stage.endpoint = None
        self._serving = False
        self._sync()
        for asking in self.numbered:
            if asking.descriptor >= 0 and loop is not None:
                loop.remove_reader(asking.descriptor)
            asking.native.close()
            asking.descriptor = -1
        for task in self._tasks:
            task.cancel()

    # -- what C gives back

    def _handed(self, c: Any, which: int, why: int, number: int) -> None:
        loop = asyncio.get_running_loop()
        if not self._syncing:
            self._syncing = True
            loop.call_soon(self._sync)  # before the questions: one that is down is not asked first
        forward = self.numbered[which].forward
        query = parse_query(c.packet)
        key = Key(query.key, query.qtype, query.do, query.cd, "")
        upstream = forward.group.upstreams[number]
        by_tcp = why in (native.HANDED_TRUNCATED, native.HANDED_MISMATCH)
        forward.hint(key, Hint(c.now, upstream if by_tcp else None, why == native.HANDED_MISMATCH))
        task = loop.create_task(self._serve(c, self.half.stage.endpoint))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, c: Any, endpoint: Any) -> None:
        """The trip of a question in Python, as for one that C never took."""
        word = "stopping"
        try:
            await self.half.service._passed(c)
            word = "handled"
        except Malformed:
            word = "malformed"
        except Exception as error:
            word = "handler_failed"
            endpoint.pipeline.failed(c, error, self.half.service.handler)
        finally:
            endpoint.finished(c, word, False)

    def _remembered(self, packet: bytes, key: Key, zone: bytes, now: float) -> Entry | None:
        """The expired answer that C keeps for a question, as an entry of Python's cache."""
        asked = native.Question.parse(self.half.server, packet, stream=True)
        reply, state, _ = self.half.cache.get(asked, now, stale=True)
        if reply is None or state != native.STALE:
            return None
        result, _ = believed(Message.parse(reply), key.name, key.qtype, zone)
        return Entry(key, result, now, 0.0, REMEMBERED)
