"""Prometheus metrics of a service, on the admin listener of its server (spec O4).

With several workers the supervisor has the page and adds up theirs. Labels are fixed: never a client's or a
question's text. At rest, datagrams received are
`answers_total` over UDP plus the sum of `dropped_total`. Imports service and control.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..counters import DROPS
from ..errors import ToolipsError
from ..servers import admin, control
from . import names, rrtypes
from .question import Question
from .result import Result

if TYPE_CHECKING:
    from .service import Service

BOUNDS = (0.0001, 0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds of the buckets of `answer_seconds`."""
SIZES = (1, 2, 3, 5, 10, 20, 50)
"""The same of `questions_upstream`."""
OPCODES = {0: "QUERY", 4: "NOTIFY", 5: "UPDATE"}
ANSWERED = "handler_failed"
"""The drop word that is answered all the same, with SERVFAIL."""
ADDED = ("cache_entries", "cache_bytes", "stream_connections")
"""Gauges that are each worker's own and add up."""
HIGHEST = ("upstream_rtt_seconds",)
"""Gauges of which the worst is the highest value; of the others it is the lowest."""


class Page:
    """Samples by metric, written once at the end, each under its TYPE."""

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}
        self.samples: dict[str, dict[str, float]] = {}

    def add(self, name: str, value: float, kind: str = "counter", suffix: str = "", **labels: str) -> None:
        """One sample; `toolips_dns_` goes in front of the name."""
        text = ",".join(f'{key}="{_escaped(each)}"' for key, each in labels.items())
        found = f"toolips_dns_{name}{suffix}{{{text}}}" if text else f"toolips_dns_{name}{suffix}"
        self.kinds.setdefault(name, kind)
        samples = self.samples.setdefault(name, {})
        samples[found] = samples.get(found, 0) + value

    def table(self, name: str, label: str, counts: Mapping[str, int]) -> None:
        """A counter with one label."""
        self.kinds.setdefault(name, "counter")
        for key, count in sorted(counts.items()):
            self.add(name, count, **{label: key})

    def take(self, facts: Mapping[str, Any], *, ended: bool = False) -> None:
        """Add what another process told with `facts`. Of one that has `ended` only what it counted."""
        for name, kind in facts["kinds"].items():
            if kind == "gauge" and ended:
                continue
            self.kinds.setdefault(name, kind)
            samples = self.samples.setdefault(name, {})
            for key, value in facts["samples"].get(name, {}).items():
                if key not in samples:
                    samples[key] = value
                elif kind != "gauge" or name in ADDED:
                    samples[key] += value
                else:
                    samples[key] = (max if name in HIGHEST else min)(samples[key], value)

    def facts(self) -> dict[str, Any]:
        """The page as plain data, for `take`."""
        return {"kinds": self.kinds, "samples": self.samples}

    def text(self) -> str:
        lines: list[str] = []
        for name, kind in self.kinds.items():
            lines.append(f"# TYPE toolips_dns_{name} {kind}")
            lines += [f"{key} {value:.15g}" for key, value in self.samples.get(name, {}).items()]
        return "\n".join(lines) + "\n"


