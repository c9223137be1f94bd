"""How fast are messages? Operations one after the other and a hundred at once, broadcast, memory.

    python bench/messages.py [--hoist PYTHON] [--seconds S] [--clients N] [--messages N]

Method: server and client are processes of their own on this machine, over 127.0.0.1. Round trips: one client awaits
`echo` again and again; the same with 100 tasks on that client. The peer is hoist-http 1.0.1, the library whose
features these are, measured in turns with ours, each in its own process pair, by the median of the rounds:
`--hoist` is a Python that has it (pip install hoist-http==1.0.1 "versions==1.2.1"; newer `versions` pull in
packages that do not import). Broadcast: 1,000 clients in two processes, from the call to the last delivery, on the
machine's one monotonic clock. Memory: the server's resident size after 100,000 messages and at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
HOIST_SERVER = """
import asyncio, sys, hoist
server = hoist.start("test", host="127.0.0.1", port=int(sys.argv[1]))
@server.operation("echo")
async def echo(payload: dict):
    return payload["text"]
print("ready", flush=True)
sys.stdin.read()
"""
HOIST_CLIENT = """
import asyncio, sys, time, hoist
async def main():
    async with hoist.connect("test", f"http://127.0.0.1:{sys.argv[1]}") as server:
        for _ in range(100):
            await server.operation("echo", {"text": "x"})
        until, count, begin = time.perf_counter() + float(sys.argv[2]), 0, time.perf_counter()
        while time.perf_counter() < until:
            for _ in range(50):
                await server.operation("echo", {"text": "x"})
            count += 50
        print(count / (time.perf_counter() - begin))
