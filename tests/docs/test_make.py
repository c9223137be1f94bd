"""The two commands of the README, without making an environment: `make -n` says what they would run."""

from __future__ import annotations

import os
import pty
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUESTION = bytes.fromhex("abcd01000001000000000000") + b"\x03www\x07example\x04test\0\0\x01\0\x01"


def recipe(target: str) -> list[str]:
    done = subprocess.run(["make", "-n", target, "VENV=/nowhere"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.replace("/nowhere/bin/python", sys.executable).splitlines()


def test_ci_runs_the_test_command_of_the_readme():
    script = (ROOT / ".ci/run").read_text()
    shell = re.search(r"```sh\nmake run\n(make test)\n```", (ROOT / "README.md").read_text())
    assert shell and re.search(rf"^{shell[1]}$", script, re.M)
    assert os.access(ROOT / ".ci/run", os.X_OK)


@pytest.mark.parametrize(
    "target",
    "run test test-all build native-test lint bench fuzz fuzz-long soak farm sanitize coverage mutants dist".split(),
)
def test_a_target_of_the_makefile_is_there(target):
    assert recipe(target)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_run(tmp_path: Path, port: int) -> list[str]:
    """`make run` with this interpreter for its environment and another port."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "bin/python").chmod(0o755)
    text = (ROOT / "Makefile").read_text().replace("127.0.0.1:5300", f"127.0.0.1:{port}")
    (tmp_path / "Makefile").write_text(text)
    return ["make", "-f", str(tmp_path / "Makefile"), "-o", "build", "run", f"VENV={tmp_path}"]


def answered(port: int) -> bytes:
    """The answer to a question; empty when there is none in a minute."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.3)
        client.connect(("127.0.0.1", port))
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                client.send(QUESTION)
                return client.recv(512)
            except (TimeoutError, ConnectionRefusedError):
                time.sleep(0.05)
    return b""


def test_make_run_answers_dns_shows_what_to_try_and_drains_on_ctrl_c(tmp_path):
    """On a terminal, as a person does it: Ctrl-C reaches the server alone, and make ends with 0 too."""
    port = free_port()
    words = make_run(tmp_path, port)
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(ROOT)
        os.execvp(words[0], words)
    said: list[bytes] = []
    seen = threading.Event()

    def read() -> None:
        try:
            while piece := os.read(terminal, 4096):
                said.append(piece)
                if re.search(rb"handled [1-9]", b"".join(said)):
                    seen.set()
        except OSError:
            pass  # the other end has closed

    reader = threading.Thread(target=read)
    reader.start()
    try:
        answer = answered(port)
        assert answer[:2] == QUESTION[:2] and answer[3] & 15 == 0 and answer[7] >= 1
        assert seen.wait(30), said
    finally:
        os.write(terminal, b"\3")
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        reader.join()
        os.close(terminal)
    text = b"".join(said).decode()
    assert code == 0 and "Interrupt" not in text and "try: dig @127.0.0.1" in text, text
