"""Snapshots: the state of a room, as differences to what each client has.

Game floor: imports fields, bits, interest and feedback. The server's half; a
client's is `replica.py`. The wire, big-endian:

    [code u8][number u16][base u8: how many snapshots back; 0 is none][tick u32]
    [our clock u32, us][the client's clock as last reported u32, us][held u16, 10 us]
    [lead i8: how many ticks early the last input came][id of the client's own entity u16]

then bits: for each entity of the base, by rising id, 1 if anything changed; then 1 if it
is gone; else teleport, one bit per field, and the changed fields. Births follow: 1, the id's
distance to the last one (Exp-Golomb of order 0), all fields whole; then 0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from operator import attrgetter
from typing import Any
from weakref import WeakKeyDictionary

from .bits import Bits, golomb, packed, zigzag
from .feedback import Feedback, feedback_of
from .fields import Field
from .interest import Near
from .tick import SECOND, Tick

CODE = 0xF1
HEADER = struct.Struct(">BHBIIIHbH")
RING = 32
"""Snapshots that a client may still use as a base."""

State = tuple[int, ...]
Frame = dict[int, State]
"""What a client holds after a snapshot: by entity, the whole numbers of its fields."""


class Entity:
    """One thing in a room. Its fields are attributes; change them, and clients will know.

    `teleport = True` says that the next change is a jump, not a movement to blend.
    """

    __slots__ = ("id", "owner", "teleport")
    id: int
    """1 to 65,535, not used again soon."""
    owner: Any
    """The peer whose own entity it is, or None."""
    teleport: bool

    def __repr__(self) -> str:
        fields = {name: getattr(self, name) for name in type(self).__slots__}
        return f"<Entity {self.id} {fields}>"


class _Hold:
    """One room's entities and the last snapshot made of them."""

    __slots__ = ("entities", "last_id", "made", "number", "slot")

    def __init__(self) -> None:
        self.entities: dict[int, Any] = {}
        self.last_id = 0
        self.number = 0
        self.slot: int | None = None
        self.made: Frame = {}


class _View:
    """What one client was sent of one room."""

    __slots__ = ("bytes", "hold", "ring", "sent", "times", "urgent")

    def __init__(self, hold: _Hold):
        self.hold = hold
        self.ring: dict[int, Frame] = {}
        self.urgent: dict[int, float] = {}  # entity -> priority gathered while unsent
        self.times: dict[int, float] = {}  # when each snapshot left, until it is reported
        self.sent = 0
        self.bytes = 0


