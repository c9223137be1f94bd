"""Limits that bound a server whoever talks to it: memory marks, prefixes, buckets, acks. Both hosts, each test."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from toolips_udp.address import Address
from toolips_udp.peers import RELIABLE, SEQUENCED, UNSEQUENCED

sys.path.insert(0, str(Path(__file__).parent))
from pairs import MS, SECOND, Wire
from test_enet_bad_input import ANN, STRANGER, Talker, greeting, reliable


@pytest.fixture(params=[True, False], ids=["native", "pure"])
def wired(request):
    """`wired(**settings)` makes a wire whose hosts are all of one kind."""
    return lambda **settings: Wire(native=request.param, **settings)


def fill(wire, talker, most: int) -> int:
    """Messages behind a gap until `most` bytes are held; the number that would be next."""
    number = 2
    while wire.server.memory <= most:
        assert talker.raw(reliable(number, bytes(1300))) == "answered"
        number += 1
        assert number < 1000
    wire.now += 200 * MS
    wire.seen.clear()
    return number


def test_above_80_per_cent_of_the_memory_a_connection_is_refused_as_full_and_peers_stay(wired):
    wire = wired(memory=400_000)
    talker = Talker(wire)
    number = fill(wire, talker, 320_000)
    assert wire.inject(greeting(connect_id=b"more"), STRANGER) == "denied"
    assert wire.seen[-1][0][-4:] == bytes.fromhex("ffffff01") and wire.server.totals["refused"] == 1
    assert talker.raw(reliable(1, b"go")) == "held"  # the gap closes: all is delivered and freed
    assert len(talker.got()) == number - 1 and talker.peer.open
    wire.run(0.2)
    assert wire.server.memory < 320_000
    assert wire.inject(greeting(connect_id=b"more"), STRANGER) == "answered"


def test_above_95_per_cent_unreliable_data_is_shed_and_what_is_reliable_and_next_is_not(wired):
    wire = wired(memory=300_000)
    talker = Talker(wire)
    number = fill(wire, talker, 285_000)
    for body in (b"\x07\0\0\0\0\1\0\3abc", b"\x49\0\0\0\0\1\0\3abc"):
        assert talker.raw(body, timed=False) == "answered"
    assert talker.got() == [] and wire.server.totals["shed"] == 2
    assert (
        talker.peer.send(b"news", 0, SEQUENCED) is False
        and talker.peer.send(b"news", 0, UNSEQUENCED) is False
    )
    assert talker.peer.send(b"must", 0, RELIABLE) is True
    talker.acks()
    talker.raw(reliable(number, bytes(1300)))  # it would have to wait: not acknowledged, so it comes again
    assert talker.acks() == 0
    assert talker.raw(reliable(1, b"next")) == "held" and talker.got()[0] == b"next"


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        (lambda n: f"192.0.2.{n}", "192.0.3.1"),
        (lambda n: f"2001:db8:0:{n}::1", "2001:db8:0:100::1"),
    ],
    ids=["/24", "/56"],
)
def test_a_prefix_holds_per_prefix_connections_and_then_reads_full(wired, inside, outside):
    wire = wired(per_prefix=3)
    talkers = [Talker(wire, Address(inside(n), 4000)) for n in range(1, 4)]
    wire.seen.clear()
    assert wire.inject(greeting(connect_id=b"more"), Address(inside(9), 4000)) == "denied"
    assert wire.seen[-1][0][-4:] == bytes.fromhex("ffffff01")
    Talker(wire, Address(outside, 4000))
    talkers[0].say("84ff 0002 00000000")  # one leaves, one may come
    Talker(wire, Address(inside(9), 4000))
    assert len(wire.server.peers) == 4


def test_loopback_is_exempt_from_per_prefix_unless_asked_for(wired):
    wire = wired(per_prefix=1)
    for n in range(3):
        Talker(wire, Address("127.0.0.2", 4000 + n))
    wire = wired(per_prefix=1, limit_loopback=True)
    Talker(wire, ANN)
    assert wire.inject(greeting(), STRANGER) == "denied"


@pytest.mark.parametrize("most", [0, 1, 8, 40])
def test_of_more_acks_than_max_acks_the_oldest_go_and_the_sender_repeats_them(wired, most):
    wire = wired(max_acks=most)
    talker = Talker(wire)
    head = (talker.word | 0x8000).to_bytes(2) + (wire.now // MS & 0xFFFF).to_bytes(2)
    for n in range(4):  # 120 acks of one turn
        body = b"".join(reliable(1 + n * 30 + k) for k in range(30))
        wire.server.receive(wire.now, ANN, head + body)
    wire._collect()
    assert len(talker.got()) == 120 and 1 <= talker.acks() <= max(most, 1)
    assert talker.raw(b"".join(reliable(1 + k) for k in range(4))) == "answered"
    assert talker.acks() == max(1, min(4, most)) and talker.got() == []


def test_an_unproven_address_has_2_000_datagrams_and_then_1_000_a_second(wired):
    wire = wired()
    source = Address("192.0.2.7", 4000)
    words = [wire.server.receive(wire.now, source, greeting(connect_id=n.to_bytes(4))) for n in range(2500)]
    assert words.count("answered") == 2000 and words[2000:] == ["limited"] * 500
    wire.server.outgoing()
    later = wire.now + SECOND // 10
    words = [wire.server.receive(later, source, greeting(connect_id=b"late")) for n in range(200)]
    assert words.count("limited") == 100  # a tenth of a second brought 100 back
    assert wire.server.receive(later, Address("198.51.100.1", 1), greeting()) == "answered"


def test_a_prefix_has_four_times_the_bucket_of_an_address(wired):
    wire = wired()
    words = []
    for n in range(10_000):
        source = Address(f"192.0.2.{n % 250}", 4000)
        words.append(wire.server.receive(wire.now, source, greeting(connect_id=n.to_bytes(4))))
    assert words.count("answered") == 8000 and words[8000:] == ["limited"] * 2000
    wire.server.outgoing()
    assert wire.server.receive(wire.now, Address("192.0.3.1", 4000), greeting()) == "answered"


def test_loopback_has_no_bucket_unless_asked_for(wired):
    wire = wired()
    assert {wire.server.receive(wire.now, ANN, greeting()) for _ in range(2500)} == {"answered"}
    wire = wired(limit_loopback=True)
    assert "limited" in {wire.server.receive(wire.now, ANN, greeting()) for _ in range(2500)}


def test_guesses_from_a_half_open_address_are_limited_too(wired):
    wire = wired()
    source = Address("192.0.2.7", 4000)
    wire.server.receive(wire.now, source, greeting())
    verify, _ = wire.server.outgoing()[-1]
    word = int.from_bytes(verify[8:10]) | verify[11] << 12
    words = [wire.server.receive(wire.now, source, word.to_bytes(2) + b"\5\xff\0\2" * 2) for _ in range(2500)]
    assert words[-1] == "limited" and words.count("answered") == 1999


def test_peers_meet_over_ipv6_with_a_scope_of_their_own(wired):
    wire = wired()
    here, there = Address("2001:db8::1", 4000), Address("2001:db8::2", 4000)
    talker = Talker(wire, here)
    assert talker.raw(reliable(1, b"six")) == "held" and talker.got() == [b"six"]
    assert talker.raw(reliable(2), source=there) == "passed"
    assert wire.peer_of(here).address == here
    wire.server.ban("2001:db8::1", wire.now + SECOND)
    assert talker.raw(reliable(2)) == "denied"
    linked = Address(f"fe80::1%{socket.if_indextoname(1)}", 4000)
    assert Talker(wire, linked).peer.address == linked
    assert wire.server.receive(wire.now, Address("fe80::1%2", 4000), b"\0\0\0\0") == "passed"


def test_an_ipv4_address_and_its_mapped_form_are_one_peer(wired):
    wire = wired()
    talker = Talker(wire, Address("192.0.2.1", 4000))
    assert talker.raw(reliable(1, b"same"), source=Address("::ffff:192.0.2.1", 4000)) == "held"
    assert talker.got() == [b"same"] and len(wire.server.peers) == 1


def test_a_peer_that_claims_a_round_trip_of_half_a_minute_is_given_up_in_time_all_the_same(wired):
    """Found by fuzzing: its acks named old times, and the wait for the next grew to minutes."""
    wire = wired()
    talker = Talker(wire)
    for number in range(1, 11):
        assert talker.peer.send(b"hello", 0, RELIABLE) is True
        wire.run(0.001)
        old = ((wire.now - 30 * SECOND) // MS & 0xFFFF).to_bytes(2)
        talker.raw(b"\1\0" + number.to_bytes(2) * 2 + old)
    assert talker.peer.stats.rtt > 10_000
    assert talker.peer.send(b"are you there?", 0, RELIABLE) is True
    wire.run(29.0)
    assert talker.left() == []
    wire.run(16.0)
    assert talker.left() == ["timeout"] and not wire.server.peers
