"""How fast are messages? Operations one after the other and a hundred at once, broadcast, memory.

    python bench/messages.py [--hoist PYTHON] [--rounds N] [--seconds S] [--clients N] [--messages N] [--dry]
    python bench/messages.py --messages 1_000_000 --rounds 0 --clients 0 --dry      memory alone, minutes

Method: server and client are processes of their own on this machine, over 127.0.0.1. Round trips: one client awaits
`echo` again and again; the same with 100 tasks on that client. The peer is hoist-http 1.0.1, the library whose
features these are, measured in turns with ours, each in its own process pair, by the median of the rounds and of
the ratios of each round: `--hoist` is a Python that has it (pip install hoist-http==1.0.1 "versions==1.2.1"; newer
`versions` pull in packages that do not import). CPU is that of both processes together, user and system. Broadcast:
1,000 clients in two processes, from the call to the last delivery, on the machine's one monotonic clock, the median
and the best of 20. Memory: the server's resident size after a tenth of the messages and at the end.
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

import harness as h

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
        begin, count = time.perf_counter(), 0
        while time.perf_counter() < begin + float(sys.argv[2]):
            await server.operation("echo", {"text": "x"})
            count += 1
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
    async def cpu() -> float:
        return time.process_time()

    @server.operation()
    async def memory() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @server.receive("note")
    async def note(message: Any) -> None:
        await message.reply("noted", message.data)

    print("ready", flush=True)
    sys.stdin.read()


async def round_trips(port: int, seconds: float, at_once: int) -> dict[str, float]:
    from toolips_udp import messages

    async with messages.connect("test", f"127.0.0.1:{port}") as client:
        for _ in range(100):
            await client.operation("echo", text="x")
        busy = time.process_time() + await client.operation("cpu")
        begin = time.perf_counter()
        until = begin + seconds

        async def ask() -> int:
            count = 0
            while time.perf_counter() < until:
                await client.operation("echo", text="x")
                count += 1
            return count

        done = sum(await asyncio.gather(*(ask() for _ in range(at_once))))
        passed = time.perf_counter() - begin
        busy = time.process_time() + await client.operation("cpu") - busy
        return {"rate": done / passed, "cpu_us": busy / done * 1e6}


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
    """A child that says ready."""

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
        self.child.kill()
        self.child.wait(10)
        assert self.child.stdin is not None and self.child.stdout is not None
        self.child.stdin.close()
        self.child.stdout.close()


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


def at_least(spread: h.Spread, target: float) -> str:
    if spread.low < target <= spread.high:
        return "inside the noise"
    return "met" if spread.median >= target else "missed"


def measure_trips(port: int, options: argparse.Namespace, raw: dict[str, Any]) -> list[list[str]]:
    """Rows for round trips, each kind measured in turns with the others."""
    for _ in range(options.rounds):
        raw["one"].append(json.loads(ours("trips", port, options.seconds, 1)))
        if options.hoist:
            raw["hoist"].append(measure_hoist(options.hoist, options.seconds))
        raw["hundred"].append(json.loads(ours("trips", port, options.seconds, 100)))
    if not options.rounds:
        return []
    rates = {name: [each["rate"] for each in raw[name]] for name in ("one", "hundred")}

    def figure(values: list[float]) -> str:
        return f"{statistics.median(values):,.0f}"

    rows = [
        ["round trips/s, one after the other", figure(rates["one"]), "", ""],
        ["CPU us of both sides each", f"{h.Spread.of(each['cpu_us'] for each in raw['one'])}", "", ""],
    ]
    if options.hoist:
        over = h.Spread.of(a / b for a, b in zip(rates["one"], raw["hoist"], strict=True))
        rows.append(["the same with hoist-http 1.0.1", figure(raw["hoist"]), "", ""])
        rows.append(["ours / hoist-http", str(over), ">= 4", at_least(over, 4)])
    over = h.Spread.of(a / b for a, b in zip(rates["hundred"], rates["one"], strict=True))
    return [
        *rows,
        ["round trips/s, 100 at once", figure(rates["hundred"]), "", ""],
        ["CPU us of both sides each", f"{h.Spread.of(each['cpu_us'] for each in raw['hundred'])}", "", ""],
        ["100 at once / one after the other", str(over), ">= 4", at_least(over, 4)],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    number = lambda text: int(text.replace("_", ""))  # noqa: E731
    parser.add_argument(
        "--hoist", default=os.environ.get("HOIST_PYTHON"), help="a Python with hoist-http 1.0.1"
    )
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=number, default=1000)
    parser.add_argument(
        "--messages", type=number, default=100_000, help="for the memory; 1_000_000 takes minutes"
    )
    parser.add_argument("--dry", action="store_true", help="print, but write no result file")
    options = parser.parse_args()
    h.quiet_warning()
    port = free_port()
    server = Process(__file__, "serve", str(port))
    raw: dict[str, Any] = {"one": [], "hundred": [], "hoist": []}
    table = [["what", "found", "target", ""]]
    try:
        table += measure_trips(port, options, raw)
        if options.clients:
            raw["broadcast_ms"] = times = broadcast(port, options.clients)
            middle = statistics.median(times)
            found = f"{middle:.1f} (best {min(times):.1f})"
            table.append(
                [
                    f"broadcast to {options.clients:,} clients: ms",
                    found,
                    "<= 20",
                    "met" if middle <= 20 else "missed",
                ]
            )
        if options.messages:
            raw["memory"] = early, late = json.loads(ours("notes", port, options.messages))
            table.append(
                [
                    f"server MB after {options.messages // 10:,} and {options.messages:,} messages",
                    f"{early / 1e6:.1f}, {late / 1e6:.1f}", "flat", "met" if late - early < 4 << 20 else "missed",
                ]
            )  # fmt: skip
    finally:
        server.close()
    if options.dry:
        print(h.markdown(table))
        return
    chosen = {name: getattr(options, name) for name in ("rounds", "seconds", "clients", "messages")}
    h.save("messages", "Messages: round trips, broadcast and memory", table, raw, chosen)


def broadcast(port: int, count: int) -> list[float]:
    """Milliseconds to the last delivery, 20 times."""
    halves = [Process(__file__, "listen", str(port), str(count // 2)) for _ in range(2)]
    times = []
    try:
        for _ in range(20):
            begin = float(ours("burst", port))
            times.append(max(float(half.line()) for half in halves) - begin)
    finally:
        for half in halves:
            half.close()
    return [seconds * 1000 for seconds in times]


async def burst(port: int) -> float:
    from toolips_udp import messages

    async with messages.connect("test", f"127.0.0.1:{port}") as client:
        return float(await client.operation("burst", text="news"))


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    elif len(sys.argv) > 1 and sys.argv[1] == "trips":
        print(json.dumps(run_loop(round_trips(int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))))
    elif len(sys.argv) > 1 and sys.argv[1] == "listen":
        run_loop(listeners(int(sys.argv[2]), int(sys.argv[3])))
    elif len(sys.argv) > 1 and sys.argv[1] == "burst":
        print(run_loop(burst(int(sys.argv[2]))))
    elif len(sys.argv) > 1 and sys.argv[1] == "notes":
        print(json.dumps(run_loop(notes(int(sys.argv[2]), int(sys.argv[3])))))
    else:
        main()
