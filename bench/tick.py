"""How late does a 60 Hz tick begin: a timerfd through add_reader, beside the loop's own timers, which count whole ms.

    python bench/tick.py [--seconds 10] [--rounds 5]

One knob: who wakes the loop. Both run in turn in one process on one uvloop, so that both see
the same machine. Prints median and 99th percentile of the lateness in ms, and their ratio.
Method: tick n is due at start + n/60; lateness is the time of the call less the due time.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

import uvloop

from toolips_udp.game.tick import Agenda
from toolips_udp.game.tickdriver import TickDriver

HZ = 60


async def by_timerfd(seconds: float) -> list[float]:
    """Lateness of each tick in ms, driven as games are."""
    late: list[float] = []
    agenda = Agenda(time.monotonic_ns)
    driver = TickDriver(agenda, asyncio.get_running_loop())
    schedule = agenda.tick(HZ, lambda tick: late.append((time.monotonic_ns() / 1e9 - tick.now) * 1e3))
    await asyncio.sleep(seconds)
    driver.close()
    assert abs(schedule.number - seconds * HZ) <= 3, f"{schedule.number} ticks in {seconds} s"
    return late


async def by_loop_timer(seconds: float) -> list[float]:
    """The same with the loop's own timers."""
    loop, late, count = asyncio.get_running_loop(), [], 0
    start = time.monotonic()

    def tick() -> None:
        nonlocal count
        late.append((time.monotonic() - (start + count / HZ)) * 1e3)
        count += 1
        loop.call_later(max(0.0, start + count / HZ - time.monotonic()), tick)

    tick()
    await asyncio.sleep(seconds)
    return late


def figures(late: list[float]) -> tuple[float, float]:
    """Median and 99th percentile."""
    ordered = sorted(late[2:])
    return statistics.median(ordered), ordered[int(len(ordered) * 0.99)]


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    ours, theirs = [], []
    for _ in range(options.rounds):
        ours.append(figures(await by_timerfd(options.seconds)))
        theirs.append(figures(await by_loop_timer(options.seconds)))
    for name, rounds in (("timerfd", ours), ("the loop's timer", theirs)):
        medians, tails = zip(*rounds, strict=True)
        print(
            f"{name}: median {statistics.median(medians):.3f} ms ({min(medians):.3f} to {max(medians):.3f}), "
            f"p99 {statistics.median(tails):.3f} ms ({min(tails):.3f} to {max(tails):.3f})"
        )
    ratios = [statistics.median(a[n] for a in ours) / statistics.median(b[n] for b in theirs) for n in (0, 1)]
    print(f"timerfd / the loop's timer: median {ratios[0]:.2f}, p99 {ratios[1]:.2f}")


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
