"""Worlds: virtual time, nodes and their troubles, repeatable to the byte."""

import random
import time

import pytest

from toolips_udp.testing import Broken, FakeClock, SansIo, World

SECOND = 1_000_000_000


class Echo:
    """Answers each datagram; notes when it came."""

    def __init__(self, prefix=b""):
        self.prefix, self.out, self.seen = prefix, [], []

    def receive(self, now, data, source):
        self.seen.append((now, data, source))
        self.out.append((self.prefix + data, source))

    def turn(self, now):
        out, self.out = self.out, []
        return out

    def deadline(self):
        return None


class Beacon:
    """Sends its number each `period`, as a protocol with timers does."""

    def __init__(self, to, period=0.1, seed=0):
        self.to, self.period, self.next, self.sent, self.replies = to, int(period * SECOND), None, 0, []
        self.dice = random.Random(seed)

    def receive(self, now, source, data):
        self.replies.append((now, data))

    def advance(self, now):
        self.due = []
        if self.next is None:
            self.next = now
        while self.next <= now:
            self.sent += 1
            self.due.append((self.sent.to_bytes(4, "big") + self.dice.randbytes(self.sent % 50), self.to))
            self.next += self.period

    def outgoing(self):
        due, self.due = self.due, []
        return due

    def deadline(self):
        return self.next


def test_a_reply_takes_one_round_trip():
    with World(seed=1, latency=0.05) as world:
        world.serve(Echo())
        ann = world.client()
        ann.send(b"hello")
        world.run(0.099)
        assert ann.received() == []
        world.run(0.001)
        assert ann.received() == [b"hello"]
        assert world.now == pytest.approx(0.1)


def test_a_protocol_is_woken_at_its_deadline_and_not_otherwise():
    world = World(seed=1)
    server = world.serve(Echo())
    beacon = Beacon(world.hosts["server1"].address, period=0.1)
    host = world.add(SansIo(beacon), "beacon")
    world.run(10.0)
    assert beacon.sent == 101 == len(server.seen)
    assert [now for now, _, _ in server.seen[:3]] == [
        1000 * SECOND,
        1000 * SECOND + 10**8,
        1000 * SECOND + 2 * 10**8,
    ]
    assert host.turns <= 101 * 2 + 1


def run_one(seed, **knobs):
    world = World(seed=seed, keep=1000, **knobs)
    world.serve(Echo())
    for n in range(3):
        world.add(SansIo(Beacon(world.hosts["server1"].address, 0.05, n)), f"beacon{n}")
    world.run(30.0)
    return world


def test_a_seed_run_twice_has_one_trace_and_another_seed_another():
    weather = {
        "loss": 0.1,
        "latency": 0.05,
        "jitter": 0.05,
        "duplicate": 0.1,
        "reorder": 0.1,
        "corrupt": 0.05,
    }
    one, two, other = run_one(7, **weather), run_one(7, **weather), run_one(8, **weather)
    assert one.trace.hash() == two.trace.hash() != other.trace.hash()
    assert one.events == two.events
    assert one.trace.length == sum(one.trace.counts.values()) > 3000


def test_the_weather_of_one_link_changes_alone():
    world = World(seed=1, latency=0.01)
    world.serve(Echo())
    ann, bob = world.client(), world.client()
    world.link(ann).up.set(loss=1.0)
    ann.send(b"a"), bob.send(b"b")
    world.run(1.0)
    assert ann.received() == [] and bob.received() == [b"b"]


def test_run_until_stops_at_the_event_that_makes_it_true():
    world = World(seed=1, latency=0.05)
    world.serve(Echo())
    ann = world.client()
    ann.send(b"x")
    world.run_until(ann.received, limit=5.0)
    assert world.now == pytest.approx(0.1)
    with pytest.raises(TimeoutError, match="seed 1"):
        world.run_until(lambda: len(ann.received()) == 2, limit=5.0)
    assert world.now == pytest.approx(5.1)


def test_a_crashed_server_is_silent_and_a_restarted_one_has_forgotten():
    world = World(seed=1)
    first = world.serve(Echo())
    ann = world.client()
    world.crash(first)
    ann.send(b"lost")
    world.run(1.0)
    assert ann.received() == [] == first.seen and world.unreachable == 1
    second = world.restart("server1", Echo(b"again "))
    ann.send(b"x")
    world.run(1.0)
    assert ann.received() == [b"again x"] and len(second.seen) == 1 and first.seen == []


