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
import statistics
import sys
import time

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
    pools = {
        "thread": concurrent.futures.ThreadPoolExecutor,
        "process": concurrent.futures.ProcessPoolExecutor,
    }
    print(f"{'kind':10}{'ours us':>10}{'theirs us':>12}{'ratio':>8}   spread of ratio over {rounds} rounds")
    everywhere = os.sched_getaffinity(0)
    for kind, pool_type in pools.items():
        os.sched_setaffinity(0, {min(everywhere)} if kind == "thread" else everywhere)
        with processes(1, kind) as manager, pool_type(1) as pool:
            ours(manager), theirs(pool)  # warm
            pairs = [(ours(manager), theirs(pool)) for _ in range(rounds)]
        mine, other = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratios = [a / b for a, b in pairs]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"{kind:10}{mine:10.1f}{other:12.1f}{statistics.median(ratios):8.2f}   {spread}")

    os.sched_setaffinity(0, everywhere)


def waiting():
    with processes(1) as manager:
        assign(manager, 1, new_job(time.sleep, 2))
        began, cpu = time.monotonic(), time.process_time()
        waitfor(manager, 1)
        share = (time.process_time() - cpu) / (time.monotonic() - began)
    print(f"waitfor on a 2 s job: {100 * share:.2f} % of a core")


if __name__ == "__main__":
    round_trips(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
    waiting()
