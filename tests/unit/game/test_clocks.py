"""One clock for two machines, within one tick in two seconds at 200 ms +- 30 ms."""

import random

import pytest

from toolips_udp.game.clocks import ClockSync, InputClock


def talk(sync, seconds, offset=1234.5, drift=0.0, base=0.2, jitter=0.03, seed=1, start=0.0, skew=0.0):
    """Samples as they would come; yields (our time, the server's clock)."""
    dice, now = random.Random(seed), start
    while now < start + seconds:
        if sync.wants(now):
            there = base / 2 + dice.uniform(-jitter, jitter) / 2 + skew
            back = base / 2 + dice.uniform(-jitter, jitter) / 2
            t1 = (now + there) * (1 + drift) + offset
            sync.sample(now, t1, t1 + 0.002, now + there + 0.002 + back)
        now += 1 / 60
        yield now, now * (1 + drift) + offset


@pytest.mark.parametrize("seed", range(20))
def test_within_one_tick_in_two_seconds_at_200_ms_and_30_of_jitter(seed):
    sync = ClockSync()
    worst = max(abs(sync.server(now) - truth) for now, truth in talk(sync, 30.0, seed=seed) if now > 2.0)
    assert worst <= 1 / 60
    assert 0.16 < sync.rtt < 0.21


def test_ten_samples_in_the_first_second_and_then_one_a_second():
    sync = ClockSync()
    for _ in talk(sync, 1.0):
        pass
    assert 9 <= sync.samples <= 10
    for _ in talk(sync, 10.0, start=1.0):
        pass
    assert 18 <= sync.samples <= 21


def test_a_clock_that_drifts_is_followed_without_jumps():
    sync = ClockSync()
    errors = [abs(sync.server(now) - truth) for now, truth in talk(sync, 300.0, drift=200e-6) if now > 5.0]
    assert max(errors) < 0.02 and sync.jumps <= 2


def test_our_view_of_the_server_s_clock_moves_by_one_percent_at_most():
    sync = ClockSync()
    previous = None
    for now, _ in talk(sync, 20.0, jitter=0.06):
        server = sync.server(now)
        if previous is not None and now > 1.5:
            assert 0.0099 / 60 * 100 * 0.98 < server - previous < 1 / 60 * 1.0101 + 1e-9
        previous = server


def test_a_large_error_is_mended_at_once():
    sync = ClockSync()
    for _ in talk(sync, 5.0):
        pass
    for now, truth in talk(sync, 20.0, start=5.0, offset=2000.0):
        error = abs(sync.server(now) - truth)
    assert error < 0.02 and sync.jumps >= 2


def test_before_the_first_sample_the_server_s_clock_is_what_it_said_last():
    sync = ClockSync()
    sync.guess(705.0, 5000.0)
    assert sync.server(5000.5) == pytest.approx(705.5)
    sync.sample(5000.6, 705.7, 705.7, 5000.8)
    assert sync.server(5000.8) == pytest.approx(705.8)
    sync.guess(1.0, 5001.0)
    assert sync.server(5001.0) == pytest.approx(706.0)


def test_samples_that_cannot_be_are_left_out():
    sync = ClockSync()
    sync.sample(1.0, 5.0, 5.5, 1.1)
    sync.sample(1.0, 5.5, 5.0, 1.1)
    sync.sample(1.0, 5.0, 5.0, 100.0)
    assert sync.samples == 0


@pytest.mark.parametrize("base", [0.02, 0.2])
def test_inputs_arrive_one_to_two_ticks_early_or_little_more(base):
    """A server at 60 Hz, snapshots at 20: how early do inputs come in the end?"""
    hz, offset, jitter = 60, 77.0, base / 10
    dice, sync = random.Random(3), ClockSync()
    clock = InputClock(sync, hz)
    leads, last_lead, queue = [], 0, []
    for step in range(60 * 20):
        now = step / hz
        if sync.wants(now):
            there, back = base / 2 + dice.uniform(0, jitter), base / 2 + dice.uniform(0, jitter)
            sync.sample(now, now + there + offset, now + there + offset, now + there + back)
        server_now = now - base / 2  # when the snapshot we get now was sent
        if step % 3 == 0 and server_now > 0:
            clock.snapshot(int(server_now * hz), int(server_now * hz) / hz + offset, last_lead)
        tick = clock.tick(now)
        arrival = now + base / 2 + dice.uniform(0, jitter)
        queue.append((arrival, tick))
        while queue and queue[0][0] <= now:
            arrived, number = queue.pop(0)
            last_lead = number - int(arrived * hz)
            leads.append(last_lead)
    late = leads[-600:]
    assert sum(lead >= 1 for lead in late) > 590
    assert sum(late) / len(late) < 3.5
