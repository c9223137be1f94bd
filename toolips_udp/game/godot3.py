"""The dialect of Godot 3's `NetworkedMultiplayerENet`: eight bytes before each payload.

Game floor. Source id and target id, signed 32 bits, little-endian. The server is
1; a client's id is the user data of its CONNECT, never 0. Channel 1 is reliable, 2 the rest,
0 is the engine's own. A peer whose user data is 0 is no Godot 3 client: it speaks plainly, so
that Godot 3, other ENet clients and browsers meet in one game.
"""

from __future__ import annotations

import struct
from typing import Any

from ..peers.delivery import RELIABLE, Delivery
from ..peers.typed import encode

_HEAD = struct.Struct("<ii")
SERVER = 1


def _signed(number: int) -> int:
    return number - (1 << 32) if number >= 1 << 31 else number


class Godot3:
    """Strips and adds the eight bytes. A packet whose source is not the peer's own id is malformed."""

    def open(self, peer: Any, message: Any) -> Any:
        """The message without its head, or None when it is not for the server."""
        if not peer.user_data:
            return message
        data = message.data
        if message.channel == 0:
            return None  # notes of the engine: only servers send them
        if len(data) < _HEAD.size or _HEAD.unpack_from(data)[0] != _signed(peer.user_data):
            peer.malformed("a Godot 3 packet whose source is not the peer's own id")
            return None
        target = _HEAD.unpack_from(data)[1]
        if target not in (SERVER, 0) and not (target < 0 and target != -SERVER):
            return None  # for another client: nothing is relayed unless the game does it
        return type(message)(data[_HEAD.size :], message.channel, message.delivery, message.now)

    class Peer:
        """A mixin above the transport's peer: `send` adds the head and chooses the engine's channel."""

        __slots__ = ()

        def send(self, data: Any, channel: int = 0, delivery: int = RELIABLE, fragment: bool = False) -> bool:
            """As `Peer.send`; the channel follows from the delivery."""
            me: Any = self
            base: Any = super()
            if not me.user_data:
                return bool(base.send(data, channel, delivery, fragment))
            if isinstance(data, str):
                data = data.encode()
            elif not isinstance(data, (bytes, bytearray, memoryview)):
                data = encode(data)
            head = _HEAD.pack(SERVER, _signed(me.user_data))
            channel = 1 if delivery == RELIABLE else 2
            return bool(base.send(head + bytes(data), channel, Delivery(delivery), fragment))
