"""The seed farm: many worlds, each from its seed, each checked after every event.

    python -m toolips_udp.testing.farm --seeds 0..9999 --minutes 6 --jobs 2

Testing floor. Prints simulated hours, the speed-up and the goals reached; for a
failure one line with the command that repeats it. Failing seeds are kept in a text
file and run first. A set of runs that never met one of the rare things that it
should meet is a failed set.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .scenarios import NAMES, scenario

FAILURES = "farm-failures.txt"
FEW = 50
"""Sets smaller than this are not held to the goals."""


@dataclass
class Outcome:
    """What came of one seed of one scenario."""

    name: str
    seed: int
    minutes: float
    seconds: float = 0.0
    cpu: float = 0.0
    hash: str = ""
    goals: dict[str, int] = field(default_factory=dict)
    problem: str = ""

    @property
    def again(self) -> str:
        """The command that repeats it."""
        return (
            f"python -m toolips_udp.testing.farm --scenario {self.name} --seeds {self.seed}..{self.seed} "
            f"--minutes {self.minutes:g} --show"
        )


@dataclass
class Report:
    """What came of all of them."""

    runs: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    goals: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[Outcome] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """One more."""
        self.runs += 1
        self.counted[outcome.name] += 1
        self.seconds += outcome.seconds
        self.cpu += outcome.cpu
        self.goals.setdefault(outcome.name, Counter()).update(outcome.goals)
        if outcome.problem:
            self.failures.append(outcome)

    @property
    def unmet(self) -> list[str]:
        """Goals that a set large enough should have met and did not."""
        return [
            f"{name}: {goal}"
            for name, runs in self.counted.items()
            if runs >= FEW
            for goal in scenario(name).goals
            if not self.goals[name][goal]
        ]

    @property
    def ok(self) -> bool:
        """No failure and nothing unmet."""
        return not self.failures and not self.unmet


def run_seed(name: str, seed: int, minutes: float, twice: bool = False, show: bool = False) -> Outcome:
    """Run one seed; with `twice`, a second time, and compare the traces."""
    log = logging.getLogger("toolips_udp")
    level = log.level
    log.setLevel(logging.DEBUG if show else logging.CRITICAL + 1)
    outcome, began = Outcome(name, seed, minutes), time.process_time()
    try:
        run = scenario(name).run(seed, minutes, show)
        outcome.seconds, outcome.hash, outcome.goals = run.seconds, run.hash, dict(run.goals)
        if twice:
            again = scenario(name).run(seed, minutes)
            outcome.seconds += again.seconds
            if again.hash != run.hash:
                outcome.problem = f"not repeatable: the traces are {run.hash[:12]} and {again.hash[:12]}"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        outcome.problem = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        if show:
            traceback.print_exc()
    finally:
        log.setLevel(level)
    outcome.cpu = time.process_time() - began
    return outcome


def farm(
    work: Iterable[tuple[str, int]], minutes: float, jobs: int = 1, every: int = 0, show: bool = False
) -> Iterator[Outcome]:
    """Run (scenario, seed) pairs on `jobs` processes; each `every`-th twice, as proof that it repeats."""
    tasks = [(name, seed, minutes, bool(every) and seed % every == 0, show) for name, seed in work]
    if jobs == 1:
        yield from (run_seed(*task) for task in tasks)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(_run_task, tasks, chunksize=4)


def _run_task(task: tuple[str, int, float, bool, bool]) -> Outcome:
    return run_seed(*task)


def known_failures(path: Path) -> list[tuple[str, int]]:
    """The (scenario, seed) pairs of the file; a line is `scenario seed # comment`."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        words = line.partition("#")[0].split()
        if words:
            found.append((words[0], int(words[1])))
    return found


def keep_failures(path: Path, failures: list[Outcome]) -> None:
    """Add what failed and is not in the file yet."""
    known = set(known_failures(path))
    new = [outcome for outcome in failures if (outcome.name, outcome.seed) not in known]
    if new:
        with path.open("a") as file:
            for outcome in new:
                file.write(f"{outcome.name} {outcome.seed}  # {outcome.problem[:200]}\n")


def seeds(text: str) -> range:
    """`A..B` (both in it), or one number."""
    first, dots, last = text.partition("..")
    try:
        found = range(int(first), int(last if dots else first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not A..B, for example 0..199") from None
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} holds no seed: the first is above the last")
    return found


def main(words: list[str] | None = None) -> int:
    """The command. 0 when everything held."""
    parser = argparse.ArgumentParser(prog="python -m toolips_udp.testing.farm", description=__doc__)
    parser.add_argument("--seeds", type=seeds, default=seeds("0..199"), metavar="A..B")
    parser.add_argument("--minutes", type=float, default=6.0, help="simulated minutes of each seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--scenario", choices=NAMES, help="only this one; else they take turns")
    parser.add_argument("--failures", type=Path, default=Path(FAILURES), help="file of failing seeds")
    parser.add_argument("--show", action="store_true", help="print the trace; for one seed")
    options = parser.parse_args(words)
    chosen = [options.scenario] if options.scenario else list(NAMES)
    work = [pair for pair in known_failures(options.failures) if pair[0] in chosen and not options.show]
    work += [(chosen[seed % len(chosen)], seed) for seed in options.seeds]
    report = run_all(work, options.minutes, options.jobs, options.show)
    keep_failures(options.failures, report.failures)
    return 0 if report.ok else 1


def run_all(work: list[tuple[str, int]], minutes: float, jobs: int, show: bool = False) -> Report:
    """Run everything, say what happened, and give the sums."""
    report, began = Report(), time.perf_counter()
    for outcome in farm(work, minutes, jobs, every=50, show=show):
        report.add(outcome)
        if outcome.problem:
            print(f"seed {outcome.seed} {outcome.name}: {outcome.problem}\n    {outcome.again}", flush=True)
    took = time.perf_counter() - began
    print(
        f"{report.runs} seeds, {report.seconds / 3600:.1f} simulated hours in {took:.0f} s: "
        f"{report.seconds / max(report.cpu, 1e-9):,.0f} x real time per core, {len(report.failures)} failures"
    )
    for name, goals in sorted(report.goals.items()):
        print(f"{name}: " + ", ".join(f"{goal} {goals[goal]}" for goal in scenario(name).goals))
    for goal in report.unmet:
        print(f"never met: {goal}")
    return report


if __name__ == "__main__":
    sys.exit(main())
