"""A clock that moves only when it is told to.

Testing floor: imports nothing of ours. Time is whole nanoseconds, so that sums
of it are exact.
"""

from __future__ import annotations

SECOND = 1_000_000_000


def nanoseconds(seconds: float) -> int:
    """Seconds as whole nanoseconds, rounded to the nearest."""
    return round(seconds * SECOND)


class FakeClock:
    """Stands in for `time.monotonic` and never moves by itself.

    Calling it gives seconds. It never goes back: a negative step is a `ValueError`.

    >>> clock = FakeClock()
    >>> clock.advance(1.5)
    >>> clock()
    1001.5
    """

    __slots__ = ("ns",)

    def __init__(self, start: float = 1000.0):
        self.ns = nanoseconds(start)
        """Nanoseconds, as `time.monotonic_ns` gives them."""

    def __call__(self) -> float:
        return self.ns / SECOND

    @property
    def now(self) -> float:
        """Seconds."""
        return self.ns / SECOND

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        if seconds < 0:
            raise ValueError(f"a monotonic clock does not go back, and {seconds!r} s would be back")
        self.ns += nanoseconds(seconds)

    def advance_to(self, ns: int) -> None:
        """Move to this instant."""
        if ns < self.ns:
            raise ValueError(f"a monotonic clock does not go back from {self.ns} ns to {ns} ns")
        self.ns = ns
