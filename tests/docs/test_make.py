"""The two commands of the README, without making an environment: `make -n` says what they would run."""

from __future__ import annotations

import os
import re
import signal
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
    "target", "run test test-all build native-test lint bench fuzz fuzz-long soak farm sanitize coverage dist".split()
)
def test_a_target_of_the_makefile_is_there(target):
    assert recipe(target)


def test_make_run_answers_dns_shows_what_to_try_and_drains(tmp_path):
    (command,) = [line for line in recipe("run") if "toolips_udp run" in line]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = command.replace("127.0.0.1:5300", f"127.0.0.1:{port}").split()
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    said: list[str] = []
    seen = threading.Event()

    def read() -> None:
        assert process.stderr
        for line in process.stderr:
            said.append(line)
            if re.search("handled [1-9]", line):
                seen.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(0.3)
            client.connect(("127.0.0.1", port))
            until, answer = time.monotonic() + 60, b""
            while not answer and time.monotonic() < until:
                try:
                    client.send(QUESTION)
                    answer = client.recv(512)
                except (TimeoutError, ConnectionRefusedError):
                    time.sleep(0.05)
        assert answer[:2] == QUESTION[:2] and answer[3] & 15 == 0 and answer[7] >= 1
        assert seen.wait(30), said
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(30)
        reader.join()
        process.stderr.close()
    assert code == 0, said
    assert any("try: dig @127.0.0.1" in line for line in said), said
