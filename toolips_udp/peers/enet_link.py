"""One ENet connection in plain Python: its state, and how its commands become datagrams.

Imports the wire only. Called by enet_host.py and enet_receive.py; the twin of
native/enet_send.c, rule by rule, so that both say the same bytes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import enet_wire as w
from .range_coder import compress

if TYPE_CHECKING:
    from .enet_host import Host

IDLE, CONNECTING, CONNECTED, DRAINING, CLOSING, GONE = range(6)
TOO_LONG, BAD_CHANNEL, CLOSED = -1, -2, -3
RTO_SLACK, RTO_MOST, RTO_LAST = 20, 500, 10_000
CHARGE = 64


def before(a: int, b: int) -> bool:
    """Is time a before time b, on a clock of 32 bits?"""
    return (a - b) & 0xFFFFFFFF >= 0x80000000


@dataclass(slots=True, eq=False)
class Out:
    """A command that waits to be sent, or for its ack."""

    type: int
    flags: int
    channel: int
    number: int
    queued: int
    order: int
    payload: bytes = b""
    start: int = 0
    offset: int = 0
    length: int = 0
    charge: int = 0
    count: int = 0
    index: int = 0
    sends: int = 0
    sent: int = 0
    timeout: int = 0
    in_flight: bool = False


@dataclass(slots=True, eq=False)
class Channel:
    """Numbers and waiting messages of one channel."""

    out_reliable: int = 0
    out_unreliable: int = 0
    in_reliable: int = 0
    in_unreliable: int = 0
    windows: list[int] = field(default_factory=lambda: [0] * 16)
    reliable: list[Any] = field(default_factory=list)
    unreliable: list[Any] = field(default_factory=list)
    waiting_bytes: int = 0


class Link:
    """The protocol's half of a peer."""

    def __init__(self, host: Host, address: Any, our_id: int) -> None:
        self.host, self.address, self.our_id = host, address, our_id
        self.user: Any = None
        self.their_id = w.NO_ID
        self.session_out = self.session_in = 0
        self.state = IDLE
        self.client = self.checksum = self.compress = self.joined = False
        self.connect_id = bytes(4)
        self.word, self.code, self.user_data = "left", 0, 0
        self.mtu = host.config["mtu"]
        self.window, self.channels, self.their_incoming = w.WINDOW_MOST, 1, 0
        now = host.now
        self.connected_at = self.last_heard = self.last_ack = self.loss_epoch = self.passed = now
        self.rtt = self.lowest_rtt = self.last_rtt = self.rtt_min = 500
        self.var = self.highest_var = self.last_var = self.jitter_max = 0
        self.smooth, self.spread = 8 * 480, 0
        self.acked = self.failing = False
        self.failing_since = self.pass_bytes = 0
        self.epoch: int | None = None
        self.throttle = self.throttle_limit = 32
        self.throttle_counter = 0
        self.interval, self.acceleration, self.deceleration = 5000, 2, 2
        self.packets_sent = self.packets_lost = self.loss = self.loss_var = 0
        self.control = self.group = self.order = self.group_base = self.groups_seen = 0
        self.in_flight_bytes = self.queued_bytes = 0
        self.control_queue: deque[Out] = deque()
        self.resend: dict[Out, None] = {}
        self.reliable: deque[Out] = deque()
        self.unreliable: deque[Out] = deque()
        self.sent: dict[Out, None] = {}
        self.unacked: dict[tuple[int, int], Out] = {}
        self.acks: deque[tuple[int, int, int]] = deque()
        self.groups = self.group_bytes = 0
        self.full_since: int | None = None
        self.limited_since: int | None = None
        self.limited_last = self.tokens_at = now
        self.tokens, self.byte_tokens = host.config["rate"], host.config["byte_rate"]
        self.malformed_count, self.malformed_since = 0, now
        self.channel: dict[int, Channel] = {}
        self.due: int | None = None
        self.resend_at: int | None = None
        self.figures = dict.fromkeys(
            "datagrams_in datagrams_out bytes_in bytes_out resent given_up duplicates old_numbers out_of_order "
            "dropped_throttle dropped_queue dropped_limited compressed_in compressed_out malformed plain coded".split(),
            0,
        )
        self.messages_in, self.messages_out = [0, 0, 0], [0, 0, 0]

    # ---- queueing ----

    @property
    def piece(self) -> int:
        """Bytes of data in one command."""
        return self.mtu - (32 if self.checksum else 28)

    def of(self, number: int) -> Channel:
        """A channel, made when first used."""
        found = self.channel.get(number)
        if found is None:
            found = self.channel[number] = Channel()
        return found

    def out(self, type: int, flags: int, channel: int, number: int = 0) -> Out:
        self.order += 1
        return Out(type, flags, channel, number, self.host.now, self.order)

    def say(self, type: int, flags: int, reason: int = 0) -> None:
        """Queue a control command."""
        self.control = self.control + 1 & 0xFFFF
        out = self.out(type, flags, w.CONTROL, self.control)
        out.index = reason
        self.control_queue.append(out)
        self.host.touch(self)

    def ack(self, channel: int, number: int, time: int) -> None:
        """Queue an acknowledgement."""
        if self.state in (GONE, CLOSING):
            return
        if len(self.acks) >= self.host.config["max_acks"]:
            for _ in range(min(8, len(self.acks))):
                self.acks.popleft()
        self.acks.append((channel, number, time))
        self.host.touch(self)

    def send(self, data: bytes, channel: int, delivery: int, fragment: bool) -> int:
        """1 queued, 0 dropped, or below 0 why not; see en_send."""
        config, size = self.host.config, len(data)
        if self.state != CONNECTED:
            return CLOSED
        if not 0 <= channel < self.channels:
            return BAD_CHANNEL
        count = -(-size // self.piece) if size > self.piece else 0
        reliable = delivery == 0
        if size > config["max_message"] or count > 24000:
            return TOO_LONG
        if count and not reliable and not (fragment and delivery == 1):
            return TOO_LONG
        c = self.of(channel)
        if delivery == 1 and c.out_unreliable == 0xFFFF:
            reliable = True
        if self.queued_bytes + size + CHARGE > config["queue_bytes"] or (
            not reliable and self.host.above(95)
        ):
            self.figures["dropped_queue"] += 1
            if reliable:
                self.host.close(self, 0, 0xFFFFFF04, "slow")
            return 0
        out = self.out(0, 0, channel)
        out.payload, out.length, out.charge, out.count = data, size, size + CHARGE, count
        self.queued_bytes += out.charge
        if reliable:
            out.type, out.flags = (w.SEND_FRAGMENT if count else w.SEND_RELIABLE), w.FLAG_ACK
            out.number = out.start = c.out_reliable + 1 & 0xFFFF
            c.out_reliable = c.out_reliable + (count or 1) & 0xFFFF
            c.out_unreliable = 0
            self.reliable.append(out)
        elif delivery == 2:
            self.group = self.group + 1 & 0xFFFF
            out.type, out.flags, out.start = w.SEND_UNSEQUENCED, w.FLAG_UNSEQUENCED, self.group
            self.unreliable.append(out)
        else:
            c.out_unreliable += 1
            out.type = w.SEND_UNRELIABLE_FRAGMENT if count else w.SEND_UNRELIABLE
            out.number, out.start = c.out_reliable, c.out_unreliable
            self.unreliable.append(out)
        if self.their_incoming:
            self._bandwidth(size)
        self.messages_out[delivery] += 1
        self.host.touch(self)
        return 1

    def _bandwidth(self, size: int) -> None:
        self.pass_bytes += size
        if self.host.now - self.passed & 0xFFFFFFFF < 1000:
            return
        limit = self.their_incoming * 32 // self.pass_bytes if self.pass_bytes else 32
        self.throttle_limit = max(1, min(32, limit))
        self.throttle = min(self.throttle, self.throttle_limit)
        self.passed, self.pass_bytes = self.host.now, 0

    def acknowledged(self, channel: int, number: int) -> int:
        """Forget a sent command; its type, or 0 when there is none."""
        out = self.unacked.get((channel, number))
        if out is None:
            return 0
        self._drop(out)
        if self.reliable or self.state == DRAINING:
            self.host.touch(self)
        return out.type

    def _drop(self, out: Out) -> None:
        del self.unacked[out.channel, out.number]
        self.sent.pop(out, None)
        self.resend.pop(out, None)
        if out.in_flight:
            self.in_flight_bytes -= out.length
        if out.channel != w.CONTROL:
            self.of(out.channel).windows[out.number >> 12] -= 1
        self.queued_bytes -= out.charge

    def end_queues(self, acks: bool = True) -> None:
        """Throw away everything that waits."""
        for out in [*self.sent, *self.resend]:
            self._drop(out)
        for queue in (self.control_queue, self.reliable, self.unreliable):
            for out in queue:
                self.queued_bytes -= out.charge
            queue.clear()
        if acks:
            self.acks.clear()

    # ---- datagrams ----

    def flush(self) -> None:
        """Everything that may leave now."""
        while True:
            if self.state == DRAINING and not (self.reliable or self.unreliable or self.resend or self.sent):
                self.state = CLOSING
                self.say(w.DISCONNECT, w.FLAG_ACK, self.code)
            pack = _Pack(self)
            done = pack.acks() and pack.control() and pack.resends() and pack.messages()
            pack.finish()
            if done and not (self.state == DRAINING and not (self.reliable or self.sent or self.resend)):
                break
        self._loss_figure()

    def seal(self, header: bytes, body: bytes, connect_id: bytes) -> bytes:
        """A whole datagram: coder and checksum applied."""
        coded = compress(body) if self.compress and len(body) > 1 else body
        if len(coded) < len(body):
            header = bytes((header[0] | 0x40,)) + header[1:]
        else:
            coded = body
        check = w.checksum(header, connect_id, body) if self.checksum else b""
        return header + check + coded

    def say_now(self, command: w.Command) -> None:
        """One command in a datagram of its own."""
        if self.their_id != w.NO_ID:
            data = self.seal(
                w.write_header(self.their_id, self.session_out), w.write_command(command), self.connect_id
            )
            self.host.emit(data, self.address)

    def _loss_figure(self) -> None:
        now = self.host.now
        if now - self.loss_epoch & 0xFFFFFFFF < 10000 or not self.packets_sent:
            return
        loss = self.packets_lost * 65536 // self.packets_sent
        self.loss_var = (3 * self.loss_var + abs(loss - self.loss)) // 4
        self.loss = (7 * self.loss + loss) // 8
        self.packets_lost = self.packets_sent = 0
        self.loss_epoch = now

    # ---- timers ----

    def left(self, out: Out) -> None:
        """A reliable command has left: its clock runs."""
        now = self.host.now
        if out.sends == 0:
            out.timeout = min(self.smooth // 8 + max(self.spread, RTO_SLACK), RTO_LAST)
        else:
            self.figures["resent"] += 1
        out.sends += 1
        out.sent, out.in_flight = now, True
        self.in_flight_bytes += out.length
        self.packets_sent += 1
        self.sent[out] = None
        expires = now + out.timeout & 0xFFFFFFFF
        if self.resend_at is None or before(expires, self.resend_at):
            self.resend_at = expires
            self.host.schedule(self, expires)

    def measured(self, sample: int, first: bool) -> None:
        """A round trip, for timeouts: eight times it and four times its deviation, without rounding."""
        if first:
            self.smooth, self.spread = 8 * sample, 2 * sample
            return
        trip = self.smooth // 8
        self.smooth += sample - trip
        self.spread += abs(sample - trip) - self.spread // 4

    def window_open(self, out: Out, number: int, length: int) -> bool:
        """May a first reliable sending leave under both windows?"""
        if self.in_flight_bytes + length > max(self.throttle * self.window // 32, self.mtu):
            return False
        if number % 4096:
            return True
        windows, at = self.of(out.channel).windows, number >> 12
        return windows[at - 1] < 4096 and not any(windows[(at + k) % 16] for k in range(10))

    def expire(self) -> None:
        """Queue again what has waited too long; end a peer that does not answer."""
        now = self.host.now
        crowded = len(self.sent) >= 8
        self.resend_at = None
        for out in list(self.sent):
            expires = out.sent + out.timeout & 0xFFFFFFFF
            if before(now, expires):
                if self.resend_at is None or before(expires, self.resend_at):
                    self.resend_at = expires
                continue
            if not self.failing or before(out.sent, self.failing_since):
                self.failing_since = out.sent
            self.failing = True
            elapsed = now - self.failing_since & 0xFFFFFFFF
            silent = now - self.last_heard & 0xFFFFFFFF >= 5000 and self.state != CONNECTING
            if elapsed >= 30000 or (out.sends >= 6 and elapsed >= 5000 and silent):
                self.figures["given_up"] += 1
                ours = self.state in (DRAINING, CLOSING)
                self.host.gone(self, self.word if ours else "timeout", self.code if ours else 0, False)
                return
            del self.sent[out]
            self.resend[out] = None
            out.in_flight = False
            most = min(max(RTO_MOST if crowded else RTO_MOST // 2, 2 * (self.rtt + 4 * self.var)), RTO_LAST)
            if crowded or out.sends >= 3:
                out.timeout = out.timeout if out.timeout >= most else min(2 * out.timeout, most)
            self.in_flight_bytes -= out.length
            self.packets_lost += 1
            self.host.touch(self)


class _Pack:
    """The datagram that is being built."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.room = link.mtu - 4 - (4 if link.checksum else 0)
        self.body = bytearray()
        self.commands = 0
        self.timed = False

    def put(self, command: w.Command) -> bool:
        data = w.write_command(command)
        if self.commands == w.COMMANDS_MOST or len(self.body) + len(data) > self.room:
            return False
        self.body += data
        self.commands += 1
        self.timed |= bool(command.flags & w.FLAG_ACK)
        return True

    def finish(self) -> None:
        if not self.commands:
            return
        link, knows = self.link, self.link.state != CONNECTING
        header = w.write_header(
            link.their_id if knows else w.NO_ID,
            link.session_out if knows else 0,
            link.host.now if self.timed else None,
        )
        data = link.seal(header, bytes(self.body), link.connect_id if knows else bytes(4))
        figures = link.figures
        if link.compress:
            plain = len(header) + len(self.body) + (4 if link.checksum else 0)
            figures["compressed_out"] += len(data) < plain
            figures["plain"] += plain
            figures["coded"] += len(data)
        figures["datagrams_out"] += 1
        figures["bytes_out"] += len(data)
        link.host.emit(data, link.address)

    def acks(self) -> bool:
        acks = self.link.acks
        while acks:
            channel, number, time = acks[0]
            if not self.put(w.Command(w.ACKNOWLEDGE, 0, channel, number, (number, time))):
                return False
            acks.popleft()
        return True

    def control(self) -> bool:
        link = self.link
        while link.control_queue:
            out = link.control_queue[0]
            if not self.put(w.Command(out.type, out.flags, w.CONTROL, out.number, self._fields(out))):
                return False
            link.control_queue.popleft()
            if out.flags & w.FLAG_ACK:
                link.unacked[w.CONTROL, out.number] = out
                link.left(out)
        return True

    def _fields(self, out: Out) -> tuple[int | bytes, ...]:
        link = self.link
        if out.type == w.DISCONNECT:
            return (out.index,)
        if out.type != w.CONNECT:
            return ()
        numbers = (link.our_id, 0xFF, 0xFF, link.mtu, w.WINDOW_MOST, link.channels, 0, 0, link.interval)
        return (*numbers, link.acceleration, link.deceleration, link.connect_id, link.user_data)

    def message(self, out: Out) -> bool:
        data = out.payload[out.offset : out.offset + out.length]
        fields: tuple[int | bytes, ...]
        if out.type == w.CONNECT or out.channel == w.CONTROL:
            fields, data = self._fields(out), b""
        elif out.type == w.SEND_RELIABLE:
            fields = (len(data),)
        elif out.count:
            fields = (out.start, len(data), out.count, out.index, len(out.payload), out.offset)
        else:
            fields = (out.start, len(data))
        return self.put(w.Command(out.type, out.flags, out.channel, out.number, fields, data))

    def resends(self) -> bool:
        link = self.link
        for out in list(link.resend):
            if not self.message(out):
                return False
            del link.resend[out]
            link.left(out)
        return True

    def messages(self) -> bool:
        """In the order they were queued; a closed window stops reliable ones only."""
        link, closed = self.link, False
        while True:
            r = link.reliable[0] if link.reliable and not closed else None
            u = link.unreliable[0] if link.unreliable else None
            if r is None and u is None:
                return True
            if r is not None and (u is None or r.order < u.order):
                done = self.reliable(r)
                if done == 0:
                    return False
                closed = done < 0
            elif u is not None and not self.unreliable(u):
                return False

    def _first(self, out: Out) -> None:
        link = self.link
        link.unacked[out.channel, out.number] = out
        link.of(out.channel).windows[out.number >> 12] += 1
        link.left(out)

    def reliable(self, out: Out) -> int:
        """1: sent, 0: no place in the datagram, -1: the window is closed."""
        link = self.link
        if not out.count:
            if not link.window_open(out, out.number, out.length):
                return -1
            if not self.message(out):
                return 0
            link.reliable.popleft()
            self._first(out)
            return 1
        piece = min(link.piece, len(out.payload) - out.offset)
        number = out.start + out.index & 0xFFFF
        if not link.window_open(out, number, piece):
            return -1
        cut = link.out(out.type, out.flags, out.channel, number)
        cut.payload, cut.offset, cut.length, cut.start = out.payload, out.offset, piece, out.start
        cut.count, cut.index, cut.queued = out.count, out.index, out.queued
        if not self.message(cut):
            return 0
        cut.charge = piece
        out.charge -= piece
        out.offset += piece
        out.index += 1
        self._first(cut)
        if out.offset == len(out.payload):
            link.reliable.popleft()
            link.queued_bytes -= out.charge
        return 1

    def unreliable(self, out: Out) -> bool:
        link, drop = self.link, False
        if out.offset == 0 and not out.in_flight:
            out.in_flight = True
            link.throttle_counter = (link.throttle_counter + 7) % 32
            drop = link.throttle_counter > link.throttle
            link.figures["dropped_throttle"] += drop
            if not drop and link.host.now - out.queued & 0xFFFFFFFF > link.host.config["queue_age"]:
                drop = True
                link.figures["dropped_queue"] += 1
        while not drop and out.count and out.offset < len(out.payload):
            out.length = min(link.piece, len(out.payload) - out.offset)
            if not self.message(out):
                return False
            out.offset += out.length
            out.index += 1
        if not drop and not out.count and not self.message(out):
            return False
        link.unreliable.popleft()
        link.queued_bytes -= out.charge
        return True