class Metrics:
    """Counts the answers of one service and writes them as text. What C answered, its stage has counted."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.answers: Counter[tuple[str, str]] = Counter()
        self.queries: Counter[tuple[str, int]] = Counter()
        self.seconds: dict[str, list[int]] = {}
        self.sums: dict[str, float] = {}
        self.cookies: Counter[str] = Counter(client=0, bad=0, good=0)
        self.silent = 0
        self.heard: dict[int, dict[str, Any]] = {}
        """In a supervisor: the last page of each worker, by pid."""
        self.gone: list[dict[str, Any]] = []
        """Likewise: what workers that have ended counted, as one."""
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
        page = self.page()
        self._drops(page, self.service.server)
        return page.text()

    def page(self) -> Page:
        """All but the drops, which the server counts."""
        page = Page()
        self._totals(page)
        self._seconds(page)
        for step in self.service.every_step():
            _cache(page, step)
            _upstreams(page, step)
            if hasattr(step, "lists"):
                for file, hits in step.hits().items():
                    page.add("policy_hits_total", hits, list=file, action=step.answer)
        self._work(page)
        self._limits(page)
        self._zones(page)
        page.table("reloads_total", "result", self.service.reload_results)
        page.add("generation", self.service.reloads, "gauge")
        log = self.service.query_log
        page.add("querylog_lost_total", log.lost if log is not None else 0)
        tap = self.service.dnstap
        page.add("dnstap_lost_total", tap.lost if tap is not None else 0)
        return page

    def facts(self) -> dict[str, Any]:
        """What one worker tells its supervisor."""
        return {**self.page().facts(), "silent": self.silent}

    async def gathered(self, server: Any) -> str:
        """The page of all workers, those that are gone included."""
        try:
            self.heard |= await server.ask_workers("dns-metrics", {})
        except ToolipsError:
            pass  # one ends right now: what they said the last time
        page = Page()
        silent = 0
        for pid, facts in self.heard.items():
            page.take(facts, ended=pid not in server.pids)  # one that ends soon has no gauges any more
            silent += facts["silent"]
        for facts in self.gone:
            page.take(facts, ended=True)
            silent += facts["silent"]
        self.silent = silent
        self._drops(page, server)
        return page.text()

    def parted(self, process: Any) -> None:
        """A worker has ended: keep what it counted, by its last words or else by the last page."""
        facts = process.parting.get("dns-metrics") or self.heard.get(process.pid)
        self.heard.pop(process.pid, None)
        if facts is None:
            return
        sums = Page()
        for each in (*self.gone, facts):
            sums.take(each, ended=True)
        self.gone = [{**sums.facts(), "silent": sum(each["silent"] for each in (*self.gone, facts))}]

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
        for transport, count in sorted(self.service.connections.items()):
            page.add("stream_connections", count, "gauge", transport=transport)

    def _drops(self, page: Page, server: Any) -> None:
        if server is not None:
            dropped = {word: server.counters[word] for word in DROPS if word != ANSWERED}
            dropped["denied"] += self.silent
            page.table("dropped_total", "reason", dropped)
            page.add("receive_overflow_total", server.counters["kernel"])

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

    def _work(self, page: Page) -> None:
        """What one question of a client may cost (spec 6.2): how much it did, and who met a limit."""
        forwards = [step for step in self.service.every_step() if hasattr(step, "sizes")]
        sizes: Counter[int] = Counter()
        for step in forwards:
            sizes.update(step.sizes)
        for bound in (*SIZES, 1 << 30):
            text = str(bound) if bound in SIZES else "+Inf"
            count = sum(n for size, n in sizes.items() if size <= bound)
            page.add("questions_upstream", count, "histogram", "_bucket", le=text)
        page.add("questions_upstream", sum(k * n for k, n in sizes.items()), "histogram", "_sum")
        page.add("questions_upstream", sum(sizes.values()), "histogram", "_count")
        limits = {
            "questions": self.service.over_budget,
            "in_flight": sum(step.counters["refused"] for step in forwards),
            "time": sum(step.late for step in forwards),
        }
        page.table("work_limits_total", "limit", limits)

    def _limits(self, page: Page) -> None:
        native = self._native()
        limit = self.service.limit
        if limit is not None:
            counts = Counter(limit.counters)
            counts.update({"slipped": native.get("slipped", 0)})
            counts.update({"dropped": native.get("limited", 0) - native.get("slipped", 0)})
            page.table("ratelimit_total", "action", counts)
        page.table("cookies_total", "result", native.get("cookies", self.cookies))
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
        for transport, asked in sorted(u.asked_by.items()):
            page.add("upstream_queries_total", asked, transport=transport, **label)
        for cause, count in sorted(u.causes.items()):
            page.add("upstream_failures_total", count, cause=cause, **label)
        for session, count in sorted(u.handshakes.items()):
            page.add("upstream_handshakes_total", count, session=session, **label)
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

    async def page(server: Any) -> admin.Page:
        status, kind, text = own(server)
        if not hasattr(server, "ask_workers"):
            return status, kind, text + made.text()
        return status, kind, text + await made.gathered(server)

    admin.PAGES["/metrics"] = page
    control.command("dns-metrics")(lambda server: made.facts())
    control.PARTING["dns-metrics"] = (lambda server: made.facts(), made.parted)
    return made
