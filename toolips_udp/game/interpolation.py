"""Drawing the others a little in the past, where two snapshots are known.

Game floor: imports fields. Sans-io: the server's time is handed in (see
`ClockSync.server`).
"""

from __future__ import annotations

from collections import deque
from typing import Any

from .fields import Field
from .replica import Snapshot

LONGEST_GUESS = 0.25
"""Seconds for which a movement is continued when the next snapshot does not come; then it holds."""


class Interpolation:
    """The state between snapshots, `delay` seconds ago.

    The delay is two snapshot periods, or one and the 95th percentile of the jitter when
    that is more: 100 ms at 20 Hz. A teleport is never blended.

    >>> between = Interpolation(ships.fields, ships.hz)
    >>> between.push(snapshot)
    >>> between.at(sync.server(now))[7]["x"]
    """

    def __init__(self, fields: dict[str, Field], hz: float, keep: int = 32):
        self.fields = fields
        self.period = 1.0 / hz
        self.jitter = 0.0
        """Set it from `ClockSync.jitter`."""
        self._known: deque[Snapshot] = deque(maxlen=keep)

    @property
    def delay(self) -> float:
        """Seconds."""
        return max(2 * self.period, self.period + self.jitter)

    def push(self, snapshot: Snapshot) -> None:
        """A snapshot has come. One that is older than the newest is left out."""
        if not self._known or snapshot.time > self._known[-1].time:
            self._known.append(snapshot)

    def at(self, server_now: float) -> dict[int, dict[str, Any]]:
        """What to draw at this server time: values by entity and field."""
        known = self._known
        if not known:
            return {}
        when = server_now - self.delay
        if when >= known[-1].time:
            return self._beyond(when)
        later = known[-1]
        for n in range(len(known) - 2, -1, -1):
            earlier = known[n]
            if earlier.time <= when:
                return self._blend(earlier, later, (when - earlier.time) / (later.time - earlier.time))
            later = earlier
        return later.entities

    def _blend(self, earlier: Snapshot, later: Snapshot, share: float) -> dict[int, dict[str, Any]]:
        drawn = {}
        for id, before in earlier.entities.items():
            after = later.entities.get(id)
            if after is None or id in later.teleported or id in later.born:
                drawn[id] = before
            else:
                drawn[id] = {
                    name: field.between(before[name], after[name], share)
                    for name, field in self.fields.items()
                }
        return drawn

    def _beyond(self, when: float) -> dict[int, dict[str, Any]]:
        """Continue the last movement for a while, then hold."""
        newest = self._known[-1]
        if len(self._known) < 2:
            return newest.entities
        before = self._known[-2]
        ahead = min(when - newest.time, LONGEST_GUESS)
        return self._blend_on(before, newest, 1.0 + ahead / (newest.time - before.time))

    def _blend_on(self, before: Snapshot, newest: Snapshot, share: float) -> dict[int, dict[str, Any]]:
        drawn = self._blend(before, newest, share)
        still = {id: values for id, values in newest.entities.items() if id not in drawn}
        gone = [id for id in drawn if id not in newest.entities]
        for id in gone:
            del drawn[id]
        for id in newest.teleported | newest.born:
            if id in drawn:
                drawn[id] = newest.entities[id]
        return drawn | still
