"""Interest: what is near enough for a client to be told about.

Game floor: imports nothing of ours. A grid of cells as large as the view: the
cost of a snapshot is entities + pairs that are near, never entities x clients.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import floor
from typing import Any


class Near:
    """The near-only view: an entity comes in at `radius` and goes out at 1.15 times that.

    `x` and `y` name the fields of the position. `weight(entity)` says how urgent an
    entity is when not all fit into one snapshot (default 1).

    >>> ships = Snapshots(x=fixed(...), y=fixed(...), near=Near(20.0))
    """

    out = 1.15

    def __init__(self, radius: float, x: str = "x", y: str = "y", weight: Any = None):
        if not radius > 0:
            raise ValueError(f"Near({radius!r}): the radius is above 0")
        self.radius = radius
        self.x = x
        self.y = y
        self.weight = weight

    def grid(self, entities: Iterable[Any]) -> Grid:
        """Where everybody is now. Made once per snapshot, asked once per client."""
        return Grid(self, entities)


class Grid:
    """Entities by cell."""

    __slots__ = ("_cells", "_in", "_out", "_size", "_where")

    def __init__(self, near: Near, entities: Iterable[Any]):
        self._size = near.radius * near.out
        self._in = near.radius**2
        self._out = self._size**2
        self._where: dict[int, tuple[float, float]] = {}
        cells: dict[tuple[int, int], list[int]] = {}
        name_x, name_y, size = near.x, near.y, self._size
        for entity in entities:
            x, y = getattr(entity, name_x), getattr(entity, name_y)
            self._where[entity.id] = (x, y)
            cells.setdefault((floor(x / size), floor(y / size)), []).append(entity.id)
        self._cells = cells

    def around(self, x: float, y: float, seen: Any, always: int = 0) -> list[int]:
        """The ids in view from a place. `seen` are those in view before; `always` is one's own."""
        found = []
        column, row = floor(x / self._size), floor(y / self._size)
        where, inner, outer, cells = self._where, self._in, self._out, self._cells
        for i in (column - 1, column, column + 1):
            for j in (row - 1, row, row + 1):
                for id in cells.get((i, j), ()):
                    ex, ey = where[id]
                    d = (ex - x) * (ex - x) + (ey - y) * (ey - y)
                    if d <= inner or (d <= outer and id in seen) or id == always:
                        found.append(id)
        return found
