"""The ENet host in plain Python: the face of `_native.enet`, for where that is not built, and its oracle.

Imports the wire, links and the half-open table. Sans-io: datagrams and nanoseconds
in, datagrams and events out. Given the same secret, calls and times it says the
same bytes as the C host; a test holds the two to that.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable
from typing import Any

from ..address import Address
from ..errors import TooLong
from . import enet_wire as w
from .delivery import Delivery
from .enet_half import HalfOpen, open_body
from .enet_keys import key_words, loopback, prefix_of, raw_of, siphash
from .enet_link import CLOSED, CLOSING, CONNECTED, CONNECTING, DRAINING, GONE, TOO_LONG, Link, before
from .enet_receive import receive
from .peer import CODE_OF

_TIMERS_A_CALL = 1024
_DEFAULTS = {
    "max_peers": 10_000, "per_prefix": 1024, "half_open": 65_536, "channels": 255, "mtu": w.MTU,
    "max_message": 65_536, "max_fragments": 121, "max_groups": 16, "group_bytes": 512 << 10,
    "reassembly_bytes": 16 << 20, "max_waiting": 1024, "waiting_bytes": 512 << 10, "queue_bytes": 512 << 10,
    "queue_age": 1000, "max_acks": 1024, "rate": 500, "byte_rate": 512 << 10, "max_malformed": 16, "ping": 5000,
    "clock": 0, "checksum": 2, "compress": 0, "accept": 0, "silent": 0, "limit_loopback": 0, "memory": 1 << 30,
}  # fmt: skip


_LASTING = ("accept", "clock", "compress", "half_open")
"""Settings that a host keeps for its life."""


class Message:
    """One message; `data` is yours."""

    __slots__ = ("channel", "data", "delivery", "now")

    def __init__(self, data: bytes, channel: int, delivery: Delivery, now: float) -> None:
        self.data, self.channel, self.delivery, self.now = data, channel, delivery, now

    @property
    def text(self) -> str:
        """The data as UTF-8; what is none becomes U+FFFD."""
        return self.data.decode("utf-8", "replace")


class Peer:
    """The transport's half of a peer; see `peers.peer.Peer`."""

    id: int
    address: Address
    user_data = 0
    joined_at = 0.0
    leave: tuple[str, int, bool] | None = None
    token: bytes | None = None
    _host: Host
    _link: Link | None = None
    _closing = False
    _data: dict[Any, Any] | None = None

    @property
    def open(self) -> bool:
        return self._link is not None and not self._closing and self._link.state == CONNECTED

    @property
    def now(self) -> float:
        return self._host.ns / 1e9

    @property
    def data(self) -> dict[Any, Any]:
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
        return self._data is not None and key in self._data

    def get(self, key: Any, default: Any = None) -> Any:
        """`peer[key]`, or `default`."""
        return default if self._data is None else self._data.get(key, default)

    @property
    def max_unreliable(self) -> int:
        return self._link.piece if self._link is not None else 0

    @property
    def channels(self) -> int:
        return self._link.channels if self._link is not None else 0

    def send(self, data: Any, channel: int = 0, delivery: int = 0, fragment: bool = False) -> bool:
        """Queue a message; see `Peer.send` in peers/peer.py."""
        if self._link is None or self._closing:
            return False
        if not 0 <= delivery <= 2:
            raise ValueError(f"delivery is RELIABLE, SEQUENCED or UNSEQUENCED, found {delivery}")
        link = self._link
        done = link.send(self._host.payload(data), channel, delivery, fragment)
        self._host.asked()
        return self._host.sent(done, link, data, channel)

    def close(self, how: int, code: int, word: str) -> None:
        """End the connection: 0 at once, 1 acknowledged, 2 after what is queued has arrived."""
        if self._link is None or self._closing:
            return
        self._closing = True
        self._host.close(self._link, how, code, word)
        self._host.asked()

    def take_over(self, other: Peer) -> None:
        """Become the peer of another's connection; `other` has none from now on."""
        if other._link is None or other._host is not self._host:
            raise ValueError(f"{other!r} has no connection that could be taken over")
        if self._link is not None:
            self._link.user = None
            self._host.close(self._link, 0, CODE_OF["kicked"], "replaced")
        self._link, other._link = other._link, None
        other._closing, self._closing = True, False
        self._link.user = self
        self.address, self.leave = other.address, None
        self._host.peers.pop(other.id, None)
        self._host.peers[self.id] = self

    def view(self) -> dict[str, Any] | None:
        """Everything the wire knows of this peer, as a dict; None when it has gone."""
        link = self._link
        if link is None:
            return None
        now, f = self._host.now, link.figures
        queue = link.reliable or link.unreliable
        oldest = next(iter(link.sent), None)
        same = (
            "throttle mtu window channels checksum compress our_id their_id connect_id jitter_max in_flight_bytes "
            "queued_bytes"
        )
        figures = (
            "datagrams_in datagrams_out bytes_in bytes_out resent given_up duplicates old_numbers out_of_order "
            "dropped_throttle dropped_queue dropped_limited compressed_in compressed_out malformed"
        )
        return {
            **{name: getattr(link, name) for name in same.split()},
            **{name: f[name] for name in figures.split()},
            "rtt": link.rtt, "rtt_variance": link.var, "rtt_min": link.rtt_min if link.acked else link.rtt,
            "loss": link.loss / 65536, "loss_variance": link.loss_var / 65536,
            "in_flight_commands": len(link.sent), "queued_reliable": len(link.reliable),
            "queued_unreliable": len(link.unreliable),
            "queue_age_ms": now - queue[0].queued & 0xFFFFFFFF if queue else 0,
            "oldest_unacked_ms": now - oldest.sent & 0xFFFFFFFF if oldest else 0,
            "messages_in": list(link.messages_in), "messages_out": list(link.messages_out),
            "fragments_open": link.groups, "fragment_bytes": link.group_bytes,
            "waiting_bytes": sum(c.waiting_bytes for c in link.channel.values()),
            "ratio": f["coded"] / f["plain"] if f["plain"] else 1.0,
            "idle_ms": now - link.last_heard & 0xFFFFFFFF,
            "connected_s": (now - link.connected_at & 0xFFFFFFFF) / 1000, "max_unreliable": link.piece,
        }  # fmt: skip


