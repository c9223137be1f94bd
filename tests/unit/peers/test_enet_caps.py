"""Every cap of a game, one by one: under it nothing happens, over it what its text says. Both hosts, each test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from toolips_udp.peers import RELIABLE, SEQUENCED

sys.path.insert(0, str(Path(__file__).parent))
from pairs import MS, SECOND, Wire
from test_enet_bad_input import ANN, STRANGER, Talker, fragment, greeting, reliable

UNRELIABLE_FRAGMENT = 0x0C


@pytest.fixture(params=[True, False], ids=["native", "pure"])
def wired(request):
    """`wired(**settings)` makes a wire whose hosts are all of one kind."""
    return lambda **settings: Wire(native=request.param, **settings)


def test_max_fragments_of_a_message_and_one_more_is_too_big(wired):
    wire = wired(max_fragments=5)
    talker = Talker(wire)
    for index in range(5):
        talker.raw(fragment(1, index, 5, 5, index, b"x"))
    assert talker.got() == [b"xxxxx"]
    talker.raw(fragment(6, 0, 6, 6, 0, b"x"))
    assert talker.left() == ["too_big"]


def test_of_more_open_groups_than_max_groups_a_reliable_one_is_not_acked_and_an_old_unreliable_one_goes(
    wired,
):
    wire = wired(max_groups=3)
    talker = Talker(wire)
    for n in range(3):
        talker.raw(fragment(1 + 2 * n, 0, 2, 4, 0, b"ab"))
    assert talker.acks() == 3
    talker.raw(fragment(7, 0, 2, 4, 0, b"ab"))
    assert talker.acks() == 0 and talker.peer.stats.fragments_open == 3
    talker.raw(fragment(1, 1, 2, 4, 2, b"cd"))  # one is complete: there is room again
    assert talker.got() == [b"abcd"]
    wire.seen.clear()
    talker.raw(fragment(7, 0, 2, 4, 0, b"ab"))
    assert talker.acks() == 1

    other = Talker(wire, STRANGER)
    for n in range(5):
        other.raw(fragment(1 + n, 0, 2, 4, 0, b"ab", UNRELIABLE_FRAGMENT), timed=False)
    assert other.peer.stats.fragments_open == 3
    other.raw(fragment(1, 1, 2, 4, 2, b"cd", UNRELIABLE_FRAGMENT), timed=False)
    assert other.got() == [], "the oldest had gone"
    other.raw(fragment(5, 1, 2, 4, 2, b"cd", UNRELIABLE_FRAGMENT), timed=False)
    assert other.got() == [b"abcd"]


def test_group_bytes_bound_the_pieces_of_one_peer(wired):
    wire = wired(max_message=4096, group_bytes=8 * 4096, max_fragments=10)
    talker = Talker(wire)
    for n in range(30):
        talker.raw(fragment(1 + 4 * n, 0, 4, 4000, 0, bytes(1300)))
        talker.raw(fragment(1 + 4 * n, 1, 4, 4000, 1300, bytes(1300)))
        talker.raw(fragment(1 + 4 * n, 2, 4, 4000, 2600, bytes(1300)))
    stats = talker.peer.stats
    assert stats.fragments_open <= 16 and 8 * 4096 - 1400 < stats.fragment_bytes <= 8 * 4096
    assert Talker(wire, STRANGER).raw(fragment(1, 0, 4, 4000, 0, bytes(1300))) == "answered"


def test_reassembly_bytes_bound_the_pieces_of_all_peers(wired):
    wire = wired(reassembly_bytes=5_000)
    ann, bob = Talker(wire), Talker(wire, STRANGER)
    for n in range(3):
        ann.raw(fragment(1 + 2 * n, 0, 2, 2000, 0, bytes(1300)))
    bob.raw(fragment(1, 0, 2, 2000, 0, bytes(1300)))
    assert bob.acks() == 0 and bob.peer.stats.fragment_bytes == 0
    ann.raw(fragment(1, 1, 2, 2000, 1300, bytes(700)))
    bob.raw(fragment(1, 0, 2, 2000, 0, bytes(1300)))
    assert bob.acks() == 1 and bob.peer.stats.fragment_bytes > 1300


def test_max_waiting_bounds_the_messages_behind_a_gap(wired):
    wire = wired(max_waiting=10)
    talker = Talker(wire)
    for n in range(20):
        talker.raw(reliable(2 + n))
    assert talker.acks() == 10
    talker.raw(reliable(1, b"go"))
    assert len(talker.got()) == 11


def test_waiting_bytes_bound_what_a_channel_holds_and_another_channel_has_its_own(wired):
    wire = wired(max_message=1000, waiting_bytes=8000)
    talker = Talker(wire)
    for n in range(20):
        talker.raw(reliable(2 + n, bytes(1000)))
    assert talker.acks() == 8 and talker.peer.stats.waiting_bytes == 8000
    talker.raw(reliable(2, bytes(1000), channel=1))
    assert talker.acks() == 1 and talker.peer.stats.waiting_bytes == 9000


def test_queue_age_drops_unreliable_messages_and_never_reliable_ones(wired):
    wire = wired(queue_age=0.5)
    talker = Talker(wire)
    peer = talker.peer
    wire.now += SECOND
    wire.server.advance(wire.now)
    assert peer.send(b"old", 0, SEQUENCED) and peer.send(b"sure", 0, RELIABLE)
    wire.now += 600 * MS  # nobody had a turn: the machine slept
    wire.server.receive(wire.now, ANN, b"")
    wire._collect()
    sent = b"".join(data for data, to in wire.seen if to == ANN)
    assert b"sure" in sent and b"old" not in sent and peer.stats.dropped_queue == 1
    peer.send(b"new", 0, SEQUENCED)
    wire._collect()
    assert b"new" in b"".join(data for data, to in wire.seen if to == ANN)


def test_byte_rate_limits_by_bytes_and_fills_up_again(wired):
    wire = wired(limit_loopback=True, byte_rate=10_000)
    talker = Talker(wire)
    words = [talker.raw(reliable(1 + n, bytes(1000))) for n in range(20)]
    assert words.count("held") == 9 and set(words[9:]) == {"limited"}
    assert talker.peer.stats.dropped_limited == 11
    wire.now += 500 * MS
    words = [talker.raw(reliable(10 + n, bytes(1000))) for n in range(20)]
    assert 4 <= words.count("held") <= 5


def test_a_silent_server_refuses_without_a_word(wired):
    wire = wired(silent=True, max_peers=1)
    Talker(wire)
    wire.inject(greeting(connect_id=b"more"), STRANGER)
    assert [to for _, to in wire.seen if to == STRANGER] == []
