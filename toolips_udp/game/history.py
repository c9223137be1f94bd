"""Lag compensation: judging a shot by what the shooter saw.

Game floor: imports nothing of ours. A room's positions of the last second, in
columns per tick; looking back changes nothing.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable
from math import hypot
from typing import Any, NamedTuple


class Hit(NamedTuple):
    """What a shot met first."""

    id: int
    distance: float
    """Along the ray."""
    x: float
    y: float
    """Where the target was, as the shooter saw it."""


class _Column:
    """Everybody's place in one tick."""

    __slots__ = ("ids", "index", "number", "xs", "ys")

    def __init__(self, number: int, entities: Iterable[Any], x: str, y: str):
        self.number = number
        self.ids = array("I")
        self.xs = array("d")
        self.ys = array("d")
        for entity in entities:
            self.ids.append(entity.id)
            self.xs.append(getattr(entity, x))
            self.ys.append(getattr(entity, y))
        self.index = {id: n for n, id in enumerate(self.ids)}


class History:
    """Where everybody was, for `seconds`.

    >>> past = History(hz=60)
    >>> past.record(tick.number, ships.entities(room))
    >>> hit = past.shot(past.view(tick.number, rtt, delay), x, y, dx, dy, reach=50, radius=1)
    """

    def __init__(self, hz: float, seconds: float = 1.0, x: str = "x", y: str = "y"):
        self.hz = hz
        self.seconds = seconds
        self._x = x
        self._y = y
        self._columns: deque[_Column] = deque(maxlen=int(hz * seconds) + 2)

    def record(self, number: int, entities: Iterable[Any]) -> None:
        """Keep the places of this tick. Ticks come in rising order; some may be left out."""
        if self._columns and number <= self._columns[-1].number:
            raise ValueError(f"tick {number} comes after tick {self._columns[-1].number}")
        self._columns.append(_Column(number, entities, self._x, self._y))

    def view(self, number: int, rtt: float, delay: float, lead: float = 0.0) -> float:
        """The tick, with its fraction, that a client saw when it gave its input for tick `number`.

        `rtt` and `delay` (interpolation) are seconds as the server knows them, `lead` is how many
        ticks early the input came. Never more than `seconds` back, never in the future.
        """
        back = (rtt / 2 + delay) * self.hz + max(lead, 0.0)
        return number - min(max(back, 0.0), self.seconds * self.hz)

    def where(self, view: float, id: int) -> tuple[float, float] | None:
        """One entity's place at this tick and fraction; None when it was not there."""
        earlier, later, share = self._around(view)
        if earlier is None or later is None:
            return None
        return _place(earlier, later, share, id)

    def shot(
        self, view: float, x: float, y: float, dx: float, dy: float, *, reach: float, radius: float,
        skip: Iterable[int] = (),
    ) -> Hit | None:  # fmt: skip
        """The first entity that a ray from (x, y) towards (dx, dy) met at that tick, or None.

        Targets are circles of `radius`. Only those near the ray are looked at closely.
        """
        earlier, later, share = self._around(view)
        length = hypot(dx, dy)
        if earlier is None or later is None or not length > 0:
            return None
        ux, uy = dx / length, dy / length
        skipped = set(skip)
        best: Hit | None = None
        # A body moves at most this far between two ticks before the closer look misses it.
        margin = radius + 4.0
        for id, ex, ey in zip(earlier.ids, earlier.xs, earlier.ys, strict=True):
            rx, ry = ex - x, ey - y
            along = rx * ux + ry * uy
            if along < -margin or along > reach + margin or abs(rx * uy - ry * ux) > margin or id in skipped:
                continue
            place = _place(earlier, later, share, id)
            if place is None:
                continue
            hit = _meet(id, place, x, y, ux, uy, reach, radius)
            if hit is not None and (best is None or hit.distance < best.distance):
                best = hit
        return best

    def _around(self, view: float) -> tuple[_Column | None, _Column | None, float]:
        """The two columns around a moment, and how far between them it is."""
        columns = self._columns
        if not columns:
            return None, None, 0.0
        later = columns[-1]
        if view >= later.number:
            return later, later, 0.0
        for n in range(len(columns) - 2, -1, -1):
            earlier = columns[n]
            if earlier.number <= view:
                return earlier, later, (view - earlier.number) / (later.number - earlier.number)
            later = earlier
        return later, later, 0.0


def _place(earlier: _Column, later: _Column, share: float, id: int) -> tuple[float, float] | None:
    a = earlier.index.get(id)
    if a is None:
        return None
    b = later.index.get(id)
    x, y = earlier.xs[a], earlier.ys[a]
    if b is None:
        return x, y
    return x + (later.xs[b] - x) * share, y + (later.ys[b] - y) * share


def _meet(
    id: int, place: tuple[float, float], x: float, y: float, ux: float, uy: float, reach: float, radius: float
) -> Hit | None:
    rx, ry = place[0] - x, place[1] - y
    along = rx * ux + ry * uy
    aside2 = rx * rx + ry * ry - along * along
    if aside2 > radius * radius:
        return None
    distance = along - (radius * radius - aside2) ** 0.5
    if along < 0.0 and rx * rx + ry * ry > radius * radius:
        return None
    distance = max(distance, 0.0)
    return Hit(id, distance, place[0], place[1]) if distance <= reach else None
