"""Ticks and timers: on time, without drift, never spiralling."""

import asyncio
import random
import time

import pytest

from toolips_udp.game.tick import Agenda
from toolips_udp.game.tickdriver import Lead, TickDriver

SECOND = 1_000_000_000


class Clock:
    ns = 5 * SECOND

    def __call__(self):
        return self.ns


@pytest.fixture
def clock():
    return Clock()


def run(agenda, clock, seconds, step=None):
    """Let time pass: to each deadline exactly, or in steps of this many nanoseconds."""
    end = clock.ns + round(seconds * SECOND)
    while True:
        due = agenda.deadline() if step is None else clock.ns + step
        if due is None or due > end:
            clock.ns = end
            return agenda.advance(end)
        clock.ns = max(due, clock.ns)
        agenda.advance(clock.ns)


@pytest.mark.parametrize("hz", [1, 20, 30, 60, 128, 7.5])
def test_tick_n_is_due_at_start_plus_n_over_hz(clock, hz):
    agenda, ticks = Agenda(clock), []
    agenda.tick(hz, ticks.append)
    run(agenda, clock, 100.0)
    assert len(ticks) == int(100 * hz) + 1
    for tick in ticks:
        assert tick.now == pytest.approx(5.0 + tick.number / hz, abs=1e-8)
        assert tick.late == pytest.approx(0.0, abs=1e-9) and tick.dt == 1 / hz and tick.skipped == 0
    assert [tick.number for tick in ticks] == list(range(len(ticks)))


def test_lateness_does_not_add_up(clock):
    agenda, ticks = Agenda(clock), []
    agenda.tick(60, ticks.append)
    run(agenda, clock, 60.0, step=7_000_001)
    assert len(ticks) in (3600, 3601)
    assert max(tick.late for tick in ticks) <= 0.0071
    assert ticks[-1].now == pytest.approx(5.0 + ticks[-1].number / 60)


def test_a_few_ticks_behind_are_made_up_for(clock):
    agenda, ticks = Agenda(clock), []
    schedule = agenda.tick(10, ticks.append)
    agenda.advance(clock.ns)
    clock.ns += SECOND // 2
    agenda.advance(clock.ns)
    assert [tick.number for tick in ticks] == [0, 1, 2, 3, 4, 5]
    assert [tick.late for tick in ticks] == pytest.approx([0, 0.4, 0.3, 0.2, 0.1, 0])
    assert schedule.skipped == 0


def test_more_than_five_behind_are_skipped_and_counted(clock):
    agenda, ticks = Agenda(clock), []
    schedule = agenda.tick(10, ticks.append)
    agenda.advance(clock.ns)
    clock.ns += 2 * SECOND
    agenda.advance(clock.ns)
    assert [(tick.number, tick.skipped) for tick in ticks] == [(0, 0), (20, 19)]
    assert schedule.skipped == 19 and schedule.ticks == 2
    run(agenda, clock, 0.3)
    assert [tick.number for tick in ticks[2:]] == [21, 22, 23]


def test_a_tick_that_always_takes_too_long_never_spirals(clock):
    agenda, ticks = Agenda(clock), []

    def slow(tick):
        ticks.append(tick)
        clock.ns += SECOND // 5

    agenda.tick(60, slow)
    for _ in range(50):
        agenda.advance(clock.ns)
    assert len(ticks) <= 50 * 6
    assert max(tick.late for tick in ticks[10:]) < 0.2 * 6 + 0.2


def test_schedules_of_one_rate_are_spread_over_the_period(clock):
    agenda = Agenda(clock)
    starts = [agenda.tick(50, lambda tick: None).start for _ in range(8)]
    phases = sorted((start - clock.ns) / (SECOND / 50) for start in starts)
    assert phases == pytest.approx([n / 8 for n in range(8)])
    assert agenda.tick(60, lambda tick: None).start == clock.ns


def test_every_has_no_drift_and_can_be_cancelled(clock):
    agenda, calls = Agenda(clock), []
    timer = agenda.every(0.05, lambda: calls.append(clock.ns))
    run(agenda, clock, 5.0)
    assert len(calls) == 100 and calls[-1] == 10 * SECOND
    timer.cancel()
    timer.cancel()
    run(agenda, clock, 1.0)
    assert len(calls) == 100 and agenda.deadline() is None


def test_every_that_was_slept_through_runs_once_and_counts_the_rest(clock):
    agenda, calls = Agenda(clock), []
    timer = agenda.every(1.0, lambda: calls.append(clock.ns))
    clock.ns += 100 * SECOND
    agenda.advance(clock.ns)
    assert len(calls) == 1 and timer.skipped == 99
    run(agenda, clock, 2.0)
    assert len(calls) == 3


