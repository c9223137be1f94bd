"""Response rate limiting for sources that are not verified (spec 7.2), in fixed memory.

Sans-io: time is an argument. Counters decay; there is no memory per source: a
prefix is a slot of a hash table keyed anew at each start. Imports access.
"""

from __future__ import annotations

import ipaddress
import os
from array import array
from collections.abc import Iterable
from hashlib import blake2b

from .access import LOOPBACK, Prefixes

SLOTS = 1 << 19
RATIO = 3
"""Octets to a prefix that is at its limit, for each that came."""
V4 = ((32, 1), (24, 32), (20, 256), (18, 768))
V6 = ((128, 1), (64, 2), (56, 3), (48, 4), (32, 64))


class RateLimit:
    """At most `rate` replies per second to an address, with bursts, and to prefixes in proportion.

    `decide` says `"answer"`, `"small"` (answer with at most `RATIO` times the octets of the question, for
    whoever asks at the limit or above), `"slip"` (a truncated reply, so that a real client
    comes by TCP) or `"drop"`. Every `slip`-th limited reply slips; 0 drops all.
    Verified clients and those in `trusted` are never limited.
    """

    def __init__(
        self,
        rate: float = 50.0,
        burst: float = 125.0,
        *,
        slip: int = 2,
        trusted: Iterable[str] = LOOPBACK,
        slots: int = SLOTS,
    ) -> None:
        self.rate = rate
        self.burst = burst
        self.slip = slip
        self.trusted = Prefixes(trusted)
        self.mask = slots - 1
        self.slots = slots
        self.levels = self.times = array("f")
        self.key = os.urandom(16)
        self.limited = 0
        self.counters = {"answered": 0, "slipped": 0, "dropped": 0}
        self.start: float | None = None

    def decide(self, host: str, now: float, share: float = 1.0) -> str:
        """What to do with a reply to this address, which counts as `share` of one."""
        if host in self.trusted:
            return "answer"
        if self.start is None:
            self.start = now
            self.levels, self.times = (array("f", bytes(4 * self.slots)) for _ in range(2))
        since = now - self.start
        over = small = False
        for slot, multiplier in self._slots(host):
            level = self.levels[slot] - (since - self.times[slot]) * self.rate * multiplier
            level = max(level, 0.0)
            most = self.burst * multiplier
            if level + share > most:
                over = True
            else:
                level += share
                small = small or level > most * 15 / 16
            self.levels[slot] = level
            self.times[slot] = since
        if not over:
            self.counters["answered"] += 1
            return "small" if small else "answer"
        self.limited += 1
        if self.slip and self.limited % self.slip == 0:
            self.counters["slipped"] += 1
            return "slip"
        self.counters["dropped"] += 1
        return "drop"

    def _slots(self, host: str) -> list[tuple[int, int]]:
        address = ipaddress.ip_address(host.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped or address
        number, size = int(address), address.max_prefixlen
        found = []
        for length, multiplier in V4 if size == 32 else V6:
            prefix = (number >> (size - length)).to_bytes(17, "big") + bytes((length,))
            digest = blake2b(prefix, digest_size=8, key=self.key).digest()
            found.append((int.from_bytes(digest, "big") & self.mask, multiplier))
        return found
