"""The ENet host as a stage of the native endpoint: sources never served, calls that fail."""

import errno
import sys
from pathlib import Path

import pytest

from tests.conftest import assert_ledgers_close
from toolips_udp import Address
from toolips_udp._native.endpoint import Faults, MemoryWire
from toolips_udp.peers.enet import Enet, caps_of

sys.path.insert(0, str(Path(__file__).parents[1] / "unit/peers"))
from enet_examples import EXAMPLES
from test_enet_bad_input import ack_of, reliable

HERE, ANN = Address("192.0.2.1", 2000), Address("192.0.2.7", 4000)
CONNECT = EXAMPLES["E1 connect"]


class Served:
    """A host that echoes, as the stage of an endpoint on a memory wire."""

    def __init__(self, wired, calls=None):
        self.wire = MemoryWire(str(HERE))
        self.host = Enet().host(b"server's secret!", **caps_of())
        self.host.received = lambda peer, m: peer.send(m.data, m.channel, m.delivery)
        self.host.joined = self.host.left = lambda *event: None
        self.faults = Faults(self.wire) if calls is None else calls
        self.w = wired(wire=self.wire, stages=(self.host,), calls=self.faults)
        self.word = 0

    def turn(self):
        self.w.endpoint.turn()
        self.w.endpoint.pulse()
        return [data for data, _ in self.wire.collect()]

    def join(self, source=ANN):
        self.wire.push(CONNECT, source)
        [verify] = self.turn()
        self.wire.push(ack_of(verify), source)
        self.turn()
        self.word = int.from_bytes(verify[8:10]) | verify[11] << 12 | 0x8000

    def say(self, body: bytes, source=ANN):
        self.wire.push(self.word.to_bytes(2) + b"\0\1" + body, source)


@pytest.mark.parametrize(
    "source",
    [Address("192.0.2.7", 0), HERE, Address("255.255.255.255", 4000), Address("224.0.0.1", 4000)],
    ids=["port 0", "our own address", "broadcast", "multicast"],
)
def test_b19_a_source_that_can_be_nobody_is_dropped_before_the_game(wired, source):
    served = Served(wired)
    served.join()
    for data in (CONNECT, b"", b"\x80\0", CONNECT + CONNECT):
        served.wire.push(data, source)
    assert served.turn() == []
    assert served.w.counters["denied"] == 4
    assert served.host.totals["connects"] == 1 and served.host.half_open == 0
    served.say(reliable(1, b"canary"))
    assert any(b"canary" in data for data in served.turn())


@pytest.mark.parametrize("call", ["recvmmsg", "sendmmsg"])
@pytest.mark.parametrize(
    "error", [errno.ECONNREFUSED, errno.ENOBUFS, errno.EAGAIN, errno.EINTR, errno.ENOMEM]
)
def test_b21_a_call_that_fails_costs_a_peer_nothing_and_the_socket_stays(wired, call, error):
    served = Served(wired)
    served.join()
    got = []
    for n in range(1, 31):
        if n % 3 == 0:
            served.faults.fail(call, error)
        served.say(reliable(n, b"number %d" % n))
        got += served.turn()
    for _ in range(50):  # what was refused comes again by its timer
        served.wire.advance(0.05)
        got += served.turn()
    echoed = b"".join(got)
    assert all(b"number %d" % n in echoed for n in range(1, 31))
    assert len(served.host.peers) == 1 and not served.w.failed
    assert_ledgers_close(served.w.counters)


def test_b21_short_batches_lose_and_repeat_nothing(wired):
    served = Served(wired)
    served.join()
    served.faults.shorten("recvmmsg", 1)
    served.faults.shorten("sendmmsg", 1)
    got = []
    for n in range(1, 31):
        served.say(reliable(n, b"number %d;" % n))
    for _ in range(40):
        got += served.turn()
    echoed = b"".join(got)
    assert [echoed.count(b"number %d;" % n) for n in range(1, 31)] == [1] * 30
    assert_ledgers_close(served.w.counters)


def test_what_is_queued_can_leave_in_the_midst_of_a_turn(wired):
    served = Served(wired)
    served.join()
    seen = []

    def answer_twice(peer, m):
        for word in (b"first", b"second"):
            assert peer.send(word) and served.host.flush()
            seen.append([word in data for data, _ in served.wire.collect()])

    served.host.received = answer_twice
    served.say(reliable(1, b"question"))
    assert served.turn() == [], "both have left before the turn was over"
    assert seen == [[True], [True]]
    assert not served.host.flush(), "outside of a turn there is nothing to send on"
    assert_ledgers_close(served.w.counters)
