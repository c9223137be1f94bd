"""The client's half of snapshots: differences in, a copy of the room out.

Game floor: imports snapshot, bits, feedback and the clock. Used by the Python
client, bots and tests; the Arena page has the same in JavaScript.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .bits import Reader
from .clocks import ClockSync
from .feedback import pack
from .fields import Field
from .making import Frame, State
from .snapshot import HEADER, RING, Snapshots


class Snapshot:
    """One decoded snapshot."""

    __slots__ = ("born", "dead", "entities", "frame", "lead", "number", "own", "teleported", "tick", "time")

    def __init__(self, number: int, tick: int, time: float, lead: int, own: int, frame: Frame):
        self.number = number
        self.tick = tick
        """The server's tick that it shows."""
        self.time = time
        """The server's clock when it was sent, in seconds (counted on past the wire's wrap)."""
        self.lead = lead
        """How many ticks early our last input came."""
        self.own = own
        """The id of our own entity; 0: none."""
        self.frame = frame
        """Whole numbers by entity."""
        self.born: set[int] = set()
        self.dead: set[int] = set()
        self.teleported: set[int] = set()
        self.entities: dict[int, dict[str, Any]] = {}
        """Values by entity and field."""


class Replica:
    """Follows one server's `Snapshots`. `clock` gives our seconds.

    `receive` takes a snapshot's bytes; what is old, cut off or built on something
    that never came is refused with None and counted, never raised. `feedback()` is what goes back with
    each input.

    >>> replica = Replica(ships, time.monotonic)
    >>> snapshot = replica.receive(message.data)
    """

    def __init__(self, snapshots: Snapshots, clock: Callable[[], float]):
        self.fields: dict[str, Field] = snapshots.fields
        self.code = snapshots.code
        self.clock = clock
        self.sync = ClockSync()
        self.latest: Snapshot | None = None
        self.refused = 0
        self._frames: dict[int, Frame] = {}
        self._jumps: dict[int, dict[int, int]] = {}  # by snapshot, what it told as jumped
        self._mask = 0
        self._time = 0.0

    def receive(self, data: bytes) -> Snapshot | None:
        """Take a snapshot; None when it is of no use."""
        try:
            return self._receive(data)
        except ValueError:
            self.refused += 1
            return None

    def feedback(self) -> bytes:
        """The ten bytes that go with each input; nothing before the first snapshot."""
        if self.latest is None:
            return b""
        return pack(self.latest.number, self._mask, int(self.clock() * 1e6))

    def _receive(self, data: bytes) -> Snapshot | None:
        if len(data) < HEADER.size:
            raise ValueError("shorter than its header")
        code, number, back, tick, sent, echo, held, lead, own = HEADER.unpack_from(data)
        if code != self.code or not number:
            raise ValueError("not a snapshot")
        ahead = (number - self.latest.number) % 0xFFFF if self.latest is not None else 1
        if not 0 < ahead < 0x7FFF:
            return None  # sequenced delivery should not let it through; an old one is of no use
        base: Frame = {}
        if back:
            found = self._frames.get((number - back - 1) % 0xFFFF + 1)
            if found is None:
                raise ValueError("built on a snapshot that we do not have")
            base = found
        now = self.clock()
        time = self._unwrap(sent)
        snapshot = Snapshot(number, tick, time, lead, own, {})
        jumps = self._decode(Reader(data[HEADER.size :]), base, snapshot)
        told: dict[
            int, int
        ] = {}  # since the base: that is told again, as the server did not know that we have it
        for earlier, jumped in self._jumps.items():
            if (number - earlier) % 0xFFFF < back:
                told.update(jumped)
        snapshot.teleported = {id for id, odd in jumps.items() if told.get(id) != odd}
        if held != 0xFFFF:
            t0 = now - (int(now * 1e6) - echo & 0xFFFFFFFF) / 1e6
            self.sync.sample(t0, time - held * 1e-5, time, now)
        else:
            self.sync.guess(time, now)
        frames = self._frames
        frames[number], self._jumps[number] = snapshot.frame, jumps
        while len(frames) > RING:
            oldest = next(iter(frames))
            del frames[oldest], self._jumps[oldest]
        # Bit n of the mask is the snapshot n + 1 before the newest.
        self._mask = (self._mask << 1 | 1) << (ahead - 1) & 0xFFFFFFFF if self.latest is not None else 0
        self.latest = snapshot
        return snapshot

    def _unwrap(self, sent: int) -> float:
        """The server's clock of 32 bits, continued."""
        last = round(self._time * 1e6)
        step = (
            (sent - last + 0x80000000 & 0xFFFFFFFF) - 0x80000000 if self.latest is not None else sent - last
        )
        self._time = (last + step) / 1e6
        return self._time

    def _decode(self, reader: Reader, base: Frame, snapshot: Snapshot) -> dict[int, int]:
        """Fills the snapshot; what has jumped since its base, and whether an odd number of times."""
        frame, fields = snapshot.frame, list(self.fields.values())
        jumps: dict[int, int] = {}
        for id in sorted(base):
            old = base[id]
            if not reader.bits(1):
                frame[id] = old
            elif reader.bits(1):
                snapshot.dead.add(id)
            else:
                frame[id] = self._changed(reader, fields, old, jumps, id)
        last = 0
        while reader.bits(1):
            last += reader.golomb(0) + 1
            if last > 0xFFFF or last in frame:
                raise ValueError("a birth of what is there")
            frame[last] = tuple(reader.bits(field.bits) for field in fields)
            snapshot.born.add(last)
        names = list(self.fields.items())
        for id, state in frame.items():
            snapshot.entities[id] = {name: field.x(q) for (name, field), q in zip(names, state, strict=True)}
        return jumps

    def _changed(
        self, reader: Reader, fields: list[Field], old: State, jumps: dict[int, int], id: int
    ) -> State:
        mask = reader.bits(len(fields) + 1)
        if mask >> len(fields):
            jumps[id] = reader.bits(1)
        new = []
        for n, (field, before) in enumerate(zip(fields, old, strict=True)):
            if not mask >> (len(fields) - 1 - n) & 1:
                new.append(before)
            elif field.raw:
                new.append(reader.bits(field.bits))
            else:
                value = before + reader.zigzag()
                if field.wraps:
                    value %= 1 << field.bits
                if not 0 <= value < 1 << field.bits:
                    raise ValueError("a difference that leaves the field's range")
                new.append(value)
        return tuple(new)
