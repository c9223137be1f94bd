"""Hostile datagrams against live servers, for as long as asked, and the leak loop; adds what ran to the ledger.

    python tests/soak.py --minutes 10 [--target echo] [--cycles 200]

Random bytes, cut and changed messages from the fuzz corpora, and every length. After each
1,000 of them a canary must be answered, resident memory may grow by 8 MiB after the warm-up, and
in the end the server's count of datagrams must be ours. Before that, servers start and stop `--cycles` times
(tests/leaks.py). Figures per release are sums of the ledger.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ledger

ROOT = Path(__file__).resolve().parent.parent
GROWTH = 8 << 20
BETWEEN = 1000
SERVER = """
import json, sys
from toolips_udp import UDP, start
sys.path.insert(0, {folder!r})
server = start(UDP, {module!r}, "127.0.0.1:0")
print(server.address.port, flush=True)
server.wait(); server.stop()
print(json.dumps(dict(server.counters)), flush=True)
"""
DNS_QUESTION = bytes.fromhex("abcd01000001000000000000") + b"\x03www\x07example\x04test\0\0\x01\0\x01"


@dataclass(frozen=True)
class Target:
    """A server to attack: its module, what a canary asks, whether that is its answer, and the corpora to vary."""

    name: str
    module: Path
    canary: bytes
    fine: Callable[[bytes], bool]
    corpora: tuple[str, ...]


TARGETS = [
    Target(
        "echo",
        ROOT / "tests/soak_echo.py",
        b'{"text": "canary"}',
        lambda answer: answer == b'{"text":"canary"}',
        ("dns_query", "enet_range"),
    ),
    Target(
        "dns",
        ROOT / "examples/dns/answers.py",
        DNS_QUESTION,
        lambda answer: answer[:2] == DNS_QUESTION[:2] and answer[3] & 15 == 0,
        ("dns_query", "dns_reply"),
    ),
]


def samples(target: Target) -> list[bytes]:
    folders = [ROOT / "native/fuzz/corpus" / name for name in target.corpora]
    found = [path.read_bytes()[:65507] for folder in folders for path in sorted(folder.glob("*"))]
    return [target.canary, *found]


def hostile(seeds: list[bytes], dice: random.Random) -> Iterator[bytes]:
    """For ever: noise, known messages that are cut, grown or changed, and every length."""
    length = 0
    while True:
        kind = dice.random()
        if kind < 0.2:
            yield dice.randbytes(dice.randrange(600))
        elif kind < 0.22:
            length = (length + 977) % 65508
            yield bytes(length)
        else:
            data = bytearray(dice.choice(seeds))
            for _ in range(dice.randrange(1, 6)):
                if data:
                    data[dice.randrange(len(data))] = dice.choice(
                        (0, 1, 0x7F, 0x80, 0xC0, 0xFF, dice.randrange(256))
                    )
            if kind > 0.8:
                data = data[: dice.randrange(len(data) + 1)]
            elif kind > 0.7:
                data += dice.randbytes(dice.randrange(40))
            yield bytes(data)


def resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Canary:
    """Asks on a socket of its own; three tries, since the flood may have filled the buffer."""

    def __init__(self, target: Target, port: int) -> None:
        self.target, self.asked = target, 0
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.connect(("127.0.0.1", port))
        self.sock.settimeout(2)

    def lives(self) -> bool:
        for _ in range(3):
            self.asked += 1
            try:
                self.sock.send(self.target.canary)
                while not self.target.fine(self.sock.recv(65536)):
                    pass
                return True
            except (TimeoutError, ConnectionRefusedError):
                continue
        return False


def soak(target: Target, seconds: float) -> dict[str, object]:
    seed = random.SystemRandom().randrange(1 << 32)
    flood, dice = hostile(samples(target), random.Random(seed)), random.Random(seed + 1)
    code = SERVER.format(folder=str(target.module.parent), module=str(target.module))
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout
    port = int(process.stdout.readline())
    canary, sent, first, result = Canary(target, port), 0, 0, "ok"
    senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(8)]
    until, warm = time.monotonic() + seconds, time.monotonic() + seconds / 5
    while time.monotonic() < until and result == "ok":
        for _ in range(BETWEEN):
            dice.choice(senders).sendto(next(flood), ("127.0.0.1", port))
        sent += BETWEEN
        if not canary.lives():
            result = f"the canary is dead after {sent} datagrams"
        elif not first and time.monotonic() > warm:
            first = resident(process.pid)
        elif first and resident(process.pid) - first > GROWTH:
            result = f"memory grew by {resident(process.pid) - first} bytes"
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=20)
    for sock in (*senders, canary.sock):
        sock.close()
    counters = json.loads(said.splitlines()[-1]) if process.returncode == 0 else {}
    if result == "ok" and counters.get("received") != sent + canary.asked:
        result = f"sent {sent + canary.asked}, the server counted {counters.get('received')}"
    return {"kind": "soak", "target": target.name, "executions": sent, "seed": seed, "result": result}


def leaks(cycles: int) -> dict[str, object]:
    """The leak loop, in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/leaks.py"), "--cycles", str(cycles)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    lines = done.stdout.splitlines()
    failed = {"kind": "leaks", "target": "start-stop", "executions": 0, "result": f"exit {done.returncode}"}
    found: dict[str, object] = json.loads(lines[-1]) if lines else failed
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10, help="for all targets together (10)")
    parser.add_argument("--target", choices=[t.name for t in TARGETS], help="only this one")
    parser.add_argument(
        "--cycles", type=int, default=200, help="starts and stops of the leak loop (200; 0: none)"
    )
    parser.add_argument("--dry", action="store_true", help="add nothing to the ledger")
    options = parser.parse_args()
    chosen = [t for t in TARGETS if options.target in (None, t.name)]
    worst = 0
    share = options.minutes * 60 / len(chosen)
    runs = [lambda: leaks(options.cycles)] * bool(options.cycles and not options.target)
    for run in [*runs, *(partial(soak, target, share) for target in chosen)]:
        line = run()
        what = "cycles" if line["kind"] == "leaks" else "datagrams"
        print(f"{line['target']:10} {line['executions']:>12,} {what:9}  {line['result']}", flush=True)
        worst |= line["result"] != "ok"
        if not options.dry:
            ledger.add(line)
    return worst


if __name__ == "__main__":
    sys.exit(main())
