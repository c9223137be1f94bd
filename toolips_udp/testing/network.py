"""The seeded bad network: datagram and time in, deliveries with times out.

Testing floor: imports the knobs, the trace and the clock's unit. Sans-io: no
socket, no clock, no thread. `World` puts it under a virtual clock, the proxy
between real sockets.

The order of misfortune is fixed: cut, mtu, loss and burst, corrupt, duplicate,
rate and queue, latency and jitter, reorder. There is one generator per (seed,
link, direction, knob), and every datagram draws from each whatever the
settings, so turning one knob leaves the dice of the others alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from statistics import NormalDist
from typing import Any
from zlib import crc32

from .clock import SECOND, nanoseconds
from .knobs import Knobs
from .trace import Trace

Delivery = tuple[int, bytes]
"""When (nanoseconds), what."""

_BUCKET = 1500
_LONG = math.exp(5.0) - 1.0
_NORMAL = NormalDist(0.5, 1 / 6)


def _spread(shape: str, u: float) -> float:
    """A die in 0..1 as a share of the jitter, in 0..1."""
    if shape == "uniform":
        return u
    if shape == "normal":
        return min(max(_NORMAL.inv_cdf(u or 1e-12), 0.0), 1.0)
    return math.expm1(5.0 * u) / _LONG


def _flip(data: bytes, u: float) -> bytes:
    """The same bytes with 1 to 4 different bits flipped, as the die says."""
    dice = random.Random(u)
    bits = len(data) * 8
    broken = bytearray(data)
    for bit in dice.sample(range(bits), min(dice.randint(1, 4), bits)):
        broken[bit >> 3] ^= 1 << (bit & 7)
    return bytes(broken)


class Direction:
    """One way along one link.

    >>> way = Direction("seed", "link", "up", Trace(), Knobs(latency=0.05))
    >>> way.push(0, b"hello")
    [(50000000, b'hello')]
    """

    __slots__ = ("_dice", "_free", "_in_burst", "_last", "knobs", "link", "name", "number", "trace")

    def __init__(self, seed: object, link: str, name: str, trace: Trace, knobs: Knobs):
        self.link = link
        self.name = name
        self.trace = trace
        self.knobs = knobs
        self.number = 0
        """Datagrams sent this way."""
        # Seeding with text goes through SHA-512, so neighbouring seeds share nothing.
        self._dice = tuple(
            random.Random(f"{seed}/{link}/{name}/{knob}").random
            for knob in ("loss", "burst", "corrupt", "duplicate", "jitter", "reorder")
        )
        self._in_burst = False
        self._free = -(1 << 62)  # when the link has carried all that was given to it
        self._last = 0  # the latest arrival, which later datagrams keep behind

    def set(self, profile: str | None = None, **knobs: Any) -> None:
        """Turn knobs from now on; datagrams under way keep their times."""
        self.knobs = self.knobs.changed(profile, **knobs)

    def push(self, now: int, data: bytes) -> list[Delivery]:
        """Send one datagram at `now`. Gives none, one or two deliveries, none earlier than `now`."""
        k = self.knobs
        self.number += 1
        lose, burst, corrupt, duplicate, jitter, reorder = self._dice
        u_loss, u_burst, u_inside, u_corrupt = lose(), burst(), burst(), corrupt()
        u_copy, u_gap, u_jitter, u_reorder = duplicate(), duplicate(), jitter(), reorder()
        if k.burst is not None:
            self._in_burst = u_burst >= k.burst[1] if self._in_burst else u_burst < k.burst[0]

        fate = "delivered"
        out: list[Delivery] = []
        size = len(data)
        if k.cut:
            fate = "cut"
        elif k.mtu is not None and size > k.mtu:
            fate = "mtu"
        elif u_loss < k.loss:
            fate = "lost"
        elif k.burst is not None and self._in_burst and u_inside < k.burst[2]:
            fate = "burst"
        else:
            sent = data
            if u_corrupt < k.corrupt and size:
                fate, sent = "corrupted", _flip(data, u_corrupt)
            leaves = now if k.rate is None else self._through(now, size)
            if leaves is None:
                fate = "queue"
            else:
                at = leaves + int(k.latency * SECOND)
                if k.jitter:
                    at += int(k.jitter * _spread(k.jitter_shape, u_jitter) * SECOND)
                if u_reorder < k.reorder:
                    at += int(k.reorder_gap * SECOND)
                    if fate == "delivered":
                        fate = "held"
                elif not k.overtake:
                    at = self._last = max(at, self._last)
                out.append((at, sent))
                if u_copy < k.duplicate:
                    again = now if k.rate is None else self._through(now, size)
                    if again is not None:
                        out.append((at + again - leaves + int(k.duplicate_gap * u_gap * SECOND), sent))
                        if fate != "corrupted":
                            fate = "duplicated"
        self.trace.add(now, self.link, self.name, self.number, size, fate, crc32(data))
        return out

    def _through(self, now: int, size: int) -> int | None:
        """When the last byte has left the bottleneck, or None when its queue is full."""
        rate = self.knobs.rate
        assert rate is not None
        # A bucket of one datagram: after a pause that much passes without waiting.
        free = max(self._free, now - nanoseconds(_BUCKET / rate)) + nanoseconds(size / rate)
        if (free - now) / SECOND * rate > self.knobs.queue:
            return None
        self._free = free
        return max(now, self._free)


class Link:
    """Both ways between a client and a server. `up` is client to server."""

    __slots__ = ("down", "name", "on_rebind", "up")

    def __init__(self, name: str, up: Direction, down: Direction):
        self.name = name
        self.up = up
        self.down = down
        self.on_rebind: Callable[[], None] | None = None

    def set(self, profile: str | None = None, **knobs: Any) -> None:
        """Turn the knobs of both ways."""
        self.up.set(profile, **knobs)
        self.down.set(profile, **knobs)

    def cut(self) -> None:
        """Nothing passes in either direction until `heal`."""
        self.set(cut=True)

    def heal(self) -> None:
        """End a cut."""
        self.set(cut=False)

    def rebind(self) -> None:
        """Give the client a new port, as a router does that forgot it."""
        if self.on_rebind is None:
            raise RuntimeError(f"link {self.name} is carried by no world and no proxy: it has no port")
        self.on_rebind()


class BadNetwork:
    """Links of one seed. `knobs` are the weather of links that are made later.

    `up` and `down` hold what differs by direction, as `Knobs` or a profile name.

    >>> network = BadNetwork(seed=7, loss=0.1, latency=0.05)
    >>> network.link("a").up.push(0, b"hello")
    """

    def __init__(
        self,
        seed: int | str = 0,
        profile: str | None = None,
        *,
        up: Knobs | str | None = None,
        down: Knobs | str | None = None,
        keep: int = 100_000,
        **knobs: Any,
    ):
        self.seed = seed
        base = Knobs().changed(profile, **knobs)
        self.up = _knobs(up, base)
        self.down = _knobs(down, base)
        self.trace = Trace(keep)
        self.links: dict[str, Link] = {}

    def link(self, name: str) -> Link:
        """The link of this name; made at its first use."""
        link = self.links.get(name)
        if link is None:
            link = self.links[name] = Link(
                name,
                Direction(self.seed, name, "up", self.trace, self.up),
                Direction(self.seed, name, "down", self.trace, self.down),
            )
        return link

    def set(self, profile: str | None = None, **knobs: Any) -> None:
        """Turn knobs of all links, those made later too."""
        self.up = self.up.changed(profile, **knobs)
        self.down = self.down.changed(profile, **knobs)
        for link in self.links.values():
            link.set(profile, **knobs)

    def swizzle(self, seed: object) -> tuple[list[Link], list[Link]]:
        """Two orders of the links, drawn from `seed`: cut them in the first, heal them in the second."""
        dice = random.Random(f"{self.seed}/swizzle/{seed}")
        names = sorted(self.links)
        first, second = dice.sample(names, len(names)), dice.sample(names, len(names))
        return [self.links[name] for name in first], [self.links[name] for name in second]


def _knobs(given: Knobs | str | None, base: Knobs) -> Knobs:
    if given is None:
        return base
    return given if isinstance(given, Knobs) else Knobs.parse(given)
