"""Our server as a contender: `python bench/peers/ours.py KIND` prints "ready PORT".

Kinds: sync, async, multi (MultiHandler and one extension whose route passes),
named (each client gets a handler of its own at its first packet), slow (1 ms of
work per packet, prints its counters at the end), first (start to first answer, in ms).
"""

from __future__ import annotations

import json
import socket
import sys
import time
import types

import toolips_udp as t
from toolips_udp.counters import DROPS


def sync(m: types.SimpleNamespace) -> None:
    @t.handler
    def main(c: t.UDPConnection) -> None:
        c.respond(c.packet)

    m.main = main


def eager(m: types.SimpleNamespace) -> None:
    @t.handler
    async def main(c: t.UDPConnection) -> None:
        c.respond(c.packet)

    m.main = main


def multi(m: types.SimpleNamespace) -> None:
    class Passes(t.Extension):
        def route(self, c: t.UDPConnection) -> None:
            return None

    sync(m)
    m.passes, m.multi = Passes(), t.MultiHandler()


def named(m: types.SimpleNamespace) -> None:
    @t.handler
    def main(c: t.UDPConnection) -> None:
        c.set_handler("echo")
        c.respond(c.packet)

    @t.handler("echo")
    def echo(c: t.UDPConnection) -> None:
        c.respond(c.packet)

    m.main, m.echo, m.multi = main, echo, t.MultiHandler(max_clients=200_000)


def slow(m: types.SimpleNamespace) -> None:
    @t.handler
    def main(c: t.UDPConnection) -> None:
        end = time.perf_counter() + 20e-6
        while time.perf_counter() < end:
            pass
        c.respond(c.packet)

    m.main = main


KINDS = {"sync": sync, "async": eager, "multi": multi, "named": named, "slow": slow, "first": sync}


def run(kind: str) -> None:
    module = types.SimpleNamespace(__name__=f"bench_{kind}")
    KINDS[kind](module)
    began = time.perf_counter()
    server = t.start(t.UDP, module, "127.0.0.1:0")
    if kind == "first":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.sendto(b"hello", tuple(server.address)[:2])
            client.recvfrom(100)
        print(json.dumps({"ms": (time.perf_counter() - began) * 1e3}), flush=True)
        server.stop()
        return
    print("ready", server.address.port, flush=True)
    server.wait()  # until SIGTERM, which drains
    server.stop()
    print(json.dumps({"counters": dict(server.counters), "drops": DROPS}), flush=True)


if __name__ == "__main__":
    run(sys.argv[1])
