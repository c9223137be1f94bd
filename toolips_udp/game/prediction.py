"""The client plays its own ship at once, and is put right by the server.

Game floor: imports nothing of ours. The step is the game's own rule, the same
function that the server runs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

S = TypeVar("S")

SMOOTH = 0.1
"""Seconds over which a correction is hidden."""
SNAP = 2.0
"""Units beyond which it is not hidden."""
_KEEP = 256


class Prediction(Generic[S]):
    """Applies inputs at once, and replays them after the server's word.

    `step(state, input)` gives the next state and changes nothing. `where(state)` gives the
    position as numbers, for comparing and smoothing. With `epsilon=0` (states
    of whole numbers, or settled to the snapshot's steps) any difference is a correction;
    else only one of more than `epsilon` units.

    >>> me = Prediction(step, where=lambda ship: (ship.x, ship.y), state=Ship())
    >>> me.apply(tick, input)
    >>> me.reconcile(snapshot.tick, server_ship)
    """

    def __init__(
        self,
        step: Callable[[S, Any], S],
        where: Callable[[S], Sequence[float]],
        state: S,
        epsilon: float = 0.0,
    ):
        self.step = step
        self.where = where
        self.state = state
        """As of the newest input."""
        self.epsilon = epsilon
        self.corrections = 0
        self._kept: deque[tuple[int, Any, S]] = deque(maxlen=_KEEP)
        self._error: tuple[float, ...] = ()
        self._error_at = 0.0

    def apply(self, tick: int, input: Any) -> S:
        """This tick's input has been given: act on it now."""
        self.state = self.step(self.state, input)
        self._kept.append((tick, input, self.state))
        return self.state

    def reconcile(self, tick: int, state: S, now: float = 0.0) -> bool:
        """The server's state after `tick` is this. True when ours had to be corrected.

        Ticks that we never played (before the first, or after the newest) take the
        server's state as it is.
        """
        kept = self._kept
        ours: S | None = None
        found = False
        while kept and kept[0][0] <= tick:
            number, _, mine = kept.popleft()
            if number == tick:
                ours, found = mine, True
        if found and self._same(ours, state):
            return False
        shown = self.where(self.state)
        replayed = state
        again = list(kept)
        kept.clear()
        for number, input, _ in again:
            replayed = self.step(replayed, input)
            kept.append((number, input, replayed))
        self.state = replayed
        if not found:
            return False
        self.corrections += 1
        self._hide(shown, now)
        return True

    def visible(self, now: float) -> tuple[float, ...]:
        """Where to draw it: the state's position, and what is left of the last correction."""
        here = tuple(self.where(self.state))
        left = 1.0 - (now - self._error_at) / SMOOTH
        if not self._error or left <= 0.0:
            return here
        return tuple(p + e * min(left, 1.0) for p, e in zip(here, self._error, strict=True))

    def _same(self, ours: Any, theirs: S) -> bool:
        if self.epsilon == 0.0:
            return bool(ours == theirs)
        return _distance(self.where(ours), self.where(theirs)) <= self.epsilon

    def _hide(self, shown: Sequence[float], now: float) -> None:
        """Start from what was drawn, and let the difference fade."""
        left = max(0.0, 1.0 - (now - self._error_at) / SMOOTH) if self._error else 0.0
        before = [e * left for e in self._error] if self._error else [0.0] * len(shown)
        here = self.where(self.state)
        error = tuple(s + b - h for s, b, h in zip(shown, before, here, strict=True))
        self._error = error if _distance(error, [0.0] * len(error)) <= SNAP else ()
        self._error_at = now


def _distance(a: Sequence[float], b: Sequence[float]) -> float:
    total: float = sum((p - q) ** 2 for p, q in zip(a, b, strict=True))
    return float(total**0.5)
