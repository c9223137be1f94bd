"""Known peers go first: most of the strangers' CONNECTs are dropped while more comes than can be served."""

import socket
import struct
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import assert_ledgers_close
from toolips_udp import Address
from toolips_udp._native.endpoint import MemoryWire
from toolips_udp.peers.enet import Enet, caps_of

sys.path.insert(0, str(Path(__file__).parents[1] / "unit/peers"))
from enet_examples import EXAMPLES
from test_enet_bad_input import ack_of, reliable

CONNECT = EXAMPLES["E1 connect"]
ANN = Address("192.0.2.7", 4000)
SO_ATTACH_FILTER = 26  # reads the filter, too


def a_host():
    host = Enet().host(b"server's secret!", **caps_of())
    host.received = lambda peer, m: peer.send(m.data, m.channel, m.delivery)
    host.joined = host.left = lambda *event: None
    return host


def stranger(n):
    """The CONNECT of the n-th client, and an address for it."""
    data = bytearray(CONNECT)
    data[8:10] = (n % 4095).to_bytes(2)
    data[48:52] = n.to_bytes(4)
    return bytes(data), Address(f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}", 5000)


class Flooded:
    """A host on a memory wire with room for some 10,000 datagrams, one peer, and strangers as they are wanted."""

    def __init__(self, wired, limit=8 << 20):
        self.wire = MemoryWire("192.0.2.1:2000", limit=limit)
        self.host = a_host()
        self.w = wired(wire=self.wire, stages=(self.host,))
        self.endpoint, self.counters = self.w.endpoint, self.w.counters
        self.number = self.strangers = 0
        self.wire.push(CONNECT, ANN)
        [(verify, _)] = self.turn()
        self.wire.push(ack_of(verify), ANN)
        self.turn()
        self.word = int.from_bytes(verify[8:10]) | verify[11] << 12 | 0x8000

    def turn(self):
        self.endpoint.turn()
        if self.wire.deadline is not None and self.wire.deadline <= self.wire.now:
            self.endpoint.pulse()
        return self.wire.collect()

    def flood(self, count):
        for _ in range(count):
            self.wire.push(*stranger(self.strangers))
            self.strangers += 1

    def say(self):
        self.number += 1
        self.wire.push(
            self.word.to_bytes(2) + b"\0\1" + reliable(self.number, b"known %d;" % self.number), ANN
        )

    def ms(self, strangers, known=1):
        """A millisecond in which so many come and one turn, of 256 datagrams at most, is had."""
        self.flood(strangers)
        for _ in range(known):
            self.say()
        out = self.turn()
        self.wire.advance(0.001)
        return b"".join(data for data, to in out if to == ANN)


def test_strangers_are_let_in_at_a_rate_while_the_buffer_is_too_full(wired):
    f = Flooded(wired)
    for _ in range(20):
        f.ms(400)
    assert f.endpoint.shedding == "turn"  # a wire has no filters
    met, shed = f.host.totals["connects"], f.counters["shed"]
    for _ in range(200):
        f.ms(200)
    # 100,000 a second at first, halved with each look at a buffer that stays too full
    assert 0.2 * 12_500 <= f.host.totals["connects"] - met <= 0.2 * 100_000
    assert f.counters["shed"] - shed > 200 * 200 / 2


def test_known_peers_are_answered_though_strangers_are_shed(wired):
    f = Flooded(wired)
    heard = b""
    for _ in range(25):
        heard += f.ms(500)
    assert f.endpoint.shedding and f.wire.drops == 0
    for _ in range(20):
        heard += f.ms(100)
    while f.wire.readable:
        heard += f.ms(0, known=0)
    assert all(b"known %d;" % n in heard for n in range(1, f.number + 1))
    assert f.counters["shed"] and len(f.host.peers) == 1
    assert_ledgers_close(f.counters)


def test_short_of_memory_a_game_lets_nobody_in_and_keeps_who_is_there(wired):
    f = Flooded(wired)
    f.endpoint.press(1)
    met = f.host.totals["connects"]
    assert b"known 1;" in f.ms(5) + f.ms(0, known=0)
    assert f.counters["shed"] == 5 and f.host.totals["connects"] == met
    f.endpoint.swap(f.w.pipeline)  # a reload changes nothing about it
    f.ms(5)
    assert f.counters["shed"] == 10
    f.endpoint.press(0)
    f.ms(5)
    assert f.counters["shed"] == 10 and f.host.totals["connects"] > met


def test_shedding_ends_by_itself_when_the_flood_does(wired):
    f = Flooded(wired)
    for _ in range(20):
        f.ms(500)
    assert f.endpoint.shedding
    while f.wire.readable:
        f.ms(0, known=0)
    ended = f.wire.now
    while f.endpoint.shedding and f.wire.now < ended + 0.2:  # nobody says anything: the timer has to do it
        f.wire.now = max(f.wire.now, f.wire.deadline)
        f.endpoint.pulse()
    assert f.endpoint.shedding is None
    f.flood(10)
    assert len([to for _, to in f.turn() if to != ANN]) == 10, "CONNECTs are answered again"


