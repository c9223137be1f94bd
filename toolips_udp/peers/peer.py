"""Peer: a client that stays, the same over every transport; why it left; its figures.

Imports deliveries and errors. Transports subclass `Peer` together with their own
hot half (`_native.enet.Peer`, or the Python one); houses only know what is here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from ..address import Address
from .delivery import Delivery

LEAVE_WORDS = (
    "left", "timeout", "kicked", "banned", "slow", "flood", "hoarding", "too_big", "malformed", "replaced",
    "refused", "full", "stopping",
)  # fmt: skip
"""Why a peer left."""

CODES = {
    0xFFFFFF01: "full", 0xFFFFFF02: "banned", 0xFFFFFF03: "refused", 0xFFFFFF04: "slow", 0xFFFFFF05: "flood",
    0xFFFFFF06: "hoarding", 0xFFFFFF07: "too_big", 0xFFFFFF08: "malformed", 0xFFFFFF09: "stopping",
    0xFFFFFF0A: "kicked",
}  # fmt: skip
"""Reasons on the wire that are ours. Games use 0 to 0x7FFFFFFF."""
CODE_OF = {word: code for code, word in CODES.items()}

AT_ONCE, ACKNOWLEDGED, DRAINED = 0, 1, 2
"""How a connection is closed: one DISCONNECT, one that is acknowledged, or that after the queue has arrived."""


class Leave(msgspec.Struct, frozen=True):
    """How a connection ended. There is exactly one for each join."""

    word: str
    """One of `LEAVE_WORDS`."""
    code: int
    """The 32 bits that went over the wire, or 0."""
    by: Literal["peer", "server"]
    """Who ended it."""
    seconds: float
    """How long it was connected."""


class Refuse(msgspec.Struct, frozen=True):
    """What `@game.admit` returns to turn a peer away, with the 32 bits that it is told."""

    code: int = CODE_OF["refused"]


class PeerStats(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of one peer's figures. Times in ms unless named otherwise; the names are metrics labels."""

    rtt: int = 0
    rtt_variance: int = 0
    rtt_min: int = 0
    jitter_max: int = 0
    loss: float = 0.0
    """Share of reliable sendings that were lost, smoothed over 10 s steps."""
    loss_variance: float = 0.0
    throttle: int = 32
    mtu: int = 0
    window: int = 0
    in_flight_bytes: int = 0
    in_flight_commands: int = 0
    queued_reliable: int = 0
    queued_unreliable: int = 0
    queue_age_ms: int = 0
    oldest_unacked_ms: int = 0
    datagrams_in: int = 0
    datagrams_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    messages_in: dict[str, int] = {}
    messages_out: dict[str, int] = {}
    resent: int = 0
    given_up: int = 0
    duplicates: int = 0
    old_numbers: int = 0
    out_of_order: int = 0
    dropped_throttle: int = 0
    dropped_queue: int = 0
    dropped_limited: int = 0
    fragments_open: int = 0
    fragment_bytes: int = 0
    waiting_bytes: int = 0
    compressed_in: int = 0
    compressed_out: int = 0
    ratio: float = 1.0
    """Bytes after the coder to bytes before it, of what was sent."""
    malformed: int = 0
    idle_ms: int = 0
    connected_s: float = 0.0
    quality: float = 1.0
    """0 to 1, from loss, jitter and resends."""


_NAMES = [delivery.name.lower() for delivery in Delivery]
_FIELDS = frozenset(PeerStats.__struct_fields__)


def stats_of(view: dict[str, Any] | None) -> PeerStats:
    """The figures in what a transport says of a peer."""
    if view is None:
        return PeerStats()
    values = {name: value for name, value in view.items() if name in _FIELDS}
    for name in ("messages_in", "messages_out"):
        values[name] = dict(zip(_NAMES, values[name], strict=True))
    sent = sum(values["messages_out"].values())
    calm = view["rtt"] / (view["rtt"] + view["rtt_variance"]) if view["rtt"] else 1.0
    steady = 1.0 - min(1.0, view["resent"] / sent) / 2 if sent else 1.0
    values["quality"] = max(0.0, round((1.0 - min(1.0, view["loss"])) * calm * steady, 4))
    return PeerStats(**values)


class Peer:
    """One client. A departed peer never raises: sending to it returns False.

    >>> @game.on_message
    ... def echo(peer, m):
    ...     peer.send(m.data, m.channel, m.delivery)
    """

    __slots__ = ()

    # What the transport's half provides.
    id: int
    """Never used again in this process."""
    address: Address
    user_data: int
    """32 bits of CONNECT."""
    joined_at: float
    """Monotonic seconds."""
    now: float
    open: bool
    data: dict[Any, Any]
    """Yours; `peer["key"]` reads and writes it."""
    max_unreliable: int
    """Bytes of an unreliable message that is not cut."""
    channels: int
    send: Callable[..., bool]
    """`send(data, channel=0, delivery=RELIABLE, fragment=False)`: queue bytes, text or a typed message.

    It leaves at the end of the turn. True: queued. False: the send queue dropped it, or the peer has left.
    Raises `TooLong`, and `ValueError` for a channel that is not open.
    """
    close: Callable[[int, int, str], None]
    view: Callable[[], dict[str, Any] | None]

    transport = "enet"
    token: bytes | None
    """What a client sends to take this peer over after it vanished; see `Game(resume=)`."""
    game: Any = None

    @property
    def stats(self) -> PeerStats:
        """A snapshot of this peer's figures; all zero when it has left."""
        return stats_of(self.view())

    def kick(self, code: int = 0, drain: bool = True) -> None:
        """End the connection: what is queued is sent first, unless `drain` is False.

        The client is told `code`, or 0xFFFFFF0A for 0. `on_leave` comes with the word `kicked`
        when the client has acknowledged or given no answer in time.
        """
        if not 0 <= code <= 0xFFFFFFFF:
            raise ValueError(f"a code has 32 bits, found {code!r}; games use 0 to 0x7FFFFFFF")
        self.close(DRAINED if drain else ACKNOWLEDGED, code or CODE_OF["kicked"], "kicked")

    def ban(self, seconds: float, by: str = "address") -> None:
        """Kick and keep out, by IP address, for this long. `game.bans` lists and lifts bans."""
        if by != "address":
            raise ValueError(f"ban(by={by!r}): bans are by 'address'")
        if self.game is None:
            raise ValueError("only a game's peers can be banned")
        self.game.bans.add(self.address.host, seconds)

    def __repr__(self) -> str:
        return f"<Peer {self.id} {self.address}{'' if self.open else ', gone'}>"
