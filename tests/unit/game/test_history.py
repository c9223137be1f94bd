"""Lag compensation: a shot is judged by what the shooter saw."""

import math
import random
from types import SimpleNamespace

import pytest

from toolips_udp.game.history import History


def track(id, n):
    """Where target `id` is in tick n: bodies that circle."""
    angle = n / 60 * (0.5 + id * 0.1) + id
    return 20 * math.cos(angle) + id, 20 * math.sin(angle)


def everybody(n, count=8):
    return [SimpleNamespace(id=id, x=track(id, n)[0], y=track(id, n)[1]) for id in range(1, count + 1)]


@pytest.fixture
def past():
    history = History(hz=60)
    for n in range(200):
        history.record(n, everybody(n))
    return history


def test_a_place_is_found_again_between_two_ticks(past):
    x, y = past.where(150.0, 3)
    assert (x, y) == track(3, 150)
    a, b = track(3, 150), track(3, 151)
    assert past.where(150.25, 3) == pytest.approx((a[0] + (b[0] - a[0]) / 4, a[1] + (b[1] - a[1]) / 4))
    assert past.where(150.0, 99) is None


def test_the_past_reaches_one_second_back_and_no_further(past):
    assert past.view(199, rtt=9.0, delay=9.0) == 199 - 60
    assert past.view(199, rtt=0.2, delay=0.1) == pytest.approx(199 - 12)
    assert past.view(199, rtt=0.2, delay=0.1, lead=2) == pytest.approx(199 - 14)
    assert past.view(199, rtt=-5.0, delay=0.0, lead=-9) == 199
    assert past.where(0.0, 1) == past.where(139.0, 1) or past.where(0.0, 1) == track(1, 138)


def test_ten_thousand_shots_are_judged_exactly_as_the_shooter_saw():
    """Shooters with all latencies aim at what they see, some on purpose beside it."""
    dice, history = random.Random(7), History(hz=60)
    judged = hits = 0
    for n in range(1100):
        history.record(n, everybody(n))
        if n < 70:
            continue
        for _ in range(10):
            rtt, delay = dice.uniform(0.0, 0.6), dice.choice((0.1, 0.15))
            seen = n - (rtt / 2 + delay) * 60
            drawn = {}
            for id in range(1, 9):
                a, b, share = track(id, math.floor(seen)), track(id, math.floor(seen) + 1), seen % 1
                drawn[id] = (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share)
            target = dice.randint(1, 8)
            x, y = dice.uniform(-40, 40), dice.uniform(-40, 40)
            aim_x = drawn[target][0] - x + dice.uniform(-2, 2)
            aim_y = drawn[target][1] - y + dice.uniform(-2, 2)
            expected = first_hit(drawn, x, y, aim_x, aim_y)
            got = history.shot(history.view(n, rtt, delay), x, y, aim_x, aim_y, reach=60, radius=1.0)
            judged += 1
            hits += expected is not None
            assert (got.id if got else None) == expected, (n, rtt, delay)
    assert judged >= 10_000 and 0.2 < hits / judged < 0.9


def first_hit(drawn, x, y, dx, dy):
    """Another way to the same answer: walk along the ray in the shooter's picture."""
    length = math.hypot(dx, dy)
    best = None
    for id, (ex, ey) in drawn.items():
        t = ((ex - x) * dx + (ey - y) * dy) / length
        px, py = x + dx / length * t, y + dy / length * t
        aside = math.hypot(ex - px, ey - py)
        if aside > 1.0:
            continue
        half = math.sqrt(1.0 - aside**2)
        if t + half < 0 or max(t - half, 0.0) > 60:
            continue
        if t < 0 and math.hypot(ex - x, ey - y) > 1.0:
            continue
        best = min(best or (math.inf, 0), (max(t - half, 0.0), id))
    return best[1] if best else None


def test_the_shooter_does_not_hit_itself_and_the_reach_ends(past):
    x, y = track(1, 199)
    hit = past.shot(199.0, x, y, 1.0, 0.0, reach=5, radius=1.0)
    assert hit.id == 1 and hit.distance == 0.0
    assert past.shot(199.0, x, y, -x * 100, 1e9, reach=5, radius=0.5, skip=[1]) is None
    assert past.shot(199.0, x, y, 0.0, 0.0, reach=5, radius=1.0) is None


def test_somebody_who_was_not_there_yet_cannot_be_hit():
    history = History(hz=60)
    history.record(0, [])
    history.record(1, [SimpleNamespace(id=1, x=5.0, y=0.0)])
    assert history.shot(0.5, 0, 0, 1, 0, reach=10, radius=1) is None
    assert history.shot(1.0, 0, 0, 1, 0, reach=10, radius=1).id == 1
    assert History(hz=60).shot(0.0, 0, 0, 1, 0, reach=10, radius=1) is None


def test_ticks_are_recorded_in_rising_order(past):
    with pytest.raises(ValueError, match="comes after"):
        past.record(199, [])
