"""Presence: the few words about a peer that the others in its rooms know.

Game floor: imports the errors and msgspec. On the wire it is one typed message,
`[255][msgpack array: room, peer id, presence or nil]`, reliable on channel 0.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..errors import TooLong
from .tick import SECOND

CODE = 255
MOST_BYTES = 1024
PAUSE = SECOND // 10


class Presence(msgspec.Struct, array_like=True):
    """What a client gets when somebody's presence has changed; `presence` is None when it left."""

    room: str
    peer: int
    presence: dict[str, Any] | None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Presence)


def encode(value: Presence) -> bytes:
    """As it goes over the wire."""
    return bytes((CODE,)) + _encoder.encode(value)


def decode(data: bytes) -> Presence:
    """What a client reads; `ValueError` (msgspec's) when it is not one."""
    if not data or data[0] != CODE:
        raise ValueError(f"a presence message begins with {CODE}, found {data[:1]!r}")
    return _decoder.decode(data[1:])


class Presences:
    """Tells members about one another, each peer at most ten times a second."""

    def __init__(self, game: Any):
        self.game = game
        self._sent: dict[int, int] = {}  # peer id -> when it was last told
        self._waiting: dict[int, Any] = {}  # peer id -> timer

    def set(self, peer: Any, value: dict[str, Any]) -> None:
        """A peer's presence is this from now on."""
        if not isinstance(value, dict):
            raise TypeError(f"presence is a dict, found {type(value).__name__}")
        size = len(_encoder.encode(value))
        if size > MOST_BYTES:
            raise TooLong(f"the presence of peer {peer.id} is {size} bytes; at most {MOST_BYTES} are allowed")
        if value == peer.presence:
            return
        peer._presence = dict(value)
        if not peer.rooms or peer.id in self._waiting:
            return
        now = self.game.agenda.clock()
        wait = self._sent.get(peer.id, now - PAUSE) + PAUSE - now
        if wait > 0:
            self._waiting[peer.id] = self.game.agenda.after(wait / SECOND, lambda: self._tell(peer))
        else:
            self._tell(peer)

    def joined(self, room: Any, peer: Any) -> None:
        """A newcomer learns of the others, and they of it."""
        for other in room.members:
            if other is not peer and other.presence:
                peer.send(encode(Presence(room.name, other.id, other.presence)))
        if peer.presence:
            self._broadcast(room, peer, peer.presence)

    def left(self, room: Any, peer: Any) -> None:
        """The others forget it."""
        if peer.presence and len(room):
            self._broadcast(room, peer, None)

    def gone(self, peer: Any) -> None:
        """The peer is no more."""
        self._sent.pop(peer.id, None)
        timer = self._waiting.pop(peer.id, None)
        if timer is not None:
            timer.cancel()

    def _tell(self, peer: Any) -> None:
        self._waiting.pop(peer.id, None)
        self._sent[peer.id] = self.game.agenda.clock()
        for room in peer.rooms:
            self._broadcast(room, peer, peer.presence)
            for handlers in room._chain:
                for function in handlers.presence:
                    self.game.call(function, room, peer, peer.presence)

    def _broadcast(self, room: Any, peer: Any, presence: dict[str, Any] | None) -> None:
        room.broadcast(encode(Presence(room.name, peer.id, presence)), exclude=peer)
