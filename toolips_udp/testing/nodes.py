"""What can stand in a world: the shape of a node, and the ready ones.

Testing floor: imports the address and the clock's unit. A node has no clock
and no socket: the world hands it datagrams and the time, takes what leaves,
and asks when it wants to be woken.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, Protocol, runtime_checkable

Place = Hashable
"""Where a node is: an `Address`, or anything hashable in worlds of your own."""


@runtime_checkable
class Node(Protocol):
    """One program of a world. All times are nanoseconds of the node's own clock."""

    def receive(self, now: int, data: bytes, source: Any) -> None:
        """Take one datagram. Called before `turn`, possibly several times."""
        ...

    def turn(self, now: int) -> Iterable[tuple[bytes, Any]]:
        """Run what is due; give the datagrams that leave, each with its destination."""
        ...

    def deadline(self) -> int | None:
        """When `turn` is wanted next without a datagram; None: never. Asked after each turn."""
        ...


class SansIo:
    """A sans-io protocol as a node.

    It has `receive(now, address, data)`, `advance(now)`, `outgoing()` and `deadline()`.
    `outgoing()` gives `(data, address)` pairs. `after`, if given, is called with the
    protocol and the time after each turn: the place to take its events.
    """

    __slots__ = ("after", "protocol")

    def __init__(self, protocol: Any, after: Callable[[Any, int], None] | None = None):
        self.protocol = protocol
        self.after = after

    def receive(self, now: int, data: bytes, source: Any) -> None:
        self.protocol.receive(now, source, data)

    def turn(self, now: int) -> Iterable[tuple[bytes, Any]]:
        self.protocol.advance(now)
        if self.after is not None:
            self.after(self.protocol, now)
        return list(self.protocol.outgoing())

    def deadline(self) -> int | None:
        due: int | None = self.protocol.deadline()
        return due


class Caller:
    """A plain datagram client: what it sends goes to one server, what comes back is kept.

    >>> client.send(b"ping"); world.run(1.0); client.received()
    [b'pong']
    """

    __slots__ = ("_out", "_replies", "now", "server", "touch")

    def __init__(self, server: Any, touch: Callable[[], None]):
        self.server = server
        self.touch = touch
        self.now = 0
        self._out: list[bytes] = []
        self._replies: list[bytes] = []

    def send(self, data: bytes | str) -> None:
        """Send one datagram to the server, now."""
        self._out.append(data.encode() if isinstance(data, str) else bytes(data))
        self.touch()

    def received(self) -> list[bytes]:
        """Every datagram that has come, in order of arrival."""
        return list(self._replies)

    def pop(self) -> bytes:
        """The oldest of them, and forget it; `IndexError` when there is none."""
        return self._replies.pop(0)

    def receive(self, now: int, data: bytes, source: Any) -> None:
        if source == self.server:
            self._replies.append(data)

    def turn(self, now: int) -> Iterable[tuple[bytes, Any]]:
        out, self._out = self._out, []
        return [(data, self.server) for data in out]

    def deadline(self) -> int | None:
        return None
