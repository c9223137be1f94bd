"""Modules served in a world: the real server, its loop and its timers under virtual time."""

import asyncio
import types

import pytest

from toolips_udp import Extension, StartError, handler
from toolips_udp.testing import Pair, World


def module(**attributes):
    found = types.ModuleType("served")
    found.__dict__.update(attributes)
    return found


@handler
def echo(c):
    c.respond(b"echo " + c.packet)


@pytest.mark.parametrize("real", [False, True])
def test_the_same_test_runs_in_memory_and_on_real_sockets(real):
    with Pair(module(echo=echo), real=real) as pair:
        assert pair.ask(b"hello") == b"echo hello"
        assert pair.ask("text") == b"echo text"
        assert pair.silent()
        assert pair.server.counters["handled"] == 2


def test_a_module_answers_through_a_bad_network():
    with World(seed=3, loss=0.2, latency=0.05) as world:
        server = world.serve(module(echo=echo))
        ann = world.client()
        for n in range(100):
            ann.send(str(n))
            world.run(0.01)
        world.run(1.0)
        got = {int(data.split()[1]) for data in ann.received()}
        lost = sum(world.trace.counts[fate] for fate in ("lost",))
        assert len(got) == len(ann.received()) == 100 - lost and 15 < lost < 60
        assert server.counters["received"] == server.counters["handled"] < 100


def test_async_handlers_and_timers_run_in_simulated_time():
    ticks = []

    @handler(timeout=7200.0)
    async def slow(c):
        await asyncio.sleep(3600.0)
        c.respond(b"an hour later")

    class Ticking(Extension):
        def on_start(self, server):
            server.every(60.0, lambda: ticks.append(1))

    with World(seed=1) as world:
        server = world.serve(module(slow=slow, ticking=Ticking()))
        ann = world.client()
        ann.send(b"x")
        world.run(3599.0)
        assert ann.received() == [] and server.in_flight == 1
        world.run(2.0)
        assert ann.received() == [b"an hour later"]
        assert len(ticks) == 60


def test_a_handler_that_raises_is_counted_and_the_ledgers_close():
    @handler
    def broken(c):
        raise ZeroDivisionError

    with World(seed=1) as world:
        server = world.serve(module(broken=broken))
        ann = world.client()
        for _ in range(3):
            ann.send(b"x")
        world.run(0.1)
        assert server.counters["handler_failed"] == 3


def test_a_crashed_server_comes_back_without_its_memory():
    @handler
    def count(c):
        c.data["n"] = c.data.get("n", 0) + 1
        c.respond(str(c.data["n"]))

    with World(seed=1) as world:
        server = world.serve(module(count=count))
        ann = world.client()
        ann.send(b"a"), ann.send(b"b")
        world.run(0.1)
        world.crash(server)
        ann.send(b"c")
        world.run(0.1)
        again = world.restart(server)
        ann.send(b"d")
        world.run(0.1)
        assert ann.received() == [b"1", b"2", b"1"] and again is not server


def test_sessions_expire_in_simulated_time():
    @handler
    def visits(c):
        c.session["n"] = c.session.get("n", 0) + 1
        c.respond(str(c.session["n"]))

    with Pair(module(visits=visits), session_timeout=60.0) as pair:
        assert [pair.ask(b"x"), pair.ask(b"x")] == [b"1", b"2"]
        pair.advance(59.0)
        assert pair.ask(b"x") == b"3"
        pair.advance(62.0)
        assert pair.ask(b"x") == b"1"


def test_one_seed_gives_one_trace_through_a_served_module():
    def run(seed):
        with World(seed=seed, loss=0.1, jitter=0.02, latency=0.02, duplicate=0.1) as world:
            world.serve(module(echo=echo))
            clients = [world.client() for _ in range(3)]
            for n in range(200):
                clients[n % 3].send(str(n))
                world.run(0.01)
            return world.trace.hash()

    assert run(5) == run(5) != run(6)


def test_a_module_that_cannot_be_served_says_why_at_once():
    with pytest.raises(StartError, match="handler"):
        World(seed=1).serve(module())


def test_an_extension_that_waits_for_the_real_world_is_named():
    class Waits(Extension):
        async def on_start(self, server):
            await asyncio.get_running_loop().create_future()

    with pytest.raises(StartError, match="does not come in a world"):
        World(seed=1).serve(module(echo=echo, waits=Waits()))


def test_a_world_works_inside_a_running_loop():
    async def main():
        with Pair(module(echo=echo)) as pair:
            assert pair.ask(b"x") == b"echo x"
        assert asyncio.get_running_loop().is_running()

    asyncio.run(main())
