"""The unit files of examples/dns, as systemd itself judges them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[3] / "examples/dns"
pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze here. Fix: apt install systemd"
)


def analyze(*words):
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=60)


def test_the_service_exposes_little():
    done = analyze("security", "--offline=true", "--threshold=20", str(UNITS / "toolips-dns.service"))
    level = re.search(r"exposure level for .*: ([\d.]+)", done.stdout)
    assert level, done.stdout + done.stderr
    assert float(level[1]) <= 2.0
    assert done.returncode == 0


def test_the_units_have_no_unknown_lines():
    done = analyze("verify", str(UNITS / "toolips-dns.service"), str(UNITS / "toolips-dns.socket"))
    told = [line for line in done.stderr.splitlines() if "toolips-dns" in line]
    # the program is installed by whoever installs the unit
    unexpected = [line for line in told if "is not executable" not in line]
    assert not unexpected, unexpected
