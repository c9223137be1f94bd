"""What does a reply cost the server's CPU with two workers, next to one without a supervisor?

Closed loop from the C generator, 64 clients with 4 requests in flight each for every
worker, so that each worker finds queues of the same length; CPU time (user and system) of every process that serves, from the kernel,
over the replies they counted. Nothing is pinned but the generator: two workers and
the generator share the cores, so the figure is CPU per reply, not a rate. Then: 40
packets at once for a handler that sleeps 100 ms on 4 thread workers.

    python bench/workers.py [rounds]
"""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import harness as h
import numbered

ECHO = "from toolips_udp import handler\n@handler\ndef main(c): c.respond(c.packet)\n"
LOAD = "--sockets 64 --in-flight {} --size 64 --warmup 0.2 --seconds 1.5"


def cpu(pids: list[int]) -> float:
    """Seconds of CPU time that these processes have used."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def us_per_reply(workers: int) -> float:
    server = numbered.Supervised(workers, ECHO)
    try:
        pids = server.pids or [server.process.pid]
        before, counted = cpu(pids), int(server.ask()["handled"])
        h.load(SimpleNamespace(port=server.port, process=server.process, pids=pids), LOAD.format(4 * workers))
        return (cpu(pids) - before) * 1e6 / (int(server.ask()["handled"]) - counted)
    finally:
        server.close()


def sleepers() -> float:
    """Seconds until 40 packets are answered that came at once, each after a sleep of 100 ms, by 4 threads."""
    sys.path.insert(0, str(h.ROOT))
    from toolips_udp import UDP, handler, serve

    @handler
    def main(c):
        time.sleep(0.1)
        c.respond(c.packet)

    module = SimpleNamespace(main=main)
    with (
        serve(UDP, module, "127.0.0.1:0", threads=5, router_threads=(2, 5), control=False) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.connect(server.address.sockaddr())
        client.settimeout(5)
        began = time.monotonic()
        for n in range(40):
            client.send(b"%d" % n)
        for _ in range(40):
            client.recv(100)
        return time.monotonic() - began


def main() -> None:
    h.build()
    h.quiet_warning()
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    pairs = [(us_per_reply(2), us_per_reply(1)) for _ in range(rounds)]
    ratio = h.Spread.of(a / b for a, b in pairs)
    two, one = (h.Spread.of(column) for column in zip(*pairs, strict=True))
    slept = h.Spread.of(sleepers() for _ in range(3))
    table = [
        ["what", "found", "target", ""],
        ["CPU us per reply, 2 workers", str(two), "", ""],
        ["CPU us per reply, 1 worker", str(one), "", ""],
        ["ratio", str(ratio), "<= 1.05", h.verdict(ratio, 1.05)],
        ["40 packets, 100 ms each, 4 threads: s", str(slept), "<= 1.5", h.verdict(slept, 1.5)],
    ]
    h.save("workers", "two workers next to one", table, pairs, {"load": LOAD})


if __name__ == "__main__":
    main()
