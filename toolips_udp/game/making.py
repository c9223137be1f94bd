"""Making the bits of snapshots: the plain Python twin of native/snapshot.c, and the choice between the two.

Game floor: imports bits, fields and interest; the native core where there is one. Both give the same bytes,
which a test holds. A plan belongs to a `Snapshots`; a `Made` is one snapshot of one room; its `body` gives
each client its bits. What a client holds after it (a frame) and what it still misses are of the maker's own kind.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from .bits import Bits, golomb, packed, zigzag
from .fields import Field
from .interest import Grid, Near

State = tuple[int, ...]
"""How often an entity has jumped, then the whole numbers of its fields."""
Frame = dict[int, State]
"""What a client holds after a snapshot, by entity."""

Urgent = dict[int, float]
"""What a client still misses: by entity, the priority gathered while unsent."""


def core() -> tuple[Any, Any, Any, Any]:
    """`Made` and `Plan`, the empty frame, and that nothing is missed: native ones where there are any."""
    if os.environ.get("TOOLIPS_UDP_PURE") != "1":
        try:
            from .._native import snapshot
        except ImportError:
            pass
        else:
            return snapshot.Made, snapshot.Plan, b"", b""
    return Made, Plan, {}, {}


class Plan:
    """What all snapshots of one kind have in common. `budget` is in bytes."""

    __slots__ = ("budget", "fields", "get", "near", "quantise")

    def __init__(
        self, fields: dict[str, Field], get: Callable[[Any], tuple[Any, ...]], near: Near | None, budget: int
    ):
        self.fields = list(fields.values())
        self.quantise = [field.q for field in self.fields]
        self.get = get
        self.near = near
        self.budget = budget


class Made:
    """One snapshot of one room, being made for each of its clients."""

    __slots__ = ("_bodies", "_entities", "_grid", "_parts", "_plan", "now")

    def __init__(self, plan: Plan, entities: list[Any]):
        """`entities` by rising id."""
        quantise, get = plan.quantise, plan.get
        self._plan = plan
        self.now: Frame = {
            e.id: (e._jumps, *[q(x) for q, x in zip(quantise, get(e), strict=True)]) for e in entities
        }
        self._entities = {e.id: e for e in entities}
        self._grid: Grid | None = plan.near.grid(entities) if plan.near is not None else None
        self._bodies: dict[int, tuple[Frame, bytes | None]] = {}
        self._parts: dict[tuple[int, State | None], Bits] = {}

    def body(self, urgent: Urgent, base: Frame, own: Any) -> tuple[bytes, Frame, Urgent] | None:
        """The bits for a client with this base and this own entity; what it will hold; what it still misses.

        None when not even the deaths fit: give it no base.
        """
        if self._grid is None:
            # Each distinct base is compared once. It is kept here, so that its id stays its own.
            whole = self._bodies.get(id(base))
            if whole is None:
                whole = self._bodies[id(base)] = (base, self._pack(base, self.now))
            if whole[1] is not None:
                return whole[1], self.now, {}
        return self._chosen(urgent, base, own)

    def _pack(self, base: Frame, frame: Frame) -> bytes | None:
        bits, size = self._write(base, frame)
        return packed(bits, size) if size <= self._plan.budget * 8 else None

    def _chosen(self, urgent: Urgent, base: Frame, own: Any) -> tuple[bytes, Frame, Urgent] | None:
        """The changes that one client sees, the most urgent ones first when they are too many."""
        now, near = self.now, self._plan.near
        if self._grid is not None and own is not None and near is not None:
            found = self._grid.around(getattr(own, near.x), getattr(own, near.y), base, own.id)
            seen = dict.fromkeys(sorted(found))
        else:
            seen = dict.fromkeys(now)
        changed = [id for id in seen if id not in base or base[id][1:] != now[id][1:]]
        # What does not depend on the choice: a bit per entity of the base, and one more per death.
        room = self._plan.budget * 8 - len(base) - sum(1 for id in base if id not in seen) - 8
        costs = {id: self._part(id, base.get(id))[1] + (1 if id in base else 8) for id in changed}
        left: Urgent = {}
        if sum(costs.values()) > room:
            changed, left = self._most_urgent(urgent, changed, costs, room, own)
        while True:
            frame: Frame = {id: state for id, state in base.items() if id in seen}
            for id in changed:
                frame[id] = now[id]
            body = self._pack(base, frame)
            if body is not None:
                return body, frame, left
            if not changed:
                return None
            # Far-apart births cost a little more than was reckoned: the least urgent waits.
            left[changed.pop()] = 1.0

    def _most_urgent(
        self, urgent: Urgent, changed: list[int], costs: dict[int, int], room: int, own: Any
    ) -> tuple[list[int], Urgent]:
        """As many as fit, by weight x time unsent; what is left out gathers urgency."""
        near, entities = self._plan.near, self._entities
        weigh = near.weight if near is not None else None
        left = {
            id: urgent.get(id, 0.0) + (weigh(entities[id]) if weigh is not None else 1.0) for id in changed
        }
        if own is not None and own.id in costs:
            left[own.id] = float("inf")
        chosen = []
        for id in sorted(changed, key=lambda id: (-left[id], id)):
            if costs[id] <= room:
                room -= costs[id]
                chosen.append(id)
        for id in chosen:
            del left[id]
        return chosen, left

    def _write(self, base: Frame, frame: Frame) -> Bits:
        """The bits that turn one frame into another. Both frames may be in any order."""
        bits = size = 0
        part = self._part
        for id in sorted(base):
            old, new = base[id], frame.get(id)
            if new is None:
                bits, size = bits << 2 | 3, size + 2
            elif new is old or new[1:] == old[1:]:
                bits, size = bits << 1, size + 1
            else:
                more, count = part(id, old)
                bits, size = (bits << 2 | 2) << count | more, size + 2 + count
        last = 0
        for id in sorted(frame.keys() - base.keys()):
            gap, length = golomb(id - last - 1, 0)
            more, count = part(id, None)
            bits, size = ((bits << 1 | 1) << length | gap) << count | more, size + 1 + length + count
            last = id
        return bits << 1, size + 1

    def _part(self, id: int, old: State | None) -> Bits:
        """One entity's fields: all of them whole, or the changes since `old`. Made once per snapshot."""
        key = (id, old)
        found = self._parts.get(key)
        if found is None:
            new, fields = self.now[id], self._plan.fields
            found = self._parts[key] = (
                _whole_part(fields, new) if old is None else _changed_part(fields, old, new)
            )
        return found


def _whole_part(fields: list[Field], new: State) -> Bits:
    bits = size = 0
    for field, value in zip(fields, new[1:], strict=True):
        bits, size = bits << field.bits | value, size + field.bits
    return bits, size


def _changed_part(fields: list[Field], old: State, new: State) -> Bits:
    jumped = int(old[0] != new[0])
    mask, bits, size = jumped, 0, 0
    if jumped:
        bits, size = new[0] & 1, 1
    for field, before, value in zip(fields, old[1:], new[1:], strict=True):
        mask <<= 1
        if before == value:
            continue
        mask |= 1
        if field.raw:
            bits, size = bits << field.bits | value, size + field.bits
            continue
        d = value - before
        if field.wraps:
            half = 1 << (field.bits - 1)
            d = (d + half) % (2 * half) - half
        more, count = golomb(zigzag(d))
        bits, size = bits << count | more, size + count
    return mask << size | bits, size + len(fields) + 1
