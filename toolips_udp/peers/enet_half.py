"""Addresses that asked to connect and have not proven themselves, in plain Python.

Imports the wire, the keys of addresses, and the link. The twin of native/enet_half.c, with
the same hashes, so that both choose the same ids and times.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import enet_wire as w
from .enet_keys import Buckets, loopback, siphash
from .enet_link import CONNECTED, Link
from .enet_receive import window_for
from .range_coder import compress, decompress

if TYPE_CHECKING:
    from .enet_host import Host

FULL, BANNED = 0xFFFFFF01, 0xFFFFFF02
_FRESH, _FIT, _GUESSES = 32, 8, 16
_OPEN_MS, _SECRET_MS = 5000, 60_000


@dataclass(slots=True)
class Half:
    """One entry."""

    our_id: int
    time: int
    their_id: int
    connect_id: bytes
    mtu: int
    window: int
    channels: int
    incoming: int
    triple: tuple[int, int, int]
    data: int
    session_out: int
    session_in: int
    checksum: bool
    compress: bool
    born: int
    bytes_in: int = 0
    bytes_out: int = 0
    pinged: bool = False


class HalfOpen:
    """The table: (address, our id) -> entry, the oldest out."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.entries: OrderedDict[tuple[Any, int], Half] = OrderedDict()
        self.of: dict[Any, set[int]] = {}
        self.guesses: dict[Any, int] = {}
        secret = (siphash(host.secret, [104]), siphash(host.secret, [105]))
        self.secrets = [secret, secret]
        self.renewed = 0
        self.buckets = Buckets()

    def __len__(self) -> int:
        return len(self.entries)

    def drop(self, address: Any, id: int) -> None:
        del self.entries[address, id]
        self.of[address].discard(id)
        if not self.of[address]:
            del self.of[address]
            self.guesses.pop(address, None)

    def find(self, address: Any, id: int) -> Half | None:
        e = self.entries.get((address, id))
        if e is not None and self.host.now - e.born & 0xFFFFFFFF > _OPEN_MS:
            self.drop(address, id)
            return None
        return e

    def guess(self, address: Any) -> None:
        if address not in self.of:
            return
        self.guesses[address] = self.guesses.get(address, 0) + 1
        if self.guesses[address] >= _GUESSES:
            for id in list(self.of[address]):
                self.drop(address, id)

    def limited(self, address: Any) -> bool:
        """Whether an address without proof sends more than it may."""
        host = self.host
        if loopback(address) and not host.config["limit_loopback"]:
            return False
        return not self.buckets.takes(address, host.ms)

    # ---- CONNECT ----

    def connect(self, data: bytes, head: w.Header, address: Any) -> str:
        """The word that a datagram with id FFF ends under."""
        host = self.host
        if self.limited(address):
            return "limited"
        read = self._read(data, head)
        if read is None:
            return "malformed" if host.knows(address) else "passed"
        command, checked = read
        f = command.fields
        their_id, channels, connect_id = int(f[0]), int(f[5]), bytes(f[11])
        host.totals["connects"] += 1
        host.totals["unproven_in"] += len(data)
        if not 1 <= channels <= 255 or their_id >= w.NO_ID:
            return "malformed"
        if host.banned(address):
            return self.refuse(their_id, connect_id, checked, BANNED, address)
        live = host.client_of(address, their_id)
        if live is not None and live.connect_id == connect_id:
            return "answered"
        full = len(host.links) >= host.config["max_peers"] or host.prefix_full(address)
        if (full and live is None) or host.above(80):
            return self.refuse(their_id, connect_id, checked, FULL, address)
        self._renew()
        found = self._again(address, their_id, connect_id)
        if found is None:
            return self._answer_new(command, checked, head.compressed, len(data), address)
        found.bytes_in += len(data)
        answer = self._verify(found)
        if len(answer) <= found.bytes_in - found.bytes_out:
            self._answer(found, answer, address)
        return "answered"

    def _read(self, data: bytes, head: w.Header) -> tuple[w.Command, bool] | None:
        mode = self.host.config["checksum"]
        if not head.timed or len(data) > w.MTU_MOST:
            return None
        for checked in (False, True):
            if mode == (0 if checked else 1):
                continue
            body = open_body(data, head, checked, bytes(4))
            if body is None or len(body) != 48:
                continue
            got = w.read_command(body, 0)
            if got is not None and got[0].type == w.CONNECT:
                return got[0], checked
        return None

    def refuse(self, their_id: int, connect_id: bytes, checked: bool, code: int, address: Any) -> str:
        self.host.totals["refused"] += 1
        if not self.host.config["silent"]:
            header = w.write_header(their_id, 0)
            body = w.write_command(w.Command(w.DISCONNECT, w.FLAG_UNSEQUENCED, w.CONTROL, 1, (code,)))
            check = w.checksum(header, connect_id, body) if checked else b""
            self._out(header + check + body, address)
        return "denied"

    def _out(self, data: bytes, address: Any) -> None:
        self.host.totals["unproven_out"] += len(data)
        self.host.out.append((data, address))

    def _renew(self) -> None:
        host = self.host
        if host.ms - self.renewed < _SECRET_MS:
            return
        self.renewed = host.ms
        old = self.secrets[0]
        first, second = (siphash(old, [old[0], old[1], host.ns, half]) for half in (0, 1))
        self.secrets = [(first, second), old]

    def _candidate(
        self, secret: int, address: Any, their_id: int, connect_id: bytes, n: int
    ) -> tuple[int, int]:
        word = n << 48 | their_id << 32 | int.from_bytes(connect_id, "little")
        value = siphash(self.secrets[secret], [self.host.hash_of(address), word])
        return (value >> 32) % w.NO_ID, value & 0xFFFF

    def _again(self, address: Any, their_id: int, connect_id: bytes) -> Half | None:
        if address not in self.of:
            return None
        for secret in range(2 if self.host.ms - self.renewed <= _OPEN_MS else 1):
            for n in range(_FRESH):
                id, _ = self._candidate(secret, address, their_id, connect_id, n)
                e = self.find(address, id)
                if e is not None and e.their_id == their_id and e.connect_id == connect_id:
                    return e
                if e is None and (address, id) not in self.host.links:
                    break
        return None

    def _answer_new(self, m: w.Command, checked: bool, coded: bool, size: int, address: Any) -> str:
        host, f = self.host, m.fields
        numbers = [int(n) for n in (*f[:11], f[12])]
        connect_id = bytes(f[11])
        mtu = min(max(w.MTU_LEAST, min(numbers[3], w.MTU_MOST)), host.config["mtu"])
        triple = (numbers[8], numbers[9], numbers[10])
        misfits, last = 0, 0
        for n in range(_FRESH + w.NO_ID):
            id, time = self._candidate(0, address, numbers[0], connect_id, min(n, _FRESH))
            if n > _FRESH:
                id = (last + 1) % w.NO_ID
            last = id
            if (address, id) in host.links or self.find(address, id) is not None:
                continue
            e = Half(
                id, time, numbers[0], connect_id, mtu, numbers[4], min(numbers[5], host.config["channels"]),
                numbers[6], triple, numbers[11], numbers[1] + 1 & 3, numbers[2] + 1 & 3, checked, coded, host.now,
            )  # fmt: skip
            answer = self._verify(e)
            if len(answer) > size:
                misfits += 1
                if misfits >= _FIT:
                    break
                continue
            if len(self.entries) >= host.config["half_open"]:
                self.drop(*next(iter(self.entries)))
            self.entries[address, id] = e
            self.of.setdefault(address, set()).add(id)
            e.bytes_in = size
            self._answer(e, answer, address)
            return "answered"
        return "shed"

    def _answer(self, e: Half, answer: bytes, address: Any) -> None:
        e.bytes_out += len(answer)
        self.host.totals["answered"] += 1
        self._out(answer, address)

    def _verify(self, e: Half) -> bytes:
        window = max(w.WINDOW_LEAST, min(e.window, w.WINDOW_MOST))
        fields = (
            e.our_id,
            e.session_out,
            e.session_in,
            e.mtu,
            window,
            e.channels,
            0,
            0,
            *e.triple,
            e.connect_id,
        )
        body = w.write_command(w.Command(w.VERIFY_CONNECT, w.FLAG_ACK, w.CONTROL, 1, fields))
        return self._sealed(e, body, e.compress)

    def _sealed(self, e: Half, body: bytes, coded: bool) -> bytes:
        header = w.write_header(e.their_id, e.session_out, e.time)
        small = compress(body) if coded else body
        if len(small) < len(body):
            header = bytes((header[0] | 0x40,)) + header[1:]
        else:
            small = body
        return header + (w.checksum(header, e.connect_id, body) if e.checksum else b"") + small

    # ---- the proof ----

    def take(self, data: bytes, head: w.Header, address: Any) -> tuple[str, Link | None]:
        """A datagram that belongs to no peer: its word, and the peer it proves."""
        host = self.host
        if address not in self.of:
            return "passed", None
        if self.limited(address):
            return "limited", None
        host.totals["unproven_in"] += len(data)
        e = self.find(address, head.id)
        if e is None or e.session_in != head.session:
            self.guess(address)
            return "denied", None
        e.bytes_in += len(data)
        body = open_body(data, head, e.checksum, e.connect_id) if len(data) <= w.MTU_MOST else None
        if body is None:
            self.guess(address)
            return "malformed", None
        if self._proves(e, body):
            if len(host.links) >= host.config["max_peers"] and host.client_of(address, e.their_id) is None:
                self.drop(address, e.our_id)
                return self.refuse(e.their_id, e.connect_id, e.checksum, FULL, address), None
            return "answered", self._promote(e, address)
        first = w.read_command(body, 0)
        if first is not None and first[0].type == w.ACKNOWLEDGE and first[0].channel == w.CONTROL:
            self.guess(address)
            return "denied", None
        if len(data) >= 8 and e.bytes_in - e.bytes_out >= (12 if e.checksum else 8):
            ping = self._sealed(e, w.write_command(w.Command(w.PING, w.FLAG_ACK, w.CONTROL, 2)), False)
            e.bytes_out += len(ping)
            e.pinged = True
            self._out(ping, address)
        return "answered", None

    def _proves(self, e: Half, body: bytes) -> bool:
        at = 0
        for _ in range(w.COMMANDS_MOST):
            got = w.read_command(body, at)
            if got is None:
                return False
            m, at = got
            timely = m.type == w.ACKNOWLEDGE and m.channel == w.CONTROL and m.fields[1] == e.time
            if timely and (m.fields[0] == 1 or (m.fields[0] == 2 and e.pinged)):
                return True
        return False

    def _promote(self, e: Half, address: Any) -> Link:
        host = self.host
        self.drop(address, e.our_id)
        old = host.client_of(address, e.their_id)
        if old is not None:
            host.gone(old, "replaced", 0, False)
        link = Link(host, address, e.our_id)
        host.add(link)
        link.their_id = e.their_id
        host.clients[address, e.their_id] = link
        link.connect_id, link.state = e.connect_id, CONNECTED
        link.session_out, link.session_in = e.session_out, e.session_in
        link.checksum, link.compress, link.mtu, link.channels = e.checksum, e.compress, e.mtu, e.channels
        link.window, link.their_incoming = window_for(e.incoming), e.incoming
        link.interval, link.acceleration, link.deceleration = e.triple
        link.user_data, link.control = e.data, 2 if e.pinged else 1
        link.rtt = link.lowest_rtt = link.last_rtt = link.rtt_min = max(1, host.now - e.born & 0xFFFFFFFF)
        link.var = link.highest_var = link.last_var = link.jitter_max = (link.rtt + 1) // 2
        link.measured(link.rtt, True)
        link.acked, link.epoch, link.joined = True, host.now, True
        host.totals["joins"] += 1
        host.happened("join", link, link.user_data)
        host.schedule(link, host.now + host.config["ping"] & 0xFFFFFFFF)
        return link


def open_body(data: bytes, head: w.Header, checked: bool, connect_id: bytes) -> bytes | None:
    """The commands of a datagram, its coder and checksum undone; None when either is wrong."""
    at = head.size + (4 if checked else 0)
    if len(data) < at:
        return None
    body: bytes | None = data[at:]
    if head.compressed:
        body = decompress(data[at:], w.MTU_MOST - at)
    if body is None:
        return None
    if checked and w.checksum(data[: head.size], connect_id, body) != data[head.size : at]:
        return None
    return body
