"""Prometheus metrics of a service, on the admin listener of its server (spec O4).

Labels are fixed: never a client's or a question's text. At rest, datagrams received are
`answers_total` over UDP plus the sum of `dropped_total`. Imports service and control.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..counters import DROPS
from ..servers import admin
from . import names, rrtypes
from .question import Question
from .result import Result

if TYPE_CHECKING:
    from .service import Service

BOUNDS = (0.0001, 0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds of the buckets of `answer_seconds`."""
OPCODES = {0: "QUERY", 4: "NOTIFY", 5: "UPDATE"}
ANSWERED = "handler_failed"
"""The drop word that is answered all the same, with SERVFAIL."""
Labels = tuple[tuple[str, str], ...]


class Page:
    """Samples by metric, written once at the end, each under its TYPE."""

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}
        self.samples: dict[str, list[str]] = {}

    def add(self, name: str, value: float, kind: str = "counter", suffix: str = "", **labels: str) -> None:
        """One sample; `toolips_dns_` goes in front of the name."""
        self.kinds.setdefault(name, kind)
        text = ",".join(f'{key}="{_escaped(each)}"' for key, each in labels.items())
        found = f"toolips_dns_{name}{suffix}{{{text}}}" if text else f"toolips_dns_{name}{suffix}"
        self.samples.setdefault(name, []).append(f"{found} {value:.15g}")

    def table(self, name: str, label: str, counts: Mapping[str, int]) -> None:
        """A counter with one label."""
        self.kinds.setdefault(name, "counter")
        for key, count in sorted(counts.items()):
            self.add(name, count, **{label: key})

    def text(self) -> str:
        lines: list[str] = []
        for name, kind in self.kinds.items():
            lines += [f"# TYPE toolips_dns_{name} {kind}", *self.samples.get(name, ())]
        return "\n".join(lines) + "\n"


