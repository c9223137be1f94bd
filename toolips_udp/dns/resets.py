"""How often a client has reset streams of one HTTP/2 connection (spec T4; CVE-2023-44487).

Sans-io: octets as they were read and a time in. Imports nothing of ours; used by `https`.
"""

from __future__ import annotations

from collections import deque

MOST = 100
WITHIN = 10.0
PREFACE = 24
HEADER = 9
RST_STREAM = 3


class Resets:
    """Walks over the frames of what a client sends, and counts RST_STREAM (RFC 9113 sections 3.4, 4.1, 6.4)."""

    def __init__(self) -> None:
        self._passing = PREFACE  # octets that are no header of a frame
        self._header = bytearray()
        self._times: deque[float] = deque(maxlen=MOST + 1)

    def too_many(self, data: bytes, now: float) -> bool:
        """Take the next octets; whether over 100 streams were reset within 10 seconds.

        >>> Resets().too_many(bytes(24) + bytes((0, 0, 4, 3)) + bytes(9), 0.0)
        False
        """
        at, end = 0, len(data)
        while at < end:
            if self._passing:
                step = min(self._passing, end - at)
                self._passing -= step
            else:
                step = min(HEADER - len(self._header), end - at)
                self._header += data[at : at + step]
                if len(self._header) == HEADER:
                    self._passing = int.from_bytes(self._header[:3], "big")
                    if self._header[3] == RST_STREAM:
                        self._times.append(now)
                    self._header.clear()
            at += step
        return len(self._times) > MOST and now - self._times[0] <= WITHIN
