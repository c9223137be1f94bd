"""Others are drawn between two snapshots, a little in the past."""

import math

import pytest

from toolips_udp.game.fields import angle, fixed, flag
from toolips_udp.game.interpolation import Interpolation
from toolips_udp.game.replica import Snapshot

FIELDS = {"x": fixed(-100, 100, 0.01), "turn": angle(10), "dead": flag()}


def snapshot(n, entities, teleported=(), born=()):
    made = Snapshot(n, n * 3, 50.0 + n * 0.05, 0, 0, {})
    made.entities = {id: {"x": x, "turn": turn, "dead": 0} for id, (x, turn) in entities.items()}
    made.teleported, made.born = set(teleported), set(born)
    return made


@pytest.fixture
def between():
    return Interpolation(FIELDS, 20)


def test_the_delay_is_two_periods_or_one_and_the_jitter(between):
    assert between.delay == pytest.approx(0.1)
    between.jitter = 0.08
    assert between.delay == pytest.approx(0.13)


def test_a_steady_movement_is_drawn_steadily(between):
    for n in range(20):
        between.push(snapshot(n, {1: (n * 0.5, (n * 0.3) % math.tau)}))
    for step in range(100):
        when = 50.2 + step * 0.005
        drawn = between.at(when)[1]
        assert drawn["x"] == pytest.approx((when - 0.1 - 50.0) * 10)
        assert math.cos(drawn["turn"] - (when - 0.1 - 50.0) * 6) == pytest.approx(1.0)


def test_a_missing_snapshot_is_bridged(between):
    for n in (0, 1, 4, 5):
        between.push(snapshot(n, {1: (n * 0.5, 0.0)}))
    assert between.at(50.0 + 0.125 + 0.1)[1]["x"] == pytest.approx(1.25)


def test_when_the_next_one_does_not_come_the_movement_goes_on_for_a_quarter_second_and_holds(between):
    for n in range(3):
        between.push(snapshot(n, {1: (n * 0.5, 0.0)}))
    last = 50.1
    assert between.at(last + 0.1 + 0.05)[1]["x"] == pytest.approx(1.5)
    assert between.at(last + 0.1 + 0.25)[1]["x"] == pytest.approx(3.5)
    assert between.at(last + 0.1 + 5.0)[1]["x"] == pytest.approx(3.5)


def test_a_teleport_is_not_blended(between):
    between.push(snapshot(0, {1: (0.0, 0.0)}))
    between.push(snapshot(1, {1: (90.0, 0.0)}, teleported=[1]))
    assert between.at(50.049 + 0.1)[1]["x"] == 0.0
    assert between.at(50.051 + 0.1)[1]["x"] == 90.0


def test_the_dead_go_and_the_born_come_at_their_snapshot(between):
    between.push(snapshot(0, {1: (0.0, 0.0)}))
    between.push(snapshot(1, {2: (5.0, 0.0)}, born=[2]))
    assert set(between.at(50.14)) == {1}
    assert set(between.at(50.16)) == {2}


def test_nothing_is_drawn_before_anything_came_and_old_snapshots_are_left_out(between):
    assert between.at(1.0) == {}
    between.push(snapshot(5, {1: (5.0, 0.0)}))
    between.push(snapshot(4, {1: (4.0, 0.0)}))
    assert between.at(99.0)[1]["x"] == 5.0 and between.at(0.0)[1]["x"] == 5.0
