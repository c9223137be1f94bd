"""A hundred kills, a hundred reloads, fifty SIGTERMs: what the quick suite does a few times, often and under load."""

from __future__ import annotations

import importlib
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GRACE = 10.0
"""Seconds from SIGTERM to the exit: 5 of drain, and as many for a machine that does other work."""
SERVED = "from toolips_udp import handler\n@handler\ndef main(c): c.respond(c.packet)\n"
SCRIPT = """
import sys
from toolips_udp import UDP, start
if __name__ == "__main__":
    print("begins", flush=True)
    server = start(UDP, sys.argv[1], "127.0.0.1:0", workers=int(sys.argv[2]), control=False)
    print(*getattr(server, "pids", []), flush=True)
    server.wait()
    server.stop()
    sys.exit(server.exit_code)
"""
MOMENTS = ("start", "serve", "reload", "kill", "reload and kill")


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return importlib.import_module


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.timeout(900)
def test_a_hundred_kills_under_load_cost_at_most_one_batch_each_and_nothing_of_the_other_worker(bench):
    _, rows, counters = bench("kill").run(100)
    assert max(row["lost"] for row in rows) <= 64
    assert sum(row["lost of the other"] for row in rows) == sum(row["wrong"] for row in rows) == 0
    assert statistics.median(row["gap ms"] for row in rows) <= 100
    assert counters["received"] == counters["handled"] + counters["worker_lost"]


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.timeout(900)
def test_a_hundred_reloads_under_load_lose_nothing_and_25_broken_modules_change_nothing(bench):
    found = bench("reload").run(125)
    assert (found["good"], found["refused"]) == (100, 25)
    assert found["lost"] == found["wrong"] == 0
    assert found["total"] > 100_000


class Life:
    """A script that serves, and the signals that come to it."""

    def __init__(self, folder: Path, workers: int) -> None:
        served, script = folder / "served.py", folder / "script.py"
        served.write_text(SERVED)
        script.write_text(SCRIPT)
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(served), str(workers)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self.process.stdout.readline() == "begins\n"

    def reach(self, moment: str, dice: random.Random) -> None:
        """Wait until the moment, and some time into it."""
        if moment == "start":
            time.sleep(dice.uniform(0.0, 1.0))
            return
        pids = [int(word) for word in self.process.stdout.readline().split()]
        if "reload" in moment:
            self.process.send_signal(signal.SIGHUP)
            time.sleep(dice.uniform(0.0, 1.0))
        if "kill" in moment and pids:
            try:
                os.kill(dice.choice(pids), signal.SIGKILL)
            except ProcessLookupError:
                pass  # the reload has replaced it
            time.sleep(dice.uniform(0.0, 0.8))

    def terminate(self) -> tuple[int, float, str]:
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(GRACE)
        return code, time.monotonic() - began, self.process.stderr.read()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


def lives(folder: Path, count: int, seed: int) -> None:
    dice = random.Random(seed)
    for number in range(count):
        moment, workers = MOMENTS[number % len(MOMENTS)], 1 if number % 7 == 6 else 2
        life = Life(folder, workers)
        try:
            life.reach(moment, dice)
            code, took, said = life.terminate()
        finally:
            life.end()
        where = f"life {number} of seed {seed}: {moment}, {workers} workers, {took:.2f} s\n{said}"
        # before `start` has begun to serve, the signal has its default answer: nothing is there to drain
        assert code == 0 or (moment == "start" and code == -signal.SIGTERM), where
        assert "Traceback" not in said, where


def test_sigterm_at_random_moments_of_start_reload_and_kill_exits_0_within_grace(tmp_path):
    lives(tmp_path, 10, seed=4)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_fifty_sigterms_at_random_moments_exit_0_within_grace(tmp_path):
    lives(tmp_path, 50, seed=random.SystemRandom().randrange(1 << 30))
