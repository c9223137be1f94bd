"""WebSocket: browsers as peers, on the HTTP mode of the same server.

Imports routes, deliveries and `Peer`. A frame is binary, `[channel u8][delivery u8][payload]`,
both ways. Everything arrives, in order; a SEQUENCED message takes back what is older on
its channel and has not left yet. Game and Messages open peers here as they do over ENet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from ..address import is_loopback
from ..errors import TooLong
from ..handlers import Route
from .delivery import SEQUENCED, Delivery
from .peer import CODE_OF, Peer

DELIVERIES = tuple(Delivery)


class WebSocket:
    """A path of HTTP mode where browsers join. Needs the server to serve HTTP as well.

    >>> game = Game(Enet(), WebSocket("/play"))
    """

    name = "websocket"

    def __init__(self, path: str = "/play") -> None:
        if not path.startswith("/"):
            raise ValueError(f"the path of a WebSocket begins with '/', found {path!r}")
        self.path = path

    def route(self, hall: Hall) -> Route:
        """The route that serves it."""

        async def play(c: Any) -> None:
            await serve(c, hall)

        return Route(self.path, play, methods=("WEBSOCKET",))


class Message:
    """One message; `data` is yours."""

    __slots__ = ("channel", "data", "delivery", "now")

    def __init__(self, data: bytes, channel: int, delivery: Delivery, now: float) -> None:
        self.data, self.channel, self.delivery, self.now = data, channel, delivery, now

    @property
    def text(self) -> str:
        """The data as UTF-8; what is none becomes U+FFFD."""
        return self.data.decode("utf-8", "replace")


class Hall(Protocol):
    """What a carrier needs of the game or the messages it serves."""

    channels: int
    max_message: int
    rate: float
    byte_rate: float
    """Messages and bytes a second of one browser, 0: as many as it likes. Above them its messages wait."""
    limit_loopback: bool
    peer_class: type
    """A subclass of `WebSocketPeer`."""
    encode: Callable[[Any], bytes]

    def now(self) -> float: ...

    def new_id(self) -> int: ...

    def room_for(self, address: Any) -> int:
        """0 when one more peer may come from this address, else the code it is refused with."""
        ...

    def joined(self, peer: Any) -> None: ...

    def received(self, peer: Any, message: Any) -> None: ...

    def left(self, peer: Any, word: str, code: int, by_peer: bool, seconds: float) -> None: ...

    def failed(self, peer: Any, error: BaseException) -> None: ...


class WebSocketPeer(Peer):
    """A peer in a browser. The same interface as any other; what has no meaning here is 0 in its figures."""

    transport = "websocket"
    leave: tuple[str, int, bool] | None = None
    token = None
    user_data = 0

    def __init__(self, hall: Hall, socket: Any) -> None:
        self._carrier = hall
        self._socket = socket
        self._ended: tuple[str, int] | None = None
        self._data: dict[Any, Any] | None = None
        self._in, self._out, self._dropped = [0, 0, 0], [0, 0, 0], 0
        self._bytes_in = self._bytes_out = 0
        self.id = hall.new_id()
        self.address = socket.address
        self.joined_at = hall.now()
        self.channels = hall.channels
        self.max_unreliable = hall.max_message

    @property
    def open(self) -> bool:  # type: ignore[override]
        return self._ended is None and self.leave is None and self._socket.is_connected()

    @property
    def now(self) -> float:  # type: ignore[override]
        return self._carrier.now()

    @property
    def data(self) -> dict[Any, Any]:  # type: ignore[override]
        if self._data is None:
            self._data = {}
        return self._data

    def __getitem__(self, key: Any) -> Any:
        return self.data[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.data[key] = value

    def __delitem__(self, key: Any) -> None:
        del self.data[key]

    def __contains__(self, key: Any) -> bool:
        return key in self.data

    def get(self, key: Any, default: Any = None) -> Any:
        """`peer[key]`, or `default`."""
        return self.data.get(key, default)

    def send(self, data: Any, channel: int = 0, delivery: int = 0, fragment: bool = False) -> bool:
        """Queue a message; see `Peer.send`."""
        if not self.open:
            return False
        if not 0 <= channel < self.channels:
            raise ValueError(f"channel {channel} is not open: this game has {self.channels}, numbered from 0")
        if isinstance(data, str):
            data = data.encode()
        elif not isinstance(data, (bytes, bytearray, memoryview)):
            data = self._carrier.encode(data)
        if len(data) > self._carrier.max_message:
            raise TooLong(
                f"a message of {len(data):,} bytes is above max_message, {self._carrier.max_message:,}"
            )
        head = bytes((channel, delivery))
        if delivery == SEQUENCED:
            self._dropped += self._socket.withdraw(lambda queued: queued[:2] == head)
        self._socket.respond(head + bytes(data))
        if self._socket.overrun:
            self._ended = ("slow", CODE_OF["slow"])
            return False
        self._out[delivery] += 1
        self._bytes_out += len(data) + 2
        return True

    def close(self, how: int, code: int, word: str) -> None:
        """End the connection; see the ENet peer's."""
        if self._ended is None:
            self._ended = (word, code)
            self._socket.close(1000 if how == 2 else close_code(code))

    def view(self) -> dict[str, Any] | None:
        """What is known of it."""
        if self.leave is not None:
            return None
        return {
            "rtt": 0, "rtt_variance": 0, "loss": 0.0, "resent": 0, "bytes_in": self._bytes_in,
            "bytes_out": self._bytes_out, "messages_in": list(self._in), "messages_out": list(self._out),
            "dropped_queue": self._dropped, "connected_s": self.now - self.joined_at,
        }  # fmt: skip


