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
def echo_server(request: pytest.FixtureRequest) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    module = getattr(request, "param", "examples/game/echo.py")
    command = [sys.executable, "-m", "toolips_udp", "run", module, "--udp", "127.0.0.1:0"]
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
    server.communicate(timeout=60)


def lines_of(server: subprocess.Popen[str]) -> list[str]:
    server.send_signal(signal.SIGINT)
    out, _ = server.communicate(timeout=60)
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


def test_pyenet_gets_every_echo_up_to_a_mebibyte_on_255_channels(echo_server):
    pytest.importorskip("enet", reason="needs pyenet")
    port, server = echo_server
    client = str(ROOT / "tests/interop/enet_client.py")
    done = subprocess.run([sys.executable, client, str(port)], capture_output=True, text=True, timeout=60)
    assert done.stdout == "ok\n", done.stdout + done.stderr
    assert [line for line in lines_of(server) if "connect" in line][-2:] == [
        "connect X data=77",
        "disconnect X data=31",
    ]


@pytest.mark.skipif(
    not shutil.which("node") or not (ROOT / "node_modules/enet").exists(),
    reason="needs node and npm install enet",
)
def test_npm_enet_gets_every_echo_and_leaves_in_order(echo_server):
    port, server = echo_server
    client = str(ROOT / "tests/interop/enet_client.js")
    done = subprocess.run(["node", client, str(port)], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "ok\n", done.stdout + done.stderr
    assert "disconnect X data=21" in lines_of(server)


@pytest.mark.skipif(not shutil.which("godot3-server"), reason="needs godot3-server")
@pytest.mark.parametrize("echo_server", ["tests/interop/godot3_echo.py"], indirect=True)
def test_godot_3_headless_gets_every_mode_back_from_the_server_with_its_dialect(echo_server, tmp_path):
    port, server = echo_server
    (tmp_path / "project.godot").write_text("config_version=4\n")
    shutil.copy(ROOT / "tests/interop/godot3_client.gd", tmp_path)
    command = ["godot3-server", "--path", str(tmp_path), "-s", "godot3_client.gd"]
    environment = {**os.environ, "ENET_PORT": str(port), "HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=25)
    assert "ok" in done.stdout.splitlines(), (done.stdout + done.stderr)[:2000]
    lines = lines_of(server)
    assert any(line.startswith("joined") for line in lines) and any(line.startswith("left") for line in lines)


@pytest.mark.skipif(not shutil.which("godot3-server"), reason="needs godot3-server")
@pytest.mark.parametrize("echo_server", ["tests/interop/godot3_echo.py"], indirect=True)
def test_the_godot_3_program_of_the_examples_hears_its_hello(echo_server, tmp_path):
    port, _ = echo_server
    example = ROOT / "examples/game/godot3"
    shutil.copy(example / "project.godot", tmp_path)
    program = (example / "client3.gd").read_text()
    assert "2000" in program
    (tmp_path / "client3.gd").write_text(program.replace("2000", str(port)))
    command = ["godot3-server", "--path", str(tmp_path), "-s", "client3.gd"]
    client = subprocess.Popen(
        command, env={**os.environ, "HOME": str(tmp_path)}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert client.stdout is not None
        assert any(line == "hello\n" for line in client.stdout)  # it prints what comes, and runs on
    finally:
        client.kill()
        client.communicate(timeout=60)


def test_a_client_that_vanishes_and_comes_back_is_a_new_peer_of_the_same_server(echo_server, libenet_client):
    port, server = echo_server
    script = f"""
import asyncio
from toolips_udp.game import Client

async def main():
    for n in range(3):
        me = Client("127.0.0.1:{port}", data=n)
        await me.connect()
        me.send(b"x")
        assert (await me.receive(5)).data == b"x"
        me.abandon()

asyncio.run(main())
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=30)
    done = subprocess.run([libenet_client, str(port)], capture_output=True, text=True, timeout=60)
    assert done.stdout == "ok\n"
    assert sum(line.startswith("connect ") for line in lines_of(server)) == 6


def build(tmp_path_factory: pytest.TempPathFactory, source: str) -> Path:
    if not shutil.which("gcc") or not Path("/usr/include/enet/enet.h").exists():
        pytest.skip("needs gcc and libenet-dev")
    out = tmp_path_factory.mktemp("enet") / Path(source).stem
    subprocess.run(["gcc", "-O1", "-D_GNU_SOURCE", str(ROOT / source), "-o", str(out), "-lenet"], check=True)
    return out


def test_10_000_messages_through_a_bad_network_arrive_as_they_do_at_a_libenet_server(
    echo_server, tmp_path_factory
):
    client = build(tmp_path_factory, "tests/interop/enet_lossy.c")
    stock = build(tmp_path_factory, "tests/interop/enet_echo.c")
    port, _ = echo_server
    with subprocess.Popen([stock], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        ports = (int(server.stdout.readline().split()[1]), port)
        told = []
        for one in ports:
            done = subprocess.run(
                [client, str(one), "6", "10000"], capture_output=True, text=True, timeout=100
            )
            assert done.returncode == 0, done.stdout
            told.append(done.stdout.split())
        server.terminate()
    theirs, ours = told
    assert ours[:3] == theirs[:3] and ours[1] == "10000"
    for place in (4, 6):  # sequenced and unsequenced ones may be lost, about as often as with the other
        assert 0.8 * int(theirs[place]) < int(ours[place]) <= 10_000