class Host:
    """See `_native.enet.Host`; what it takes and gives is the same."""

    def __init__(
        self,
        *,
        secret: bytes,
        peer_class: type,
        deliveries: tuple[Delivery, ...],
        first_id: int = 1,
        **config: int,
    ) -> None:
        unknown = [name for name in config if name not in _DEFAULTS]
        if unknown:
            raise TypeError(f"an ENet host has no setting {unknown[0]!r}")
        if len(secret) != 16:
            raise ValueError(f"the secret of an ENet host is 16 bytes, found {len(secret)}")
        self.config = {**_DEFAULTS, **config}
        self.secret = (int.from_bytes(secret[:8], "little"), int.from_bytes(secret[8:], "little"))
        self.peers: dict[int, Any] = {}
        self.joined: Callable[..., Any] | None = None
        self.received: Callable[..., Any] | None = None
        self.left: Callable[..., Any] | None = None
        self.failed: Callable[..., Any] | None = None
        self.encode: Callable[[Any], bytes] | None = None
        self.wake: Callable[[], Any] | None = None
        self.messages_failed = 0
        self.totals: dict[str, int] = dict.fromkeys(
            "joins leaves connects answered refused unproven_in unproven_out over_commands shed".split(), 0
        )
        self.links: dict[tuple[Any, int], Link] = {}
        self.clients: dict[tuple[Any, int], Link] = {}
        self.addresses: dict[Any, int] = {}
        self.prefixes: dict[bytes, int] = {}
        self.reassembly = 0
        self.out: list[tuple[bytes, Any]] = []
        self.ns = self.ms = 0
        self.now: int = self.config["clock"]
        self.half = HalfOpen(self)
        self._peer_class: Any = peer_class
        self._deliveries = deliveries
        self._ids = itertools.count(first_id)
        self._client_ids, self._connects = itertools.count(), itertools.count(1)
        self._dirty: dict[Link, None] = {}
        self._timers: list[tuple[int, int, Link]] = []
        self._order = itertools.count()
        self._rows: list[tuple[str, Link, Any]] = []
        self._events: list[tuple[str, Any, Any]] = []
        self._bans: dict[bytes, int] = {}
        self._hashes: dict[Any, int] = {}
        self._busy = False
        self._measured, self._used = -100, 0

    def adopt(self, other: Host) -> None:
        """Go on with the limits and the class of peers of `other`, a host that has served nobody yet.

        `TypeError` when peers of this one cannot become peers of that class.
        """
        keep = {name: self.config[name] for name in _LASTING}
        for peer in self.peers.values():
            peer.__class__ = other._peer_class
        self._peer_class = other._peer_class
        self.config = {**other.config, **keep}

    # ---- what links call ----

    def hash_of(self, address: Any) -> int:
        """The keyed hash of an address."""
        found = self._hashes.get(address)
        if found is None:
            if len(self._hashes) > 65_536:
                self._hashes.clear()
            found = self._hashes[address] = siphash(self.secret, key_words(address))
        return found

    def emit(self, data: bytes, address: Any) -> None:
        """A datagram that leaves."""
        self.out.append((data, address))

    def touch(self, link: Link) -> None:
        """A link has something to send."""
        self._dirty.setdefault(link)

    def schedule(self, link: Link, at: int) -> None:
        """Look at a link at this time of the protocol's clock; an earlier look stands."""
        due = self.ms + max(1, ((at - self.now + 0x80000000) & 0xFFFFFFFF) - 0x80000000)
        if link.due is None or due < link.due:
            link.due = due
            heapq.heappush(self._timers, (due, next(self._order), link))

    def happened(self, kind: str, link: Link, what: Any) -> None:
        """A row for `dispatch`."""
        self._rows.append((kind, link, what))

    def knows(self, address: Any) -> bool:
        """Whether an address has a connection."""
        return address in self.addresses

    def client_of(self, address: Any, their_id: int) -> Link | None:
        return self.clients.get((address, their_id))

    def add(self, link: Link) -> None:
        self.links[link.address, link.our_id] = link
        self.addresses[link.address] = self.addresses.get(link.address, 0) + 1
        prefix = prefix_of(link.address)
        self.prefixes[prefix] = self.prefixes.get(prefix, 0) + 1

    def prefix_full(self, address: Any) -> bool:
        limit = self.config["per_prefix"]
        if not limit or (loopback(address) and not self.config["limit_loopback"]):
            return False
        return self.prefixes.get(prefix_of(address), 0) >= limit

    def banned(self, address: Any) -> bool:
        ip = raw_of(address)
        until = self._bans.get(ip)
        if until is not None and until <= self.ns:
            del self._bans[ip]
            return False
        return until is not None

    def gone(self, link: Link, word: str, code: int, by_peer: bool) -> None:
        """A connection has ended."""
        if link.state == GONE:
            return
        self.happened("leave", link, (word, code, by_peer))
        link.state = GONE
        self.totals["leaves"] += link.joined
        del self.links[link.address, link.our_id]
        if self.clients.get((link.address, link.their_id)) is link:
            del self.clients[link.address, link.their_id]
        _less(self.addresses, link.address)
        _less(self.prefixes, prefix_of(link.address))
        for c in link.channel.values():
            for entry in (*c.reliable, *c.unreliable):
                self.reassembly -= entry.charged
        link.end_queues()

    def expel(self, link: Link, word: str) -> None:
        """End a peer that broke a cap."""
        if link.state != GONE:
            link.control = link.control + 1 & 0xFFFF
            code = CODE_OF[word]
            link.say_now(w.Command(w.DISCONNECT, w.FLAG_UNSEQUENCED, w.CONTROL, link.control, (code,)))
            self.gone(link, word, code, False)

    def close(self, link: Link, how: int, code: int, word: str) -> None:
        """See `en_close`."""
        if link.state in (GONE, CLOSING):
            return
        link.word, link.code = word, code
        if link.state == CONNECTING:
            self.gone(link, word, code, False)
            return
        if how == 0:
            self.gone(link, word, code, False)
            link.say(w.DISCONNECT, w.FLAG_UNSEQUENCED, code)
        elif how == 2:
            link.state = DRAINING
        else:
            link.end_queues(acks=False)
            link.state = CLOSING
            link.say(w.DISCONNECT, w.FLAG_ACK, code)
        self.touch(link)

    # ---- events ----

    def asked(self) -> None:
        """Something waits to be sent or told."""
        if not self._busy and self.wake is not None:
            self.wake()

    def dispatch(self) -> None:
        """Hand every row to its callable; handlers may add rows."""
        if self._busy:
            return
        self._busy = True
        at = 0
        while at < len(self._rows):
            kind, link, what = self._rows[at]
            at += 1
            try:
                getattr(self, f"_on_{kind}")(link, what)
            except BaseException as error:
                self.messages_failed += 1
                if self.failed is not None:
                    self.failed(link.user, error)
        self._rows.clear()
        self._busy = False

    def _on_message(self, link: Link, what: Any) -> None:
        peer = link.user
        if peer is None or peer._closing:
            return
        data, channel, delivery = what
        message = Message(data, channel, self._deliveries[delivery], self.ns / 1e9)
        if self.received is None:
            self._events.append(("message", peer, message))
        else:
            self.received(peer, message)

    def _on_join(self, link: Link, code: int) -> None:
        peer = link.user
        if peer is None:
            if link.state == GONE:
                return
            peer = self._new_peer(link)
            peer.user_data = code
        peer.joined_at = self.ns / 1e9
        self.peers[peer.id] = peer
        if self.received is None:
            self._events.append(("join", peer, code))
        elif self.joined is not None:
            self.joined(peer)

    def _on_leave(self, link: Link, what: tuple[str, int, bool]) -> None:
        peer = link.user
        if peer is None:
            return
        link.user = None
        peer.leave, peer._closing, peer._link = what, True, None
        self.peers.pop(peer.id, None)
        seconds = self.ns / 1e9 - peer.joined_at
        if self.received is None:
            self._events.append(("leave", peer, (*what, seconds)))
        elif self.left is not None:
            self.left(peer, *what, seconds)

    def _new_peer(self, link: Link) -> Any:
        peer = self._peer_class.__new__(self._peer_class)
        peer._link, peer._host, peer.id, peer.address = link, self, next(self._ids), Address(*link.address)
        link.user = peer
        return peer

    # ---- what users call ----

    def new_id(self) -> int:
        """An id for a peer of another transport of the same game."""
        return next(self._ids)

    def payload(self, data: Any) -> bytes:
        """The bytes of what is to be sent."""
        if isinstance(data, str):
            return data.encode()
        if not isinstance(data, (bytes, bytearray, memoryview)) and self.encode is not None:
            return self.encode(data)
        return bytes(memoryview(data))

    def sent(self, done: int, link: Link, data: Any, channel: int) -> bool:
        """What a send gives its caller."""
        if done == TOO_LONG:
            raise TooLong(
                f"a message of {len(self.payload(data)):,} bytes is too long. Unreliable ones hold {link.piece:,}; "
                f"send it RELIABLE, or SEQUENCED with fragment=True, up to max_message of the game"
            )
        if done < 0 and done != CLOSED:
            raise ValueError(
                f"channel {channel} is not open: this peer asked for {link.channels}, numbered from 0"
            )
        return done > 0

    def broadcast(
        self,
        peers: Iterable[Any],
        data: Any,
        channel: int = 0,
        delivery: int = 0,
        fragment: bool = False,
        exclude: Any = (),
    ) -> int:
        """Send one message to many; how many queued it."""
        if not 0 <= channel < 255:
            raise ValueError(f"channel {channel} is not one of 0..254")
        payload, queued = self.payload(data), 0
        for peer in peers:
            if not isinstance(peer, Peer) or peer._link is None or peer._closing or peer in exclude:
                continue
            done = peer._link.send(payload, channel, delivery, fragment)
            if done == TOO_LONG:
                self.sent(done, peer._link, payload, channel)
            queued += done > 0
        self.asked()
        return queued

    def connect(self, address: Any, channels: int = 2, data: int = 0, *, now: int) -> Any:
        """Open a connection as a client at `now` (ns)."""
        self._begin(now)
        address = tuple(address)
        ids = (next(self._client_ids) % w.NO_ID for _ in range(w.NO_ID))
        link = Link(self, address, next(id for id in ids if (address, id) not in self.links))
        self.add(link)
        seed = siphash(self.secret, [next(self._connects), ord("c")])
        link.connect_id = seed.to_bytes(8, "little")[:4]
        link.client, link.state, link.user_data = True, CONNECTING, data
        link.channels = max(1, min(channels, self.config["channels"]))
        link.checksum, link.compress = self.config["checksum"] == 1, bool(self.config["compress"])
        link.say(w.CONNECT, w.FLAG_ACK)
        peer = self._new_peer(link)
        peer.user_data = data
        self.asked()
        return peer

    def ban(self, host: str, until: int) -> None:
        """Drop and refuse what comes from this IP until `until` (ns); 0 lifts it."""
        if until:
            self._bans[raw_of((host, 0))] = until
        else:
            self._bans.pop(raw_of((host, 0)), None)

    # ---- sans-io ----

    def _begin(self, now: int) -> None:
        if now > self.ns:
            self.ns, self.ms = now, now // 1_000_000
            self.now = self.ms + self.config["clock"] & 0xFFFFFFFF

    def receive(self, now: int, address: Any, data: bytes) -> str:
        """One datagram at `now` (ns); the word it ended under."""
        self._begin(now)
        word = self._take(tuple(address), bytes(data))
        self.dispatch()
        return word

    def _take(self, address: Any, data: bytes) -> str:
        head = w.read_header(data)
        if head is None:
            return "malformed"
        if head.id == w.NO_ID:
            return self.half.connect(data, head, address) if self.config["accept"] else "passed"
        rows = len(self._rows)
        link = self.links.get((address, head.id))
        if link is None:
            word, link = self.half.take(data, head, address)
            if link is None:
                return "denied" if word == "passed" and self.knows(address) else word
        elif link.state != CONNECTING and head.session != link.session_in:
            return "denied"
        if self._bans and self.banned(address):
            return "denied"
        if self._limited(link, len(data)):
            return "held" if len(self._rows) > rows else "limited"
        fault = -1
        body = open_body(data, head, link.checksum, link.connect_id) if len(data) <= w.MTU_MOST else None
        if body is not None:
            link.figures["datagrams_in"] += 1
            link.figures["bytes_in"] += len(data)
            link.figures["compressed_in"] += head.compressed
            link.compress |= head.compressed
            if link.state != CONNECTING:
                link.last_heard = self.now
            fault = receive(link, head, body)
        if fault < 0:
            self._malformed(link)
        if len(self._rows) > rows:
            return "held"
        return "malformed" if fault < 0 else "answered"

    def _malformed(self, link: Link) -> None:
        link.figures["malformed"] += 1
        if not link.malformed_count or self.now - link.malformed_since & 0xFFFFFFFF > 10000:
            link.malformed_since, link.malformed_count = self.now, 0
        link.malformed_count += 1
        if 0 < self.config["max_malformed"] <= link.malformed_count:
            self.expel(link, "malformed")

    def _limited(self, link: Link, size: int) -> bool:
        rate, byte_rate = self.config["rate"], self.config["byte_rate"]
        if loopback(link.address) and not self.config["limit_loopback"]:
            return False
        passed = min(1000, self.now - link.tokens_at & 0xFFFFFFFF)
        more = rate * passed // 1000
        if passed and (more or not rate):
            link.tokens_at = self.now
            link.tokens = min(rate, link.tokens + more)
            link.byte_tokens = min(byte_rate, link.byte_tokens + byte_rate * passed // 1000)
        if (not rate or link.tokens) and (not byte_rate or link.byte_tokens >= size):
            link.tokens -= bool(rate)
            link.byte_tokens -= size if byte_rate else 0
            return False
        link.figures["dropped_limited"] += 1
        if link.limited_since is None or self.now - link.limited_last & 0xFFFFFFFF > 1000:
            link.limited_since = self.now
        link.limited_last = self.now
        if self.now - link.limited_since & 0xFFFFFFFF >= 10000:
            self.expel(link, "flood")
        return True

    def advance(self, now: int) -> None:
        """Run the timers that are due at `now` (ns)."""
        self._begin(now)
        for _ in range(_TIMERS_A_CALL):
            if not self._timers or self._timers[0][0] > self.ms:
                break
            due, _, link = heapq.heappop(self._timers)
            if link.due == due and link.state != GONE:
                link.due = None
                self._timer(link)
        self.dispatch()

    def _timer(self, link: Link) -> None:
        now, ping = self.now, self.config["ping"]
        if link.resend_at is not None and not before(now, link.resend_at):
            link.expire()
        if link.state == GONE:
            return
        quiet = link.last_ack if link.client else link.last_heard
        following = now + 1000 & 0xFFFFFFFF
        if link.state in (CONNECTED, DRAINING):
            silent = now - quiet & 0xFFFFFFFF
            if silent >= ping and not (link.sent or link.resend or link.control_queue):
                link.say(w.PING, w.FLAG_ACK)
            following = (quiet if silent < ping else now) + ping & 0xFFFFFFFF
        if link.resend_at is not None and before(link.resend_at, following):
            following = link.resend_at
        self.schedule(link, following)

    def outgoing(self) -> list[tuple[bytes, Any]]:
        """Every datagram that is to leave."""
        while self._dirty:
            link = next(iter(self._dirty))
            link.flush()
            self._dirty.pop(link, None)
        out, self.out = self.out, []
        return [(data, Address(*address)) for data, address in out]

    def events(self) -> list[tuple[str, Any, Any]]:
        """What has happened, when no callables take it."""
        if self._rows:
            self.dispatch()
        events, self._events = self._events, []
        return events

    def deadline(self) -> int | None:
        """When `advance` is wanted next, in ns; None: never."""
        if self._dirty or self._rows:
            return self.ns
        timers = self._timers
        while timers and (timers[0][2].state == GONE or timers[0][2].due != timers[0][0]):
            heapq.heappop(timers)
        return max(self.ns, timers[0][0] * 1_000_000) if timers else None

    @property
    def half_open(self) -> int:
        """Addresses without proof."""
        return len(self.half)

    def above(self, share: int) -> bool:
        """Whether memory is above this many hundredths of its limit; looked at ten times a second."""
        if self.ms - self._measured >= 100:
            self._measured, self._used = self.ms, self.memory
        return self._used > self.config["memory"] // 100 * share

    @property
    def memory(self) -> int:
        """Bytes that queues and waiting messages hold."""
        return self.reassembly + sum(
            link.queued_bytes + sum(c.waiting_bytes for c in link.channel.values())
            for link in self.links.values()
        )


def _less(counts: dict[Any, int], key: Any) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