def test_after_runs_once_at_its_time(clock):
    agenda, calls = Agenda(clock), []
    agenda.after(0.25, lambda: calls.append(clock.ns))
    assert agenda.deadline() == clock.ns + SECOND // 4
    run(agenda, clock, 3.0)
    assert calls == [5 * SECOND + SECOND // 4] and agenda.deadline() is None


def test_a_timer_may_cancel_itself_and_start_others_while_it_runs(clock):
    agenda, calls = Agenda(clock), []

    def once():
        calls.append("every")
        timer.cancel()
        agenda.after(0.0, lambda: calls.append("after"))

    timer = agenda.every(1.0, once)
    run(agenda, clock, 5.0)
    assert calls == ["every", "after"]


def test_an_exception_goes_to_the_caller_that_was_handed_in(clock):
    failed, ticks = [], []

    def call(function, *args):
        try:
            function(*args)
        except ZeroDivisionError as error:
            failed.append(error)

    agenda = Agenda(clock, call)
    agenda.tick(10, lambda tick: ticks.append(tick) or 1 / (tick.number % 2))
    run(agenda, clock, 1.0)
    assert len(ticks) == 11 and len(failed) == 6


@pytest.mark.parametrize("wrong", [0, -1, 10_001, float("nan")])
def test_a_rate_that_makes_no_sense_is_refused(clock, wrong):
    with pytest.raises(ValueError, match="rate"):
        Agenda(clock).tick(wrong, lambda tick: None)


def test_the_driver_ticks_in_real_time_and_ends():
    """20 Hz for half a second: 10 ticks, each near its time, and no descriptor left."""

    async def main():
        import os

        before = len(os.listdir("/proc/self/fd"))
        agenda, ticks, done = Agenda(time.monotonic_ns), [], []
        driver = TickDriver(agenda, asyncio.get_running_loop(), lambda: done.append(len(ticks)))
        finished = asyncio.Event()
        agenda.tick(20, ticks.append)
        agenda.after(0.47, finished.set)
        await asyncio.wait_for(finished.wait(), 5.0)
        driver.close()
        assert len(ticks) == 10 and done[:10] == list(range(1, 11))
        assert sorted(tick.late for tick in ticks)[5] < 0.005
        agenda.tick(1000, ticks.append)
        await asyncio.sleep(0)
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(main())


def test_a_nearer_deadline_moves_the_driver_s_timer():
    async def main():
        agenda, calls = Agenda(time.monotonic_ns), []
        driver = TickDriver(agenda, asyncio.get_running_loop())
        agenda.after(60.0, lambda: calls.append("far"))
        finished = asyncio.Event()
        agenda.after(0.001, finished.set)
        await asyncio.wait_for(finished.wait(), 5.0)
        driver.close()
        assert calls == []

    asyncio.run(main())


def wake_up(hz, count, takes):
    """`count` deadlines on a machine whose wake-ups take `takes()` ns: how late each was met, and the time awake."""
    lead, late, awake = Lead(0), [], 0
    now = 0
    for n in range(1, count + 1):
        due = n * SECOND // hz
        now = max(now, lead.before(due, now)) + takes()
        lead.woke(now)
        if lead.waits(due, now):
            lead.waited(due - now)
            awake += due - now
            now = due
        late.append(now - due)
    return late, awake / now


def test_a_tick_begins_at_its_time_although_waking_up_takes_time():
    dice = random.Random(3)
    late, awake = wake_up(60, 600, lambda: round(dice.uniform(60_000, 90_000)))
    assert max(late[:60]) < 90_000, "never later than without a lead"
    assert sorted(late[60:])[270] == 0 and sum(late[60:]) / 540 < 5_000
    assert awake < 0.002


@pytest.mark.parametrize("hz", [60, 1_000, 10_000])
def test_waiting_awake_takes_a_hundredth_of_the_time_at_most(hz):
    dice = random.Random(4)
    _, awake = wake_up(hz, 20 * hz, lambda: round(dice.choice((0, 5_000, 140_000, 3_000_000 // hz))))
    assert awake <= 0.01


def test_a_wake_up_far_too_early_is_not_waited_out():
    lead = Lead(0)
    lead.before(SECOND, 0)
    assert not lead.waits(SECOND, SECOND // 2) and not lead.waits(SECOND, SECOND)


def test_what_was_planned_before_a_server_starts_begins_with_it(clock):
    """Modules are imported long before they are served, in worlds even on another clock."""
    agenda, ticks, calls = Agenda(clock), [], []
    schedule = agenda.tick(10, ticks.append)
    second = agenda.tick(10, lambda tick: None)
    agenda.every(1.0, lambda: calls.append("every"))
    agenda.after(0.5, lambda: calls.append("after"))
    clock.ns = 3 * SECOND  # before the time of the import, as virtual clocks are
    agenda.begin()
    assert schedule.start == 3 * SECOND and second.start == 3 * SECOND + SECOND // 20
    run(agenda, clock, 1.0)
    assert [tick.number for tick in ticks] == list(range(11)) and calls == ["after", "every"]
    clock.ns += 1000 * SECOND
    agenda.begin()
    run(agenda, clock, 0.1)
    assert [tick.number for tick in ticks[11:]] == [0, 1] and ticks[-1].skipped == 0
