"""What the commands of an ENet peer do, in plain Python: the twin of native/enet_receive.c.

Imports the wire and the link. Each function gives DONE (acknowledge), REST (do not,
and drop the rest of the datagram) or FAULT (the same, and it was malformed). The twin
of native/enet_receive.c.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from . import enet_wire as w
from .enet_link import CLOSING, CONNECTED, CONNECTING, DRAINING, GONE, Channel, Link, before

DONE, REST, FAULT = range(3)


@dataclass(slots=True, eq=False)
class Waiting:
    """A message that waits for its turn, whole or in pieces."""

    number: int
    unreliable: int
    length: int
    born: int
    data: bytes | None = None
    count: int = 0
    charged: int = 0
    pieces: dict[int, tuple[int, bytes]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return not self.count or len(self.pieces) == self.count

    def joined(self) -> bytes | None:
        """The message, or None when its pieces do not cover it exactly."""
        if not self.count:
            return self.data
        at, whole = 0, bytearray()
        for offset, data in sorted(self.pieces.values(), key=lambda piece: piece[0]):
            if offset != at:
                return None
            whole += data
            at += len(data)
        return bytes(whole) if at == self.length else None


def distance(c: Channel, number: int) -> int:
    """Windows between what was delivered last and this number."""
    return (number >> 12) - (c.in_reliable >> 12) + (16 if number < c.in_reliable else 0)


def receive(link: Link, head: w.Header, commands: bytes) -> int:
    """Act on commands. 0: all, 1: stopped without fault, -1: stopped at a fault."""
    at, count = 0, 0
    while at < len(commands):
        if count == w.COMMANDS_MOST:
            return 1
        count += 1
        got = w.read_command(commands, at)
        if got is None:
            return -1
        m, at = got
        if m.flags & w.FLAG_ACK and not head.timed:
            return -1
        done = _command(link, head, m)
        if done == DONE and m.flags & w.FLAG_ACK and not _too_far(link, m):
            link.ack(m.channel, m.number, head.time)
        if done >= REST or link.state == GONE:
            return -1 if done == FAULT else int(done == REST)
    return 0


def _too_far(link: Link, m: w.Command) -> bool:
    """Stock acknowledges no command, whatever it is, whose number is that far ahead on its channel."""
    if m.channel >= link.channels:
        return False
    c = link.channel.get(m.channel)
    return (distance(c, m.number) if c is not None else m.number >> 12) in (7, 8)


def _command(link: Link, head: w.Header, m: w.Command) -> int:
    live = link.state in (CONNECTED, DRAINING)
    if m.type == w.ACKNOWLEDGE:
        return FAULT if link.state == CONNECTING else _ack(link, m)
    if m.type == w.VERIFY_CONNECT:
        return _verify(link, m)
    if m.type == w.DISCONNECT:
        return _disconnect(link, head, m)
    if m.type == w.PING:
        return DONE if live else REST
    if m.type == w.BANDWIDTH_LIMIT:
        if not live:
            return REST
        link.their_incoming = int(m.fields[0])
        link.window = window_for(link.their_incoming)
        if not link.their_incoming:
            link.throttle_limit = 32
        return DONE
    if m.type == w.THROTTLE_CONFIGURE:
        if not live:
            return REST
        link.interval, link.acceleration, link.deceleration = (int(n) for n in m.fields)
        return DONE
    if m.type == w.CONNECT:
        return FAULT
    if m.channel >= link.channels or not live:
        return REST if link.state in (CLOSING, CONNECTING) else FAULT
    if link.state == DRAINING:
        return DONE
    if not m.flags & w.FLAG_ACK and link.host.above(95):
        link.host.totals["shed"] += 1
        return DONE
    if m.type == w.SEND_UNSEQUENCED:
        return _unsequenced(link, m)
    c = link.of(m.channel)
    if m.type == w.SEND_RELIABLE:
        return _reliable(link, c, m)
    if m.type == w.SEND_UNRELIABLE:
        return _unreliable(link, c, m)
    return _fragment(link, c, m)


def window_for(incoming: int) -> int:
    """The send window towards a peer that says how much it can take; ours out is unlimited."""
    if not incoming:
        return w.WINDOW_MOST
    return max(w.WINDOW_LEAST, min(w.WINDOW_MOST, incoming // 65536 * 4096))


def _ack(link: Link, m: w.Command) -> int:
    host, now = link.host, link.host.now
    number, echoed = int(m.fields[0]), int(m.fields[1])
    sent = (now & 0xFFFF0000) | echoed
    if sent & 0x8000 > now & 0x8000:
        sent = sent - 0x10000 & 0xFFFFFFFF
    if before(now, sent):
        return DONE
    kind = link.acknowledged(m.channel, number)
    if not kind:
        return DONE
    s = max(1, now - sent & 0xFFFFFFFF)
    link.last_ack, link.failing = now, False
    link.measured(s, not link.acked)
    if not link.acked:
        link.acked, link.rtt, link.var, link.rtt_min = True, s, (s + 1) // 2, s
    else:
        if link.last_rtt <= link.last_var:
            link.throttle = link.throttle_limit
        elif s <= link.last_rtt:
            link.throttle = min(link.throttle + link.acceleration, link.throttle_limit)
        elif s > link.last_rtt + 2 * link.last_var:
            link.throttle = max(link.throttle - link.deceleration, 0)
        link.var -= link.var // 4
        away = abs(s - link.rtt)
        link.var += away // 4
        link.rtt += away // 8 if s > link.rtt else -(away // 8)
    link.lowest_rtt, link.highest_var = min(link.lowest_rtt, link.rtt), max(link.highest_var, link.var)
    link.rtt_min, link.jitter_max = min(link.rtt_min, s), max(link.jitter_max, link.var)
    if link.epoch is None or now - link.epoch & 0xFFFFFFFF >= link.interval:
        link.last_rtt, link.last_var = link.lowest_rtt, max(link.highest_var, 1)
        link.lowest_rtt, link.highest_var, link.epoch = link.rtt, link.var, now
    if kind == w.DISCONNECT and link.state == CLOSING:
        host.gone(link, link.word, link.code, False)
        return REST
    return DONE


def _verify(link: Link, m: w.Command) -> int:
    f = m.fields
    id, incoming, outgoing, mtu, window, channels, theirs = (int(n) for n in f[:7])
    if link.state in (CONNECTED, DRAINING):
        return DONE  # a repeat, or nothing to us: acknowledged as stock does, and that is all
    if link.state != CONNECTING:
        return FAULT
    triple = (link.interval, link.acceleration, link.deceleration)
    if not 1 <= channels <= 255 or tuple(f[8:11]) != triple or f[11] != link.connect_id or id >= w.NO_ID:
        link.host.gone(link, "left", 0, True)
        return REST
    link.acknowledged(w.CONTROL, 1)
    link.their_id, link.session_in, link.session_out = id, incoming & 3, outgoing & 3
    link.channels = min(channels, link.channels)
    link.mtu = min(max(w.MTU_LEAST, min(mtu, w.MTU_MOST)), link.mtu)
    link.window = min(max(window, w.WINDOW_LEAST), link.window)
    link.their_incoming = theirs
    link.state = CONNECTED
    link.connected_at = link.last_heard = link.last_ack = link.host.now
    link.joined = True
    link.host.totals["joins"] += 1
    link.host.happened("join", link, 0)
    link.say(w.PING, w.FLAG_ACK)
    return DONE


def _disconnect(link: Link, head: w.Header, m: w.Command) -> int:
    if link.state == CLOSING:
        link.host.gone(link, link.word, link.code, False)
        return REST
    if m.flags & w.FLAG_ACK and link.state != CONNECTING:
        link.say_now(w.Command(w.ACKNOWLEDGE, 0, m.channel, m.number, (m.number, head.time)))
    if link.state == DRAINING:
        link.host.gone(link, link.word, link.code, False)
    else:
        link.host.gone(link, "left", int(m.fields[0]), True)
    return REST


# ---- messages ----


def _deliver(link: Link, channel: int, delivery: int, data: bytes) -> None:
    link.messages_in[delivery] += 1
    link.host.happened("message", link, (data, channel, delivery))


def _forget(link: Link, c: Channel, entries: list[Waiting], entry: Waiting) -> None:
    entries.remove(entry)
    if entry.count:
        link.groups -= 1
        link.group_bytes -= entry.charged
        link.host.reassembly -= entry.charged
    else:
        c.waiting_bytes -= entry.length


def _deliver_waiting(
    link: Link, c: Channel, channel: int, delivery: int, entries: list[Waiting], entry: Waiting
) -> None:
    whole = entry.joined()
    if whole is None:
        link.figures["malformed"] += 1
    else:
        _deliver(link, channel, delivery, whole)
    _forget(link, c, entries, entry)


def _run_unreliable(link: Link, c: Channel, channel: int) -> None:
    for entry in list(c.unreliable):
        if entry not in c.unreliable:
            continue
        if entry.number != c.in_reliable:
            if distance(c, entry.number) < 7:
                return
            _forget(link, c, c.unreliable, entry)
        elif entry.complete:
            while c.unreliable[0] is not entry:
                _forget(link, c, c.unreliable, c.unreliable[0])
            c.in_unreliable = entry.unreliable
            _deliver_waiting(link, c, channel, 1, c.unreliable, entry)


def _run_reliable(link: Link, c: Channel, channel: int, delivered: bool) -> None:
    while c.reliable:
        entry: Waiting = c.reliable[0]
        ahead = entry.number - c.in_reliable & 0xFFFF
        if ahead == 0 or ahead >= 0x8000:
            _forget(link, c, c.reliable, entry)
            continue
        if ahead != 1 or not entry.complete:
            break
        c.in_reliable = entry.number + (entry.count - 1 if entry.count else 0) & 0xFFFF
        _deliver_waiting(link, c, channel, 0, c.reliable, entry)
        delivered = True
    if delivered:
        c.in_unreliable = 0
        link.full_since = None
        if c.unreliable:
            _run_unreliable(link, c, channel)


def _no_room(link: Link) -> int:
    now = link.host.now
    if link.full_since is None:
        link.full_since = now
    elif now - link.full_since & 0xFFFFFFFF >= 10000:
        link.host.expel(link, "hoarding")
    return REST


def _find(c: Channel, entries: list[Waiting], number: int, unreliable: int) -> tuple[Waiting | None, int]:
    """The entry, or None and the place to insert at."""
    key = (number - c.in_reliable & 0xFFFF, unreliable)
    for place in range(len(entries), 0, -1):
        entry = entries[place - 1]
        its = (entry.number - c.in_reliable & 0xFFFF, entry.unreliable)
        if its == key:
            return entry, place
        if its < key:
            return None, place
    return None, 0


def _wait(link: Link, c: Channel, entries: list[Waiting], place: int, m: w.Command, unreliable: int) -> int:
    config = link.host.config
    waiting = len(c.reliable) + len(c.unreliable)
    over = len(m.data) > config["waiting_bytes"] - c.waiting_bytes or link.host.above(95)
    if waiting >= config["max_waiting"] or over:
        return _no_room(link)
    entries.insert(place, Waiting(m.number, unreliable, len(m.data), link.host.now, m.data))
    c.waiting_bytes += len(m.data)
    link.figures["out_of_order"] += 1
    return DONE


def _too_big(link: Link, m: w.Command) -> bool:
    if len(m.data) <= link.host.config["max_message"]:
        return False
    link.host.expel(link, "too_big")
    return True


def _reliable(link: Link, c: Channel, m: w.Command) -> int:
    if _too_big(link, m):
        return REST
    d = distance(c, m.number)
    if d >= 7:
        link.figures["old_numbers"] += 1
        return DONE
    found, place = _find(c, c.reliable, m.number, 0)
    if m.number == c.in_reliable or found is not None:
        link.figures["duplicates"] += 1
        return DONE
    if m.number == c.in_reliable + 1 & 0xFFFF:
        c.in_reliable = m.number
        _deliver(link, m.channel, 0, m.data)
        _run_reliable(link, c, m.channel, True)
        return DONE
    return _wait(link, c, c.reliable, place, m, 0)


def _unreliable(link: Link, c: Channel, m: w.Command) -> int:
    u = int(m.fields[0])
    if _too_big(link, m):
        return REST
    if distance(c, m.number) >= 7 or (m.number == c.in_reliable and u <= c.in_unreliable):
        link.figures["old_numbers"] += 1
        return DONE
    if m.number == c.in_reliable and not c.unreliable:
        c.in_unreliable = u
        _deliver(link, m.channel, 1, m.data)
        return DONE
    found, place = _find(c, c.unreliable, m.number, u)
    if found is not None:
        link.figures["duplicates"] += 1
        return DONE
    done = _wait(link, c, c.unreliable, place, m, u)
    if done == DONE and m.number == c.in_reliable:
        _run_unreliable(link, c, m.channel)
    return done


def _unsequenced(link: Link, m: w.Command) -> int:
    if _too_big(link, m):
        return REST
    group = int(m.fields[0])
    bit = group % 1024
    if group < link.group_base:
        group += 65536
    if group >= link.group_base + 32 * 1024:
        link.figures["old_numbers"] += 1
        return DONE
    if group - bit != link.group_base:
        link.group_base, link.groups_seen = group - bit & 0xFFFF, 0
    elif link.groups_seen >> bit & 1:
        link.figures["duplicates"] += 1
        return DONE
    link.groups_seen |= 1 << bit
    _deliver(link, m.channel, 2, m.data)
    return DONE


def _drop_oldest(link: Link) -> bool:
    """The oldest open unreliable group of the peer makes place."""
    oldest: tuple[Channel, Waiting] | None = None
    for number in sorted(link.channel):
        c = link.channel[number]
        for entry in c.unreliable:
            if entry.count and (oldest is None or before(entry.born, oldest[1].born)):
                oldest = (c, entry)
    if oldest is None:
        return False
    _forget(link, oldest[0], oldest[0].unreliable, oldest[1])
    return True


def _fragment(link: Link, c: Channel, m: w.Command) -> int:
    host, config = link.host, link.host.config
    reliable = m.type == w.SEND_FRAGMENT
    start, length, count, index, total, offset = (int(n) for n in m.fields)
    number, u = (start, 0) if reliable else (m.number, start)
    if not length or index >= count or offset >= total or length > total - offset or total < count:
        return FAULT
    if count > w.FRAGMENTS_MOST:
        return FAULT
    if total > config["max_message"] or count > config["max_fragments"]:
        host.expel(link, "too_big")
        return REST
    d = distance(c, number)
    if d >= 7:
        link.figures["old_numbers"] += 1
        return DONE
    if number == c.in_reliable and (reliable or u <= c.in_unreliable):
        link.figures["duplicates"] += 1
        return DONE
    entries: list[Waiting] = c.reliable if reliable else c.unreliable
    entry, place = _find(c, entries, number, u)
    if entry is not None and (entry.count != count or entry.length != total):
        return FAULT
    if entry is not None and index in entry.pieces:
        link.figures["duplicates"] += 1
        return DONE
    while not _fits(link, entry, length + (0 if entry else (count + 7) // 8)):
        if reliable or not _drop_oldest(link):
            return _no_room(link) if reliable else DONE
        entry, place = _find(c, entries, number, u)
    if entry is None:
        if len(c.reliable) + len(c.unreliable) >= config["max_waiting"]:
            return _no_room(link) if reliable else DONE
        entry = Waiting(number, u, total, host.now, None, count)
        entries.insert(place, entry)
        link.groups += 1
        _charge(link, entry, (count + 7) // 8)
    entry.pieces[index] = (offset, m.data)
    _charge(link, entry, length)
    if entry.complete:
        if reliable:
            _run_reliable(link, c, m.channel, False)
        elif number == c.in_reliable:
            _run_unreliable(link, c, m.channel)
    return DONE


def _charge(link: Link, entry: Waiting, size: int) -> None:
    entry.charged += size
    link.group_bytes += size
    link.host.reassembly += size


def _fits(link: Link, entry: Waiting | None, more: int) -> bool:
    config = link.host.config
    return (
        (entry is not None or link.groups < config["max_groups"])
        and link.group_bytes + more <= config["group_bytes"]
        and link.host.reassembly + more <= config["reassembly_bytes"]
    )
