"""Bad input for ENet servers, row by row: what it must not do, with a peer beside it that must not notice."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import pytest

from toolips_udp._native import enet as native
from toolips_udp.address import Address
from toolips_udp.peers import RELIABLE, SEQUENCED
from toolips_udp.peers import enet_wire as wire_format

sys.path.insert(0, str(Path(__file__).parent))
from enet_examples import CHECKED_CONNECT, EXAMPLES
from pairs import SERVER, Wire

ANN = Address("127.0.0.2", 4000)
STRANGER = Address("127.0.0.3", 5000)
CONNECT = EXAMPLES["E1 connect"]


def greeting(**changes) -> bytes:
    """E1 with fields changed."""
    command, _ = wire_format.read_command(CONNECT, 4)
    names = (
        "id", "incoming_session", "outgoing_session", "mtu", "window", "channels", "incoming", "outgoing",
        "interval", "acceleration", "deceleration", "connect_id", "data",
    )  # fmt: skip
    fields = dict(zip(names, command.fields, strict=True)) | changes
    command.fields = tuple(fields[name] for name in names)
    return CONNECT[:4] + wire_format.write_command(command)


def ack_of(verify: bytes, number: int = 1, time: bytes | None = None, session: int | None = None) -> bytes:
    """A client's proof for a VERIFY_CONNECT."""
    id, own = int.from_bytes(verify[8:10]), verify[11]
    word = id | (own if session is None else session) << 12 | 0x8000
    echoed = verify[2:4] if time is None else time
    return word.to_bytes(2) + b"\0\1" + b"\1\xff" + number.to_bytes(2) * 2 + echoed


