"""Prometheus metrics of a service, on the admin listener of its server (spec O4).

Labels are fixed: never a client's or a question's text. Imports service and control.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ..servers import admin
from . import rrtypes
from .question import Question
from .result import Result

if TYPE_CHECKING:
    from .service import Service

TRANSPORTS = ("udp", "tcp", "tls", "https")


class Metrics:
    """Counts the answers of one service and writes them as text. What C answered, its stage has counted."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.answers: Counter[tuple[str, str]] = Counter()
        self.queries: Counter[str] = Counter()
        service.metrics = self.note

    def note(self, q: Question, result: Result) -> None:
        """One answer goes out."""
        self.answers[rrtypes.rcode_name(result.rcode), result.source] += 1
        self.queries[q.transport] += 1

    def text(self) -> str:
        """The page, all names prefixed `toolips_dns_`."""
        queries, answers = Counter(self.queries), Counter(self.answers)
        if self.service.half is not None:
            native = self.service.half.stage.counters
            queries.update({name: n for name, n in native["transports"].items() if n})
            answers.update(
                {(rrtypes.rcode_name(r), source): n for (r, source), n in native["answers"].items()}
            )
        lines = _table("queries_total", "transport", queries)
        lines.append("# TYPE toolips_dns_answers_total counter")
        for (rcode, source), count in sorted(answers.items()):
            lines.append(f'toolips_dns_answers_total{{rcode="{rcode}",source="{source}"}} {count}')
        for step in self.service.every_step():
            lines += self._step(step)
        limit = self.service.limit
        if limit is not None:
            lines += _table("ratelimit_total", "action", limit.counters)
        lines += ["# TYPE toolips_dns_zone_serial gauge"]
        for zone in self.service.zones():
            lines.append(f'toolips_dns_zone_serial{{zone="{_escaped(zone.name)}"}} {zone.serial}')
        lines += [
            "# TYPE toolips_dns_reloads_total counter",
            f"toolips_dns_reloads_total {self.service.reloads}",
        ]
        return "\n".join(_once(lines)) + "\n"

    def _step(self, step: Any) -> list[str]:
        lines: list[str] = []
        cache = getattr(step, "cache", None)
        if cache is not None:
            lines += ["# TYPE toolips_dns_cache_entries gauge", f"toolips_dns_cache_entries {len(cache)}"]
            lines += ["# TYPE toolips_dns_cache_bytes gauge", f"toolips_dns_cache_bytes {cache.used}"]
            for name in ("hits", "misses", "evictions"):
                lines.append(f"# TYPE toolips_dns_cache_{name}_total counter")
                lines.append(f"toolips_dns_cache_{name}_total {cache.counters[name]}")
            lines += [
                "# TYPE toolips_dns_coalesced_total counter",
                f"toolips_dns_coalesced_total {step.counters['coalesced']}",
            ]
        group = getattr(step, "group", None)
        for u in group.upstreams if group else ():
            label = f'{{upstream="{_escaped(u.url)}"}}'
            lines += [
                "# TYPE toolips_dns_upstream_queries_total counter",
                f"toolips_dns_upstream_queries_total{label} {u.asked}",
            ]
            lines += [
                "# TYPE toolips_dns_upstream_failures_total counter",
                f"toolips_dns_upstream_failures_total{label} {u.failed}",
            ]
            lines += [
                "# TYPE toolips_dns_upstream_up gauge",
                f"toolips_dns_upstream_up{label} {int(not u.down)}",
            ]
            if u.rtt is not None:
                lines += [
                    "# TYPE toolips_dns_upstream_rtt_seconds gauge",
                    f"toolips_dns_upstream_rtt_seconds{label} {u.rtt:.6f}",
                ]
        if hasattr(step, "lists"):
            lines += _table("policy_hits_total", "action", step.counters)
        return lines


def _table(name: str, label: str, counts: dict[str, int]) -> list[str]:
    found = [f"# TYPE toolips_dns_{name} counter"]
    return found + [f'toolips_dns_{name}{{{label}="{key}"}} {count}' for key, count in sorted(counts.items())]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _once(lines: list[str]) -> list[str]:
    """Each TYPE line once, before the first of its samples, samples of one name together."""
    groups: dict[str, list[str]] = {}
    for line in lines:
        name = line.split()[2] if line.startswith("#") else line.partition("{")[0].partition(" ")[0]
        kept = groups.setdefault(name, [])
        if line not in kept:
            kept.append(line)
    return [line for kept in groups.values() for line in kept]


def install(service: Service) -> Metrics:
    """Put the service's metrics on `/metrics`, after the server's own."""
    made = Metrics(service)
    own = admin.metrics

    def page(server: Any) -> admin.Page:
        status, kind, text = own(server)
        return status, kind, text + made.text()

    admin.PAGES["/metrics"] = page
    return made
