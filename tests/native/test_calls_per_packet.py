"""How many Python functions run per packet. These figures may only go down.

What a module does not use must cost no call: no extension, no MultiHandler and no await
means that the handler is the only Python function that runs.
"""

import asyncio
import sys

import pytest

from toolips_udp import Address, Extension, MultiHandler, handler
from toolips_udp.runners.tasks import Stepper

PACKETS = 64


class Passes(Extension):
    def route(self, c):
        return None


@handler
def plain(c):
    c.respond(b"x")


@handler
async def eager(c):
    c.respond(b"x")


@handler
def moves(c):
    c.set_handler("other")


@handler("other")
def other(c):
    c.respond(b"x")


CASES = {
    "a plain handler": ((plain,), 1),
    "an async handler that does not wait": ((eager,), 1),
    "a plain handler and MultiHandler": ((plain, MultiHandler(plain)), 1),
    "a named handler": ((moves, other, MultiHandler(moves)), 1),
    "an extension whose route passes": ((Passes(), plain), 2),
    "two extensions": ((Passes(), Passes(), plain), 3),
}


def calls_of(turn):
    """Python functions that `turn` enters."""
    seen = []
    sys.setprofile(lambda frame, event, arg: seen.append(frame.f_code.co_name) if event == "call" else None)
    try:
        turn()
    finally:
        sys.setprofile(None)
    return [name for name in seen if name != "<lambda>"]


async def calls_per_packet(wired, exports):
    """Of a second turn: the first warms up and chooses handlers."""
    stepper = Stepper(asyncio.get_running_loop())
    w = wired(*exports, stepper=stepper)
    for _ in range(2):
        for _ in range(PACKETS):
            w.wire.push(b"x", Address("192.0.2.7", 4000))
        called = calls_of(w.endpoint.turn)
    await stepper.close()
    assert w.counters["handled"] == 2 * PACKETS
    return called


@pytest.mark.parametrize("name", CASES)
def test_no_more_python_functions_run_per_packet_than_are_needed(wired, name):
    exports, most = CASES[name]
    called = asyncio.run(calls_per_packet(wired, exports))
    assert len(called) / PACKETS <= most + 0.1, f"{name}: {len(called) / PACKETS:.2f} calls, {set(called)}"
