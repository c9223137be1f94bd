"""Snapshots: differences to what each client has, whatever is lost, near only, within the budget."""

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from toolips_udp.game.feedback import feedback_of
from toolips_udp.game.fields import angle, counter, fixed, flag, number
from toolips_udp.game.interest import Near
from toolips_udp.game.replica import Replica
from toolips_udp.game.snapshot import HEADER, Snapshots

POSITION = {"x": fixed(-64, 64, 1 / 128), "y": fixed(-64, 64, 1 / 128)}


class Follower:
    """A client: takes what its peer was sent, subject to loss, and acks."""

    def __init__(self, game, peer, snapshots, loss=0.0, ack_loss=0.0, seed=0):
        self.game, self.peer, self.dice = game, peer, random.Random(seed)
        self.loss, self.ack_loss = loss, ack_loss
        self.replica = Replica(snapshots, lambda: game.now)
        self.bytes, self.data, self.taken = [], [], []

    def poll(self):
        got, self.peer.got = self.peer.got, []
        for data in got:
            self.bytes.append(len(data))
            if self.dice.random() >= self.loss:
                snapshot = self.replica.receive(data)
                assert snapshot is not None, "a snapshot was refused"
                self.taken.append(snapshot)
                self.data.append(data)
        ack = self.replica.feedback()
        if ack and self.dice.random() >= self.ack_loss:
            feedback_of(self.peer).take(ack, self.game.now)


def quantised(snapshots, entities):
    return {
        e.id: {name: field.x(field.q(getattr(e, name))) for name, field in snapshots.fields.items()}
        for e in entities
    }


@pytest.fixture(params=["native", "python"], autouse=True)
def maker(request, monkeypatch):
    """Everything here holds for the C code and for its twin."""
    if request.param == "python":
        monkeypatch.setenv("TOOLIPS_UDP_PURE", "1")
    else:
        monkeypatch.delenv("TOOLIPS_UDP_PURE", raising=False)
        pytest.importorskip("toolips_udp._native.snapshot", reason="needs the native core")


@pytest.fixture
def arena(game, peers):
    room = game.room("arena")
    for peer in peers:
        room.join(peer)
    return room


def play(game, room, ships, followers, move, seconds=5.0, hz=60):
    """Move, send and check that everybody sees the truth as of the newest snapshot it has."""
    truth = {}

    def step(tick):
        move(tick)
        if ships.send(room, tick):
            truth[tick.number] = quantised(ships, ships.entities(room))
            for follower in followers:
                follower.poll()

    game.agenda.tick(hz, step)
    game.run(seconds)
    return truth


def wander(ships, room, seed=1, births=0.02, deaths=0.02):
    dice = random.Random(seed)

    def move(tick):
        for e in ships.entities(room):
            if dice.random() < 0.7:
                e.x += dice.uniform(-0.2, 0.2)
                e.y += dice.uniform(-0.2, 0.2)
            if e.owner is None and dice.random() < deaths:
                ships.remove(room, e)
        while dice.random() < births * 20:
            ships.add(room, x=dice.uniform(-60, 60), y=dice.uniform(-60, 60))

    return move


@pytest.mark.parametrize("loss", [0.0, 0.1, 0.5])
def test_a_client_sees_the_truth_of_each_snapshot_it_gets_whatever_was_lost(game, arena, peers, loss):
    ships = Snapshots(**POSITION, hz=20)
    for peer in peers:
        ships.add(arena, owner=peer)
    followers = [Follower(game, p, ships, loss, loss, seed=p.id) for p in peers]
    truth = play(game, arena, ships, followers, wander(ships, arena))
    assert len(truth) == 101 or len(truth) == 100
    for follower in followers:
        assert len(follower.taken) > 100 * (1 - loss) * 0.7
        for snapshot in follower.taken:
            assert snapshot.entities == truth[snapshot.tick]
            assert snapshot.own == ships.own(arena, follower.peer).id
        assert follower.replica.refused == 0


