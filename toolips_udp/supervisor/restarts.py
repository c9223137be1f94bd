"""When to start a worker again, and which packets to keep out: decisions only.

Sans-io: times and bytes in, decisions out. Imports nothing of ours.
"""

from __future__ import annotations

import random
import signal
from collections import deque

MANY, WITHIN = 5, 10.0
"""More restarts than this in so many seconds are a crash loop."""
FIRST, LARGEST = 0.1, 5.0
"""Seconds of the first pause, and of the longest."""
GIVE_UP = 60.0
"""Seconds of a crash loop after which the server stops, with exit code 3."""
KEPT_OUT = 600.0
"""Seconds for which a packet that killed two workers is refused."""
REMEMBERED = 64
CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGSYS}


class CrashLoop:
    """How long to wait before the next restart; `None` when it is time to give up."""

    def __init__(self) -> None:
        self._deaths: deque[float] = deque()
        self._since: float | None = None
        self._pause = 0.0

    def died(self, now: float) -> float | None:
        """A worker died at `now`: seconds to wait before its place is taken again."""
        if self._deaths and now - self._deaths[-1] - self._pause > WITHIN:
            self._since, self._pause = None, 0.0  # the last one lived long enough: this is no loop
        self._deaths.append(now)
        while now - self._deaths[0] > WITHIN:
            self._deaths.popleft()
        if self._since is None:
            if len(self._deaths) <= MANY:
                return 0.0
            self._since = now
        if now - self._since >= GIVE_UP:
            return None
        self._pause = min(LARGEST, self._pause * 2 or FIRST)
        return self._pause


class Quarantine:
    """Packets that killed workers: the second death of one keeps it out for ten minutes."""

    def __init__(self) -> None:
        self._suspects: dict[bytes, int] = {}
        self._out: dict[bytes, float] = {}

    def died(self, packet: bytes | None, status: int, now: float) -> bool:
        """A worker ended with `status` while it worked on `packet`. True: keep it out from now on.

        Only an end that a packet can cause counts: a crash signal, or an exit
        status of its own. An operator's SIGKILL or SIGTERM does not.
        """
        if packet is None or status == 0 or (status < 0 and -status not in CRASHES):
            return False
        deaths = self._suspects.pop(packet, 0) + 1
        if deaths < 2:
            self._suspects[packet] = deaths
            while len(self._suspects) > REMEMBERED:
                self._suspects.pop(next(iter(self._suspects)))
            return False
        self._out.pop(packet, None)
        self._out[packet] = now + KEPT_OUT
        while len(self._out) > REMEMBERED:
            self._out.pop(next(iter(self._out)))
        return True

    def packets(self, now: float) -> list[bytes]:
        """What is kept out now."""
        self._out = {packet: until for packet, until in self._out.items() if until > now}
        return list(self._out)


def lifetime(age: float | None, jitter: float = 0.1) -> float | None:
    """A worker's own age limit: spread by a tenth, so that not all restart at once."""
    return None if age is None else age * random.uniform(1 - jitter, 1 + jitter)
