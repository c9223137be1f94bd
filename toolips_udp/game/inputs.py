"""Inputs: what a player held down in each tick, sent so that one loss costs nothing.

Game floor: imports the feedback record. A packet is

    [code u8][tick u16][n u8] and n inputs, newest first; then, if the client takes
    snapshots, the feedback of `feedback.py` (10 bytes)

all big-endian, SEQUENCED on any channel. One input is the buttons, 8 to a byte,
lowest bit first, then one signed byte for each axis (-127 to 127 is -1.0 to 1.0).
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from .feedback import FEEDBACK, Feedback, feedback_of
from .tick import Tick

CODE = 0xF0
"""First byte of an input packet; typed messages of a game use lower codes."""

_HEADER = 4
_CACHE = 4096
_WAITING = 64


class Input:
    """One tick's input: an attribute for each button (0 or 1) and axis (-1.0 to 1.0).

    `missing` is True when this tick's own input has not come and the last one
    stands in for it.
    """

    __slots__ = ("__dict__",)
    missing: bool

    def __init__(self, missing: bool, values: dict[str, Any]):
        self.__dict__.update(values)
        self.__dict__["missing"] = missing

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no input is called {name!r}; this map has {', '.join(sorted(self.__dict__))}")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("an Input is what the player did; it cannot be changed")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Input) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Input({', '.join(f'{name}={value}' for name, value in self.__dict__.items())})"


class _Stream:
    """One peer's inputs on the server: a ring by the server's tick numbers."""

    __slots__ = ("due", "inputs", "last", "newest", "offset", "schedule", "strange")

    def __init__(self, schedule: Any, idle: bytes):
        self.schedule = schedule
        self.offset: int | None = None  # server tick - client tick, in u16 arithmetic
        self.inputs: dict[int, bytes] = {}
        self.last = idle
        self.newest = -1
        self.due = 0
        self.strange = 0  # packets in a row that are more than a second away


class InputMap:
    """Named inputs of one tick in ceil(buttons / 8) + axes bytes.

    `repeat` inputs travel in each packet, so that as many losses in a row less one
    cost nothing. On the server `keys.at(peer, tick)` gives the input for that tick;
    on a client `keys.send(client, tick, left=1, aim=0.3)` sends it.

    A client that runs in the server's ticks (see `clocks.py`) is taken at its word; one
    that counts its own ticks is lined up with the server's at its first packet. Refused:
    ticks more than a second ahead. The first input for a tick counts, and the server
    never uses two for one tick. A client that is more than a second away for a second's
    packets in a row has set its clock anew, and is lined up again.

    >>> keys = InputMap(buttons=("left", "right"), axes=("aim",))
    >>> keys.at(peer, tick).left
    1
    """

    def __init__(
        self, buttons: tuple[str, ...] = (), axes: tuple[str, ...] = (), repeat: int = 10, code: int = CODE
    ):
        names = (*buttons, *axes)
        wrong = [n for n in names if not n.isidentifier() or n.startswith("_") or n == "missing"]
        if wrong or len(set(names)) != len(names):
            raise ValueError(
                f"the inputs {names!r} need different names that can be attributes; found {wrong!r}"
            )
        if not names or len(names) > 128:
            raise ValueError(f"an InputMap has 1 to 128 inputs, found {len(names)}")
        if not 1 <= repeat <= 60:
            raise ValueError(f"repeat is {repeat}; expected 1 to 60")
        self.buttons = tuple(buttons)
        self.axes = tuple(axes)
        self.repeat = repeat
        self.code = code
        self._bytes = (len(self.buttons) + 7) // 8
        self.size = self._bytes + len(self.axes)
        """Bytes of one input."""
        self.idle = bytes(self.size)
        """Nothing pressed."""
        self._cache: dict[tuple[bytes, bool], Input] = {}
        self._sent: WeakKeyDictionary[Any, tuple[int, list[bytes]]] = WeakKeyDictionary()

    # The bytes.

    def pack(self, **values: float) -> bytes:
        """One input as bytes; what is not named is 0. An axis outside -1..1 is cut off."""
        bits = 0
        out = bytearray(self.size)
        for name, value in values.items():
            if name in self.buttons:
                bits |= bool(value) << self.buttons.index(name)
            elif name in self.axes:
                q = round(min(max(float(value), -1.0), 1.0) * 127)
                out[self._bytes + self.axes.index(name)] = q & 0xFF
            else:
                raise ValueError(
                    f"no input is called {name!r}; there are {', '.join((*self.buttons, *self.axes))}"
                )
        out[: self._bytes] = bits.to_bytes(self._bytes, "little")
        return bytes(out)

    def unpack(self, data: bytes, missing: bool = False) -> Input:
        """The input that these bytes are. Equal bytes give one object."""
        found = self._cache.get((data, missing))
        if found is None:
            if len(self._cache) >= _CACHE:
                self._cache.clear()
            bits = int.from_bytes(data[: self._bytes], "little")
            values: dict[str, Any] = {name: bits >> n & 1 for n, name in enumerate(self.buttons)}
            for name, q in zip(self.axes, data[self._bytes :], strict=True):
                values[name] = max((q - 256 if q > 127 else q) / 127, -1.0)
            found = self._cache[data, missing] = Input(missing, values)
        return found

    def packet(self, tick: int, newest_first: list[bytes], trailer: bytes = b"") -> bytes:
        """A packet of these inputs, the first of which is for `tick`."""
        count = min(len(newest_first), self.repeat)
        head = bytes((self.code, tick >> 8 & 0xFF, tick & 0xFF, count))
        return head + b"".join(newest_first[:count]) + trailer

    def parse(self, data: bytes) -> tuple[int, list[bytes], bytes] | None:
        """Tick (u16), inputs newest first, trailer; None when the bytes are not such a packet."""
        end = self._end(data)
        if not end:
            return None
        inputs = [data[at : at + self.size] for at in range(_HEADER, end, self.size)]
        return int.from_bytes(data[1:3], "big"), inputs, data[end:]

    def _end(self, data: bytes) -> int:
        """Where the inputs of a packet end; 0 when it is none."""
        if len(data) < _HEADER or data[0] != self.code or not 1 <= data[3] <= self.repeat:
            return 0
        end = _HEADER + data[3] * self.size
        return end if len(data) - end in (0, FEEDBACK) else 0

    # The server.

    def at(self, peer: Any, tick: Tick) -> Input:
        """A peer's input for this tick, or its last one again with `.missing`."""
        feedback = feedback_of(peer)
        stream = feedback.stream
        if stream is None or stream.schedule is not tick.schedule:
            stream = feedback.stream = _Stream(tick.schedule, self.idle)
        stream.due = tick.number
        if feedback.waiting:
            waiting, feedback.waiting = feedback.waiting, []
            for now, data in waiting:
                self._take(peer, feedback, stream, tick, now, data)
        data = stream.inputs.pop(tick.number, None)
        if data is None:
            return self.unpack(stream.last, True)
        stream.last = data
        return self.unpack(data)

    def _take(
        self, peer: Any, feedback: Feedback, stream: _Stream, tick: Tick, now: float, data: bytes
    ) -> None:
        end, size = self._end(data), self.size
        if not end:
            feedback.refused += 1
            peer.malformed("an input packet that is none")
            return
        number = data[1] << 8 | data[2]
        if len(data) > end:
            feedback.take(data[end:], now)
        ahead = _signed(number + (stream.offset or 0) - tick.number)
        second = max(1, round(1.0 / tick.dt))
        if stream.offset is None:
            # A first tick within a second of ours is one of a client that keeps our time.
            stream.offset = 0 if abs(ahead) <= second else (tick.number - number) & 0xFFFF
            ahead = _signed(number + stream.offset - tick.number)
        stream.strange = 0 if abs(ahead) <= second else stream.strange + 1
        if stream.strange > second:
            stream.offset, stream.newest, stream.strange = None, -1, 0
        if ahead > second:
            feedback.refused += 1
            return
        newest = tick.number + ahead
        feedback.lead = max(-128, min(127, ahead))
        inputs, at = stream.inputs, _HEADER
        for due in range(newest, max(tick.number, newest - data[3] + 1) - 1, -1):  # what is past is of no use
            if due not in inputs:
                inputs[due] = data[at : at + size]
            at += size
        if newest > stream.newest:
            stream.newest = newest
            if newest < tick.number:
                # too late for its tick, but the latest word all the same
                stream.last = data[_HEADER : _HEADER + size]

    # The client.

    def send(self, client: Any, tick: int, **values: float) -> bytes:
        """Send this tick's input, with those before it; returns its bytes, as `Predictor` wants them."""
        one = self.pack(**values)
        previous, recent = self._sent.get(client, (tick, []))
        # A gap in the ticks (a slow frame) is filled with what was held.
        gap = tick - previous - 1
        if recent and 0 <= gap <= self.repeat:
            recent = [recent[0]] * gap + recent
        elif recent:
            recent = []
        recent = [one, *recent][: self.repeat]
        self._sent[client] = (tick, recent)
        replica = getattr(client, "replica", None)
        trailer = replica.feedback() if replica is not None else b""
        from ..peers.delivery import SEQUENCED

        client.send(self.packet(tick & 0xFFFF, recent, trailer), 0, SEQUENCED)
        return one


def hold(peer: Any, data: bytes, now: float) -> None:
    """Keep an input packet, come at `now`, until a tick asks for it. A flood keeps the newest 64."""
    feedback = feedback_of(peer)
    if feedback.lag is None:
        _keep(feedback, data, now)
    else:
        feedback.lag.up(data, lambda data: _keep(feedback, data, feedback.lag.game.agenda.clock() / 1e9))


def _keep(feedback: Feedback, data: bytes, now: float) -> None:
    waiting = feedback.waiting
    if len(waiting) >= _WAITING:
        del waiting[0]
    waiting.append((now, data))


def _signed(distance: int) -> int:
    """A distance of two u16 counters, -32,768 to 32,767."""
    return (distance + 0x8000 & 0xFFFF) - 0x8000
