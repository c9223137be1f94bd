"""How late a loop is: on a clock of the test."""

from toolips_udp.servers.lag import KEPT, PERIOD, Lag


class Loop:
    def __init__(self):
        self.now = 100.0
        self.due = self.call = None

    def time(self):
        return self.now

    def call_at(self, due, fn, *args):
        self.due, self.call = due, (fn, args)
        return self

    def cancel(self):
        self.call = None

    def ring(self, late=0.0):
        self.now = self.due + late
        fn, args = self.call
        fn(*args)


def test_the_worst_of_the_last_minute_is_told_and_then_forgotten():
    loop, lag = Loop(), Lag()
    assert lag.worst == 0.0
    lag.begin(loop)
    assert loop.due == 100.0 + PERIOD
    for late in (0.001, 0.2, 0.002):
        loop.ring(late)
    assert round(lag.worst, 6) == 0.2
    for _ in range(KEPT):
        loop.ring(0.003)
    assert round(lag.worst, 6) == 0.003


def test_it_ends():
    loop, lag = Loop(), Lag()
    lag.end()  # also before it began
    lag.begin(loop)
    lag.end()
    assert loop.call is None
