"""Timers of a server on a clock that the test moves."""

import heapq
import random
from types import SimpleNamespace

import pytest

from toolips_udp.servers.timers import Timers


class Loop:
    """What timers use of a loop. Each alarm rings up to `late` seconds after its time."""

    def __init__(self, late=0.0):
        self.now, self._late, self._alarms, self._dice = 1000.3, late, [], random.Random(3)

    def time(self):
        return self.now

    def call_at(self, when, fn, *args):
        alarm = SimpleNamespace(fn=fn, args=args, off=False)
        alarm.cancel = lambda: setattr(alarm, "off", True)
        heapq.heappush(self._alarms, (when, id(alarm), alarm))
        return alarm

    def run(self, seconds):
        until = self.now + seconds
        while self._alarms and self._alarms[0][0] <= until:
            when, _, alarm = heapq.heappop(self._alarms)
            self.now = max(self.now, when + self._dice.uniform(0, self._late))
            if not alarm.off:
                alarm.fn(*alarm.args)
        self.now = max(self.now, until)


@pytest.fixture
def make():
    def begin(late=0.0):
        loop = Loop(late)
        timers = Timers(SimpleNamespace(call_soon=lambda fn, *args: fn(*args)))
        timers.begin(loop)
        return loop, timers

    return begin


@pytest.mark.parametrize("late", [0.0, 0.03])
def test_a_se3_ticks_do_not_drift_however_late_each_one_is(make, late):
    loop, timers = make(late)
    begin, times = loop.now, []
    timer = timers.every(0.05, lambda: times.append(loop.now - begin))
    loop.run(5.01)
    assert 98 <= len(times) <= 102
    assert all(-1e-6 <= at - 0.05 * (number + 1) <= late + 1e-6 for number, at in enumerate(times))
    timer.cancel()
    loop.run(5)
    assert len(times) <= 102


def test_ticks_that_a_slow_call_covered_are_left_out_and_the_rest_keep_their_places(make):
    loop, timers = make()
    begin, times = loop.now, []

    def tick():
        times.append(round(loop.now - begin, 6))
        if len(times) == 3:
            loop.now += 0.22

    timers.every(0.05, tick)
    loop.run(0.6)
    assert times[:3] == [0.05, 0.1, 0.15]
    assert times[4:] == [0.4, 0.45, 0.5, 0.55, 0.6][: len(times) - 4]


def test_after_rings_once_at_its_time_and_not_when_it_was_cancelled(make):
    loop, timers = make()
    rung = []
    timers.after(0.5, lambda: rung.append("kept"))
    timers.after(0.2, lambda: rung.append("cancelled")).cancel()
    loop.run(0.49)
    assert rung == []
    loop.run(9)
    assert rung == ["kept"]


def test_a_period_or_a_delay_that_cannot_be_is_refused(make):
    _, timers = make()
    with pytest.raises(ValueError, match="above 0"):
        timers.every(0, print)
    with pytest.raises(ValueError, match="0 seconds or more"):
        timers.after(-1, print)
    with pytest.raises(TypeError, match="needs a function"):
        timers.after(1, None)