def test_what_does_not_change_costs_one_bit(game, arena, peers):
    ships = Snapshots(**POSITION, hz=20)
    for n in range(80):
        ships.add(arena, x=n / 2, y=-n / 2)
    follower = Follower(game, peers[0], ships)
    play(game, arena, ships, [follower], lambda tick: None, 1.0)
    assert follower.bytes[0] > HEADER.size + 80 * 30 // 8
    assert set(follower.bytes[2:]) == {HEADER.size + (80 + 1 + 7) // 8}


def test_without_acks_every_snapshot_is_full(game, arena, peers):
    ships = Snapshots(**POSITION, hz=20)
    ships.add(arena, x=1.0, y=2.0)
    follower = Follower(game, peers[0], ships, ack_loss=1.0)
    play(game, arena, ships, [follower], lambda tick: None, 5.0)
    assert len(set(follower.bytes)) == 1
    assert all(s.entities == {1: {"x": 1.0, "y": 2.0}} for s in follower.taken)


def test_a_client_that_acks_again_after_more_than_the_ring_gets_a_full_one(game, arena, peers):
    ships = Snapshots(**POSITION, hz=20)
    ships.add(arena, x=1.0, y=2.0)
    follower = Follower(game, peers[0], ships)

    def move(tick):
        follower.ack_loss = 1.0 if 60 < tick.number < 240 else 0.0

    play(game, arena, ships, [follower], move, 6.0)
    by_tick = dict(zip([s.tick for s in follower.taken], follower.bytes, strict=True))
    small, full = HEADER.size + 1, follower.bytes[0]
    assert by_tick[30] == small and by_tick[150] == small and by_tick[210] == full and by_tick[330] == small


def test_b26_acks_of_snapshots_never_sent_are_ignored(game, arena, peers):
    ships = Snapshots(**POSITION, hz=20)
    ships.add(arena, x=1.0, y=2.0)
    follower = Follower(game, peers[0], ships, ack_loss=1.0)
    dice = random.Random(1)

    def move(tick):
        feedback_of(peers[0]).acked = (dice.choice([0, 5000, 65_535, 1000]), 0)

    play(game, arena, ships, [follower], move, 5.0)
    assert (
        all(s.entities == {1: {"x": 1.0, "y": 2.0}} for s in follower.taken) and len(set(follower.bytes)) == 1
    )


def test_equal_bases_are_compared_once(game, arena, peers, monkeypatch):
    from toolips_udp.game import making as module

    monkeypatch.setenv("TOOLIPS_UDP_PURE", "1")
    calls = []
    real = module._changed_part
    monkeypatch.setattr(module, "_changed_part", lambda *args: calls.append(1) or real(*args))
    ships = Snapshots(**POSITION, hz=20)
    for peer in peers:
        ships.add(arena, owner=peer)
    followers = [Follower(game, p, ships) for p in peers]

    def move(tick):
        for e in ships.entities(arena):
            e.x += 0.1

    truth = play(game, arena, ships, followers, move, 2.0)
    assert len(calls) == (len(truth) - 1) * len(peers)


def test_births_and_deaths_are_told_once_and_ids_are_not_used_again_soon(game, arena, peers):
    ships = Snapshots(**POSITION, hz=20)
    follower = Follower(game, peers[0], ships)

    def move(tick):
        if tick.number == 30:
            move.one = ships.add(arena, x=1.0)
        if tick.number == 60:
            ships.remove(arena, move.one)
            ships.remove(arena, move.one)
            ships.add(arena, x=2.0)

    play(game, arena, ships, [follower], move, 2.0)
    assert [(s.tick, s.born) for s in follower.taken if s.born] == [(30, {1}), (60, {2})]
    assert [(s.tick, s.dead) for s in follower.taken if s.dead] == [(60, {1})]


def test_a_teleport_is_told_with_the_change(game, arena, peers):
    ships = Snapshots(**POSITION, hz=20)
    ship = ships.add(arena, x=1.0)
    follower = Follower(game, peers[0], ships)

    def move(tick):
        ship.x += 0.1
        if tick.number == 31:
            ship.x, ship.teleport = -50.0, True

    play(game, arena, ships, [follower], move, 1.0)
    assert [s.tick for s in follower.taken if s.teleported] == [33]


@pytest.mark.parametrize("lost", ["snapshots", "acks", "both"])
def test_a_teleport_outlives_the_loss_of_its_snapshot_and_is_told_once(game, arena, peers, lost):
    """Whatever is lost, the first snapshot that shows a jump tells it, and no other one does."""
    ships = Snapshots(**POSITION, hz=20)
    ship = ships.add(arena, x=1.0)
    rates = {"loss": 0.4 * (lost != "acks"), "ack_loss": 0.4 * (lost != "snapshots")}
    follower = Follower(game, peers[0], ships, seed=4, **rates)
    jumps = []

    def move(tick):
        ship.x = min(ship.x + 0.01, 60.0)
        if tick.number % 40 == 31:
            ship.x, ship.teleport = -60.0 + tick.number / 40, True
            jumps.append(tick.number)

    play(game, arena, ships, [follower], move, 60.0)
    told = [s.tick for s in follower.taken if s.teleported]
    seen = [next(s.tick for s in follower.taken if s.tick >= jump) for jump in jumps]
    assert len(jumps) > 80 and told == sorted(set(seen))
    assert any(s - jump > 2 for s, jump in zip(seen, jumps, strict=True)) or lost == "acks"


def test_two_teleports_within_a_round_trip_are_both_told(game, arena, peers):
    ships = Snapshots(**POSITION, hz=20)
    ship = ships.add(arena, x=1.0)
    follower = Follower(game, peers[0], ships, ack_loss=1.0)

    def move(tick):
        follower.ack_loss = 0.0 if tick.number < 30 else 1.0  # nothing later is acknowledged
        ship.x += 0.1
        if tick.number in (31, 37):
            ship.x, ship.teleport = -50.0 + tick.number, True

    play(game, arena, ships, [follower], move, 1.0)
    assert [s.tick for s in follower.taken if s.teleported] == [33, 39]


PAGE = Path(__file__).parents[3] / "examples/game/page/snapshot.js"
READ = """
import { createInterface } from "node:readline";
import { Replica } from "./snapshot.mjs";
const replica = new Replica();
for await (const line of createInterface({ input: process.stdin })) {
  const made = replica.receive(Uint8Array.from(Buffer.from(line, "hex")));
  console.log(JSON.stringify([...made.jumped]));
}
"""


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_the_page_tells_the_same_teleports_as_python(game, arena, peers, tmp_path):
    from examples.game.server import ships as arenas_own

    ships = Snapshots(**arenas_own.fields, hz=20)
    all_ships = [ships.add(arena) for _ in range(4)]
    follower = Follower(game, peers[0], ships, loss=0.3, ack_loss=0.5, seed=9)
    dice = random.Random(10)

    def move(tick):
        for ship in all_ships:
            ship.x += 1
            if dice.random() < 0.03:
                ship.x, ship.teleport = ship.x - 100, True

    play(game, arena, ships, [follower], move, 20.0)
    (tmp_path / "snapshot.mjs").write_text(PAGE.read_text())
    (tmp_path / "read.mjs").write_text(READ)
    lines = "".join(data.hex() + "\n" for data in follower.data)
    done = subprocess.run(
        ["node", "read.mjs"], input=lines, capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    told = [set(json.loads(line)) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and told == [s.teleported for s in follower.taken], done.stderr
    assert sum(map(len, told)) > 50


def test_all_kinds_of_fields_travel(game, arena, peers):
    ships = Snapshots(
        x=fixed(0, 1, 0.01), turn=angle(8), score=counter(16), team=number(2), dead=flag(), hz=20
    )
    dice = random.Random(2)
    for _ in range(20):
        ships.add(arena)
    follower = Follower(game, peers[0], ships, loss=0.2)

    def move(tick):
        for e in ships.entities(arena):
            e.x, e.turn = dice.random(), e.turn + dice.uniform(-0.5, 0.5)
            e.score, e.team, e.dead = dice.randrange(65_536), dice.randrange(4), dice.random() < 0.5

    truth = play(game, arena, ships, [follower], move, 3.0)
    assert all(s.entities == truth[s.tick] for s in follower.taken) and len(follower.taken) > 40


def test_a_client_sees_only_what_is_near_and_nothing_flickers(game, arena, peers):
    ships = Snapshots(**POSITION, hz=20, near=Near(10.0))
    own = ships.add(arena, owner=peers[0])
    other = ships.add(arena, x=9.0)
    far = ships.add(arena, x=40.0)
    follower = Follower(game, peers[0], ships)

    def move(tick):
        # To and fro over the edge: 9 to 11, which is inside 11.5.
        other.x = 10.0 + (1.0 if tick.number // 6 % 2 else -1.0) if tick.number < 120 else 12.0

    play(game, arena, ships, [follower], move, 4.0)
    early = [s for s in follower.taken if s.tick < 120]
    assert all(set(s.entities) == {own.id, other.id} for s in early)
    assert [s.dead for s in follower.taken if s.dead] == [{other.id}]
    assert set(follower.taken[-1].entities) == {own.id}
    assert far.id not in {id for s in follower.taken for id in s.entities}


def test_the_near_view_is_the_truth_of_what_is_near(game, arena, peers):
    near = Near(20.0)
    ships = Snapshots(**POSITION, hz=20, near=near)
    for peer in peers:
        ships.add(arena, owner=peer)
    followers = [Follower(game, p, ships, loss=0.2, ack_loss=0.2, seed=p.id) for p in peers]
    truth = play(game, arena, ships, followers, wander(ships, arena, births=0.04), 5.0)
    for follower in followers:
        for snapshot in follower.taken:
            now = truth[snapshot.tick]
            me = now[snapshot.own]
            for id, values in snapshot.entities.items():
                assert values == now[id]
            for id, values in now.items():
                distance = ((values["x"] - me["x"]) ** 2 + (values["y"] - me["y"]) ** 2) ** 0.5
                assert id in snapshot.entities or distance > 20.0 - 0.02
                assert id not in snapshot.entities or distance < 23.0 + 0.02


def test_a_budget_sends_the_own_ship_always_and_the_others_in_turn(game, arena, peers):
    ships = Snapshots(**POSITION, hz=20, budget=100)
    own = ships.add(arena, owner=peers[0])
    others = [ships.add(arena, x=n / 10) for n in range(200)]
    follower = Follower(game, peers[0], ships)

    def move(tick):
        for e in (own, *others):
            e.x = (e.x + 0.1) % 60
            e.y = (e.y + 0.07) % 60

    truth = play(game, arena, ships, [follower], move, 10.0)
    assert max(follower.bytes) <= 100
    for snapshot in follower.taken:
        assert snapshot.entities[own.id] == truth[snapshot.tick][own.id]
    # Everybody is born in the end, and then waits about equally long for news.
    fresh = {e.id: 0 for e in others}
    for snapshot in follower.taken[100:]:
        for id in fresh:
            fresh[id] += snapshot.entities.get(id) == truth[snapshot.tick][id]
    assert min(fresh.values()) >= 3 and max(fresh.values()) <= 3 * min(fresh.values()) + 3


def test_weight_says_who_is_urgent(game, arena, peers):
    near = Near(200.0, weight=lambda e: 10.0 if e.id <= 5 else 1.0)
    ships = Snapshots(**POSITION, hz=20, budget=80, near=near)
    for n in range(100):
        ships.add(arena, x=n / 10)
    ships.add(arena, owner=peers[0])
    follower = Follower(game, peers[0], ships)

    def move(tick):
        for e in ships.entities(arena):
            e.x = (e.x + 0.1) % 60

    truth = play(game, arena, ships, [follower], move, 10.0)

    def fresh(id):
        return sum(s.entities.get(id) == truth[s.tick][id] for s in follower.taken[60:])

    assert min(fresh(id) for id in range(1, 6)) > 3 * max(fresh(id) for id in range(40, 60))


def test_a_new_room_begins_with_a_full_snapshot(game, peers):
    ships = Snapshots(**POSITION, hz=20)
    red, blue, peer = game.room("red"), game.room("blue"), peers[0]
    ships.add(red, x=1.0), ships.add(blue, x=2.0)
    follower = Follower(game, peer, ships)

    def step(tick):
        peer.enter(red if tick.number < 30 else blue)
        for room in (red, blue):
            ships.send_now(room, tick)
        follower.poll()

    game.agenda.tick(20, step)
    game.run(3.0)
    assert [s.entities[1]["x"] for s in follower.taken] == [1.0] * 30 + [2.0] * 31
    full, small = follower.bytes[0], HEADER.size + 1
    assert follower.bytes[28:34] == [small, small, full, small, small, small]


def test_acks_of_the_last_room_are_no_base_in_the_new_one(game, peers):
    """They were on their way when the client entered the other room."""
    ships = Snapshots(**POSITION, hz=20)
    red, blue, peer = game.room("red"), game.room("blue"), peers[0]
    ships.add(red, x=1.0), ships.add(blue, x=2.0)
    follower, late = Follower(game, peer, ships, ack_loss=1.0), []

    def step(tick):
        peer.enter(red if tick.number < 30 else blue)
        for room in (red, blue):
            ships.send_now(room, tick)
        follower.poll()
        late.append(follower.replica.feedback())
        if tick.number >= 4:
            feedback_of(peer).take(late[tick.number - 4], game.now)

    game.agenda.tick(20, step)
    game.run(3.0)
    assert [s.entities[1]["x"] for s in follower.taken] == [1.0] * 30 + [2.0] * 31
    assert follower.replica.refused == 0 and follower.bytes[-1] == HEADER.size + 1


def test_a_peer_that_is_back_as_a_new_program_gets_a_full_snapshot_at_once(game, arena, peers):
    ships = Snapshots(**POSITION, hz=20)
    ships.add(arena, x=1.0)
    follower = Follower(game, peers[0], ships)

    def move(tick):
        if tick.number == 61:
            feedback_of(peers[0]).renew()
            follower.replica = Replica(ships, lambda: game.now)

    play(game, arena, ships, [follower], move, 2.0)
    assert follower.replica.refused == 0 and len(follower.taken) == 41
    full, small = follower.bytes[0], HEADER.size + 1
    assert follower.bytes[18:24] == [small, small, small, full, small, small]


def test_snapshot_numbers_wrap(game, arena, peers):
    ships = Snapshots(**POSITION, hz=60)
    ships.add(arena)
    feedback_of(peers[0]).number = 65_500
    follower = Follower(game, peers[0], ships, loss=0.1)

    def move(tick):
        for e in ships.entities(arena):
            e.x += 0.01

    truth = play(game, arena, ships, [follower], move, 3.0)
    numbers = [s.number for s in follower.taken]
    assert 0 not in numbers and numbers[0] > 65_500 and 50 < numbers[-1] < 200
    assert all(s.entities == truth[s.tick] for s in follower.taken)
    assert max(follower.bytes[10:]) < HEADER.size + 8


def test_random_bytes_and_cut_snapshots_are_refused_and_never_raise(game, arena, peers):
    ships = Snapshots(**POSITION, hz=20)
    ships.add(arena, x=1.0)
    follower = Follower(game, peers[0], ships)
    kept = []

    def move(tick):
        kept.extend(peers[1].got)
        peers[1].got.clear()

    play(game, arena, ships, [follower], move, 1.0)
    replica, dice = Replica(ships, lambda: 0.0), random.Random(1)
    for data in kept:
        for end in range(len(data)):
            replica.receive(data[:end])
    for _ in range(3000):
        replica.receive(dice.randbytes(dice.randrange(60)))
        replica.receive(kept[0][:1] + dice.randbytes(dice.randrange(60)))
        broken = bytearray(dice.choice(kept))
        broken[dice.randrange(len(broken))] ^= 1 << dice.randrange(8)
        replica.receive(bytes(broken))
    assert replica.refused > 1000


def test_the_round_trip_is_measured_by_the_reports_on_any_transport(game, arena, peers):
    ships = Snapshots(**POSITION, hz=20)
    ships.add(arena)
    peer, replica, under_way = peers[0], Replica(ships, lambda: game.now), []

    def step(tick):
        ships.send(arena, tick)
        under_way.extend((tick.number + 6, data) for data in peer.got)
        peer.got.clear()
        while under_way and under_way[0][0] <= tick.number:
            replica.receive(under_way.pop(0)[1])
            feedback_of(peer).take(replica.feedback(), game.now)

    game.agenda.tick(60, step)
    game.run(5.0)
    assert feedback_of(peer).rtt == pytest.approx(0.1, abs=0.002)


def test_the_first_snapshot_sets_the_clock_though_the_wire_s_microseconds_have_wrapped(game, arena, peers):
    game.ns = 10_000 * 1_000_000_000  # the wire counts to 4,294 s
    ships = Snapshots(**POSITION, hz=20)
    ships.add(arena)
    replica = Replica(ships, lambda: game.now)

    def step(tick):
        if ships.send(arena, tick) and tick.number == 0:
            first = replica.receive(peers[0].got[-1])
            assert replica.sync.server(game.now) == pytest.approx(first.time, abs=1e-6)

    game.agenda.tick(60, step)
    game.run(0.1)
    assert replica.latest.time == pytest.approx(10_000 % (2**32 / 1e6), abs=0.01)


def test_a_client_follows_its_peer_into_the_game_of_a_reload(game, arena, peers):
    """Another `Snapshots` and another room, the same peer and the same client."""
    old, new, room = Snapshots(**POSITION, hz=20), Snapshots(**POSITION, hz=20), game.room("after")
    old.add(arena, x=1.0), new.add(room, x=2.0)
    follower = Follower(game, peers[0], old)

    def step(tick):
        if tick.number == 30:
            feedback_of(peers[0]).carried()
            room.join(peers[0])
        ships, place = (old, arena) if tick.number < 30 else (new, room)
        ships.send_now(place, tick, peers[:1])
        follower.poll()

    game.agenda.tick(20, step)
    game.run(3.0)
    assert [s.entities[1]["x"] for s in follower.taken] == [1.0] * 30 + [2.0] * 31
    assert follower.replica.refused == 0 and list(feedback_of(peers[0]).views) == [new]


def test_settling_makes_both_sides_equal(game, arena):
    ships = Snapshots(**POSITION)
    ship = ships.add(arena, x=1 / 3)
    ships.settle(ship)
    assert ship.x == ships.fields["x"].x(ships.fields["x"].q(1 / 3))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Snapshots(hz=20), "1 to 32 fields"),
        (lambda: Snapshots(x=3), "cannot be fields"),
        (lambda: Snapshots(id=fixed(0, 1, 0.1)), "cannot be fields"),
        (lambda: Snapshots(x=fixed(0, 1, 0.1), near=Near(1.0)), "no fields"),
        (lambda: Near(0), "above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_an_unknown_field_is_named(game, arena):
    with pytest.raises(ValueError, match="'z'"):
        Snapshots(**POSITION).add(arena, z=1)
