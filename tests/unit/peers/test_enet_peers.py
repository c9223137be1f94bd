"""ENet peers over the sans-io face: connecting, deliveries, ends, limits; clock and wire in hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from toolips_udp.address import Address
from toolips_udp.errors import TooLong
from toolips_udp.peers import RELIABLE, SEQUENCED, UNSEQUENCED

sys.path.insert(0, str(Path(__file__).parent))
from enet_examples import EXAMPLES
from pairs import MS, SECOND, SERVER, Wire, storm

ANN = Address("127.0.0.2", 4000)


@pytest.fixture(autouse=True, params=[True, False], ids=["c", "python"])
def both(request, monkeypatch):
    """Every test here runs against the C host and against the Python one."""
    monkeypatch.setattr(Wire, "default", request.param)


def data_of(events):
    return [e[2].data for e in events]


def prove(wire, answer, echo=b"\x10\x10"):
    """The client's side of E3 for whatever id, session and time the server chose."""
    id = int.from_bytes(answer[8:10]) | answer[11] << 12 | 0x8000
    return id.to_bytes(2) + echo + bytes.fromhex("01ff00010001") + answer[2:4] + bytes.fromhex("85ff0002"), id


def test_the_worked_examples_join_deliver_and_leave_as_written():
    wire = Wire()
    assert wire.inject(EXAMPLES["E1 connect"], ANN) == "answered"
    verify, to = wire.seen.pop()
    assert to == ANN and len(verify) == 48
    expected = EXAMPLES["E2 verify"]
    assert verify[0] & 0xF0 == 0xA0 and verify[1] == 3  # time, session 2, the client's id 0x203
    assert verify[4:8] == expected[4:8] and verify[10:] == expected[10:]
    ack, id = prove(wire, verify)
    assert wire.inject(ack, ANN) == "held"
    assert [e[2] for e in wire.take(kind="join")] == [42]
    assert wire.seen.pop()[0] == EXAMPLES["E3 reply"]
    peer = wire.peer_of(ANN)

    def say(name):
        word = wire.inject(id.to_bytes(2) + EXAMPLES[name][2:], ANN)
        return word, data_of(wire.take()), [d for d, _ in wire.seen if wire.seen.clear() or True]

    def untimed(name):
        return wire.inject((id & 0x7FFF).to_bytes(2) + EXAMPLES[name][2:], ANN), data_of(wire.take())

    word, messages, _ = say("E4 reliable")
    assert (word, messages) == ("held", [b"hello"])
    assert untimed("E5 two kinds") == ("held", [b"pos1", b"fx"])
    assert say("E6 first fragment")[1] == []
    assert say("E6 second fragment")[1] == [b"0123456789"]
    for number in (3, 4):  # bring R to 4, as E8 begins
        body = bytes.fromhex(f"8600000{number + 0} 0001 41".replace(" ", "")) if number == 4 else b""
        if body:
            assert wire.inject(id.to_bytes(2) + b"\x10\x40" + body, ANN) == "held"
    wire.take()
    assert say("E8 six")[1] == []
    assert untimed("E8 after six")[1] == []
    assert say("E8 five")[1] == [b"five", b"six", b"after six"]
    wire.seen.clear()
    say("E9 disconnect")
    assert [e[2][:3] for e in wire.take(kind="leave")] == [("left", 9, True)]
    assert not peer.open and peer.send(b"late") is False


def test_unreliable_fragments_in_reverse_are_delivered_whole():
    wire = Wire()
    _, peer, address = wire.client()
    mine = wire.peer_of(address)
    view = peer.view()
    word = (view["their_id"] | 0 << 12).to_bytes(2)
    body = EXAMPLES["E7 unreliable fragments"][2:].replace(bytes.fromhex("0002 0003"), bytes.fromhex("0001 0003"))
    assert wire.inject(word + body, address) == "held"
    assert data_of(wire.take()) == [b"abcdef"]
    assert mine.stats.fragments_open == 0


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("compress", [0, 1])
def test_every_delivery_arrives_with_checksum_and_coder_in_any_mix(checksum, compress):
    wire = Wire()
    _, peer, address = wire.client(checksum=checksum, compress=compress)
    for delivery in (RELIABLE, SEQUENCED, UNSEQUENCED):
        assert peer.send(b"abc" * 100, 1, delivery) is True
    assert peer.send(bytes(60_000)) is True
    wire.run(1.0)
    got = wire.take()
    assert [m.delivery for _, _, m in got][:3] == [RELIABLE, SEQUENCED, UNSEQUENCED]
    server_peer = wire.peer_of(address)
    assert server_peer.view()["checksum"] is checksum
    assert server_peer.send(b"abc" * 100) is True
    wire.run(0.5)
    assert data_of(wire.take(address)) == [b"abc" * 100]
    stats = server_peer.stats
    assert (stats.compressed_in > 0) == bool(compress)
    assert (stats.compressed_out > 0) == bool(compress)