class Snapshots:
    """The state of rooms, sent `hz` times a second to their members.

    The keywords are the fields. `near` limits each client to what is around its own
    entity; `budget` is the most bytes of one snapshot, own entity and most urgent first.

    >>> ships = Snapshots(x=fixed(-64, 64, 1 / 128), y=fixed(-64, 64, 1 / 128), hz=20)
    >>> ship = ships.add(room, x=0.0, y=0.0)
    >>> ships.send(room, tick)
    """

    def __init__(
        self,
        *,
        hz: float = 20,
        near: Near | None = None,
        budget: int = 1100,
        code: int = CODE,
        **fields: Field,
    ):
        if not 1 <= len(fields) <= 32:
            raise ValueError(f"Snapshots have 1 to 32 fields, found {len(fields)}")
        wrong = [
            n for n, f in fields.items() if not isinstance(f, Field) or n in Entity.__slots__ or n[0] == "_"
        ]
        if wrong:
            raise ValueError(f"{wrong!r} cannot be fields: each is name=fixed(...) or another of fields.py")
        if near is not None and {near.x, near.y} - set(fields):
            raise ValueError(
                f"Near looks at {near.x!r} and {near.y!r}, which are no fields of {list(fields)}"
            )
        self.fields = dict(fields)
        self.hz = hz
        self.near = near
        self.budget = budget - HEADER.size
        self.code = code
        self.Entity: type[Entity] = type("Entity", (Entity,), {"__slots__": tuple(fields)})
        self._quantise = [field.q for field in fields.values()]
        get = attrgetter(*fields)
        self._get = get if len(fields) > 1 else lambda entity: (get(entity),)
        self._holds: WeakKeyDictionary[Any, _Hold] = WeakKeyDictionary()

    # Entities.

    def add(self, room: Any, owner: Any = None, **values: Any) -> Any:
        """A new entity in a room, with these values; fields not named are 0."""
        unknown = values.keys() - self.fields.keys()
        if unknown:
            raise ValueError(f"no field is called {sorted(unknown)[0]!r}; there are {', '.join(self.fields)}")
        hold = self._hold(room)
        if len(hold.entities) >= 65_000:
            raise ValueError(f"room {room!r} has {len(hold.entities)} entities, which is all there can be")
        entity: Any = self.Entity()
        hold.last_id = hold.last_id % 65_535 + 1
        while hold.last_id in hold.entities or hold.last_id in hold.made:
            hold.last_id = hold.last_id % 65_535 + 1
        entity.id, entity.owner, entity.teleport = hold.last_id, owner, False
        for name, field in self.fields.items():
            setattr(entity, name, values[name] if name in values else field.x(0 if field.raw else field.q(0)))
        hold.entities[entity.id] = entity
        return entity

    def remove(self, room: Any, entity: Any) -> None:
        """An entity is gone. One that is not there (any more) is fine."""
        entities, id = self._hold(room).entities, entity.id
        if entities.get(id) is entity:
            del entities[id]

    def entities(self, room: Any) -> list[Any]:
        """All of a room."""
        return list(self._hold(room).entities.values())

    def own(self, room: Any, peer: Any) -> Any:
        """A peer's own entity, or None."""
        return next((e for e in self._hold(room).entities.values() if e.owner is peer), None)

    def settle(self, entity: Any) -> None:
        """Round an entity's fields to what clients see, so that both sides go on from equal values."""
        for name, field in self.fields.items():
            setattr(entity, name, field.x(field.q(getattr(entity, name))))

    def _hold(self, room: Any) -> _Hold:
        hold = self._holds.get(room)
        if hold is None:
            hold = self._holds[room] = _Hold()
        return hold

    # Sending.

    def send(
        self,
        room: Any,
        tick: Tick,
        peers: Iterable[Any] | None = None,
        channel: int = 0,
    ) -> int:
        """Send a snapshot to the members (or `peers`), when this tick is one for it; how many got one."""
        hold = self._hold(room)
        slot = int(tick.number * tick.dt * self.hz + 1e-6)
        if slot == hold.slot:
            return 0
        hold.slot = slot
        return self.send_now(room, tick, peers, channel)

    def send_now(
        self,
        room: Any,
        tick: Tick,
        peers: Iterable[Any] | None = None,
        channel: int = 0,
    ) -> int:
        """The same, whatever tick it is."""
        from ..peers.delivery import SEQUENCED

        hold = self._hold(room)
        making = _Making(self, hold)
        now = room.hall.game.agenda.clock()
        sent = 0
        owned = {id(e.owner): e for e in hold.entities.values() if e.owner is not None}
        for peer in room.members if peers is None else peers:
            feedback = feedback_of(peer)
            view = feedback.views.get(self)
            if view is None or view.hold is not hold:
                view = feedback.views[self] = _View(hold)
            _time_report(view, feedback)
            own = owned.get(id(peer))
            back, body, frame = making.for_view(view, feedback.acked, own)
            held = (
                0xFFFF
                if not feedback.clock_at
                else min(int((now / SECOND - feedback.clock_at) * 1e5), 0xFFFE)
            )
            head = HEADER.pack(
                self.code, hold.number, back, tick.number & 0xFFFFFFFF, now // 1000 & 0xFFFFFFFF,
                feedback.clock, max(held, 0), feedback.lead, own.id if own is not None else 0,
            )  # fmt: skip
            ring = view.ring
            ring[hold.number] = frame
            view.times[hold.number] = now / SECOND
            if len(ring) > RING:
                oldest = next(iter(ring))
                del ring[oldest]
                view.times.pop(oldest, None)
            view.sent += 1
            view.bytes += len(head) + len(body)
            if feedback.lag is None:
                sent += peer.send(head + body, channel, SEQUENCED) is not False
            else:
                feedback.lag.down(head + body, lambda data, peer=peer: peer.send(data, channel, SEQUENCED))
                sent += 1
        for entity in hold.entities.values():
            entity.teleport = False
        return sent


def _time_report(view: _View, feedback: Feedback) -> None:
    """How long the newest report took since its snapshot left."""
    left = view.times.pop(feedback.acked[0], None) if feedback.acked is not None else None
    if left is not None:
        took = max(0.0, feedback.clock_at - left)
        feedback.rtt += (took - feedback.rtt) / 8 if feedback.rtt else took


