"""A reload: the new game goes on with the connections of the old one.

Game floor: imports codes of peers. Called by game.py. In the same process the host
itself changes hands. A game of another process gets each connection as bytes of the
native host, with what is plain of the peer's data. What cannot be carried is told
`stopping`, and the log says how many.
"""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Any

from ..peers.peer import AT_ONCE, CODE_OF

if TYPE_CHECKING:
    from .game import Game

_leaving: dict[str, Game] = {}


def offer(game: Game) -> dict[str, Any]:
    """What a game's export says of its connections: how many, and the key under which they lie here."""
    count = len(game.peers)
    if game.server is not None and game.server.hands_over:
        return {"count": count, "language": list(game._language()), "list": _give(game)}
    key = secrets.token_hex(16)
    _leaving[key] = game
    return {"count": count, "key": key}


def _give(game: Game) -> list[dict[str, Any]]:
    """The connections as plain data; the game has them no more."""
    give = getattr(game.host, "give", None)
    if give is None or game._riders:
        return []
    given = []
    for peer in [peer for peer in game.peers.values() if peer.id in game.host.peers]:
        data = dict(peer.data)
        state = give(peer)
        if state is None:
            continue
        told = {"id": peer.id, "joined_at": peer.joined_at, "user_data": peer.user_data}
        given.append({**told, "token": peer.token, "state": state, "data": data})
        game._part(peer)
    return given


def _take(game: Game, offered: dict[str, Any]) -> list[Any]:
    """Peers of what `_give` of another process said."""
    take = getattr(game.host, "take", None)
    if take is None:
        return []
    fits = not game._riders and offered["language"] == list(game._language())
    peers = []
    for told in offered["list"]:
        peer = take(told["state"], game._now(), told["id"], told["joined_at"], told["user_data"])
        if peer is None:
            continue
        if not fits:
            peer.close(AT_ONCE, CODE_OF["stopping"], "stopping")
            continue
        peer.token = told["token"]
        peer.data.update(told["data"])
        peers.append(peer)
    return peers


def withdraw(game: Game) -> None:
    """The game stops: what nobody took is its own to end."""
    for key in [key for key, old in _leaving.items() if old is game]:
        del _leaving[key]


def take_over(game: Game, offered: dict[str, Any]) -> list[Any]:
    """The peers of the game that made the offer, now of this one; none when that is not possible, which is said."""
    peers: list[Any] = _take(game, offered) if "list" in offered else []
    old = _leaving.pop(str(offered.get("key")), None)
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
