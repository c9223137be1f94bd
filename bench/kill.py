"""What does `kill -9` of one of two workers cost at 80 % load?

Kills the first or the second worker at random moments, one kill at a time, a spare
ready each time, while numbered requests come at 80 % of the peak that the same
client reaches. Counts for each kill: requests of the killed worker without a reply,
those of the other worker, and the longest time without a reply on the killed
worker's sockets. A hundred kills take four minutes: a faster pace would be a crash loop.
On two cores client, workers, supervisor and the booting spare share the machine; on a quiet one with more cores gaps
are shorter.

    python bench/kill.py [kills]
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import time

import harness as h
import numbered

PAUSE = 2.02
"""Seconds between kills, at least: more than five deaths in ten seconds are a crash loop, which pauses."""
AFTER = 0.9
"""Seconds of load after each kill."""


def owners(client: numbered.Client, since: float) -> dict[int, int]:
    """The process that answered each socket last."""
    found: dict[int, int] = {}
    for number in range(len(client.sent) - 1, -1, -1):
        if client.sent[number] < since or len(found) == len(client.sockets):
            break
        if client.by[number]:
            found.setdefault(client.socket_of(number), client.by[number])
    return found


def gap_of(client: numbered.Client, sockets: set[int], moment: float) -> float:
    """The longest silence on these sockets from just before the kill to the last request."""
    until = client.sent[-1]
    times = sorted(
        when
        for number, when in enumerate(client.heard)
        if client.socket_of(number) in sockets and moment - 0.2 < when < until
    )
    return max((b - a for a, b in itertools.pairwise([*times, until])), default=9.9)


def one_kill(server: numbered.Supervised, rate: float, not_before: float) -> dict[str, object]:
    time.sleep(max(0.0, not_before - time.monotonic() - 0.3))
    while not (state := server.ask("spare"))["spare"] or 0 in state["pids"]:
        time.sleep(0.05)
    client = numbered.Client(server.port, rate)
    client.start()
    time.sleep(random.uniform(0.3, 0.6))
    victim = random.choice(state["pids"])
    mine = {at for at, pid in owners(client, 0).items() if pid == victim}
    moment = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    time.sleep(AFTER)
    client.stop(0.5)
    lost = client.lost()
    found = {
        "lost": sum(client.socket_of(n) in mine for n in lost),
        "lost of the other": sum(client.socket_of(n) not in mine for n in lost),
        "gap ms": gap_of(client, mine, moment) * 1e3,
        "requests": len(client.sent),
        "wrong": client.wrong,
        "moment": moment,
    }
    client.close()
    return found


def run(kills: int) -> tuple[float, list[dict[str, object]], dict[str, object]]:
    """The peak, a row for each kill, and the server's own counters in the end."""
    server = numbered.Supervised(2)
    try:
        top = numbered.peak(server.port)
        rows: list[dict[str, object]] = []
        for at in range(kills):
            not_before = float(rows[-1]["moment"]) + PAUSE if rows else 0.0
            rows.append(one_kill(server, 0.8 * top, not_before))
            print(f"  kill {at + 1}: {rows[-1]}", file=sys.stderr)
        return top, rows, server.ask()
    finally:
        server.close()


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    top, rows, counters = run(kills)
    lost = sorted(int(row["lost"]) for row in rows)
    gaps = h.Spread.of(float(row["gap ms"]) for row in rows)
    other, wrong = (sum(int(row[key]) for row in rows) for key in ("lost of the other", "wrong"))
    total = sum(int(row["requests"]) for row in rows)
    ended = sum(int(counters[word]) for word in ("handled", "worker_lost"))
    table = [
        ["what", "found", "target", ""],
        ["kills, at 80 % load", str(kills), "100", "met" if kills >= 100 else "too few for the promise"],
        [
            "lost per kill, most (median)",
            f"{lost[-1]} ({lost[len(lost) // 2]})",
            "<= 64",
            met(lost[-1] <= 64),
        ],
        ["lost of the other worker", str(other), "0", met(other == 0)],
        ["wrong or doubled replies", str(wrong), "0", met(wrong == 0)],
        ["gap ms", str(gaps), "<= 100", met(gaps.high <= 100)],
    ]
    print(f"{kills} kills, {total:,} numbered requests at {0.8 * top:,.0f}/s (80 % of {top:,.0f}/s)")
    print(f"server's own count: received {counters['received']:,}, handled + worker_lost {ended:,}")
    h.save("kill", "kill -9 of one of two workers", table, rows, {"kills": kills, "rate": 0.8 * top})


def met(good: bool) -> str:
    return "met" if good else "missed"


if __name__ == "__main__":
    numbered.pin_here()
    main()
