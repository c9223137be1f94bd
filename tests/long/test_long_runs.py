"""The long runs, made short: a soak of a second, and the farm's next seeds."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_a_soak_of_a_second_finds_a_live_server_whose_ledger_closes():
    done = subprocess.run(
        [sys.executable, "tests/soak.py", "--minutes", "0.04", "--cycles", "0", "--dry"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["ok", "ok"]


@pytest.mark.timeout(400)
def test_200_lives_of_a_server_leave_no_descriptor_thread_task_memory_or_warning():
    done = subprocess.run(
        [sys.executable, "tests/leaks.py", "--cycles", "200"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1])["executions"] == 200
    for word in ("Warning", "Traceback", "never awaited", "was destroyed"):  # in a worker process too
        assert word not in done.stderr, done.stderr[-2000:]


def test_b13_the_range_coder_opens_the_next_million_inputs():
    """10^9 are had by `make fuzz-long`, which goes on where the ledger says that it stopped."""
    done = subprocess.run(
        [sys.executable, "tests/fuzz_range.py", "--minutes", "0", "--dry"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'executions': 1000000, 'result': 'ok'" in done.stdout


def test_the_ledger_gives_each_farm_run_new_seeds(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("run_ledger", ROOT / "tests/ledger.py")
    ledger = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ledger)
    monkeypatch.setattr(ledger, "LEDGER", tmp_path / "ledger.jsonl")
    assert ledger.next_seed() == 0
    ledger.add({"kind": "farm", "target": "worlds", "seeds": 200, "last_seed": 199, "result": "ok"})
    ledger.add({"kind": "fuzz", "target": "x", "executions": 5, "result": "ok"})
    assert ledger.next_seed() == 200
    first = json.loads((tmp_path / "ledger.jsonl").read_text().splitlines()[0])
    assert {"commit", "when", "kind", "target", "seeds", "result"} <= first.keys()


def test_every_line_of_the_ledger_is_whole():
    path = ROOT / "tests/ledger.jsonl"
    for line in path.read_text().splitlines() if path.exists() else []:
        assert {"commit", "when", "kind", "target", "result"} <= json.loads(line).keys()