class Metrics:
    """Counts the answers of one service and writes them as text. What C answered, its stage has counted."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.answers: Counter[tuple[str, str]] = Counter()
        self.queries: Counter[tuple[str, int]] = Counter()
        self.seconds: dict[str, list[int]] = {}
        self.sums: dict[str, float] = {}
        self.silent = 0
        service.metrics = self

    # -- counting, in Python

    def note(self, q: Question, result: Result) -> None:
        """One answer of a step or a handler goes out."""
        self.answers[rrtypes.rcode_name(result.rcode), result.source] += 1
        took = self.service.clock() - q.now
        buckets = self.seconds.setdefault(result.source, [0] * (len(BOUNDS) + 1))
        buckets[bisect_left(BOUNDS, took)] += 1
        self.sums[result.source] = self.sums.get(result.source, 0.0) + took

    def said(self, rcode: int) -> None:
        """An answer that the service gives itself: an error, a refusal, TC for who asks too often."""
        self.answers[rrtypes.rcode_name(rcode), "server"] += 1

    # -- the page

    def text(self) -> str:
        """The page, all names prefixed `toolips_dns_`."""
        page = Page()
        self._totals(page)
        self._seconds(page)
        for step in self.service.every_step():
            _cache(page, step)
            _upstreams(page, step)
            if hasattr(step, "lists"):
                for file, hits in step.hits().items():
                    page.add("policy_hits_total", hits, list=file, action=step.answer)
        self._limits(page)
        self._zones(page)
        page.table("reloads_total", "result", self.service.reload_results)
        page.add("generation", self.service.reloads, "gauge")
        log = self.service.query_log
        page.add("querylog_lost_total", log.lost if log is not None else 0)
        return page.text()

    def _native(self) -> dict[str, Any]:
        half = self.service.half
        return half.stage.counters if half is not None else {}

    def _totals(self, page: Page) -> None:
        native = self._native()
        queries = Counter(self.queries)
        queries.update(native.get("queries", {}))
        for (transport, opcode), count in sorted(queries.items()):
            page.add("queries_total", count, transport=transport, opcode=OPCODES.get(opcode, str(opcode)))
        answers = Counter(self.answers)
        for (number, source), count in native.get("answers", {}).items():
            answers[rrtypes.rcode_name(number), source] += count
        page.kinds["answers_total"] = "counter"
        for (rcode, source), count in sorted(answers.items()):
            page.add("answers_total", count, rcode=rcode, source=source)
        server = self.service.server
        if server is not None:
            dropped = {word: server.counters[word] for word in DROPS if word != ANSWERED}
            dropped["denied"] += self.silent
            page.table("dropped_total", "reason", dropped)
            page.add("receive_overflow_total", server.counters["kernel"])
        for transport, count in sorted(self.service.connections.items()):
            page.add("stream_connections", count, "gauge", transport=transport)

    def _seconds(self, page: Page) -> None:
        """Answers that C gave take microseconds: they are in every bucket and add nothing to the sum.

        Not those that it asked an upstream for: `upstream_rtt_seconds` tells what these take.
        """
        given = {source: list(buckets) for source, buckets in self.seconds.items()}
        for (_, source), count in self._native().get("answers", {}).items():
            if source != "forward":
                given.setdefault(source, [0] * (len(BOUNDS) + 1))[0] += count
        for source, buckets in sorted(given.items()):
            total = 0
            for bound, count in zip((*map(str, BOUNDS), "+Inf"), buckets, strict=True):
                total += count
                page.add("answer_seconds", total, "histogram", "_bucket", source=source, le=bound)
            page.add("answer_seconds", self.sums.get(source, 0.0), "histogram", "_sum", source=source)
            page.add("answer_seconds", total, "histogram", "_count", source=source)

    def _limits(self, page: Page) -> None:
        native = self._native()
        limit = self.service.limit
        if limit is not None:
            counts = Counter(limit.counters)
            counts.update({"slipped": native.get("slipped", 0)})
            counts.update({"dropped": native.get("limited", 0) - native.get("slipped", 0)})
            page.table("ratelimit_total", "action", counts)
        page.table("cookies_total", "result", native.get("cookies", {}))
        half = self.service.half
        if half is not None and half.cache is not None:
            _levels(page, "c", len(half.cache), half.cache.used, half.cache.counters)

    def _zones(self, page: Page) -> None:
        page.kinds["zone_serial"] = "gauge"
        for zone in self.service.zones():
            page.add("zone_serial", zone.serial, "gauge", zone=zone.name)
        transfers = self.service.transfers
        if transfers is None:
            return
        results = Counter({"out": transfers.counters["out"], "refused": transfers.counters["refused"]})
        for copy in transfers.secondaries.values():
            page.add("zone_expires_seconds", round(copy.expires_in), "gauge", zone=copy.zone.name)
            results.update(copy.counters)
        page.table("transfers_total", "result", results)


def _levels(page: Page, level: str, entries: int, octets: int, counters: Mapping[str, int]) -> None:
    page.add("cache_entries", entries, "gauge", level=level)
    page.add("cache_bytes", octets, "gauge", level=level)
    for name in ("hits", "misses", "evictions"):
        page.add(f"cache_{name}_total", counters[name], level=level)


def _cache(page: Page, step: Any) -> None:
    cache = getattr(step, "cache", None)
    if cache is None:
        return
    zone = {"zone": _name(step.zone)}
    page.add("cache_entries", len(cache), "gauge", level="python", **zone)
    page.add("cache_bytes", cache.used, "gauge", level="python", **zone)
    for name in ("hits", "misses", "evictions"):
        page.add(f"cache_{name}_total", cache.counters[name], level="python", **zone)
    page.add("coalesced_total", step.counters["coalesced"], **zone)
    page.add("prefetch_total", step.counters["prefetched"], **zone)


def _upstreams(page: Page, step: Any) -> None:
    group: Iterable[Any] = getattr(getattr(step, "group", None), "upstreams", ())
    for u in group:
        label = {"upstream": u.url, "zone": _name(step.zone)}
        page.add("upstream_queries_total", u.asked, transport=u.transport, **label)
        page.add("upstream_failures_total", u.failed, **label)
        page.add("hedges_total", getattr(u, "hedged", 0), **label)
        page.add("upstream_up", int(not u.down), "gauge", **label)
        if u.rtt is not None:
            page.add("upstream_rtt_seconds", round(u.rtt, 6), "gauge", **label)


def _name(zone: bytes) -> str:
    return names.to_text(zone)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def install(service: Service) -> Metrics:
    """Put the service's metrics on `/metrics`, after the server's own."""
    made = Metrics(service)
    own = admin.metrics

    def page(server: Any) -> admin.Page:
        status, kind, text = own(server)
        return status, kind, text + made.text()

    admin.PAGES["/metrics"] = page
    return made
