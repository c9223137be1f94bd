"""The schedule of `router_threads`: which worker serves the next packet.

Imports errors only. Made once at start; the endpoint asks it for each packet of a
plain `def` handler.
"""

from __future__ import annotations

from typing import Any

from ..errors import StartError


class Schedule:
    """Counts from `low` to `high` and again, one number per packet: below 2 is the main loop, n is worker n.

    >>> schedule = Schedule(-2, 3)
    >>> [schedule.pick(None) for _ in range(6)]
    [1, 1, 1, 1, 2, 3]
    """

    __slots__ = ("_next", "high", "last", "low")

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high
        self.last = 1
        """What the last `pick` gave."""
        self._next = low

    def pick(self, c: Any) -> int:
        """The worker of this packet. On the loop's thread only."""
        number = self._next
        self._next = self.low if number >= self.high else number + 1
        self.last = number if number > 1 else 1
        return self.last


def read(router_threads: Any, threads: int | None) -> Schedule | None:
    """The schedule of a server, or None when every packet stays on the main loop.

    `(-2, 3)`, `"-2:3"` and `range(-2, 4)` mean the same; the default is `-2:threads`. Without a
    pool the setting is ignored. A value above `threads`, or one that is no range, is a `StartError`.
    """
    if threads is None or threads < 2:
        return None
    low, high = (-2, threads) if router_threads is None else _ends(router_threads)
    if low > high:
        raise StartError(
            f"router_threads={router_threads!r} begins at {low}, above its end {high}",
            code="bad-router-threads",
        )
    if high > threads:
        raise StartError(
            f"router_threads={router_threads!r} names worker {high}, but threads={threads} makes workers 1 "
            f"to {threads}. Fix: threads={high}, or a range that ends at {threads}",
            code="bad-router-threads",
        )
    return Schedule(low, high) if high > 1 else None


def _ends(value: Any) -> tuple[int, int]:
    """The first and the last number of a range as users write it."""
    if isinstance(value, range) and value.step == 1 and len(value):
        return value[0], value[-1]
    if isinstance(value, str):
        low, colon, high = value.partition(":")
        try:
            return int(low), int(high if colon else low)
        except ValueError:
            pass
    if isinstance(value, tuple | list) and len(value) == 2 and all(type(each) is int for each in value):
        return value[0], value[1]
    raise StartError(
        f"router_threads={value!r} is not a range of workers. "
        "Expected (low, high), 'low:high' or a range, as in '-2:3'",
        code="bad-router-threads",
    )