class _Making:
    """One snapshot of one room, being made for each of its clients."""

    __slots__ = (
        "bodies",
        "budget",
        "fields",
        "grid",
        "hold",
        "near",
        "now",
        "parts",
        "snapshots",
        "teleport",
    )

    def __init__(self, snapshots: Snapshots, hold: _Hold):
        quantise, get = snapshots._quantise, snapshots._get
        old = hold.made
        now: Frame = {}
        teleport = set()
        for id, entity in sorted(hold.entities.items()):
            state = tuple([q(x) for q, x in zip(quantise, get(entity), strict=True)])
            before = old.get(id)
            now[id] = before if before == state and before is not None else state
            if entity.teleport:
                teleport.add(id)
        hold.number = hold.number % 0xFFFF + 1
        hold.made = now
        self.snapshots = snapshots
        self.hold = hold
        self.now = now
        self.teleport = teleport
        self.fields = list(snapshots.fields.values())
        self.bodies: dict[int, bytes | None] = {}
        self.parts: dict[tuple[int, State | None], Bits] = {}
        self.budget = snapshots.budget
        self.near = snapshots.near
        self.grid = self.near.grid(hold.entities.values()) if self.near is not None else None

    def for_view(self, view: _View, acked: tuple[int, int] | None, own: Any) -> tuple[int, bytes, Frame]:
        """How far back the base is, the bits, and what the client will hold."""
        number, base = self._base(view, acked)
        back = (self.hold.number - number) % 0xFFFF if number else 0
        if self.grid is None:
            key = id(base)
            if key not in self.bodies:
                self.bodies[key] = self._whole(base)
            body = self.bodies[key]
            if body is not None:
                return back, body, self.now
        return back, *self._chosen(view, base, own)

    def _base(self, view: _View, acked: tuple[int, int] | None) -> tuple[int, Frame]:
        """The newest snapshot that the client says it has and that we remember sending."""
        if acked is not None and view.ring:
            newest, mask = acked
            for back in range(RING):
                number = (newest - back - 1) % 0xFFFF + 1
                if (back == 0 or mask >> (back - 1) & 1) and number in view.ring:
                    if (self.hold.number - number) % 0xFFFF > 0xFF:
                        break  # the header cannot say so far back
                    return number, view.ring[number]
        return 0, _NOTHING

    def _whole(self, base: Frame) -> bytes | None:
        """All changes since a base, or None when they are more than the budget."""
        bits, size = self._write(base, self.now)
        return packed(bits, size) if size <= self.budget * 8 else None

    def _chosen(self, view: _View, base: Frame, own: Any) -> tuple[bytes, Frame]:
        """The changes that one client sees, the most urgent ones first when they are too many."""
        now = self.now
        if self.grid is not None and own is not None:
            assert self.near is not None
            x, y = getattr(own, self.near.x), getattr(own, self.near.y)
            seen = dict.fromkeys(self.grid.around(x, y, base, own.id))
        else:
            seen = dict.fromkeys(now)
        urgent = view.urgent
        if urgent and len(urgent) > 4 * len(seen) + 64:
            view.urgent = urgent = {id: p for id, p in urgent.items() if id in seen}
        changed = [id for id in seen if base.get(id) != now[id]]
        # What does not depend on the choice: a bit per entity of the base, and one more per death.
        room = self.budget * 8 - len(base) - sum(1 for id in base if id not in seen) - 8
        costs = {id: self._part(id, base.get(id))[1] + (1 if id in base else 8) for id in changed}
        if sum(costs.values()) > room:
            changed = self._most_urgent(urgent, changed, costs, room, own)
        else:
            for id in changed:
                urgent.pop(id, None)
        while True:
            frame: Frame = {id: state for id, state in base.items() if id in seen}
            for id in changed:
                frame[id] = now[id]
            bits, size = self._write(base, frame)
            if size <= self.budget * 8 or not changed:
                return packed(bits, size), frame
            # Far-apart births cost a little more than was reckoned: the least urgent waits.
            urgent[changed.pop()] = 1.0

    def _most_urgent(
        self, urgent: dict[int, float], changed: list[int], costs: dict[int, int], room: int, own: Any
    ) -> list[int]:
        """As many as fit, by weight x time unsent; what is left out gathers urgency."""
        weigh = self.near.weight if self.near is not None else None
        entities = self.hold.entities
        for id in changed:
            urgent[id] = urgent.get(id, 0.0) + (weigh(entities[id]) if weigh is not None else 1.0)
        if own is not None and own.id in costs:
            urgent[own.id] = float("inf")
        chosen = []
        for id in sorted(changed, key=lambda id: (-urgent[id], id)):
            if costs[id] <= room:
                room -= costs[id]
                chosen.append(id)
                del urgent[id]
        return chosen

    def _write(self, base: Frame, frame: Frame) -> Bits:
        """The bits that turn one frame into another. Both frames may be in any order."""
        bits = size = 0
        part = self._part
        for id in sorted(base):
            old, new = base[id], frame.get(id)
            if new is old or new == old:
                bits, size = bits << 1, size + 1
            elif new is None:
                bits, size = bits << 2 | 3, size + 2
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
        found = self.parts.get(key)
        if found is None:
            new = self.now[id]
            found = self.parts[key] = (
                _whole_part(self.fields, new)
                if old is None
                else _changed_part(self.fields, old, new, id in self.teleport)
            )
        return found


_NOTHING: Frame = {}


def _whole_part(fields: list[Field], new: State) -> Bits:
    bits = size = 0
    for field, value in zip(fields, new, strict=True):
        bits, size = bits << field.bits | value, size + field.bits
    return bits, size


def _changed_part(fields: list[Field], old: State, new: State, teleport: bool) -> Bits:
    mask, bits, size = int(teleport), 0, 0
    for field, before, value in zip(fields, old, new, strict=True):
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
