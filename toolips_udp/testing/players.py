"""Clients of games in a world: ENet over the simulated network, with stock timers.

Testing floor: imports peers; `hosting.py` makes them when the served module has a Game.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from ..peers.delivery import Delivery
from ..peers.enet import Enet, caps_of
from ..peers.peer import CODES, Leave
from ..peers.typed import encode

_MOST = 1_000_000
TOKEN_CODE = 254


class Player:
    """One client of a game. A node of a world, and what the test holds in its hand.

    >>> ann = world.client()
    >>> ann.send(Say("hello")); world.run(1.0); ann.received(Say)
    """

    def __init__(
        self,
        server: Any,
        touch: Callable[[], None],
        is_in: Callable[[Player], bool],
        types: Any,
        seed: object,
        *,
        channels: int = 2,
        data: int = 0,
        checksum: bool = False,
        compress: bool = False,
        max_message: int = 65_536,
        native: bool | None = None,
        token: bytes | None = None,
        **settings: Any,
    ):
        self.server = server
        self.leave: Leave | None = None
        """How the connection ended; None while it has not."""
        self.messages: deque[Any] = deque(maxlen=_MOST)
        """Every message that came and was not taken, oldest first."""
        self.peer: Any = None
        self.on_message: Callable[[Any], Any] | None = None
        """Called with each message as it comes; then it is not kept in `messages`."""
        self.now = 0.0
        """Seconds of this client's clock, as of its last turn."""
        self.data: dict[Any, Any] = {}
        """Yours."""
        self._touch = touch
        self._is_in = is_in
        self._types = types
        self._asked = (channels, data)
        secret = random.Random(f"{seed}").randbytes(16)
        self.host = Enet(checksum=checksum).host(
            secret,
            native=native,
            accept=0,
            ping=500,
            compress=int(compress),
            **caps_of(max_message),
            **settings,
        )
        self.host.encode = encode
        self.host.wake = touch
        self.token: bytes | None = token
        """What takes this peer over after it vanished; first the one given, then the new one."""
        self._given = token

    @property
    def open(self) -> bool:
        """Whether messages can be sent."""
        return self.leave is None and self.peer is not None and bool(self.peer.open)

    @property
    def stats(self) -> Any:
        """The figures of the connection; see `peers.PeerStats`."""
        return self.peer.stats

    def send(
        self, data: Any, channel: int = 0, delivery: Delivery = Delivery.RELIABLE, fragment: bool = False
    ) -> bool:
        """Queue a message; it leaves when time passes. False when the connection has ended."""
        sent = self.peer is not None and bool(self.peer.send(data, channel, delivery, fragment))
        self._touch()
        return sent

    def received(self, kind: type | None = None) -> list[Any]:
        """What has come, in order: the bytes of every message, or the values of one type of message."""
        if kind is None:
            return [message.data for message in self.messages]
        values = (self._types.decode(message.data) for message in self.messages)
        return [value for value in values if isinstance(value, kind)]

    def close(self, code: int = 0) -> None:
        """Leave; the server is told `code`."""
        if self.peer is not None:
            self.peer.close(2, code, "left")
            self._touch()

    def joined(self) -> bool:
        """Whether the server's `on_join` has run. `ConnectionRefusedError` when it refused."""
        if self.leave is not None:
            why = CODES.get(self.leave.code, f"code {self.leave.code}")
            raise ConnectionRefusedError(f"{self.server} ended the connection: {why}")
        return self.open and self._is_in(self)

    # A node.

    def receive(self, now: int, data: bytes, source: Any) -> None:
        """One datagram."""
        self.host.receive(now, source, data)

    def turn(self, now: int) -> Iterable[tuple[bytes, Any]]:
        """Connect at the first turn; then whatever is due."""
        self.now = now / 1e9
        if self.peer is None:
            self.peer = self.host.connect(self.server, *self._asked, now=now)
        self.host.advance(now)
        for kind, _, what in self.host.events():
            if kind == "join" and self._given is not None:
                self.peer.send(bytes((TOKEN_CODE,)) + self._given)
            elif kind == "message" and len(what.data) == 17 and what.data[0] == TOKEN_CODE:
                self.token = what.data[1:]
            elif kind == "message":
                if self.on_message is not None:
                    self.on_message(what)
                else:
                    self.messages.append(what)
            elif kind == "leave":
                word, code, by_peer, seconds = what
                known = CODES.get(code) if by_peer else None
                self.leave = Leave(known or word, code, "server" if by_peer else "peer", seconds)
        self.host.advance(now)
        out: list[tuple[bytes, Any]] = self.host.outgoing()
        return out

    def deadline(self) -> int | None:
        """When the protocol wants to be woken."""
        due: int | None = self.host.deadline()
        return due
