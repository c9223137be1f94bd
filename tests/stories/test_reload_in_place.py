"""Reload with workers=1: the module anew in the same process, on the same socket."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from toolips_udp import UDP, StartError, handler, kill, start

ROOT = Path(__file__).parents[2]
MODULE = """
import asyncio, time
from toolips_udp import Extension, handler

VERSION = 1

class Keep(Extension):
    def on_start(self, server):
        self.seen = 0
        server.data.setdefault("life", []).append(("start", VERSION))
    def on_stop(self, server):
        server.data["life"].append(("stop", VERSION))
    def route(self, c):
        self.seen += 1
    def export(self):
        return {"seen": self.seen, "odd": print}
    def restore(self, state):
        self.seen = state["seen"]

keep = Keep()

@handler
async def main(c):
    if c.text == "slow":
        await asyncio.sleep(0.3)
        c.respond(f"slow {VERSION}")
    elif c.text == "remember":
        c.session["name"] = "Ada"
        c.set_handler("second")
        c.respond("ok")
    else:
        c.respond(f"{VERSION} {keep.seen}")

@handler("second")
def second(c):
    c.respond(f"{c.session['name']} {VERSION}")
"""


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "served_in_place.py"
    path.write_text(MODULE)
    yield path
    sys.modules.pop("served_in_place", None)


def second_version(module):
    module.write_text(MODULE.replace("VERSION = 1", "VERSION = 2"))


def test_new_code_serves_and_sessions_positions_and_extensions_go_on(server, transport, peer, module, caplog):
    running = server(module=str(module))
    client, other = peer(running.address), peer(running.address)
    assert client.ask(b"remember") == b"ok"
    assert other.ask() == b"1 2"
    second_version(module)
    lost = running.reload()
    assert client.ask() == b"Ada 2"
    assert other.ask() == b"2 4"
    assert running.data["life"] == [("start", 1), ("start", 2), ("stop", 1)]
    assert lost == ["keep.odd (builtin_function_or_method)"]
    assert "not carried over: keep.odd" in caplog.text


def test_what_is_in_flight_ends_as_it_began(server, transport, peer, module):
    running = server(module=str(module))
    client = peer(running.address)
    client.send(b"slow")
    time.sleep(0.1)
    second_version(module)
    running.reload()
    assert client.recv(100) == b"slow 1"
    assert client.ask().startswith(b"2 ")


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("def f(:\n", "invalid syntax"),
        ("raise RuntimeError('no luck')\n", "no luck"),
        ("x = 1\n", "no handler"),
        (MODULE.replace("self.seen = 0", "raise OSError('no disk')"), "no disk"),
    ],
)
def test_a_module_that_cannot_start_leaves_the_old_one(server, transport, peer, module, broken, told):
    running = server(module=str(module))
    client = peer(running.address)
    before = sys.modules.get("served_in_place")
    module.write_text(broken)
    with pytest.raises(Exception, match=told):
        running.reload()
    assert client.ask().startswith(b"1 ")
    assert sys.modules.get("served_in_place") is before
    second_version(module)
    running.reload()
    assert client.ask().startswith(b"2 ")


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_handlers_in_workers_are_new_after_a_reload_too(server, peer, module, kind):
    text = MODULE.replace("async def main", "def main").replace("await asyncio.sleep", "time.sleep")
    text = text.replace("keep.seen", "c.worker")
    module.write_text(text)
    running = server(module=str(module), threads=2, router_threads=(2, 2), kind=kind)
    client = peer(running.address, timeout=10)
    assert client.ask() == b"1 2"
    module.write_text(text.replace("VERSION = 1", "VERSION = 2"))
    running.reload()
    assert client.ask() == b"2 2"


def test_a_reload_under_load_loses_nothing(server, transport, peer, module):
    running = server(module=str(module))
    client = peer(running.address)
    over, versions = threading.Event(), []

    def ask():
        while not over.is_set():
            versions.append(client.ask(b"x")[:1])

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for n in range(5):
            module.write_text(MODULE.replace("VERSION = 1", f"VERSION = {n + 2}"))
            running.reload()
    finally:
        over.set()
        thread.join()
    versions.append(client.ask(b"x")[:1])
    assert sorted(versions) == versions
    assert versions[-1] == b"6"


def test_what_has_no_file_cannot_be_reloaded(server, peer):
    running = server(module=SimpleNamespace(main=handler(lambda c: c.respond("ok"))))
    with pytest.raises(StartError, match="is an object, not a module"):
        running.reload()
    assert peer(running.address).ask() == b"ok"
    running.stop()
    with pytest.raises(StartError, match="does not run"):
        running.reload()


def test_a_reload_on_the_servers_own_loop_names_the_other_form(server, peer, module):
    running = server(module=str(module))

    async def there():
        with pytest.raises(RuntimeError, match=r"await server\.reload_async"):
            running.reload()
        return await running.reload_async()

    assert asyncio.run_coroutine_threadsafe(there(), running.loop).result(10)


def test_kill_finds_a_reloaded_module_by_name(module, peer):
    running = start(UDP, str(module), "127.0.0.1:0", control=False)
    running.reload()
    kill("served_in_place")
    assert not running.running


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_reload_command_and_sighup_reload_a_server_that_run_started(module, tmp_path, workers):
    import socket

    env = {**os.environ, "PYTHONPATH": str(ROOT), "TOOLIPS_UDP_RUNTIME": str(tmp_path / "run")}
    (tmp_path / "run").mkdir()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "toolips_udp"]
    process = subprocess.Popen(
        [*command, "run", str(module), "--udp", f"127.0.0.1:{port}", "--workers", workers],
        env=env,
        stderr=subprocess.PIPE,
        text=True,
    )

    def version():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(10)
            client.connect(("127.0.0.1", port))
            client.send(b"x")
            return client.recv(100)[:1]

    try:
        line = ""
        while "serves UDP" not in line:
            line = process.stderr.readline()
            assert line, "the server ended"
        assert version() == b"1"
        second_version(module)
        ran = subprocess.run([*command, "reload"], env=env, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stderr
        assert version() == b"2"
        module.write_text("raise RuntimeError('no luck')\n")
        ran = subprocess.run(
            [*command, "reload", "served_in_place"], env=env, capture_output=True, text=True, timeout=60
        )
        assert ran.returncode == 1
        assert "the old one serves on" in ran.stderr and "no luck" in ran.stderr
        assert version() == b"2"
        module.write_text(MODULE.replace("VERSION = 1", "VERSION = 3"))
        process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 20
        while version() != b"3":
            assert time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        ran = subprocess.run([*command, "reload"], env=env, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 1
        assert "no running server" in ran.stderr
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


STREAMS = """
from toolips_udp import handler, route

