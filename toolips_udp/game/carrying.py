"""A reload in the same process: the new game goes on with the connections of the old one.

Game floor: imports nothing of ours. Called by game.py. What C
knows of a peer never leaves the process, so a game of another process begins without
peers, and says how many had to go.
"""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .game import Game

_leaving: dict[str, Game] = {}


def offer(game: Game) -> dict[str, Any]:
    """What a game's export says of its connections: how many, and the key under which they lie here."""
    key = secrets.token_hex(16)
    _leaving[key] = game
    return {"count": len(game.peers), "key": key}


def withdraw(game: Game) -> None:
    """The game stops: what nobody took is its own to end."""
    for key in [key for key, old in _leaving.items() if old is game]:
        del _leaving[key]


def take_over(game: Game, offered: dict[str, Any]) -> list[Any]:
    """The peers of the game that made the offer, now of this one; none when that is not possible, which is said."""
    old = _leaving.pop(str(offered.get("key")), None)
    peers: list[Any] = []
    if old is not None and _fits(game, old):
        peers = [peer for peer in old.peers.values() if peer.id in old.host.peers]
        host = old.host
        host.adopt(game.host)
        game.host = host
        old._let_go(peers)
    left = int(offered.get("count", 0)) - len(peers)
    if left > 0 and game.server is not None:
        text = (
            "connections of the game could not be carried over: they are told `stopping` and may come again"
        )
        game.server.journal.say(logging.INFO, f"{left} {text}")
    return peers


def _fits(game: Game, old: Game) -> bool:
    """Whether the host of one serves the other: same language, same transport, nobody who rides on it."""
    same = type(game.host) is type(old.host) and game._language() == old._language()
    return same and not game._riders and not old._riders