def test_a_burst_of_joins_that_can_be_served_is_not_shed(wired):
    f = Flooded(wired)
    f.flood(9_000)
    for _ in range(4):  # 2,250 datagrams a ms: the buffer is empty before 5 ms have passed
        for _ in range(9):
            f.turn()
        f.wire.advance(0.001)
    assert f.counters["shed"] == 0 and f.host.totals["answered"] == 9_001


def test_known_peers_alone_shed_nobody_however_full_the_buffer_is(wired):
    f = Flooded(wired)
    for _ in range(40):
        f.ms(3, known=300)
    assert f.wire.drops == 0 and f.endpoint.shedding is None and f.counters["shed"] == 0


def test_without_a_limit_of_the_buffer_nothing_is_too_full(wired):
    f = Flooded(wired, limit=0)
    for _ in range(40):
        f.ms(500)
    assert f.endpoint.shedding is None and f.counters["shed"] == 0


def test_a_reload_while_shedding_ends_it(wired):
    f = Flooded(wired)
    for _ in range(20):
        f.ms(500)
    assert f.endpoint.shedding
    f.endpoint.swap(f.w.pipeline)
    assert f.endpoint.shedding is None


# ---- on a real socket ----


def has_filter(sock):
    return bool(sock.getsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, 1024))  # room for 128 instructions


class Real:
    """A host on a socket of 127.0.0.1, with one peer; turns are taken by hand."""

    def __init__(self, wired):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.at = self.sock.getsockname()
        self.host = a_host()
        self.w = wired(sock=self.sock, stages=(self.host,))
        self.endpoint = self.w.endpoint
        self.known, self.strangers = (self.client() for _ in range(2))
        self.sent = 0
        self.send(self.known, CONNECT)
        self.endpoint.turn()
        verify = self.known.recv(100)
        self.send(self.known, ack_of(verify))
        self.endpoint.turn()
        self.word = int.from_bytes(verify[8:10]) | verify[11] << 12 | 0x8000
        self.number = 0

    def client(self):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.bind(("127.0.0.1", 0))
        one.settimeout(2)
        return one

    def send(self, client, data):
        client.sendto(data, self.at)
        self.sent += 1

    def say(self):
        self.number += 1
        self.send(
            self.known, self.word.to_bytes(2) + b"\0\1" + reliable(self.number, b"known %d;" % self.number)
        )

    def overload(self):
        """More than can be served, until the kernel has a filter."""
        data = stranger(1)[0]
        end = time.monotonic() + 20
        while self.endpoint.shedding is None and time.monotonic() < end:
            for _ in range(600):
                self.send(self.strangers, data)
            self.endpoint.turn()
        assert self.endpoint.shedding == "kernel", "no filter after 20 s of more than can be served"

    def empty(self):
        before = -1
        while self.w.counters["received"] != before:
            before = self.w.counters["received"]
            self.endpoint.turn()

    def close(self):
        for each in (self.sock, self.known, self.strangers):
            each.close()


@pytest.fixture
def real(wired):
    made = Real(wired)
    yield made
    made.close()


def test_the_kernel_drops_strangers_and_counts_them_and_known_peers_pass(real):
    data, dropped, end = stranger(2)[0], 0, time.monotonic() + 20
    while not dropped and time.monotonic() < end:  # a look comes every 50 ms and may end it: then again
        real.overload()
        real.empty()
        before = real.w.counters["kernel"]
        for _ in range(40):
            for _ in range(20):
                real.send(real.strangers, data)
            real.say()
        dropped = real.w.counters["kernel"] - before
        real.empty()
    assert dropped, "840 datagrams fit into the buffer: what was dropped was dropped by the filter"
    heard = b""
    while b"known %d;" % real.number not in heard:
        heard += real.known.recv(2000)
    assert all(b"known %d;" % n in heard for n in range(1, real.number + 1))
    assert real.w.counters["received"] == real.sent, "what the filter drops is counted by the kernel"
    assert_ledgers_close(real.w.counters)


def test_the_filter_is_taken_away_when_the_flood_ends(real):
    assert not has_filter(real.sock)
    real.overload()
    assert has_filter(real.sock)
    real.empty()
    end = time.monotonic() + 20
    while real.endpoint.shedding and time.monotonic() < end:
        time.sleep(0.06)
        real.endpoint.pulse()
    assert real.endpoint.shedding is None and not has_filter(real.sock)


def test_a_filter_that_a_killed_worker_left_is_taken_away_by_the_next(real, wired):
    real.overload()
    assert has_filter(real.sock)
    wired(sock=real.sock, stages=(a_host(),))
    assert not has_filter(real.sock)


def test_a_filter_of_the_users_own_stays_and_strangers_are_shed_in_the_turn(real):
    import ctypes

    everything = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0xFFFFFFFF))
    program = struct.pack("HL", 1, ctypes.addressof(everything))
    real.sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
    data = stranger(1)[0]
    end = time.monotonic() + 20
    while real.endpoint.shedding is None and time.monotonic() < end:
        for _ in range(600):
            real.send(real.strangers, data)
        real.endpoint.turn()
    assert real.endpoint.shedding == "turn"
    real.endpoint.close()
    assert has_filter(real.sock)
