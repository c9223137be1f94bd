"""What record_calls.py records: hardened servers of every kind, each asked, reloaded, bereaved of a worker, stopped.

    python tests/recorded_round.py [name ...]

Native and portable UDP with handlers on the loop, as tasks and in threads; process workers; TCP lines, HTTP and
messages over UDP and WebSockets; a DNS server with a zone and Python answers, a forwarder before it; a game. As root
the workers are nobody.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from toolips_udp import HTTP, TCP, UDP, messages, start  # noqa: E402
from toolips_udp.game import Client  # noqa: E402

QUESTION = bytes.fromhex("abcd01000001000000000000") + b"\x03www\x07example\x04test\0\0\x01\0\x01"
EVERY_KIND = """
import asyncio, threading
from toolips_udp import Extension, QuickExtension, handler, route

class Keep(Extension):
    def on_start(self, server):
        self.seen = 0
    def route(self, c):
        self.seen += 1
    def export(self):
        return self.seen
    def restore(self, state):
        self.seen = state

keep = Keep()

@handler
def main(c):
    c.session["seen"] = 1
    if c.text in ("async", "threaded"):
        c.set_handler(c.text)
    c.after(0.001, lambda: None)
    c.respond(c.packet)

@handler("async")
async def later(c):
    await asyncio.sleep(0.001)
    c.remove_handler()
    c.respond(c.packet)

@handler("threaded", threaded=True)
def threaded(c):
    c.remove_handler()
    c.respond(c.packet)
"""
STREAMS = """
from toolips_udp import handler, messages, route

house = messages.Messages(token="test", sharded=True)

@house.operation("add")
async def add(server: messages.Messages, a: int, b: int) -> int:
    return a + b

@handler
async def main(c):
    async for line in c.lines():
        c.respond(f"{line.text}\\n")

@route("/page")
def page(c):
    c.write("page")
"""
GAME = """
from toolips_udp.game import Game

game = Game(channels=2, sharded=True)

@game.on_message
def echo(peer, m):
    peer.send(m.data, m.channel, m.delivery, fragment=True)
"""
FORWARDER = """
from toolips_udp import dns

service = dns.Service(dns.Forward("127.0.0.1:{port}"))
"""


@contextmanager
def served(modes: object, module: Path, ip: object = "127.0.0.1:0", **settings: object) -> Iterator[object]:
    """A hardened server: asked in the block, then reloaded, one worker killed, and stopped."""
    if os.geteuid() == 0:
        settings["user"] = "nobody"
    server = start(modes, str(module), ip, workers=2, harden=True, control=False, **settings)
    try:
        yield server
    finally:
        server.stop()
    assert server.exit_code == 0, server.exit_code
    assert not server.refused_calls, server.refused_calls


def changed(server: object) -> None:
    """A reload, and a worker that dies."""
    server.reload()
    before = server.pids
    os.kill(before[0], signal.SIGKILL)
    until = time.monotonic() + 60
    while server.pids[0] in (0, before[0]):
        assert time.monotonic() < until, "no worker took over"
        time.sleep(0.02)


def ask_udp(address: object, *packets: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(20)
        client.connect(address.sockaddr())
        for packet in packets:
            client.send(packet)
            answer = client.recv(65536)
            assert answer == packet or answer[:2] == packet[:2], answer


def ask_at_once(address: object, number: int) -> None:
    """So many that a worker finds several in its queue, and answers them in one call."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(20)
        client.connect(address.sockaddr())
        for n in range(number):
            client.send(b"%d" % n)
        for _ in range(number):
            client.recv(100)


def datagrams(folder: Path, **settings: object) -> None:
    (folder / "served_kinds.py").write_text(EVERY_KIND)
    packets = (b"x", b"async", b"waits", b"threaded", b"waits too", bytes(60_000))
    with served(UDP, folder / "served_kinds.py", threads=3, **settings) as server:
        ask_udp(server.address, *packets)
        changed(server)
        ask_udp(server.address, *packets)
        ask_at_once(server.address, 200)
        server.broadcast("to all")


def portable(folder: Path) -> None:
    datagrams(folder, transport="portable")


def processes(folder: Path) -> None:
    as_nobody = {"user": "nobody"} if os.geteuid() == 0 else {}
    try:
        subprocess.run([sys.executable, "-c", ""], check=True, **as_nobody)
    except OSError as error:
        print(f"processes: left out, since nobody may not start this Python ({error})")
        return
    with served(
        UDP, ROOT / "tests/stories/programs/workshop.py", threads=2, router_threads=(2, 2), kind="process"
    ) as server:
        ask_udp(server.address, b"echo", b"again")
        changed(server)
        ask_udp(server.address, b"echo")


def streams(folder: Path) -> None:
    (folder / "served_streams.py").write_text(STREAMS)
    ips = ("127.0.0.1:0", "127.0.0.1:0", "127.0.0.2:0")

    async def add(where: str) -> None:
        async with messages.connect("test", where) as client:
            assert await client.operation("add", a=1, b=2) == 3

    def all_of(server: object) -> None:
        tcp, http = server.addresses[TCP], server.addresses[HTTP]
        with socket.create_connection((tcp.host, tcp.port), timeout=20) as client:
            client.sendall(b"line\n")
            assert client.recv(100) == b"line\n"
        with urllib.request.urlopen(f"http://{http}/page", timeout=20) as answer:
            assert answer.read() == b"page"
        asyncio.run(add(f"ws://{http}"))
        asyncio.run(add(str(server.addresses[UDP])))

    with served((UDP, TCP, HTTP), folder / "served_streams.py", ips) as server:
        all_of(server)
        changed(server)
        all_of(server)


def names(folder: Path) -> None:
    question = b"\0" + bytes([len(QUESTION)]) + QUESTION
    with served((UDP, TCP), ROOT / "examples/dns/answers.py") as authority:
        module = folder / "served_forwarder.py"
        module.write_text(FORWARDER.format(port=authority.addresses[UDP].port))
        with served((UDP, TCP), module) as forwarder:
            for server in (authority, forwarder):
                for _ in range(2):
                    ask_udp(server.addresses[UDP], QUESTION)
                    where = server.addresses[TCP]
                    with socket.create_connection((where.host, where.port), timeout=20) as client:
                        client.sendall(question)
                        assert client.recv(2000)[2:4] == QUESTION[:2]
                    changed(server)


def game(folder: Path) -> None:
    (folder / "served_game.py").write_text(GAME)

    async def play(address: object) -> None:
        async with Client(address) as client:
            client.send(b"hello")
            await asyncio.wait_for(client.receive(), 20)

    with served(UDP, folder / "served_game.py") as server:
        asyncio.run(play(server.address))
        changed(server)
        asyncio.run(play(server.address))


ROUND: dict[str, Callable[[Path], None]] = {
    "native": datagrams,
    "portable": portable,
    "processes": processes,
    "streams": streams,
    "names": names,
    "game": game,
}


def main() -> int:
    for name in sys.argv[1:] or ROUND:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)  # nobody reads it too
            began = time.monotonic()
            ROUND[name](Path(folder))
            print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