def test_a_lost_reliable_message_is_sent_again_after_its_timeout_and_arrives_once():
    lose = []
    wire = Wire(weather=lambda data: [] if lose and lose.pop() else [5_000_000])
    _, peer, address = wire.client()
    peer.send(b"again")
    lose.append(True)
    wire.run(0.004)
    assert wire.take() == []
    wire.run(0.6)
    assert data_of(wire.take()) == [b"again"]
    assert peer.stats.resent == 1 and wire.peer_of(address).stats.duplicates == 0


@pytest.mark.parametrize("seed", range(6))
def test_2_000_messages_arrive_exactly_once_and_in_order_at_thirty_per_cent_loss(seed):
    wire = Wire(weather=storm(seed, loss=0.3, duplicate=0.1, reorder=0.1, latency=20_000_000))
    _, peer, _ = wire.client(join=False)
    wire.run(20.0)
    assert peer.open
    for n in range(2000):
        peer.send(n.to_bytes(4) + bytes(n % 40), n % 2)
        if n % 20 == 19:
            wire.run(0.05)
    wire.run(120.0)
    got = [m for _, _, m in wire.take()]
    numbers = [[int.from_bytes(m.data[:4]) for m in got if m.channel == c] for c in (0, 1)]
    assert numbers == [list(range(0, 2000, 2)), list(range(1, 2000, 2))]


def test_sequenced_messages_never_arrive_late_or_twice():
    wire = Wire(weather=storm(3, loss=0.2, duplicate=0.2, reorder=0.5))
    _, peer, _ = wire.client(join=False)
    wire.run(10.0)
    for n in range(1, 1000):
        peer.send(n.to_bytes(2), 0, SEQUENCED)
        wire.run(0.005)
    wire.run(5.0)
    numbers = [int.from_bytes(data) for data in data_of(wire.take())]
    assert numbers == sorted(set(numbers)) and len(numbers) > 300


def test_what_does_not_fit_raises_in_the_callers_hands():
    wire = Wire()
    _, peer, _ = wire.client()
    assert peer.max_unreliable == 1364
    assert peer.send(bytes(1364), 0, SEQUENCED) is True
    with pytest.raises(TooLong):
        peer.send(bytes(1365), 0, SEQUENCED)
    with pytest.raises(TooLong):
        peer.send(bytes(1365), 0, UNSEQUENCED, fragment=True)
    assert peer.send(bytes(1365), 0, SEQUENCED, fragment=True) is True
    with pytest.raises(ValueError, match="channel 2 is not open"):
        peer.send(b"x", 2)
    with pytest.raises(TooLong):
        peer.send(bytes((1 << 20) + 1))


def test_b11_a_message_above_the_limit_ends_its_sender_as_too_big():
    wire = Wire()
    _, peer, address = wire.client()
    peer.send(bytes(65_537))
    wire.run(0.5)
    assert [e[2][0] for e in wire.take(kind="leave")] == ["too_big"]
    assert [e[2][1] for e in wire.take(address, "leave")] == [0xFFFFFF07] and not peer.open


def test_kick_sends_what_is_queued_and_the_client_learns_the_code():
    wire = Wire()
    _, _, address = wire.client()
    theirs = wire.peer_of(address)
    theirs.send(bytes(50_000))
    theirs.kick(77)
    assert not theirs.open and theirs.send(b"more") is False
    wire.run(1.0)
    assert [len(data) for data in data_of(wire.take(address))] == [50_000]
    assert [e[2][:3] for e in wire.take(address, "leave")] == [("left", 77, True)]
    assert [e[2][:3] for e in wire.take(kind="leave")] == [("kicked", 77, False)]
    assert len(wire.server.peers) == 0


