"""What does a reply cost the server's CPU with two workers, next to one without a supervisor?

Closed loop from the C generator; CPU time (user and system) of every process that serves,
from the kernel, over the replies they counted. What a reply costs depends on how many wait when a
worker wakes, so the comparison is made twice: with as many requests in flight *for each worker*
(64 clients with 4 each, times the workers: queues of one length), and with as many *in all*
(4 each: two workers find half as many). Shorter queues make smaller batches, so the second ratio has a control: one
worker with half as many in flight, each queue as short as theirs. What is left next to that is the price of a second
process; the rest is the batches. Nothing is pinned but the generator: the workers and
the generator share the cores, so the figure is CPU per reply, not a rate. As root, a third row: two workers with
`harden=True`, next to two without, both as `nobody`; and since the list of system calls costs less than the noise of
that, the CPU time of a datagram sent and received by one thread, before and after it takes the list on. Then: 40
packets at once for a handler that sleeps 100 ms on 4 thread workers.

    python bench/workers.py [rounds]
"""

from __future__ import annotations

import os
import socket
import subprocess
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


def us_per_reply(workers: int, in_flight: int, **settings: object) -> tuple[float, float]:
    """Microseconds of CPU time of a reply, and replies of a receive call."""
    server = numbered.Supervised(workers, ECHO, **settings)
    try:
        pids = server.pids or [server.process.pid]
        before, told = cpu(pids), server.ask()
        h.load(SimpleNamespace(port=server.port, process=server.process, pids=pids), LOAD.format(in_flight))
        used, now = cpu(pids) - before, server.ask()
        replies, received = (int(now[word]) - int(told[word]) for word in ("handled", "receive_calls"))
        return used * 1e6 / replies, replies / received
    finally:
        server.close()


def rights() -> dict[str, tuple[float, float]]:
    """With and without `harden=True`; only root can try."""
    if os.geteuid() != 0:
        return {}
    return {
        "two as nobody": us_per_reply(2, 8, user="nobody"),
        "two hardened": us_per_reply(2, 8, user="nobody", harden=True),
    }


PAIR = """
import socket, time
from toolips_udp.supervisor import hardening
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", 0))
here = sock.getsockname()
def pair():
    best = 9e9
    for _ in range(9):
        began = time.thread_time()
        for _ in range(20_000):
            sock.sendto(bytes(64), here)
            sock.recv(100)
        best = min(best, (time.thread_time() - began) / 20_000)
    return best
before = pair()
hardening.become("nobody")
hardening.harden(exec_allowed=False)
print(pair() / before)
"""


def list_row() -> list[list[str]]:
    """What the list of system calls alone costs; only root can try."""
    if os.geteuid() != 0:
        return []
    run = [sys.executable, "-c", PAIR]
    ratios = [
        float(subprocess.run(run, env=h.environment(), capture_output=True, check=True).stdout)
        for _ in range(5)
    ]
    cost = h.Spread.of(ratios)
    return [["a datagram sent and received, hardened / not", str(cost), "<= 1.03", h.verdict(cost, 1.03)]]


def ratio(found: list[dict[str, tuple[float, float]]], above: str, below: str) -> h.Spread:
    return h.Spread.of(row[above][0] / row[below][0] for row in found)


def harden_row(found: list[dict[str, tuple[float, float]]]) -> list[list[str]]:
    if "two hardened" not in found[0]:
        return []
    cost = ratio(found, "two hardened", "two as nobody")
    return [["harden=True / without", str(cost), "<= 1.03", h.verdict(cost, 1.03)]]


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


def rows_of(name: str, pairs: list[tuple[float, float]]) -> list[list[str]]:
    costs, fills = (h.Spread.of(column) for column in zip(*pairs, strict=True))
    return [
        [f"CPU us per reply: {name}", str(costs), "", ""],
        [f"replies of a receive call: {name}", str(fills), "", ""],
    ]


def main() -> None:
    h.build()
    h.quiet_warning()
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    found = [
        {
            "one": us_per_reply(1, 4),
            "two, same for each": us_per_reply(2, 8),
            "two, same in all": us_per_reply(2, 4),
            "one, half of that": us_per_reply(1, 2),
            **rights(),
        }
        for _ in range(rounds)
    ]
    each, in_all = ratio(found, "two, same for each", "one"), ratio(found, "two, same in all", "one")
    as_short = ratio(found, "two, same in all", "one, half of that")
    slept = h.Spread.of(sleepers() for _ in range(3))
    table = [
        ["what", "found", "target", ""],
        *(row for name in found[0] for row in rows_of(name, [each[name] for each in found])),
        ["2 workers / 1, same in flight for each", str(each), "<= 1.05", h.verdict(each, 1.05)],
        ["2 workers / 1, same in flight in all: shorter queues", str(in_all), "", ""],
        ["2 workers / 1 with queues as short", str(as_short), "<= 1.05", h.verdict(as_short, 1.05)],
        *harden_row(found),
        *list_row(),
        ["40 packets, 100 ms each, 4 threads: s", str(slept), "<= 1.5", h.verdict(slept, 1.5)],
    ]
    h.save("workers", "two workers next to one", table, found, {"load": LOAD})


if __name__ == "__main__":
    main()
