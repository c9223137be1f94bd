"""One clock for two machines: the server's time as a client knows it.

Game floor: imports nothing of ours. All times are seconds and handed in.
"""

from __future__ import annotations

from collections import deque


class ClockSync:
    """The difference between the server's clock and ours, from samples.

    A sample is t0 (we sent), t1 (the server got it), t2 (the server answered), t3 (we got
    it). Of the last 16 the quarter with the lowest round trip counts, by its median. A
    first estimate or an error of more than `jump` seconds is taken at once; smaller ones by
    turning our clock at most 1 % faster or slower.

    >>> sync.sample(t0, t1, t2, t3)
    >>> sync.server(now)
    """

    keep = 16
    slew = 0.01

    def __init__(self, jump: float = 3 / 60):
        self.jump = jump
        """Three ticks."""
        self.rtt = 0.0
        """The lowest round trip among the samples kept."""
        self.jitter = 0.0
        """The 95th percentile of what the round trips were above that, halved: one way."""
        self.samples = 0
        self.jumps = 0
        self._kept: deque[tuple[float, float]] = deque(maxlen=self.keep)
        self._aim = 0.0
        self._offset = 0.0
        self._at = 0.0
        self._next = 0.0

    def wants(self, now: float) -> bool:
        """Whether a sample is due: ten in the first second, then one a second."""
        if now < self._next:
            return False
        self._next = now + (0.1 if self.samples < 10 else 1.0)
        return True

    def sample(self, t0: float, t1: float, t2: float, t3: float) -> None:
        """Take a sample. One that cannot be (a negative round trip) is left out."""
        rtt = (t3 - t0) - (t2 - t1)
        if not 0.0 <= rtt < 60.0 or t2 < t1:
            return
        self.samples += 1
        self._kept.append((rtt, ((t1 - t0) + (t2 - t3)) / 2))
        by_rtt = sorted(self._kept)
        best = sorted(offset for _, offset in by_rtt[: max(1, len(by_rtt) // 4)])
        middle = len(best) // 2
        self._aim = best[middle] if len(best) % 2 else (best[middle - 1] + best[middle]) / 2
        self.rtt = by_rtt[0][0]
        self.jitter = (by_rtt[min(len(by_rtt) - 1, int(len(by_rtt) * 0.95))][0] - self.rtt) / 2
        if self.samples == 1 or abs(self._aim - self._offset) > self.jump:
            self._offset, self._at = self._aim, t3
            self.jumps += 1

    def guess(self, time: float, now: float) -> None:
        """The server's clock was `time` when it sent what came now: all that is known before the first sample."""
        if not self.samples:
            self._aim = self._offset = time - now
            self._at = now

    def offset(self, now: float) -> float:
        """What is added to our clock to get the server's, now."""
        error = self._aim - self._offset
        step = max(0.0, now - self._at) * self.slew
        self._offset += max(-step, min(step, error))
        self._at = max(self._at, now)
        return self._offset

    def server(self, now: float) -> float:
        """The server's clock when ours shows `now`."""
        return now + self.offset(now)


class InputClock:
    """Which tick a client should play now, so that its inputs arrive in time.

    It runs ahead of the server by half a round trip, the jitter and one tick; each
    snapshot says how many ticks early the last input came, and the clock steers to one or two.

    >>> tick = ahead.tick(now)
    """

    def __init__(self, sync: ClockSync, hz: float):
        self.sync = sync
        self.hz = hz
        self._start: float | None = None
        self._extra = 0.0

    def snapshot(self, tick: int, time: float, lead: int) -> None:
        """A snapshot of this tick was sent at this server time; our last input was `lead` ticks early."""
        start = time - tick / self.hz
        # A snapshot leaves a little after its tick was due: the earliest start seen is the truest.
        self._start = start if self._start is None else min(self._start + 1e-5, start)
        if lead < 1:
            self._extra = min(self._extra + (0.5 if lead < -1 else 0.1), 30.0)
        elif lead > 2:
            self._extra = max(self._extra - max(0.05, (lead - 2) * 0.1), -5.0)

    def server_tick(self, now: float) -> float:
        """The server's tick now, with its fraction."""
        if self._start is None:
            return 0.0
        return (self.sync.server(now) - self._start) * self.hz

    def tick(self, now: float) -> int:
        """The tick whose input should be sent now."""
        ahead = (self.sync.rtt / 2 + self.sync.jitter) * self.hz + 1.0 + self._extra
        return int(self.server_tick(now) + ahead)
