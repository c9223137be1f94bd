"""What the way from the wire to a handler and back costs: 64 packets of one turn, no system call."""

import asyncio

import pytest

from toolips_udp import Address, Extension, MultiHandler, handler
from toolips_udp.runners.tasks import Stepper

CLIENTS = [Address("192.0.2.7", 4000 + n) for n in range(8)]


class Passes(Extension):
    def route(self, c):
        return None


@handler
def plain(c):
    c.respond(c.packet)


@handler
async def eager(c):
    c.respond(c.packet)


@handler
def reads_address(c):
    c.respond(c.address.host)


KINDS = {
    "plain": (plain,),
    "async": (eager,),
    "extension": (Passes(), plain),
    "multi": (plain, MultiHandler(plain)),
    "address": (reads_address,),
}


@pytest.mark.benchmark(group="dispatch: 64 packets")
@pytest.mark.parametrize("kind", KINDS)
def test_dispatch(benchmark, wired, kind):
    async def on_a_loop():  # where turns run
        stepper = Stepper(asyncio.get_running_loop())
        w = wired(*KINDS[kind], stepper=stepper)

        def fill():
            w.wire.collect()
            for n in range(64):
                w.wire.push(b"x" * 64, CLIENTS[n % 8])

        benchmark.pedantic(w.endpoint.turn, setup=fill, rounds=500, warmup_rounds=20)
        await stepper.close()
        assert w.counters["handled"] == 64 * 520

    asyncio.run(on_a_loop())
