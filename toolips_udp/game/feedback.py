"""What a client reports back with each input: snapshots received, and its clock.

Game floor: imports nothing of ours. Ten bytes, big-endian, at the end of an
input packet, or alone after the code 0xF2 (a spectator's):

    [newest snapshot u16][mask u32: bit n is newest - 1 - n][client's clock u32, microseconds]
"""

from __future__ import annotations

import struct
from typing import Any

FEEDBACK = 10
CODE = 0xF2
_LAYOUT = struct.Struct(">HII")


class Feedback:
    """What the server knows of one client's view. Lives on the peer as `peer.feedback`."""

    __slots__ = (
        "acked", "clock", "clock_at", "lag", "lead", "number", "refused", "rtt", "stream", "views", "waiting",
    )  # fmt: skip

    def __init__(self) -> None:
        self.waiting: list[tuple[float, bytes]] = []
        """Input packets not yet read, each with when it came."""
        self.stream: Any = None
        self.lag: Any = None
        """The weather that the server makes for this client; see `lag.py`."""
        self.acked: tuple[int, int] | None = None
        """Newest snapshot number (u16) and the mask, as last reported."""
        self.clock = 0
        """The client's clock in its newest report (u32 microseconds)."""
        self.clock_at = 0.0
        """When that came, in our seconds; 0.0: never."""
        self.lead = 0
        """How many ticks early the newest input came; below 0: late."""
        self.rtt = 0.0
        """Seconds from sending a snapshot to the report of it, smoothed: on any transport, as the server sees it."""
        self.refused = 0
        """Input packets that were malformed or too far ahead."""
        self.number = 0
        """Of the last snapshot sent, whatever room it was of."""
        self.views: dict[Any, Any] = {}
        """For each kind of snapshots, what this client was sent of its room."""

    def renew(self) -> None:
        """The client is back on a new connection, perhaps a new program: it holds nothing of what we sent."""
        self.waiting.clear()
        self.views.clear()
        self.stream = self.acked = None
        self.clock_at = 0.0

    def carried(self) -> None:
        """The peer is of another game now, whose snapshots go on from our number: its client takes the next ones."""
        self.renew()
        self.lag = None  # weather of the old game, whose clock has stopped

    def take(self, data: bytes, now: float) -> None:
        """Read the ten bytes."""
        newest, mask, clock = _LAYOUT.unpack(data)
        self.clock, self.clock_at = clock, now
        if self.acked is None or 0 < (newest - self.acked[0]) & 0xFFFF < 0x8000 or newest == self.acked[0]:
            self.acked = (newest, mask)


def pack(newest: int, mask: int, clock_us: int) -> bytes:
    """The ten bytes."""
    return _LAYOUT.pack(newest & 0xFFFF, mask & 0xFFFFFFFF, clock_us & 0xFFFFFFFF)


def feedback_of(peer: Any) -> Feedback:
    """A peer's feedback record; made at its first use."""
    found: Feedback | None = getattr(peer, "feedback", None)
    if found is None:
        found = peer.feedback = Feedback()
    return found
