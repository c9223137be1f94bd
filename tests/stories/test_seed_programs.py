"""The programs of the seed systems run as they stand, as scripts of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "programs"


@pytest.mark.parametrize("name", ["hello", "steps", "tracker", "quick", "jobs", "control"])
def test_the_program_proves_itself_and_exits_0(name):
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", PROGRAMS / f"{name}.py"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
