"""Hardened servers under strace: they call nothing that the list of system calls lacks."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.xdist_group("supervisor"),
    pytest.mark.skipif(not shutil.which("strace"), reason="no strace here: apt install strace"),
]


def record(*names):
    command = ["strace", "-o", "/dev/null", "true"]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("strace may not trace here: it needs the right to ptrace")
    command = [sys.executable, "tests/record_calls.py", *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "the list lacks: nothing" in done.stdout
    return done.stdout


@pytest.mark.timeout(400)
def test_a_hardened_server_calls_nothing_outside_the_list():
    said = record("native")
    assert int(said.split("calls of")[0].split()[-1].replace(",", "")) > 1000, said


@pytest.mark.long
@pytest.mark.timeout(900)
def test_hardened_servers_of_every_kind_call_nothing_outside_the_list():
    said = record()
    for name in ("native", "portable", "processes", "streams", "names", "game"):
        assert f"\n{name}: " in f"\n{said}"
