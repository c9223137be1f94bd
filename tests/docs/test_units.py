"""The systemd units of the examples: they verify, and expose little."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "examples/systemd"
analyze = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="apt install systemd")


@analyze
def test_the_unit_exposes_at_most_2(tmp_path):
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNITS / "hello.service")]
    done = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"Overall exposure level for .*: ([\d.]+)", done.stdout)
    if not found:
        pytest.skip(f"this systemd-analyze has no offline check: {done.stderr.strip()[:100]}")
    assert float(found[1]) <= 2.0


@analyze
def test_the_units_verify(tmp_path):
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/opt/hello/venv/bin/toolips-udp", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if "hello." in line]
    assert not said, said


def test_the_socket_and_the_service_speak_of_one_place():
    listens = set(re.findall(r"^Listen\w+=(\S+)", (UNITS / "hello.socket").read_text(), re.M))
    service = (UNITS / "hello.service").read_text()
    assert listens == set(re.findall(r"--(?:udp|tcp) (\S+)", service)) == {"127.0.0.1:2000"}
    assert "Type=notify" in service and "WatchdogSec" in service
