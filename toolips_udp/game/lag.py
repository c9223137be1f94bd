"""Bad weather for one player, made by the server: to feel a game as far players do.

Game floor: imports the agenda's unit and, when used, the seeded network. It works on
any transport, also where packets cannot be lost, since it sits above: inputs come late or
not at all, and so do snapshots.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .feedback import feedback_of
from .tick import SECOND


class Lag:
    """The weather between one peer's inputs and snapshots and the game.

    >>> Lag(game, peer, seed=7).set(latency=0.1, loss=0.05)
    """

    def __init__(self, game: Any, peer: Any, seed: int | str = 0):
        from ..testing.network import BadNetwork

        self.game = game
        self.link = BadNetwork(seed, keep=100).link("player")
        feedback_of(peer).lag = self

    def set(self, profile: str | None = None, **knobs: Any) -> None:
        """Turn the knobs of both ways; see `toolips_udp.testing.Knobs`. `ValueError` for one that makes no sense."""
        self.link.set(profile, **knobs)

    def up(self, data: bytes, then: Callable[[bytes], Any]) -> None:
        """An input is on its way to the game."""
        self._carry(self.link.up, data, then)

    def down(self, data: bytes, then: Callable[[bytes], Any]) -> None:
        """A snapshot is on its way to the player."""
        self._carry(self.link.down, data, then)

    def _carry(self, way: Any, data: bytes, then: Callable[[bytes], Any]) -> None:
        now = self.game.agenda.clock()
        for at, copy in way.push(now, data):
            if at <= now:
                then(copy)
            else:
                self.game.agenda.after((at - now) / SECOND, lambda copy=copy: then(copy))
