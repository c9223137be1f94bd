"""Browsers: what a game is to the WebSocket carrier. Game floor: imports peers only."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ..peers.peer import CODE_OF
from ..peers.typed import encode
from ..peers.websocket import WebSocketPeer


class Browsers:
    """Joins, messages and ends of WebSocket peers, as the ENet host gives those of its own."""

    encode = staticmethod(encode)

    def __init__(self, game: Any) -> None:
        self._game = game
        self.carried = 0
        """How many are in the game."""
        self._class: type | None = None

    @property
    def channels(self) -> int:
        """Channels of the game."""
        return int(self._game._settings["channels"])

    @property
    def max_message(self) -> int:
        """Bytes of a message."""
        return int(self._game._settings["max_message"])

    @property
    def rate(self) -> float:
        """Messages a second of one of them."""
        return float(self._game._settings["rate"])

    @property
    def byte_rate(self) -> float:
        """Bytes a second of one of them."""
        return float(self._game._settings["byte_rate"])

    @property
    def limit_loopback(self) -> bool:
        """Whether those of this machine are limited too."""
        return bool(self._game._settings["limit_loopback"])

    @property
    def peer_class(self) -> type:
        """Peers with the rooms of this game."""
        if self._class is None:
            members = {"game": self._game, "hall": self._game.rooms}
            self._class = type("BrowserPeer", (self._game.member, WebSocketPeer), members)
        return self._class

    def now(self) -> float:
        """Monotonic seconds."""
        return float(self._game._clock() / 1e9)

    def new_id(self) -> int:
        """An id that no peer of this game had."""
        return int(self._game.host.new_id())

    def room_for(self, address: Any) -> int:
        """0, or the code of the refusal."""
        if address.host in self._game.bans:
            return CODE_OF["banned"]
        return CODE_OF["full"] if len(self._game.peers) >= self._game._settings["max_peers"] else 0

    def joined(self, peer: Any) -> None:
        """A browser is in."""
        self.carried += 1
        self._game._joined(peer)

    def received(self, peer: Any, message: Any) -> None:
        """It said something."""
        self._game._received(peer, message)

    def left(self, peer: Any, word: str, code: int, by_peer: bool, seconds: float) -> None:
        """It is gone."""
        self.carried -= 1
        self._game._left(peer, word, code, by_peer, seconds)

    def failed(self, peer: Any, error: BaseException) -> None:
        """A handler raised."""
        self._game.failed(peer, error)

    def broadcast(self, peers: Collection[Any], data: Any, channel: int, delivery: int, exclude: Any) -> int:
        """To those of `peers` that are browsers; how many queued it."""
        if not isinstance(data, (bytes, bytearray, memoryview, str)):
            data = encode(data)
        return sum(
            peer.send(data, channel, delivery)
            for peer in peers
            if isinstance(peer, WebSocketPeer) and channel < peer.channels and peer not in exclude
        )
