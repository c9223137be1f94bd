"""The query log: one line of JSON for each answer, sampled, escaped, bounded (spec O5).

C notes its answers in a ring, Python its own in a queue; a thread makes lines of
both, so that answering never waits for the disk. Imports question, result, names.
"""

from __future__ import annotations

import atexit
import ipaddress
import json
import logging
import os
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

try:
    from .._native import dns as native
except ImportError:
    native = None  # type: ignore[assignment]
from . import names, rrtypes
from .question import Question
from .result import Result

log = logging.getLogger("toolips_udp.dns")
MOST_WAITING = 10_000
LONGEST = 1024
LOOK = 0.05
"""Seconds between looks into the ring."""
TRANSPORTS = ("udp", "tcp", "tls", "https")
RD, AD, CD = 0x0100, 0x0020, 0x0010
MOST_TOLD = 100_000
"""Different texts that a tally keeps of one field."""


class Tally:
    """Counts what answers are about while it is attached: `dns ctl top`."""

    FIELDS = ("name", "client", "type", "rcode", "source", "transport")

    def __init__(self) -> None:
        self.answers = 0
        self.counts: dict[str, Counter[str]] = {field: Counter() for field in self.FIELDS}

    def note(self, facts: dict[str, Any]) -> None:
        self.answers += 1
        for field, counter in self.counts.items():
            if facts[field] in counter or len(counter) < MOST_TOLD:
                counter[facts[field]] += 1

    def most(self, number: int = 10) -> dict[str, Any]:
        """The most frequent of each field, as `[text, count]`."""
        return {field: counter.most_common(number) for field, counter in self.counts.items()}


class QueryLog:
    """Appends to a file. `sample` is the share of answers that are written; `lost` counts those dropped.

    Without a path it only feeds the tallies attached to it.

    >>> service.query_log = QueryLog(Path("queries.jsonl"), sample=0.01)
    """

    def __init__(self, path: Path | None = None, sample: float = 1.0) -> None:
        self.path = path
        self.sample = sample
        self.ring = (
            native.Log(sample) if native is not None and os.environ.get("TOOLIPS_UDP_PURE") != "1" else None
        )
        self.tallies: list[Tally] = []
        self.upstreams: Mapping[int, str] = {}
        """What the numbers of upstreams in the ring mean."""
        self._full = 0
        self._failing = False
        self._queue: queue.Queue[dict[str, Any]] = queue.Queue(MOST_WAITING)
        self._file = _opened(path) if path is not None else None
        self._again = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._write, name="toolips_udp dns query log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def lost(self) -> int:
        """Answers that were to be written and found no room."""
        return self._full + (self.ring.lost if self.ring is not None else 0)

    def note(self, q: Question, result: Result) -> None:
        """One answer of Python goes out."""
        if self.sample < 1.0 and random.random() >= self.sample:
            return
        facts = {
            "time": round(time.time(), 6),
            "client": q.client.host,
            "transport": q.transport,
            "name": q.name,
            "type": q.type,
            "flags": flags(q.query.flags, q.query.do),
            "rcode": rrtypes.rcode_name(result.rcode),
            "source": result.source,
            "microseconds": round((q.service.clock() - q.now) * 1e6),
            **({"upstream": result.upstream} if result.upstream else {}),
            **({"rule": str(q.log["blocked"])[:200]} if "blocked" in q.log else {}),
            **({"ede": result.ede[0][0]} if result.ede else {}),
        }
        try:
            self._queue.put_nowait(facts)
        except queue.Full:
            self._full += 1

    def _write(self) -> None:
        while not self._ending.wait(LOOK):
            self._drain()
        self._drain()

    def _drain(self) -> None:
        while True:
            found = [self._facts(entry) for entry in self.ring.take()] if self.ring is not None else []
            while len(found) < MOST_WAITING:
                try:
                    found.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            if not found:
                break
            for tally in list(self.tallies):
                for facts in found:
                    tally.note(facts)
            if self._file is not None:
                self._append("".join(map(line, found)).encode("ascii"))

    def _facts(self, entry: tuple[Any, ...]) -> dict[str, Any]:
        *rest, upstream = entry
        return facts_of(tuple(rest), self.upstreams.get(upstream, ""))

    def _append(self, octets: bytes) -> None:
        """Whole lines in one write, so that those of several workers do not mix."""
        assert self.path is not None and self._file is not None
        if self._again.is_set():
            self._again.clear()
            try:
                self._file, before = _opened(self.path), self._file
                os.close(before)
            except OSError as wrong:
                log.error("the query log %s cannot be opened again: %s", self.path, wrong.strerror)
        try:
            while octets:
                octets = octets[os.write(self._file, octets) :]
        except OSError as wrong:
            self._full += octets.count(b"\n")
            if not self._failing:
                log.error("the query log %s cannot be written: %s", self.path, wrong.strerror)
            self._failing = True
        else:
            self._failing = False

    def reopen(self) -> None:
        """Go on in a new file of the same name: somebody moved the old one away. Done at a reload."""
        self._again.set()

    def settle(self) -> None:
        """Let the thread take what came until now."""
        time.sleep(3 * LOOK)

    def close(self) -> None:
        """Write what waits and close the file."""
        self._ending.set()
        self._thread.join(2.0)
        if self._file is not None:
            os.close(self._file)
            self._file = None
        atexit.unregister(self.close)


def _opened(path: Path) -> int:
    """The file, for appending; others than its owner and group may not read who asked what."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def line(facts: dict[str, Any]) -> str:
    """The facts as one line, at most 1 KiB: a name that is too long is cut."""
    text = json.dumps(facts)
    if len(text) >= LONGEST:
        text = json.dumps({**facts, "name": facts["name"][:300]})
    return text + "\n"


def flags(bits: int, do: bool) -> str:
    """The question's flags as text, `"rd do"`."""
    named = (("rd", bits & RD), ("ad", bits & AD), ("cd", bits & CD), ("do", do))
    return " ".join(name for name, is_set in named if is_set)


def facts_of(entry: tuple[Any, ...], upstream: str = "") -> dict[str, Any]:
    """What C noted of one answer, as `note` writes it. The time it took is that which it waited for its turn."""
    wall, waited, ip, _, transport, name, qtype, _, bits, do, rcode, ede, source = entry
    return {
        "time": round(wall, 6),
        "client": str(ipaddress.ip_address(ip)),
        "transport": TRANSPORTS[transport],
        "name": names.to_text(name) if name else "",
        "type": rrtypes.type_name(qtype),
        "flags": flags(bits, do),
        "rcode": rrtypes.rcode_name(rcode),
        "source": source,
        "microseconds": round(waited * 1e6),
        **({"upstream": upstream} if upstream else {}),
        **({"ede": ede} if ede is not None else {}),
    }
