"""Stock ENet clients against `examples/game/echo.py`, as a user would start it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def echo_server() -> Iterator[tuple[int, subprocess.Popen[str]]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "toolips_udp", "run", "examples/game/echo.py", "--udp", "127.0.0.1:0"]
    server = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert server.stdout is not None
    found = None
    while found is None:
        line = server.stdout.readline()
        assert line, "the echo server ended before it served"
        found = re.search(r"UDP 127\.0\.0\.1:(\d+)", line)
    yield int(found[1]), server
    if server.poll() is None:
        server.send_signal(signal.SIGINT)
    server.communicate(timeout=10)


def lines_of(server: subprocess.Popen[str]) -> list[str]:
    server.send_signal(signal.SIGINT)
    out, _ = server.communicate(timeout=10)
    assert server.returncode == 0, out
    return [re.sub(r"127\.0\.0\.1:\d+", "X", line) for line in out.splitlines()]


@pytest.fixture(scope="session")
def libenet_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("gcc") or not Path("/usr/include/enet/enet.h").exists():
        pytest.skip("needs gcc and libenet-dev")
    out = tmp_path_factory.mktemp("enet") / "enet_client"
    source = str(ROOT / "tests/interop/enet_client.c")
    subprocess.run(["gcc", "-O1", source, "-o", str(out), "-lenet"], check=True)
    return out


@pytest.mark.parametrize(
    "extras", [(), ("crc",), ("coder",), ("crc", "coder")], ids=lambda e: "+".join(e) or "plain"
)
def test_libenet_gets_every_delivery_fragment_channel_and_disconnect_right(
    echo_server, libenet_client, extras
):
    port, server = echo_server
    done = subprocess.run([libenet_client, str(port), *extras], capture_output=True, text=True, timeout=60)
    assert done.stdout == "ok\n", done.stdout + done.stderr
    lines = [line for line in lines_of(server) if line.startswith(("connect", "disconnect"))]
    expected = []
    for joined, left in ((4242, 11), (1, 12), (2, 13)):
        expected += [f"connect X data={joined}", f"disconnect X data={left}"]
    assert lines == expected