class Talker:
    """A proven peer whose datagrams are written by hand."""

    def __init__(self, wire: Wire, address=ANN, **changes):
        self.wire, self.address = wire, address
        wire.inject(greeting(**changes), address)
        verify = next(d for d, to in reversed(wire.seen) if to == address and len(d) >= 44)
        self.word = int.from_bytes(verify[8:10]) | verify[11] << 12
        assert wire.inject(ack_of(verify), address) == "held"
        wire.seen.clear()

    @property
    def peer(self):
        return self.wire.peer_of(self.address)

    def say(self, *commands: str, timed: bool = True, source=None) -> str:
        body = b"".join(bytes.fromhex(c) for c in commands)
        return self.raw(body, timed, source)

    def raw(self, body: bytes, timed: bool = True, source=None) -> str:
        now = (self.wire.now // 1_000_000 & 0xFFFF).to_bytes(2)
        head = (self.word | 0x8000).to_bytes(2) + now if timed else self.word.to_bytes(2)
        return self.wire.inject(head + body, source or self.address)

    def acks(self) -> int:
        """Acknowledgements sent since last time."""
        count = 0
        for data, to in self.wire.seen:
            if to == self.address:
                _, rows, _ = native.read(data)
                count += sum(row[0] == 1 for row in rows)
        self.wire.seen.clear()
        return count

    def got(self) -> list[bytes]:
        return [e[2].data for e in self.wire.take()]

    def left(self) -> list[str]:
        return [e[2][0] for e in self.wire.take(kind="leave")]


def reliable(number: int, data: bytes = b"x", channel: int = 0) -> bytes:
    return bytes((0x86, channel)) + number.to_bytes(2) + len(data).to_bytes(2) + data


def fragment(start: int, index: int, count: int, total: int, offset: int, data: bytes, kind: int = 0x88) -> bytes:
    number = start + index if kind == 0x88 else 0
    head = bytes((kind, 0)) + (number & 0xFFFF).to_bytes(2) + start.to_bytes(2) + len(data).to_bytes(2)
    return head + b"".join(n.to_bytes(4) for n in (count, index, total, offset)) + data


def test_b1_a_connect_flood_takes_no_slot_and_a_real_client_still_joins():
    wire, base = Wire(), None
    for n in range(100_000):
        source = Address(f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}", 1000 + n % 50_000)
        wire.server.receive(wire.now + n * 20_000, source, greeting(id=n % 4095, connect_id=n.to_bytes(4)))
        if n == 70_000:
            base = wire.server.memory
    wire.server.outgoing()
    wire.now += 2_000_000_000
    assert len(wire.server.peers) == 0 and not wire.events[SERVER]
    assert wire.server.half_open <= 65_536 and wire.server.memory == base == 0
    _, peer, _ = wire.client()
    assert peer.open


def test_b2_no_more_bytes_go_to_an_unproven_address_than_came_from_it():
    wire, dice = Wire(), random.Random(2)
    coded = [CONNECT[:4] + native.compress(CONNECT[4:])]
    coded[0] = bytes((coded[0][0] | 0x40,)) + coded[0][1:]
    kinds = [CONNECT, CHECKED_CONNECT, *coded, b"", b"\x8f", CONNECT + b"\5\xff\0\2"]
    into = out = 0
    for n in range(20_000):
        data = dice.choice(kinds)
        if dice.random() < 0.5 and len(data) >= 52 and data[4:5] == b"\x82":
            data = data[:4] + greeting(id=n % 4095, connect_id=dice.randbytes(4))[4:]
        source = Address(f"10.1.{dice.randrange(4)}.{dice.randrange(200)}", 1000 + dice.randrange(4))
        wire.seen.clear()
        wire.now += 100_000
        wire.inject(data, source)
        # an answer with our id, without the proof
        if wire.seen and not wire.seen[-1][0][0] & 0x40 and dice.random() < 0.5:
            at = 4 if len(wire.seen[-1][0]) == 52 else 0
            word = int.from_bytes(wire.seen[-1][0][at + 8 : at + 10]) | wire.seen[-1][0][at + 11] << 12
            ping = word.to_bytes(2) + b"\5\xff\0\2" + b"\5\xff"
            into += len(ping)
            wire.inject(ping, source)
        into += len(data)
        out += sum(len(d) for d, _ in wire.seen)
    assert 0 < out <= into
    totals = wire.server.totals
    assert totals["unproven_out"] <= totals["unproven_in"] and totals["joins"] == 0


def test_b2_a_repeated_connect_gets_the_same_answer_once_each():
    wire = Wire()
    for _ in range(5):
        wire.inject(CONNECT, ANN)
    answers = [d for d, _ in wire.seen]
    assert len(answers) == 5 and len(set(answers)) == 1
    wire.run(20.0)
    assert len(wire.seen) == 5  # never again by a timer


def test_b3_sixteen_wrong_guesses_end_the_entry_and_none_of_10_000_joins():
    wire, dice = Wire(), random.Random(3)
    wire.inject(CONNECT, ANN)
    verify = wire.seen[-1][0]
    for n in range(10_000):
        time = dice.randbytes(2)
        if time != verify[2:4]:
            wire.inject(ack_of(verify, time=time), ANN)
        if n == 20:
            assert wire.server.half_open == 0
    assert wire.server.totals["joins"] == 0
    assert wire.inject(ack_of(verify), ANN) == "passed"  # even the right one comes too late


@pytest.mark.parametrize("which", ["session", "id", "number"])
def test_b3_a_proof_with_one_wrong_field_is_none(which):
    wire = Wire()
    wire.inject(CONNECT, ANN)
    verify = wire.seen[-1][0]
    if which == "session":
        bad = ack_of(verify, session=verify[11] ^ 1)
    elif which == "number":
        bad = ack_of(verify, number=2)
    else:
        bad = bytearray(ack_of(verify))
        bad[1] ^= 1
    assert wire.inject(bytes(bad), ANN) == "denied"
    assert wire.inject(ack_of(verify), ANN) == "held" and len(wire.server.peers) == 1


def test_a_lost_ack_is_asked_for_again_with_the_same_time_and_proves():
    wire = Wire()
    wire.inject(CONNECT, ANN)
    verify = wire.seen.pop()[0]
    word = int.from_bytes(verify[8:10]) | verify[11] << 12 | 0x8000
    data = word.to_bytes(2) + b"\0\2" + reliable(1, b"hello")
    assert wire.inject(data, ANN) == "answered" and not wire.take()
    ping = wire.seen.pop()[0]
    assert len(ping) == 8 and ping[2:4] == verify[2:4] and ping[4:] == bytes.fromhex("85ff0002")
    assert wire.inject(ack_of(verify, number=2), ANN) == "held"
    assert wire.inject(data, ANN) == "held" and [e[2].data for e in wire.take()] == [b"hello"]


@pytest.mark.parametrize(
    ("changes", "answered"),
    [
        ({"channels": 0}, False), ({"channels": 256}, False), ({"channels": 2**32 - 1}, False),
        ({"channels": 255}, True), ({"id": 0xFFF}, False), ({"id": 0xFFFF}, False), ({"id": 0xFFE}, True),
        ({"mtu": 0}, True), ({"mtu": 2**32 - 1}, True), ({"window": 0}, True), ({"incoming": 1}, True),
        ({"incoming": 2**32 - 1}, True),
    ],
)  # fmt: skip
def test_b4_each_boundary_of_connect_is_answered_or_not_and_allocates_nothing(changes, answered):
    wire = Wire()
    wire.inject(greeting(**changes), ANN)
    assert bool(wire.seen) is answered and wire.server.memory == 0
    if answered:
        _, [row], _ = native.read(wire.seen[-1][0])
        mtu, window, channels = row[4][3:6]
        assert 576 <= mtu <= 1392 and 4096 <= window <= 65_536 and 1 <= channels <= 255


@pytest.mark.parametrize("data", [CONNECT[:2] + CONNECT[4:], CONNECT + b"\x85\xff\0\2", CONNECT[:-1], CONNECT[4:]])
def test_b4_a_connect_without_time_or_with_more_behind_it_gets_no_answer(data):
    wire = Wire()
    data = bytes((data[0] & 0x7F,)) + data[1:] if len(data) == 50 else data
    assert wire.inject(data, ANN) in ("passed", "malformed") and not wire.seen


def test_b5_a_client_restarted_1_000_times_on_its_port_is_one_peer():
    wire = Wire()
    for n in range(1000):
        Talker(wire, connect_id=n.to_bytes(4))
        assert len(wire.server.peers) == 1
    assert [e[2][0] for e in wire.take(kind="leave")] == ["replaced"] * 999


def test_b5_the_old_peer_stays_until_the_new_one_is_proven():
    wire = Wire()
    talker = Talker(wire)
    wire.inject(greeting(connect_id=b"new!"), ANN)
    assert talker.raw(reliable(1)) == "held" and talker.left() == []


def test_b6_every_command_from_another_address_is_denied_or_passed_and_does_nothing():
    wire = Wire()
    talker = Talker(wire)
    Talker(wire, STRANGER, connect_id=b"else")
    for example in EXAMPLES.values():
        body = example[4:] if example[0] & 0x80 else example[2:]
        if body[0] & 15 != 2:
            assert talker.raw(body, source=STRANGER) == "denied"
            assert talker.raw(body, source=Address("127.0.0.9", 1)) == "passed"
    assert talker.got() == [] and talker.left() == []
    talker.word ^= 0x1000
    assert talker.raw(reliable(1)) == "denied"


def test_b6_datagrams_of_an_earlier_connection_do_nothing_to_the_next():
    wire = Wire()
    old = Talker(wire)
    old.say("84ff 0002 00000000")
    Talker(wire, connect_id=b"next")
    assert old.raw(reliable(1)) in ("denied", "passed") and old.got() == []


def test_b7_every_cut_of_every_datagram_is_harmless():
    wire = Wire()
    talker = Talker(wire)
    for example in EXAMPLES.values():
        for cut in range(len(example)):
            wire.inject(example[:cut], STRANGER)
            if talker.left():
                talker = Talker(wire, connect_id=random.randbytes(4))
            timed = bool(example[0] & 0x80)
            talker.raw(example[4:cut] if timed else example[2:cut], timed)
    canary = wire.client()[1]
    assert canary.open


def test_b9_of_1_000_pings_in_one_datagram_32_are_acted_on():
    wire = Wire()
    talker = Talker(wire)
    assert talker.raw(b"\x85\xff\0\2" * 1000) == "answered"
    assert talker.acks() == 32 and wire.server.totals["over_commands"] == 1


def test_b10_acks_for_what_was_never_sent_change_nothing_and_cost_little():
    wire = Wire()
    talker = Talker(wire)
    talker.peer.send(b"x")
    wire._collect()
    before = talker.peer.stats
    ordinary = bombs = 0.0
    for n in range(0, 65_536, 32):
        numbers = (k & 0xFFFF for k in range(n + 2, n + 34))
        body = b"".join(b"\1\0" + k.to_bytes(2) * 2 + b"\0\0" for k in numbers if k != 1)
        start = time.process_time()
        talker.raw(body)
        bombs += time.process_time() - start
        start = time.process_time()
        talker.raw(b"\x07\0\0\0" + b"\0\1" + b"\0\xf8" + bytes(248))
        ordinary += time.process_time() - start
    after = talker.peer.stats
    assert (after.rtt, after.rtt_variance, after.in_flight_commands) == (before.rtt, before.rtt_variance, 1)
    assert bombs < 2 * ordinary
    future = ((wire.now // 1_000_000 + 2000) & 0xFFFF).to_bytes(2)
    talker.raw(b"\1\0\0\1\0\1" + future)
    assert talker.peer.stats.in_flight_commands == 1


@pytest.mark.parametrize(
    "bad",
    [
        fragment(1, 0, 2**20, 32 << 20, 0, b"x"), fragment(1, 2, 2, 10, 0, b"x"), fragment(1, 0, 2, 10, 10, b"x"),
        fragment(1, 0, 2, 10, 8, b"xyz"), fragment(1, 0, 2, 1, 0, b"x"), fragment(1, 0, 2, 10, 0, b""),
        fragment(1, 0, 2**32 - 1, 2**32 - 1, 0, b"x"), fragment(1, 1, 2, 2**32 - 1, 2**32 - 2, b"xy"),
    ],
)  # fmt: skip
def test_b11_an_impossible_fragment_is_refused_unacked_and_keeps_no_memory(bad):
    wire = Wire()
    talker = Talker(wire)
    before = wire.server.memory
    word = talker.raw(bad)
    assert talker.acks() == 0 and talker.got() == []
    assert word == "malformed" or talker.left() == ["too_big"]
    assert wire.server.memory <= before + 1024


def test_b11_fragments_that_never_complete_stay_under_the_caps():
    wire = Wire(max_message=65_536)
    talker = Talker(wire)
    for n in range(20_000):
        talker.raw(fragment(1 + n % 8000, 0, 50, 50_000, 0, bytes(1000)))
        talker.raw(fragment(1 + n % 60_000, 0, 50, 50_000, 0, bytes(1000), 0x0C))
    if talker.left() != ["hoarding"]:
        stats = talker.peer.stats
        assert stats.fragments_open <= 16 and stats.fragment_bytes <= 524_288
    assert wire.server.memory < 2 << 20


def test_b11_overlapping_fragments_never_deliver_memory_that_nobody_sent():
    wire = Wire()
    talker = Talker(wire)
    talker.raw(fragment(1, 0, 2, 10, 0, b"AAAAA"))
    talker.raw(fragment(1, 1, 2, 10, 2, b"BBBBB"))  # five bytes twice, three never
    talker.raw(reliable(3, b"next"))
    assert talker.got() == [b"next"]
    talker.raw(fragment(4, 0, 2, 6, 0, b"abc"))
    talker.raw(fragment(4, 1, 3, 6, 3, b"def"))  # the same group with another count
    talker.raw(fragment(4, 1, 2, 6, 3, b"def"))
    assert talker.got() == [b"abcdef"]


def test_b12_a_gap_that_is_never_filled_is_capped_and_then_hoarding():
    wire = Wire()
    talker = Talker(wire)
    for n in range(3000):
        talker.raw(reliable(2 + n, bytes(100)))
    assert talker.got() == [] and talker.acks() == 1024
    assert talker.peer.stats.waiting_bytes == 102_400
    wire.now += 10_500_000_000
    talker.raw(reliable(2000, b"x"))
    assert talker.left() == ["hoarding"]


@pytest.mark.parametrize(("number", "acks"), [(28_671, 1), (28_672, 0), (36_863, 0), (36_864, 1), (65_535, 1)])
def test_b12_the_window_keeps_refuses_and_acknowledges_at_its_edges(number, acks):
    wire = Wire()
    talker = Talker(wire)
    talker.raw(reliable(number))
    assert talker.acks() == acks and talker.got() == []


def test_b13_bombs_and_noise_in_the_coder_are_dropped_and_disturb_nobody():
    wire, dice = Wire(max_malformed=0), random.Random(13)
    talker = Talker(wire)
    bomb = native.compress(bytes(60_000))
    for body in [bomb, bomb[:16], b"", *(dice.randbytes(dice.randrange(1, 60)) for _ in range(3000))]:
        talker.word |= 0x4000
        assert talker.raw(body) in ("malformed", "answered", "held")
        if talker.left():
            talker = Talker(wire, connect_id=dice.randbytes(4))
    assert wire.client()[1].open


def test_b14_any_flipped_bit_of_a_checked_datagram_drops_it_silently():
    wire = Wire()
    for bit in range(len(CHECKED_CONNECT) * 8):
        data = bytearray(CHECKED_CONNECT)
        data[bit // 8] ^= 0x80 >> bit % 8
        wire.inject(bytes(data), ANN)
    assert not wire.seen and wire.server.half_open == 0
    wire.inject(CHECKED_CONNECT, ANN)
    assert len(wire.seen) == 1 and len(wire.seen[0][0]) == 52


@pytest.mark.parametrize("flags", ["84", "44"])
def test_b15_however_often_a_peer_disconnects_it_leaves_once(flags):
    wire = Wire()
    talker = Talker(wire)
    for n in range(5):
        talker.say(f"{flags}ff 000{n + 2} 0000000{n + 1}")
    assert [e[2][:3] for e in wire.take(kind="leave")] == [("left", 1, True)]
    talker = Talker(wire, connect_id=b"more")
    talker.peer.kick(5)
    for n in range(3):
        talker.say(f"{flags}ff 000{n + 2} 00000001")
    assert talker.left() == ["kicked"]


def test_b16_a_peer_that_never_acks_is_slow_when_its_queue_is_full_and_alone_in_that():
    wire = Wire()
    talker = Talker(wire)
    _, other, address = wire.client(at=STRANGER)
    theirs, silent = wire.peer_of(address), talker.peer
    for _ in range(2000):
        silent.send(bytes(1000))
        theirs.send(b"tick")
        wire.run(0.005)
    assert [e[2][0] for e in wire.take(kind="leave")] in (["slow"], ["timeout"])
    assert len(wire.take(address)) == 2000 and other.open


def test_b16_unreliable_messages_over_the_queue_are_dropped_not_the_peer():
    wire = Wire()
    talker = Talker(wire)
    sent = [talker.peer.send(bytes(1300), 0, SEQUENCED) for _ in range(1000)]
    assert sent.count(False) > 500 and talker.peer.open and talker.peer.stats.dropped_queue == sent.count(False)
    peer = talker.peer
    assert peer.send(bytes(1300), 0, RELIABLE) is False and not peer.open
    wire.run(0.01)
    assert talker.left() == ["slow"]


def test_b17_a_peer_over_its_rate_is_limited_before_decoding_and_then_a_flood():
    wire = Wire(limit_loopback=True, rate=100)
    talker = Talker(wire)
    words = []
    for _ in range(12_000):
        wire.now += 1_000_000
        words.append(talker.raw(b"\x85\xff\0\2"))
        if wire.events[SERVER] and any(e[0] == "leave" for e in wire.events[SERVER]):
            break
    assert words.count("limited") > 5 * words.count("answered") * 0.8
    assert talker.left() == ["flood"]


def test_b17_of_200_peers_one_floods_and_the_others_notice_nothing():
    wire = Wire(limit_loopback=True, rate=100, max_peers=300)
    clients = [wire.client(join=False) for _ in range(199)]
    wire.run(2.0)
    talker = Talker(wire, STRANGER)
    said, words = {address: [] for *_, address in clients}, []
    for step in range(60):
        words += [talker.raw(b"\x85\xff\0\2") for _ in range(500)]
        for _, peer, address in clients[step % 10 :: 10]:
            said[address].append(b"%d" % step)
            peer.send(said[address][-1])
        wire.run(0.02)
    got = {address: [] for address in said}
    for _, peer, message in wire.take():
        got[peer.address].append(message.data)
    assert got == said, "each message, in order, within the turn in which it was sent"
    assert words.count("limited") > 0.98 * len(words) and not wire.take(kind="leave")
    assert all(wire.peer_of(address).stats.dropped_limited == 0 for address in said)


def test_b16_one_of_64_that_never_acks_delays_no_broadcast_to_the_others():
    def waits(hostile):
        wire, found = Wire(weather=lambda data: [20_000_000]), []
        clients = [wire.client(join=False) for _ in range(63)]
        wire.run(1.0)
        if hostile:
            Talker(wire)
        for _ in range(300):
            sent = wire.now
            wire.server.broadcast(list(wire.server.peers.values()), bytes(1000))
            wire.run(0.03)
            for *_, address in clients:
                found += [round((m.now * 1e9 - sent) / 1e6) for _, _, m in wire.take(address)]
        return sorted(found)

    calm, beside = waits(False), waits(True)
    assert len(calm) == len(beside) == 63 * 300
    assert beside[int(len(beside) * 0.99)] <= 1.1 * calm[int(len(calm) * 0.99)]


def test_b18_thousands_of_peers_that_expire_at_once_are_worked_off_in_bounded_turns():
    wire = Wire(max_peers=2000)
    host, *_ = wire.client()
    for _ in range(1500):
        host.connect(SERVER, 1, 0, now=wire.now)
    wire.run(2.0)
    assert len(wire.server.peers) == 1501
    wire.clients.clear()
    wire.events[SERVER].clear()
    wire.now += 40_000_000_000
    turns = 0
    while (due := wire.server.deadline()) is not None and turns < 200:
        wire.now = max(wire.now, due)
        wire.server.advance(wire.now)
        wire._collect()
        turns += 1
        if len(wire.server.peers) == 0:
            break
    assert turns >= 2
    assert all(e[2][0] == "timeout" for e in wire.take(kind="leave"))


def test_b20_empty_and_oversized_datagrams_are_malformed():
    wire = Wire()
    talker = Talker(wire)
    assert wire.inject(b"", ANN) == "malformed" and wire.inject(b"\0", STRANGER) == "malformed"
    assert talker.raw(reliable(1, bytes(5000))) == "malformed" and talker.got() == []


def test_b22_two_servers_that_hear_each_other_fall_silent():
    one, two = Wire(), Wire()
    there = [(CONNECT, one)]
    for _ in range(10):
        following = []
        for data, at in there:
            at.seen.clear()
            at.inject(data, SERVER)
            following += [(d, two if at is one else one) for d, _ in at.seen]
        there = following
    assert there == []


def test_malformed_datagrams_end_their_peer_after_sixteen_in_ten_seconds():
    wire = Wire()
    talker = Talker(wire)
    for _ in range(16):
        talker.raw(b"\x0f\0\0\0")
    assert talker.left() == ["malformed"]
    assert wire.seen[-1][0][-4:] == bytes.fromhex("ffffff08")


def test_a_ban_drops_what_a_peer_says_and_refuses_it_with_the_reason():
    wire = Wire()
    talker = Talker(wire)
    wire.server.ban("127.0.0.2", wire.now + 10**9)
    assert talker.raw(reliable(1)) == "denied"
    wire.seen.clear()
    assert wire.inject(greeting(connect_id=b"anew"), ANN) == "denied"
    assert wire.seen[-1][0][-4:] == bytes.fromhex("ffffff02") and len(wire.seen[-1][0]) == 10
    wire.now += 2 * 10**9
    assert wire.inject(greeting(connect_id=b"anew"), ANN) == "answered"
