"""What does one echoed line cost the server's CPU, and one idle connection its memory?

A line of 64 bytes over 64 connections, one in flight on each and then sixteen, next to
asyncio streams on uvloop and to a bare uvloop Protocol, which knows nothing of lines
and sends a whole segment back as it came. With one in flight most of the CPU is the
kernel's, for everyone; with sixteen it shows what the programs themselves cost. Memory
is resident memory per idle connection, of 2,000, over what the bare Protocol takes.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness as h

IDLE = 2000


def contender(name: str, kind: str) -> h.Contender:
    return h.Contender(name, (sys.executable, str(h.ROOT / "bench/peers/streams.py"), kind))


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def idle_memory(peer: h.Contender) -> float:
    """Bytes of resident memory per idle connection."""
    with h.Served(peer) as served:
        warm = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(200)]
        for sock in warm:
            sock.sendall(b"x\n")
            assert sock.recv(10) == b"x\n"
        before = resident(served.process.pid)
        kept = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(IDLE)]
        for sock in kept:  # each has been served once, so that everything of it is there
            sock.sendall(b"x\n")
            assert sock.recv(10) == b"x\n"
        after = resident(served.process.pid)
        for sock in warm + kept:
            sock.close()
    return (after - before) / IDLE


def main() -> None:
    options = h.arguments(__doc__).parse_args()
    h.build()
    h.quiet_warning()
    mine = contender("toolips_udp TCP lines", "ours")
    streams, raw = contender("asyncio streams on uvloop", "streams"), contender("raw uvloop Protocol", "raw")
    asked = "--line 64 --connections 64 --in-flight {} --seconds {}"
    found = {
        flight: h.interleaved(
            [mine, streams, raw], asked.format(flight, options.seconds), options.rounds, program="tcp_load"
        )
        for flight in (1, 16)
    }
    table = [["line echo", "ours, us CPU", "ours / s", "theirs, us CPU", "ratio", "target", ""]]
    for flight, peer, target in ((1, streams, 0.7), (1, raw, 1.3), (16, streams, 0.7), (16, raw, None)):
        rounds = found[flight]
        own, other = rounds[mine.name], rounds[peer.name]
        spread = h.ratio(own, other)
        table.append([
            f"/ {peer.name}, {flight} in flight",
            str(h.Spread.of(h.column(own, "server_cpu_us_per_reply"))),
            f"{h.Spread.of(h.column(own, 'rate')).median:,.0f}",
            f"{h.Spread.of(h.column(other, 'server_cpu_us_per_reply')).median:.2f}",
            str(spread),
            "" if target is None else f"<= {target}",
            h.verdict(spread, target),
        ])  # fmt: skip
    memory = [(idle_memory(mine), idle_memory(raw)) for _ in range(3)]
    over = h.Spread.of((a - b) / 1024 for a, b in memory)
    table.append([
        "memory per idle connection, KiB",
        f"{memory[0][0] / 1024:.1f}",
        "",
        f"{memory[0][1] / 1024:.1f}",
        f"{over} more",
        "<= 8 more",
        h.verdict(over, 8),
    ])  # fmt: skip
    if options.dry:
        print(h.markdown(table))
    else:
        h.save(
            "tcp",
            "TCP lines",
            table,
            {"echo": found, "memory": memory},
            {"asked": asked.format("1, 16", options.seconds), "idle": IDLE},
        )


if __name__ == "__main__":
    main()
