"""Starts and stops servers again and again, and looks at what is left: descriptors, threads, tasks, memory.

    python tests/leaks.py --cycles 200          part of `make soak`, which adds the result to the ledger

One cycle serves UDP with an inline, an async, a threaded and a timed-out handler, a session and a timer, asks
each of them, and stops; each fourth also has TCP, each tenth two worker processes. The first fifth of the
cycles, and not less than ten, is the warm-up. After it no descriptor, thread, task or child may be more than
before, no warning may have been given, and the bytes that malloc has given out may grow by 2 KiB for each cycle, the
noise of caches. Resident memory says less, for glibc keeps what was given back: with its thresholds held low and after
`malloc_trim` it may grow by 16 MiB in all.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import logging
import os
import socket
import sys
import threading
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from toolips_udp import TCP, UDP, start

MODULE = Path(__file__).with_name("leaks_served.py")
SLACK, PER_CYCLE, KEPT = 512 << 10, 2 << 10, 16 << 20
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
BYTES = ("heap", "resident")
LIBC = ctypes.CDLL(None)
ASKED = (b"inline", b"async", b"threaded", b"session", b"timer")


class Mallinfo(ctypes.Structure):
    """What `mallinfo2` tells, in bytes."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


LIBC.mallinfo2.restype = Mallinfo


def give_back_what_is_freed() -> None:
    """Keep glibc from raising its thresholds, after which each arena holds on to 64 MiB that nobody uses."""
    LIBC.mallopt(_MMAP_THRESHOLD, 32 << 10)
    LIBC.mallopt(_TRIM_THRESHOLD, 128 << 10)


def left() -> dict[str, int]:
    """What this process holds now."""
    gc.collect()
    LIBC.malloc_trim(0)
    given = LIBC.mallinfo2()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "tasks": sum(isinstance(each, asyncio.Task) for each in gc.get_objects()),
        "children": len(children),
        "heap": given.uordblks + given.hblkhd,
        "resident": pages * os.sysconf("SC_PAGE_SIZE"),
    }


def cycle(number: int) -> None:
    """One life of a server, with every kind of work in it."""
    workers = 2 if number % 10 == 9 else 1
    modes = (UDP, TCP) if number % 4 == 3 and workers == 1 else UDP
    server = start(modes, str(MODULE), "127.0.0.1:0", threads=3, workers=workers, control=False)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(10)
            client.connect(server.addresses[UDP].sockaddr())
            for word in ASKED:
                client.send(word)
                answer = client.recv(100)
                assert answer == word, (word, answer)
            client.send(b"hang")  # passes its deadline: its thread is replaced and ends later
            client.send(b"hang async")
        if modes is not UDP:
            where = server.addresses[TCP]
            with socket.create_connection((where.host, where.port), timeout=10) as stream:
                stream.sendall(b"inline")
                assert stream.recv(100)
    finally:
        server.stop()
    assert server.exit_code == 0, f"cycle {number} ended with {server.exit_code}"
    assert server.in_flight == 0


def settled(before: dict[str, int] | None = None) -> dict[str, int]:
    """`left`, after threads that hang had time to end."""
    until = time.monotonic() + 10
    while True:
        now = left()
        ended = before is None or all(now[key] <= before[key] for key in before if key not in BYTES)
        if ended or time.monotonic() > until:
            return left()  # again: what the last thread freed had not been given back yet
        time.sleep(0.05)


def run(cycles: int) -> dict[str, object]:
    """The line for the ledger."""
    give_back_what_is_freed()
    warned: list[str] = []
    sys.unraisablehook = lambda seen: warned.append(f"{seen.err_msg or 'ignored'}: {seen.exc_value!r}")
    warnings.simplefilter("always")
    warnings.showwarning = lambda message, kind, *_: warned.append(f"{kind.__name__}: {message}")
    warm = max(10, cycles // 5)
    for number in range(warm):
        cycle(number)
    time.sleep(1.0)
    before = settled()
    for number in range(warm, cycles):
        cycle(number)
    after = settled(before)
    problems = [
        f"{key}: {before[key]} before, {after[key]} after"
        for key in before
        if key not in BYTES and after[key] > before[key]
    ]
    problems += warned[:3]
    grown, resident = (after[key] - before[key] for key in BYTES)
    if grown > SLACK + PER_CYCLE * (cycles - warm):
        problems.append(f"the heap grew by {grown:,} bytes in {cycles - warm} cycles")
    if resident > KEPT:
        problems.append(f"resident memory grew by {resident:,} bytes in {cycles - warm} cycles")
    return {
        "kind": "leaks",
        "target": "start-stop",
        "executions": cycles,
        "grown": grown,
        "resident": resident,
        "result": "; ".join(problems) or "ok",
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cycles", type=int, default=200, help="lives of a server (200)")
    options = parser.parse_args()
    logging.getLogger("toolips_udp").setLevel(logging.CRITICAL)  # workers are told of it too
    line = run(options.cycles)
    print(json.dumps(line))
    return int(line["result"] != "ok")


if __name__ == "__main__":
    sys.exit(main())