def test_a_client_that_vanishes_times_out_and_leaves_no_timer_behind():
    wire = Wire()
    wire.client()
    wire.clients.clear()
    wire.run(60.0)
    assert [e[2][0] for e in wire.take(kind="leave")] == ["timeout"]
    assert wire.server.deadline() is None
    wire.run(1.0)
    wire.server.advance(wire.now)
    wire.server.outgoing()
    assert wire.server.memory == 0


def test_an_idle_pair_stays_connected_and_the_server_only_answers():
    wire = Wire()
    _, peer, _ = wire.client()
    wire.seen.clear()
    wire.run(60.0)
    assert peer.open
    kinds = {data[2] & 15 for data, _ in wire.seen if not data[0] & 0x80}
    assert kinds == {1}  # acknowledgements, no pings of ours


def test_one_host_may_open_many_connections_from_one_port():
    wire = Wire()
    host, *_ = wire.client()
    more = [host.connect(SERVER, 1, n, now=wire.now) for n in range(300)]
    wire.run(2.0)
    assert all(peer.open for peer in more) and len(wire.server.peers) == 301
    assert len({p.view()["our_id"] for p in wire.server.peers.values()}) == 301


def test_a_client_restarted_on_its_port_replaces_its_former_self():
    wire = Wire()
    _, _, address = wire.client(data=1)
    wire.client(data=2, at=address)
    leaves = [e[2][0] for e in wire.take(kind="leave")]
    assert leaves == ["replaced"] and len(wire.server.peers) == 1


def test_a_full_server_refuses_in_ten_bytes_with_its_reason():
    wire = Wire(max_peers=1)
    wire.client()
    wire.seen.clear()
    _, peer, address = wire.client(join=False)
    wire.run(1.0)
    assert [len(data) for data, to in wire.seen if to == address] == [10]
    assert [e[2][1] for e in wire.take(address, "leave")] == [0xFFFFFF01] and not peer.open


def test_a_broadcast_reaches_all_but_the_excluded_and_is_encoded_once():
    wire = Wire()
    addresses = [wire.client()[2] for _ in range(20)]
    peers = list(wire.server.peers.values())
    native, before = wire.native, wire.server.memory
    assert wire.server.broadcast(peers, bytes(1000), 1, RELIABLE, False, (peers[0],)) == 19
    assert wire.server.memory - before < 19 * 400 + 2048 or not native
    wire.run(0.5)
    got = [len(wire.take(address)) for address in addresses]
    assert sorted(got) == [0] + [1] * 19


@pytest.mark.parametrize("epoch", [2**16 - 5000, 2**32 - 5000])
def test_b32_the_wrap_of_the_clock_disturbs_nobody(epoch):
    clock = (epoch - 1000 * 1000) % 2**32  # wires begin at 1,000 s
    wire = Wire(weather=storm(1), clock=clock)
    _, peer, _ = wire.client(clock=clock, join=False)
    wire.run(3.0)
    for n in range(200):
        peer.send(n.to_bytes(2))
        wire.run(0.05)
    wire.run(5.0)
    assert [int.from_bytes(d) for d in data_of(wire.take())] == list(range(200))
    assert peer.stats.rtt < 1000


def test_b12_two_rounds_of_all_numbers_arrive_in_order():
    wire = Wire(queue_bytes=64 << 20)
    _, peer, _ = wire.client(queue_bytes=64 << 20)
    want, got = 0, 0
    while want < (140_000 if wire.native else 70_000):
        for _ in range(1000):
            peer.send(want.to_bytes(4))
            want += 1
        wire.run(0.05)
        for data in data_of(wire.take()):
            assert int.from_bytes(data) == got
            got += 1
    wire.run(1.0)
    assert got + len(wire.take()) == want
    assert wire.now > SECOND


def test_500_bytes_every_50_ms_at_ten_per_cent_loss_arrive_within_three_round_trips():
    late = []
    for seed in range(5):
        wire = Wire(weather=storm(seed, loss=0.1, duplicate=0, reorder=0, latency=50 * MS))
        _, peer, _ = wire.client(join=False)
        wire.run(5.0)
        for _ in range(2000):
            peer.send(wire.now.to_bytes(8) + bytes(492))
            wire.run(0.05)
            late += [m.now * 1000 - int.from_bytes(m.data[:8]) / MS for _, _, m in wire.take()]
    late.sort()
    assert late[len(late) * 99 // 100] <= 300 and late[-1] < 1000
