"""Snapshots: the state of a room, as differences to what each client has.

Game floor: imports fields, interest, feedback and making, which writes the bits. The server's
half; a client's is `replica.py`. The wire, big-endian:

    [code u8][number u16][base u8: how many snapshots back; 0 is none][tick u32]
    [our clock u32, us][the client's clock as last reported u32, us][held u16, 10 us]
    [lead i8: how many ticks early the last input came][id of the client's own entity u16]

then bits: for each entity of the base, by rising id, 1 if anything changed; then 1 if it
is gone; else teleport, one bit per field, after a teleport whether the entity has jumped an odd number of
times, and the changed fields. Births follow: 1, the id's distance to the last one (Exp-Golomb of
order 0), all fields whole; then 0. A teleport is told until a snapshot that tells it is the base.

Numbers count what one client was sent, 1 to 65,535 and round, through all rooms and connections it has.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from operator import attrgetter
from typing import Any
from weakref import WeakKeyDictionary

from .feedback import Feedback, feedback_of
from .fields import Field
from .interest import Near
from .making import core
from .tick import SECOND, Tick

CODE = 0xF1
HEADER = struct.Struct(">BHBIIIHbH")
RING = 32
"""Snapshots that a client may still use as a base."""


class Entity:
    """One thing in a room. Its fields are attributes; change them, and clients will know.

    `teleport = True` says that the next change is a jump, not a movement to blend. It is False again
    after the next snapshot, and told until the client has got it.
    """

    __slots__ = ("_jumps", "id", "owner", "teleport")
    id: int
    """1 to 65,535, not used again soon."""
    owner: Any
    """The peer whose own entity it is, or None."""
    teleport: bool
    _jumps: int  # how often it has jumped, 16 bits

    def __repr__(self) -> str:
        fields = {name: getattr(self, name) for name in type(self).__slots__}
        return f"<Entity {self.id} {fields}>"


class _Hold:
    """One room's entities."""

    __slots__ = ("entities", "freed", "last_id", "slot")

    def __init__(self) -> None:
        self.entities: dict[int, Any] = {}
        self.last_id = 0
        self.freed: set[int] = set()
        """Ids of entities removed since the last snapshot, which may not be used again before it."""
        self.slot: int | None = None


class _View:
    """What one client was sent of one room."""

    __slots__ = ("hold", "ring", "times", "urgent")

    def __init__(self, hold: _Hold, urgent: Any):
        self.hold = hold
        self.ring: dict[int, Any] = {}  # by number, what the client holds if it got that snapshot
        self.urgent = urgent  # priority gathered while unsent
        self.times: dict[int, float] = {}  # when each snapshot left, until it is reported

    def base(self, number: int, acked: tuple[int, int] | None) -> int:
        """The newest snapshot that the client says it has and that we remember sending; 0: none.

        What is older will not be asked for again and is forgotten.
        """
        ring = self.ring
        if acked is None or not ring:
            return 0
        newest, mask = acked
        for back in range(RING):
            found = (newest - back - 1) % 0xFFFF + 1
            if (back == 0 or mask >> (back - 1) & 1) and found in ring:
                if (number - found) % 0xFFFF > 0xFF:
                    return 0  # the header cannot say so far back
                while (oldest := next(iter(ring))) != found:
                    self.forget(oldest)
                return found
        return 0

    def keep(self, number: int, frame: Any, now: float) -> None:
        """This was sent."""
        self.ring[number] = frame
        self.times[number] = now
        if len(self.ring) > RING:
            self.forget(next(iter(self.ring)))

    def forget(self, number: int) -> None:
        del self.ring[number]
        self.times.pop(number, None)


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
        get = attrgetter(*fields)
        whole = get if len(fields) > 1 else lambda entity: (get(entity),)
        self._made, plan, self._nothing, self._calm = core()
        self._plan = plan(self.fields, whole, near, self.budget)
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
        while hold.last_id in hold.entities or hold.last_id in hold.freed:
            hold.last_id = hold.last_id % 65_535 + 1
        entity.id, entity.owner, entity.teleport, entity._jumps = hold.last_id, owner, False, 0
        for name, field in self.fields.items():
            setattr(entity, name, values[name] if name in values else field.x(0 if field.raw else field.q(0)))
        hold.entities[entity.id] = entity
        return entity

    def remove(self, room: Any, entity: Any) -> None:
        """An entity is gone. One that is not there (any more) is fine."""
        hold, id = self._hold(room), entity.id
        if hold.entities.get(id) is entity:
            del hold.entities[id]
            hold.freed.add(id)

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
        for entity in hold.entities.values():
            if entity.teleport:
                entity.teleport, entity._jumps = False, entity._jumps + 1 & 0xFFFF
        made = self._made(self._plan, [entity for _, entity in sorted(hold.entities.items())])
        hold.freed.clear()
        clock = room.hall.game.agenda.clock()
        now, micros, tick_number = clock / SECOND, clock // 1000 & 0xFFFFFFFF, tick.number & 0xFFFFFFFF
        sent, pack, code = 0, HEADER.pack, self.code
        owned = {id(e.owner): e for e in hold.entities.values() if e.owner is not None}
        for peer in room.members if peers is None else peers:
            feedback = feedback_of(peer)
            view = feedback.views.get(self)
            if view is None or view.hold is not hold:
                view = feedback.views[self] = _View(hold, self._calm)
            _time_report(view, feedback)
            own = owned.get(id(peer))
            number = feedback.number = feedback.number % 0xFFFF + 1
            base = view.base(number, feedback.acked)
            done = made.body(view.urgent, view.ring[base] if base else self._nothing, own)
            if done is None:  # what is gone since is more than fits: begin anew
                base, done = 0, made.body(view.urgent, self._nothing, own)
            body, frame, view.urgent = done
            held = 0xFFFF
            if feedback.clock_at:
                held = max(0, min(int((now - feedback.clock_at) * 1e5), 0xFFFE))
            head = pack(
                code, number, (number - base) % 0xFFFF if base else 0, tick_number, micros,
                feedback.clock, held, feedback.lead, own.id if own is not None else 0,
            )  # fmt: skip
            view.keep(number, frame, now)
            if feedback.lag is None:
                sent += peer.send(head + body, channel, SEQUENCED) is not False
            else:
                feedback.lag.down(head + body, lambda data, peer=peer: peer.send(data, channel, SEQUENCED))
                sent += 1
        return sent


def _time_report(view: _View, feedback: Feedback) -> None:
    """How long the newest report took since its snapshot left."""
    left = view.times.pop(feedback.acked[0], None) if feedback.acked is not None else None
    if left is not None:
        took = max(0.0, feedback.clock_at - left)
        feedback.rtt += (took - feedback.rtt) / 8 if feedback.rtt else took
