"""Throttle: how long a source has to wait for the answer to its next login. Sans-io; imports the ground floor.

Ten failures a minute are free. After that the logins of this source are answered one per second, so a right
token is still let in, a little later. Sources are IPv4 addresses and IPv6 /64 networks; the table is bounded.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque

FREE = 10
SPAN = 60.0
STEP = 1.0
LONGEST = 4.0
"""Seconds a login waits at most; with more before it, it fails at once."""
MOST = 10_000


def source_of(host: str) -> str:
    """What counts as one source: an IPv4 address, an IPv6 /64, or any other text as it is."""
    if ":" not in host:
        return host
    try:
        return str(ipaddress.IPv6Network((host.partition("%")[0], 64), strict=False))
    except ValueError:
        return host


class _Source:
    __slots__ = ("failures", "free_at")

    def __init__(self) -> None:
        self.failures: deque[float] = deque(maxlen=FREE + 1)
        self.free_at = 0.0


class Throttle:
    """Failures per source, and the wait that follows from them."""

    def __init__(self) -> None:
        self._sources: OrderedDict[str, _Source] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sources)

    def wait(self, source: str, now: float) -> float | None:
        """Seconds until this login may be judged: 0 for most; None when too many wait already."""
        found = self._sources.get(source)
        if found is None:
            return 0.0
        while found.failures and found.failures[0] <= now - SPAN:
            found.failures.popleft()
        if len(found.failures) < FREE:
            return 0.0
        at = max(found.free_at, now) + STEP
        if at - now > LONGEST:
            return None
        found.free_at = at
        return at - now

    def failed(self, source: str, now: float) -> None:
        """A login of this source has failed."""
        found = self._sources.get(source)
        if found is None:
            if len(self._sources) >= MOST:
                self._sources.popitem(last=False)
            found = self._sources[source] = _Source()
        else:
            self._sources.move_to_end(source)
        found.failures.append(now)