VERSION = 1

@handler
async def main(c):
    async for line in c.lines():
        c.respond(f"{VERSION} {line.text}\\n")

@route("/version")
def version(c):
    c.write(str(VERSION))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_tcp_and_http_are_reloaded_too_and_open_connections_end_as_they_began(server, module, workers):
    pytest.importorskip("starlette", reason="HTTP mode needs pip install 'toolips_udp[http]'")
    import socket
    import urllib.request

    from toolips_udp import HTTP, TCP

    module.write_text(STREAMS)
    ip = ("127.0.0.1:0", "127.0.0.2:0")
    running = server(module=str(module), mode=(TCP, HTTP), ip=ip, workers=workers)
    tcp, http = (running.addresses[mode] for mode in (TCP, HTTP))

    def line(client, text):
        client.sendall(text + b"\n")
        return client.recv(100)

    def page():
        with urllib.request.urlopen(f"http://{http}/version", timeout=10) as answer:
            return answer.read()

    with socket.create_connection((tcp.host, tcp.port), timeout=10) as old:
        assert line(old, b"a") == b"1 a\n"
        assert page() == b"1"
        module.write_text(STREAMS.replace("VERSION = 1", "VERSION = 2"))
        running.reload()
        if workers == 1:  # with several, the old worker drains: it closes clients between two messages
            assert line(old, b"b") == b"1 b\n"
        with socket.create_connection((tcp.host, tcp.port), timeout=10) as fresh:
            assert line(fresh, b"c") == b"2 c\n"
        assert page() == b"2"
    assert running.counters["handled"] >= 2


def test_a_house_that_appears_at_a_reload_is_served(server, module):
    from toolips_udp import transports

    if "native" not in transports.available():
        pytest.skip("stages need the native core")
    running = server(module=str(module), transport="native")
    module.write_text(
        "from toolips_udp.game import Game\narena = Game()\n"
        "@arena.on_message\ndef echo(peer, m):\n    peer.send(m.data)\n"
    )
    running.reload()
    from toolips_udp.peers import Client

    async def play():
        async with Client(running.address, timeout=5.0) as me:
            me.send(b"hello")
            return (await me.receive(5.0)).data

    assert asyncio.run(asyncio.wait_for(play(), 15)) == b"hello"
