"""Finished answers kept for others: keys, ageing, bounds (spec section 4, in Python).

Sans-io: time is an argument. The native stage has its own store; this one
serves forwarders and shared Python answers wherever it is absent. Imports
result, zone, names.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

from . import names, rrtypes
from .result import Result

MOST_POSITIVE = 86_400
MOST_NEGATIVE = 3_600
FAILURE_FIRST, FAILURE_MOST = 5.0, 300.0
STALE_TTL = 30
STALE_AGAIN = 30.0
ENTRY = 400
"""Octets that an entry costs beside its records, roughly."""


class Key(NamedTuple):
    """What makes two questions the same (spec 4.1)."""

    name: bytes
    qtype: int
    do: bool
    cd: bool
    view: str


class Entry:
    __slots__ = (
        "failures",
        "fresh_until",
        "hits",
        "key",
        "result",
        "size",
        "stale_until",
        "stored",
        "tried_at",
    )

    def __init__(self, key: Key, result: Result, stored: float, ttl: float, stale: float) -> None:
        self.key = key
        self.result = result
        self.stored = stored
        self.fresh_until = stored + ttl
        self.stale_until = self.fresh_until + stale
        self.hits = 0
        self.failures = 0
        self.tried_at = 0.0
        sections = (result.answer, result.authority, result.glue, result.additional)
        self.size = ENTRY + sum(
            len(r.owner) + sum(map(len, r.rdatas)) for section in sections for r in section
        )


class AnswerCache:
    """A bounded store of results. A new entry must be hit again to reach the main part (C8)."""

    def __init__(self, size: int = 8 << 20, stale: float = 86_400.0) -> None:
        self.most = size
        self.stale = stale
        self.used = 0
        self.small: OrderedDict[Key, Entry] = OrderedDict()
        self.main: OrderedDict[Key, Entry] = OrderedDict()
        self.small_used = 0
        self.counters = dict.fromkeys(("hits", "misses", "stale", "evictions", "stored"), 0)

    def find(self, key: Key, now: float) -> Entry | None:
        """The entry, fresh or stale; None when there is none or it is too old to be served."""
        entry = self.main.get(key) or self.small.get(key)
        if entry is None or now >= entry.stale_until:
            self.counters["misses"] += 1
            return None
        if now < entry.fresh_until:
            self.counters["hits"] += 1
            entry.hits += 1
        else:
            self.counters["misses"] += 1
        return entry

    def put(self, key: Key, result: Result, now: float) -> bool:
        """Store a result; False when its rules forbid it (TTL 0, negative without SOA, truncated)."""
        ttl = lifetime(result)
        failures = 0
        if result.rcode not in (rrtypes.NOERROR, rrtypes.NXDOMAIN, rrtypes.YXDOMAIN):
            before = self.main.get(key) or self.small.get(key)
            if before is not None and before.failures == 0 and now < before.stale_until:
                return False  # what was good is kept, to be served stale
            failures = (before.failures if before else 0) + 1
            ttl = min(FAILURE_FIRST * 2 ** (failures - 1), FAILURE_MOST)
        if ttl <= 0 or result.tc:
            return False
        stale = 0.0 if failures else self.stale
        entry = Entry(key, result, now, ttl, stale if not failures else FAILURE_MOST)
        entry.failures = failures
        return self.keep(entry)

    def keep(self, entry: Entry) -> bool:
        """Take an entry in, in place of one with its key; False when it is too large."""
        key = entry.key
        again = self._drop(key)
        if entry.size > self.most // 8:
            return False
        self.counters["stored"] += 1
        self.used += entry.size
        if again:
            self.main[key] = entry
        else:
            self.small[key] = entry
            self.small_used += entry.size
        while self.used > self.most:
            self._evict()
        return True

    def _drop(self, key: Key) -> bool:
        entry = self.main.pop(key, None)
        if entry is not None:
            self.used -= entry.size
            return True
        entry = self.small.pop(key, None)
        if entry is not None:
            self.used -= entry.size
            self.small_used -= entry.size
            return entry.hits > 0
        return False

    def _evict(self) -> None:
        if self.small and (self.small_used > self.most // 10 or not self.main):
            key, entry = self.small.popitem(last=False)
            self.small_used -= entry.size
            if entry.hits:
                entry.hits = 0
                self.main[key] = entry
                return
        elif self.main:
            key, entry = self.main.popitem(last=False)
            if entry.hits:
                entry.hits = 0
                self.main[key] = entry
                return
        else:
            return
        self.used -= entry.size
        self.counters["evictions"] += 1

    def flush(self, name: bytes | None = None, *, tree: bool = False, qtype: int | None = None) -> int:
        """Forget everything, a name, or a name and all below it. Returns how many entries."""
        low = name.lower() if name is not None else None
        doomed = [
            key
            for key in [*self.small, *self.main]
            if (low is None or key.name == low or (tree and names.encloses(low, key.name)))
            and (qtype is None or key.qtype == qtype)
        ]
        for key in doomed:
            self._drop(key)
        return len(doomed)

    def __len__(self) -> int:
        return len(self.small) + len(self.main)

    def dump(self, now: float) -> list[str]:
        """One line for each entry: name, type, seconds left, rcode."""
        return [
            f"{names.to_text(k.name)} {rrtypes.type_name(k.qtype)} {max(0, round(e.fresh_until - now))} "
            f"{rrtypes.rcode_name(e.result.rcode)}{' do' * k.do}{' view=' * bool(k.view)}{k.view}"
            for k, e in [*self.small.items(), *self.main.items()]
        ]


class StageCache:
    """What the native stage keeps, as commands and metrics look at a cache."""

    def __init__(self, native: Any) -> None:
        self.native = native

    def __len__(self) -> int:
        return len(self.native)

    @property
    def used(self) -> int:
        """Octets taken."""
        return int(self.native.used)

    @property
    def counters(self) -> dict[str, int]:
        return {
            word: self.native.counters[word] for word in ("hits", "misses", "stale", "evictions", "stored")
        }

    def flush(self, name: bytes | None = None, *, tree: bool = False, qtype: int | None = None) -> int:
        """Forget everything, a name, or a name and all below it. Returns how many entries."""
        return int(self.native.flush(name, tree=tree, type=qtype or 0))

    def dump(self, now: float) -> list[str]:
        """One line for each entry: name, type, seconds left, rcode."""
        return [
            f"{names.to_text(name)} {rrtypes.type_name(qtype)} {max(0, round(stored + fresh - now))} "
            f"{rrtypes.rcode_name(rcode)}{' do' * do}{' view=' * bool(view)}{view or ''}"
            for name, qtype, rcode, stored, fresh, do, cd, view, hits in self.native
        ]


def lifetime(result: Result) -> float:
    """Seconds that a result may be kept: its lowest TTL, or the negative one of its SOA; 0 for never."""
    if result.answer:
        sections = (result.answer, result.authority, result.glue, result.additional)
        ttl = min(r.ttl for section in sections for r in section)
        if result.rcode == rrtypes.NOERROR:
            return min(ttl, MOST_POSITIVE)
    for rrset in result.authority:
        if rrset.type == rrtypes.SOA:
            return min(rrset.ttl, int.from_bytes(rrset.rdatas[0][-4:], "big"), MOST_NEGATIVE)
    return 0


def aged(entry: Entry, now: float) -> Result:
    """The result with its age taken off every TTL; a stale one with 30 s and its extended error."""
    age = int(now - entry.stored)
    stale = now >= entry.fresh_until
    before = entry.result
    made = Result(before.rcode, before.aa)
    made.ad, made.source, made.zone = before.ad, "stale" if stale else "cache", before.zone
    made.ede = list(before.ede)
    for section in ("answer", "authority", "glue", "additional"):
        for rrset in getattr(before, section):
            ttl = STALE_TTL if stale else max(0, rrset.ttl - age)
            getattr(made, section).append(rrset.at(rrset.owner, ttl))
    if stale:
        made.ede.append((19 if before.rcode == rrtypes.NXDOMAIN else 3, ""))
    elif entry.failures:
        made.ede.append((13, ""))
    return made