def test_a_paused_node_answers_when_it_goes_on():
    world = World(seed=1)
    server = world.serve(Echo())
    ann = world.client()
    world.pause(server, 2.0)
    for n in range(3):
        ann.send(str(n))
        world.run(0.5)
    assert ann.received() == []
    world.run(1.0)
    assert ann.received() == [b"0", b"1", b"2"]
    assert {now for now, _, _ in server.seen} == {1002 * SECOND}


def test_a_paused_protocol_is_woken_for_the_deadline_it_slept_through():
    world = World(seed=1)
    server = world.serve(Echo())
    beacon = Beacon(world.hosts["server1"].address, 1.0)
    host = world.add(SansIo(beacon), "beacon")
    world.run(0.5)
    world.pause(host, 3.2)
    world.run(3.0)
    assert len(server.seen) == 1
    world.run(1.0)
    assert len(server.seen) == 5


def test_a_rebound_client_comes_from_a_new_port_and_the_old_one_leads_nowhere():
    world = World(seed=1, latency=0.05)
    server = world.serve(Echo())
    ann = world.client()
    ann.send(b"one")
    world.run(0.07)
    world.link(ann).rebind()
    world.run(0.1)
    assert ann.received() == [] and world.unreachable == 1
    ann.send(b"two")
    world.run(0.2)
    assert ann.received() == [b"two"]
    assert len({source for _, _, source in server.seen}) == 2


def test_a_skewed_clock_jumps_and_drifts():
    world = World(seed=1)
    server = world.serve(Echo())
    ann = world.client()
    world.run(10.0)
    world.skew(server, offset=3.0, drift=0.01)
    ann.send(b"a")
    world.run(100.0)
    ann.send(b"b")
    world.run(0.0)
    (first, _, _), (second, _, _) = server.seen
    assert first == 1013 * SECOND and second - first == 101 * SECOND


def test_a_drifting_protocol_keeps_its_own_time():
    world = World(seed=1)
    server = world.serve(Echo())
    host = world.add(SansIo(Beacon(world.hosts["server1"].address, 1.0)), "beacon")
    world.skew(host, drift=0.1)
    world.run(100.0)
    assert len(server.seen) == 111


def test_a_call_can_be_planned():
    world = World(seed=1)
    order = []
    world.at(2.0, lambda: order.append(("two", world.now)))
    world.at(1.0, lambda: order.append(("one", world.now)))
    world.at(2.0, lambda: order.append(("two again", world.now)))
    world.run(3.0)
    assert order == [("one", 1.0), ("two", 2.0), ("two again", 2.0)]


def test_a_check_runs_after_each_event_and_can_stop_the_world():
    def check(world):
        assert world.trace.length < 5, f"too many at {world.now}"

    world = World(seed=1)
    world.serve(Echo())
    world.add(SansIo(Beacon(world.hosts["server1"].address, 1.0)), "beacon")
    world.check(check)
    with pytest.raises(AssertionError, match=r"too many at 2\.0"):
        world.run(10.0)


def test_a_timer_that_stays_in_the_past_is_found():
    class Stuck(Echo):
        def deadline(self):
            return 5

    world = World(seed=3)
    world.add(Stuck(), "stuck")
    with pytest.raises(Broken, match=r"in the past.*seed 3"):
        world.run(1.0)


def test_what_is_sent_nowhere_is_counted():
    world = World(seed=1)
    world.add(SansIo(Beacon(("nowhere", 1), 1.0)), "beacon")
    world.run(2.5)
    assert world.unreachable == 3 == world.trace.counts["delivered"]


def test_names_are_unique_and_strangers_are_refused():
    world = World(seed=1)
    with pytest.raises(RuntimeError, match=r"call world\.serve"):
        world.client()
    world.serve(Echo(), name="a")
    with pytest.raises(ValueError, match="already has"):
        world.serve(Echo(), name="a")
    with pytest.raises(LookupError, match="not in this world"):
        world.host(object())


def test_simulated_time_passes_much_faster_than_real_time():
    world = World(seed=1, latency=0.05, loss=0.1, jitter=0.02, keep=1000)
    world.serve(Echo())
    for n in range(2):
        world.add(SansIo(Beacon(world.hosts["server1"].address, 0.5, n)), f"beacon{n}")
    began = time.process_time()
    world.run(3600.0)
    assert 3600.0 / (time.process_time() - began) > 1000


def test_a_fake_clock_moves_when_told_and_never_back():
    clock = FakeClock(5.0)
    clock.advance(0.25)
    assert clock() == clock.now == 5.25 and clock.ns == 5_250_000_000
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)
    with pytest.raises(ValueError, match="back"):
        clock.advance_to(0)
