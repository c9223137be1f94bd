"""Prediction: one's own ship at once, put right without a jolt."""

import random
from typing import NamedTuple

import pytest

from toolips_udp.game.inputs import InputMap, hold
from toolips_udp.game.prediction import Prediction
from toolips_udp.testing.network import BadNetwork

KEYS = InputMap(buttons=("left", "right"))


class Ship(NamedTuple):
    x: int
    speed: int


def step(ship, i):
    """The rule of the game, in whole numbers: both sides get the same."""
    speed = max(-40, min(40, ship.speed + (i.right - i.left) * 7))
    return Ship(ship.x + speed, speed - (speed > 0) + (speed < 0))


def match(game, peer, loss, *, push_at=None, seed=1):
    """A server at 60 Hz and a client behind a bad link; the client's Prediction and all corrections."""
    network = BadNetwork(seed, loss=loss, latency=0.1, jitter=0.015)
    link, dice = network.link("a"), random.Random(seed)
    me = Prediction(step, lambda s: (s.x / 128,), Ship(0, 0))
    server = {"ship": Ship(0, 0)}
    corrected, wire_up, wire_down = [], [], []
    lead, recent, held = 16, [], {}

    def client(tick, now):
        while wire_down and wire_down[0][0] <= now:
            _, number, ship = wire_down.pop(0)
            if me.reconcile(number, ship, now / 1e9):
                corrected.append(number)
        mine = tick.number + lead
        if mine % 10 == 0:
            held.update(left=dice.random() < 0.4, right=dice.random() < 0.4)
        data = KEYS.pack(**held)
        recent.insert(0, data)
        me.apply(mine, KEYS.unpack(data))
        for at, packet in link.up.push(now, KEYS.packet(mine & 0xFFFF, recent[:10])):
            wire_up.append((at, packet))
        wire_up.sort()

    def tick(tick):
        now = game.ns
        client(tick, now)
        while wire_up and wire_up[0][0] <= now:
            hold(peer, wire_up.pop(0)[1], now / 1e9)
        server["ship"] = step(server["ship"], KEYS.at(peer, tick))
        if tick.number == push_at:
            server["ship"] = server["ship"]._replace(x=server["ship"].x + 100)
        if tick.number % 3 == 0:
            for at, _ in link.down.push(now, b"x"):
                wire_down.append((at, tick.number, server["ship"]))
            wire_down.sort()

    game.agenda.tick(60, tick)
    return me, server, corrected


@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_deterministic_movement_needs_no_correction_at_five_percent_loss(game, peers, loss):
    me, server, corrected = match(game, peers[0], loss)
    game.run(60.0)
    assert corrected == [] and me.corrections == 0
    assert server["ship"].x != 0


def test_a_push_by_the_server_is_one_correction_and_both_agree_afterwards(game, peers):
    me, _, corrected = match(game, peers[0], 0.05, push_at=600)
    game.run(9.5)
    before = me.state
    game.run(1.5)
    assert len(corrected) == 1 and 600 <= corrected[0] <= 606
    assert before != me.state and me.corrections == 1


def test_a_correction_is_hidden_over_a_tenth_of_a_second():
    me = Prediction(lambda s, i: s + i, lambda s: (s,), 0.0)
    for tick in range(1, 11):
        me.apply(tick, 0.1)
    assert me.visible(5.0) == (pytest.approx(1.0),)
    assert me.reconcile(5, 1.0, now=5.0)
    assert me.state == pytest.approx(1.5)
    assert me.visible(5.0) == (pytest.approx(1.0),)
    assert me.visible(5.05) == (pytest.approx(1.25),)
    assert me.visible(5.1) == (pytest.approx(1.5),) == me.visible(9.0)


def test_a_second_correction_goes_on_from_what_is_drawn():
    me = Prediction(lambda s, i: s + i, lambda s: (s,), 0.0)
    for tick in range(1, 4):
        me.apply(tick, 0.0)
    me.reconcile(1, 1.0, now=5.0)
    shown = me.visible(5.05)
    me.reconcile(2, 0.5, now=5.05)
    assert me.visible(5.05) == pytest.approx(shown)


def test_a_correction_of_more_than_two_units_snaps():
    me = Prediction(lambda s, i: s + i, lambda s: (s,), 0.0)
    me.apply(1, 0.0)
    assert me.reconcile(1, 50.0, now=5.0)
    assert me.visible(5.0) == (50.0,)


def test_within_epsilon_nothing_is_corrected():
    me = Prediction(lambda s, i: s + i, lambda s: (s,), 0.0, epsilon=0.1)
    me.apply(1, 1.0)
    assert not me.reconcile(1, 1.05) and me.state == 1.0
    me.apply(2, 1.0)
    assert me.reconcile(2, 2.2) and me.state == 2.2


def test_the_first_word_of_the_server_is_taken_without_counting_a_correction():
    me = Prediction(lambda s, i: s + i, lambda s: (s,), 0.0)
    me.apply(10, 1.0), me.apply(11, 1.0)
    assert not me.reconcile(5, 100.0) and me.state == 102.0 and me.corrections == 0
    assert not me.reconcile(20, 7.0) and me.state == 7.0
