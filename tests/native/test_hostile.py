"""A million hostile datagrams through everything at once: nothing raises, nothing grows, nothing is lost silently."""

import random
import resource

from tests.conftest import assert_ledgers_close
from toolips_udp import Address, Extension, MultiHandler, access, handler, limits
from toolips_udp._native.endpoint import MemoryWire


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def flood(w, wire, datagrams, sources):
    for start in range(0, len(datagrams), 256):
        for data, source in zip(datagrams[start : start + 256], sources[start : start + 256], strict=True):
            wire.push(data, source)
        wire.advance(0.001)
        w.endpoint.turn()
        wire.collect()


def test_a_million_random_datagrams_are_each_counted_under_one_word(wired):
    dice = random.Random(1)

    class Peeks(Extension):
        def route(self, c):
            return None if len(c.packet) % 5 else False

    @handler
    def main(c):
        text = c.text
        if text.startswith("a"):
            c.set_handler("second")
        if len(text) > 40:
            raise ValueError(text)
        c.respond(text)

    @handler("second")
    def second(c):
        c.remove_handler()
        c.respond(c.view)

    wire = MemoryWire("192.0.2.1:53")
    w = wired(MultiHandler(main, max_clients=500), Peeks(), main, second, wire=wire, slot_room=1024)
    w.pipeline.server.journal.event = lambda *a: None
    pool = [dice.randbytes(dice.choice([0, 1, 2, 3, 5, 8, 30, 60, 1024, 1025])) for _ in range(5000)]
    clients = [Address(f"192.0.2.{dice.randrange(1, 250)}", dice.randrange(65536)) for _ in range(2000)]
    for _ in range(40):
        flood(w, wire, dice.choices(pool, k=25_000), dice.choices(clients, k=25_000))
    assert w.counters["received"] == 1_000_000
    assert all(w.counters[word] for word in ("handled", "ended", "truncated", "handler_failed"))
    assert_ledgers_close(w.counters)
    wire.push(b"still here", Address("198.51.100.1", 4000))
    w.endpoint.turn()


def test_a_million_sources_meet_fixed_memory(wired):
    @handler
    def main(c):
        c.session["seen"] = 1
        c.set_handler("second")
        c.respond(b"x")

    second = handler(lambda c: c.respond(b"y"), "second")
    wire = MemoryWire("192.0.2.1:53")
    guards = [limits(rate=1000, burst=1000), access(deny=["203.0.113.0/24"])]
    w = wired(*guards, MultiHandler(main, max_clients=2000), main, second, wire=wire, max_sessions=2000)
    number, before = 0, 0
    for part in range(40):
        sources = [
            Address(f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}", 1024 + n % 60_000)
            for n in range(number, number + 25_000)
        ]
        number += 25_000
        flood(w, wire, [b"x"] * 25_000, sources)
        assert len(w.endpoint.live_sessions()) <= 2000 and len(w.endpoint.export()["positions"]) <= 2000
        if part == 3:
            before = resident()
    assert w.counters["received"] == 1_000_000
    assert resident() - before < 8 << 20
    assert_ledgers_close(w.counters)