def close_code(code: int) -> int:
    """A reason as a WebSocket close code: 4000 + the game's own code below 900, 4900 + ours."""
    if code >= 0xFFFFFF00:
        return 4900 + (code & 0xFF)
    return 4000 + min(code, 899)


class Pace:
    """Two buckets that hold a second each. What is above them is not dropped, as the wire is reliable: it waits."""

    def __init__(self, rate: float, byte_rate: float, now: float) -> None:
        self._rates = (rate, byte_rate)
        self._left = [rate, byte_rate]
        self._at = now

    def take(self, size: int, now: float) -> float:
        """A message of so many bytes has come: the seconds until the next one may."""
        wait, passed = 0.0, now - self._at
        self._at = now
        for n, (rate, amount) in enumerate(zip(self._rates, (1, size), strict=True)):
            if rate:
                self._left[n] = min(rate, self._left[n] + rate * passed) - amount
                wait = max(wait, -self._left[n] / rate)
        return wait


async def serve(c: Any, hall: Hall) -> None:
    """A WebSocket from its opening to its end."""
    refused = hall.room_for(c.address)
    if refused:
        c.close(close_code(refused))
        return
    peer = hall.peer_class(hall, c)
    _guarded(hall, peer, hall.joined, peer)
    word, code, by_peer = "left", 0, True
    free = is_loopback(c.address.host) and not hall.limit_loopback
    pace = Pace(0 if free else hall.rate, 0 if free else hall.byte_rate, hall.now())
    while (data := await c.read()) is not None:
        if peer._ended is not None:
            break
        if isinstance(data, str) or len(data) < 2 or data[0] >= hall.channels or data[1] > 2:
            word, code, by_peer = "malformed", CODE_OF["malformed"], False
            c.close(1003 if isinstance(data, str) else close_code(code))
            break
        if len(data) - 2 > hall.max_message:
            word, code, by_peer = "too_big", CODE_OF["too_big"], False
            c.close(1009)
            break
        peer._in[data[1]] += 1
        peer._bytes_in += len(data)
        message = Message(data[2:], data[0], DELIVERIES[data[1]], hall.now())
        _guarded(hall, peer, hall.received, peer, message)
        wait = pace.take(len(data), message.now)
        if wait > 0:
            await asyncio.sleep(wait)
    if peer._ended is not None:
        (word, code), by_peer = peer._ended, False
    peer.leave = (word, code, by_peer)
    _guarded(hall, peer, hall.left, peer, word, code, by_peer, hall.now() - peer.joined_at)


def _guarded(hall: Hall, peer: Any, function: Callable[..., Any], *args: Any) -> None:
    try:
        function(*args)
    except Exception as error:
        hall.failed(peer, error)
