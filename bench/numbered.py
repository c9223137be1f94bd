"""Numbered requests at a steady rate, each matched with its reply: what kill.py, reload.py and stop.py stand on.

A client of several sockets in this process, on the client core. Each request is a
number; the server answers `pid number`. Open loop: requests leave on time whether
or not replies come.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from pathlib import Path

import harness as h

MODULE = """
import os
from toolips_udp import handler

PID = b"%d " % os.getpid()

@handler
def main(c):
    c.respond(PID + c.packet)
"""
SCRIPT = """
import json, sys
from toolips_udp import UDP, start
if __name__ == "__main__":
    server = start(UDP, sys.argv[1], "127.0.0.1:0", workers=int(sys.argv[2]), control=False, drain=5.0,
                   **json.loads(sys.argv[3]))
    def say(**what):
        print(json.dumps(what), flush=True)
    def pids():
        return getattr(server, "pids", [])
    say(port=server.address.port, pids=pids())
    for line in sys.stdin:
        if line.strip() == "reload":
            try:
                server.reload()
                say(ok=True)
            except Exception as error:
                say(ok=False, error=str(error)[:200])
        elif line.strip() == "spare":
            say(spare=server.group.spare is not None, pids=pids())
        else:
            say(pids=pids(), **dict(server.counters))
    server.wait()
    server.stop()
    sys.exit(server.exit_code)
"""


class Supervised:
    """A server of `workers` processes in a process of its own."""

    def __init__(self, workers: int, module: str = MODULE, **settings: object) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.module = Path(self.folder.name) / "served.py"
        self.module.write_text(module)
        script = Path(self.folder.name) / "script.py"
        script.write_text(SCRIPT)
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(self.module), str(workers), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=h.environment(),
        )
        told = self._hear()
        self.port, self.pids = told["port"], told["pids"]

    def _hear(self) -> dict[str, object]:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, what: str = "") -> dict[str, object]:
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return self._hear()

    def close(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(30)
        self.process.stdin.close()
        self.process.stdout.close()
        self.folder.cleanup()
        return code


class Client(threading.Thread):
    """Sends `rate` numbered requests per second over `sockets` sockets until `stop`; keeps every time."""

    def __init__(self, port: int, rate: float, sockets: int = 16) -> None:
        super().__init__(daemon=True)
        self.rate = rate
        self.sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(sockets)]
        for each in self.sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            each.connect(("127.0.0.1", port))
            each.setblocking(False)
        self.sent = array("d")
        """When request n left."""
        self.heard = array("d")
        """When its reply came; 0.0: not yet."""
        self.by = array("i")
        """Which process it came from."""
        self.answered = 0
        self.wrong = 0
        self.refused = 0
        self.over = threading.Event()
        self._poll = select.epoll()
        for each in self.sockets:
            self._poll.register(each.fileno(), select.EPOLLIN)
        self._by_fd = {each.fileno(): each for each in self.sockets}

    def socket_of(self, number: int) -> int:
        return number % len(self.sockets)

    def run(self) -> None:
        began = time.monotonic()
        number = 0
        while not self.over.is_set():
            due = int((time.monotonic() - began) * self.rate)
            for _ in range(min(due - number, 256)):
                self.ask(number)
                number += 1
            self._take(0.0005)

    def ask(self, number: int) -> None:
        """Send request `number`, the next one."""
        self.sent.append(time.monotonic())
        self.heard.append(0.0)
        self.by.append(0)
        try:
            self.sockets[self.socket_of(number)].send(b"%d" % number)
        except OSError:
            self.refused += 1

    def _take(self, wait: float) -> None:
        for fd, _ in self._poll.poll(wait):
            sock = self._by_fd[fd]
            for _ in range(64):
                try:
                    data = sock.recv(100)
                except OSError:
                    break
                pid, _, number = data.partition(b" ")
                at = int(number)
                if not 0 <= at < len(self.sent) or self.by[at]:
                    self.wrong += 1
                    continue
                self.heard[at], self.by[at] = time.monotonic(), int(pid)
                self.answered += 1

    def stop(self, grace: float = 1.0) -> None:
        self.over.set()
        self.join()
        end = time.monotonic() + grace
        while self.answered < len(self.sent) and time.monotonic() < end:
            self._take(0.01)

    def lost(self) -> list[int]:
        return [number for number, pid in enumerate(self.by) if not pid]

    def close(self) -> None:
        self._poll.close()
        for each in self.sockets:
            each.close()


def peak(port: int, seconds: float = 1.0) -> float:
    """Replies per second with 64 requests always in flight, from one client like those above."""
    client = Client(port, 0)
    number, end, began = 0, time.monotonic() + seconds, time.monotonic()
    while time.monotonic() < end:
        while number - client.answered < 64:
            client.ask(number)
            number += 1
        client._take(0.01)
    client.close()
    return client.answered / (time.monotonic() - began)


def pin_here() -> None:
    """This process on the client core, so that the servers keep the other one mostly to themselves."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[-1]})
