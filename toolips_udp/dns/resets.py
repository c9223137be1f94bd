"""How often streams of one HTTP/2 connection are reset (spec T4; CVE-2023-44487, CVE-2025-8671).

By the client, or by us because of what it sent: both make work that nobody waits for. Sans-io: octets as they
were read or written and a time in. Imports nothing of ours; used by `https`.
"""

from __future__ import annotations

from collections import deque

MOST = 100
WITHIN = 10.0
PREFACE = 24
HEADER = 9
RST_STREAM = 3


class Frames:
    """Walks over the frames of one direction (RFC 9113 sections 3.4, 4.1)."""

    def __init__(self, passing: int) -> None:
        self._passing = passing  # octets that are no header of a frame
        self._header = bytearray()

    def resets(self, data: bytes) -> int:
        """How many RST_STREAM frames begin in the next octets, wherever these are cut."""
        at, end, found = 0, len(data), 0
        while at < end:
            if self._passing:
                step = min(self._passing, end - at)
                self._passing -= step
            else:
                step = min(HEADER - len(self._header), end - at)
                self._header += data[at : at + step]
                if len(self._header) == HEADER:
                    self._passing = int.from_bytes(self._header[:3], "big")
                    found += self._header[3] == RST_STREAM
                    self._header.clear()
            at += step
        return found


class Resets:
    """Counts the resets of both sides."""

    def __init__(self) -> None:
        self._received = Frames(PREFACE)
        self._sent = Frames(0)
        self._times: deque[float] = deque(maxlen=MOST + 1)

    def too_many(self, data: bytes, now: float, *, sent: bool = False) -> bool:
        """Take the next octets; whether over 100 streams were reset within 10 seconds.

        >>> Resets().too_many(bytes(24) + bytes((0, 0, 4, 3)) + bytes(9), 0.0)
        False
        """
        count = (self._sent if sent else self._received).resets(data)
        self._times.extend([now] * min(count, MOST + 1))
        return len(self._times) > MOST and now - self._times[0] <= WITHIN
