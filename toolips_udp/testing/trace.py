"""The record of what a bad network did, and its hash.

Testing floor: imports nothing of ours. One entry per datagram sent. Two runs
of one program with one seed have equal hashes; that is the proof that nothing
but the seed decided.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

FATES = ("delivered", "lost", "burst", "queue", "mtu", "cut", "corrupted", "duplicated", "held")
"""Every datagram sent has exactly one. The last three arrived; of several that apply it is the first."""

ARRIVED = ("delivered", "corrupted", "duplicated", "held")


class TraceEntry(NamedTuple):
    """What became of one datagram."""

    time: int
    """Nanoseconds since the start."""
    link: str
    direction: str
    """`up` (client to server) or `down`."""
    number: int
    """Counts the datagrams of this link and direction from 1."""
    size: int
    fate: str
    crc: int
    """CRC-32 of the bytes as sent."""

    def __str__(self) -> str:
        seconds = self.time / 1e9
        return f"{seconds:13.6f} {self.link} {self.direction:4} {self.number:6} {self.size:5} {self.fate}"


class Trace:
    """The newest entries (at least `keep` of them) and the hash of all.

    >>> trace.hash(), [entry for entry in trace if entry.fate == "lost"]
    """

    __slots__ = ("_digest", "_entries", "_keep", "counts", "length")

    def __init__(self, keep: int = 100_000):
        self._keep = keep
        self._entries: list[tuple[int, str, str, int, int, str, int]] = []
        self._digest = hashlib.sha256()
        self.counts: dict[str, int] = dict.fromkeys(FATES, 0)
        """Datagrams by fate; their sum is what was sent."""
        self.length = 0
        """Entries ever added."""

    def add(self, time: int, link: str, direction: str, number: int, size: int, fate: str, crc: int) -> None:
        """Record one datagram."""
        self.counts[fate] += 1
        self.length += 1
        entries = self._entries
        entries.append((time, link, direction, number, size, fate, crc))
        if len(entries) >= self._keep + 65_536:
            self._fold(len(entries) - self._keep)

    def _fold(self, count: int) -> None:
        old = self._entries[:count]
        self._digest.update("".join(map("%d %s %s %d %d %s %08x\n".__mod__, old)).encode())
        del self._entries[:count]

    def hash(self) -> str:
        """Hex SHA-256 of every entry so far."""
        digest = self._digest.copy()
        digest.update("".join(map("%d %s %s %d %d %s %08x\n".__mod__, self._entries)).encode())
        return digest.hexdigest()

    def __iter__(self) -> Iterator[TraceEntry]:
        return map(TraceEntry._make, self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> TraceEntry:
        return TraceEntry._make(self._entries[index])