asyncio.run(main())
"""


# -- the processes ------------------------------------------------------------------------------------


def serve(port: int) -> None:
    from toolips_udp import messages

    server = messages.start("test", ip=f"127.0.0.1:{port}", log_level=40)

    @server.operation()
    async def echo(text: str) -> str:
        return text

    @server.operation()
    async def burst(text: str) -> float:
        begin = time.monotonic()
        await server.broadcast(text)
        return begin

    @server.operation()
    async def memory() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @server.receive("note")
    async def note(message: Any) -> None:
        await message.reply("noted", message.data)

    print("ready", flush=True)
    sys.stdin.read()


async def round_trips(port: int, seconds: float, at_once: int) -> float:
    from toolips_udp import messages

    async with messages.connect("test", f"127.0.0.1:{port}") as client:
        for _ in range(100):
            await client.operation("echo", text="x")
        begin = time.perf_counter()
        until = begin + seconds

        async def ask() -> int:
            count = 0
            while time.perf_counter() < until:
                await client.operation("echo", text="x")
                count += 1
            return count

        done = await asyncio.gather(*(ask() for _ in range(at_once)))
        return sum(done) / (time.perf_counter() - begin)


async def listeners(port: int, count: int) -> None:
    """Clients that print when the last of them heard a broadcast."""
    from toolips_udp import messages

    left, last = count, 0.0

    def heard(message: Any) -> None:
        nonlocal left, last
        left -= 1
        if left == 0:
            last, left = time.monotonic(), count
            print(last, flush=True)

    clients = [messages.Client("test", f"127.0.0.1:{port}", timeout=20, heartbeat=60) for _ in range(count)]
    for at in range(0, count, 50):
        await asyncio.gather(*(client.connect() for client in clients[at : at + 50]))
    for client in clients:
        client.receive("news")(heard)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await asyncio.gather(*(client.close() for client in clients))


async def notes(port: int, total: int) -> list[int]:
    """Resident bytes of the server at a tenth and at the end of `total` messages with replies."""
    from toolips_udp import messages

    found = []
    async with messages.connect("test", f"127.0.0.1:{port}", timeout=30) as client:
        for part in (total // 10, total - total // 10):
            for _ in range(part // 100):
                await asyncio.gather(*(client.message("note", {"n": 1}) for _ in range(100)))
            found.append(await client.operation("memory"))
    return found


# -- the bench ----------------------------------------------------------------------------------------


class Process:
    """A child that says ready, and ends when its input does."""

    def __init__(self, *words: str, python: str = sys.executable) -> None:
        self.child = subprocess.Popen(
            [python, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)} if python == sys.executable else None,
        )  # fmt: skip
        self.wait_for("ready")

    def line(self) -> str:
        assert self.child.stdout is not None
        text = self.child.stdout.readline()
        if not text:
            raise RuntimeError(f"a process ended with {self.child.wait()}")
        return text.strip()

    def wait_for(self, word: str) -> None:
        while self.line() != word:
            pass

    def close(self) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write("\n")
        self.child.stdin.close()
        try:
            self.child.wait(20)
        except subprocess.TimeoutExpired:
            self.child.kill()


def ours(*words: Any) -> str:
    return subprocess.run(
        [sys.executable, __file__, *map(str, words)], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ).stdout.strip()  # fmt: skip


def free_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def run_loop(coroutine: Any) -> Any:
    import uvloop

    return uvloop.run(coroutine)


def measure_hoist(python: str, seconds: float) -> float:
    port = free_port()
    server = Process("-c", HOIST_SERVER, str(port), python=python)
    try:
        time.sleep(1.0)  # it says that it runs before it does
        words = [python, "-c", HOIST_CLIENT, str(port), str(seconds)]
        out = subprocess.run(words, capture_output=True, text=True, timeout=seconds + 30)
        if out.returncode:
            raise RuntimeError(out.stderr[-2000:])
        return float(out.stdout.split()[-1])
    finally:
        server.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hoist", help="a Python that has hoist-http 1.0.1")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--messages", type=int, default=1_000_000)
    options = parser.parse_args()
    port = free_port()
    server = Process(__file__, "serve", str(port))
    found: dict[str, list[float]] = {"sequential": [], "at once": [], "hoist": []}
    try:
        for _ in range(options.rounds):
            found["sequential"].append(float(ours("trips", port, options.seconds, 1)))
            found["at once"].append(float(ours("trips", port, options.seconds, 100)))
            if options.hoist:
                found["hoist"].append(measure_hoist(options.hoist, options.seconds))
        middle = {name: statistics.median(values) for name, values in found.items() if values}
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(f"one after the other   {middle['sequential']:10,.0f} round trips/s")
        if options.hoist:
            print(f"hoist-http 1.0.1      {middle['hoist']:10,.0f} round trips/s")
            print(f"  ours / hoist        {middle['sequential'] / middle['hoist']:10.2f}")
        print(f"a hundred at once     {middle['at once']:10,.0f} round trips/s")
        print(f"  at once / one       {middle['at once'] / middle['sequential']:10.2f}")
        if options.clients:
            print(
                f"broadcast to {options.clients:,}    {broadcast(port, options.clients):10.1f} ms, best of 20"
            )
        if options.messages:
            early, late = json.loads(ours("notes", port, options.messages))
            count = options.messages
            print(
                f"server memory         {early / 1e6:10.1f} MB after {count // 10:,} messages, "
                f"{late / 1e6:.1f} MB after {count:,}"
            )
    finally:
        server.close()


def broadcast(port: int, count: int) -> float:
    halves = [Process(__file__, "listen", str(port), str(count // 2)) for _ in range(2)]
    times = []
    try:
        for _ in range(20):
            begin = float(ours("burst", port))
            times.append(max(float(half.line()) for half in halves) - begin)
    finally:
        for half in halves:
            half.close()
    return min(times) * 1000


async def burst(port: int) -> float:
    from toolips_udp import messages

    async with messages.connect("test", f"127.0.0.1:{port}") as client:
        return float(await client.operation("burst", text="news"))


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    elif len(sys.argv) > 1 and sys.argv[1] == "trips":
        print(run_loop(round_trips(int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))))
    elif len(sys.argv) > 1 and sys.argv[1] == "listen":
        run_loop(listeners(int(sys.argv[2]), int(sys.argv[3])))
    elif len(sys.argv) > 1 and sys.argv[1] == "burst":
        print(run_loop(burst(int(sys.argv[2]))))
    elif len(sys.argv) > 1 and sys.argv[1] == "notes":
        print(json.dumps(run_loop(notes(int(sys.argv[2]), int(sys.argv[3])))))
    else:
        main()
