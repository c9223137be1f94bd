"""How much does a job's round trip cost, next to concurrent.futures in the same run?

Method: one worker of each kind, one job at a time (assign, then wait for the result),
rounds of ours and theirs in turn, medians over the rounds; then the CPU that waiting
for a sleeping job takes. Knob: the kind of worker. Lower ratios are better. Threads
share one core, for across cores the scheduler's choice of core decides, not the code.

    python bench/jobs.py [rounds]
"""

from __future__ import annotations

import concurrent.futures
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness as h

sys.path.insert(0, str(h.ROOT))
from toolips_udp.jobs import assign, new_job, processes, waitfor

JOBS = 1500


def add(n, by=5):
    return n + by


def ours(manager):
    began = time.perf_counter()
    for n in range(JOBS):
        assign(manager, 1, new_job(add, n))[0].result()
    return (time.perf_counter() - began) / JOBS * 1e6


def theirs(pool):
    began = time.perf_counter()
    for n in range(JOBS):
        pool.submit(add, n).result()
    return (time.perf_counter() - began) / JOBS * 1e6


def round_trips(rounds):
    """(kind, ours in us, theirs in us, ratio) for thread and process, each a spread over the rounds."""
    pools = {
        "thread": concurrent.futures.ThreadPoolExecutor,
        "process": concurrent.futures.ProcessPoolExecutor,
    }
    everywhere = os.sched_getaffinity(0)
    for kind, pool_type in pools.items():
        os.sched_setaffinity(0, {min(everywhere)} if kind == "thread" else everywhere)
        with processes(1, kind) as manager, pool_type(1) as pool:
            ours(manager), theirs(pool)  # warm
            pairs = [(ours(manager), theirs(pool)) for _ in range(rounds)]
        mine, other = (h.Spread.of(column) for column in zip(*pairs, strict=True))
        yield kind, mine, other, h.Spread.of(a / b for a, b in pairs)
    os.sched_setaffinity(0, everywhere)


def waiting():
    """The share of a core, in percent, that waiting for a job of 2 s takes."""
    with processes(1) as manager:
        assign(manager, 1, new_job(time.sleep, 2))
        began, cpu = time.monotonic(), time.process_time()
        waitfor(manager, 1)
        return 100 * (time.process_time() - cpu) / (time.monotonic() - began)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    h.quiet_warning()
    found = list(round_trips(rounds))
    wait = h.Spread.of(waiting() for _ in range(3))
    table = [["what", "ours", "concurrent.futures", "ratio", "target", ""]]
    for kind, mine, other, ratio in found:
        verdict = h.verdict(ratio, 1.2)
        table.append([f"round trip, {kind}: us", str(mine), str(other), str(ratio), "<= 1.20", verdict])
    table.append(
        [
            "waitfor on a 2 s job: % of a core",
            str(wait),
            "",
            "",
            "<= 1",
            "met" if wait.high <= 1 else "missed",
        ]
    )
    raw = {kind: [mine.median, other.median, ratio.median] for kind, mine, other, ratio in found}
    h.save(
        "jobs", "A job's round trip next to concurrent.futures", table, raw, {"rounds": rounds, "jobs": JOBS}
    )


if __name__ == "__main__":
    main()
