"""What does one echoed datagram cost the server's CPU, next to its peers?

The speed table: 64-byte echo, 8 clients with 16 in flight and 1,000 clients
with 1, against C, asyncio, uvloop and aiofastnet; what async handlers, a
MultiHandler and an extension add; 100,000 client entries; import and start.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness as h

EIGHT = "--sockets 8 --in-flight 16 --size 64"
THOUSAND = "--sockets 1000 --in-flight 1 --size 64"
# one socket of ours that speaks as many clients: the entries are what differs, not the load
ENTRIES = "--sockets 1 --in-flight 128 --size 64"
FEW, MANY = "--addresses 100", "--addresses 100000"

Samples = dict[str, list[dict[str, object]]]


def have(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def once(command: list[str]) -> float:
    pinned = h.pinned(h.SERVER_CORE, command)
    done = subprocess.run(pinned, capture_output=True, text=True, cwd=h.ROOT, env=h.environment())
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(json.loads(done.stdout.splitlines()[-1])["ms"])


IMPORT = (
    "import time; t = time.perf_counter(); import toolips_udp;"
    "import json; print(json.dumps({'ms': (time.perf_counter() - t) * 1e3}))"
)


def life_rows(rounds: int, raw: dict[str, object]) -> list[list[str]]:
    rows = []
    for work, command, target in (
        ("`import toolips_udp`", [sys.executable, "-c", IMPORT], 80.0),
        ("`start` to first answer", [sys.executable, "bench/peers/ours.py", "first"], 150.0),
    ):
        times = [once(command) for _ in range(rounds)]
        raw[work] = times
        spread = h.Spread.of(times)
        rows.append([work, f"{spread} ms", "", "", "", f"<= {target:.0f} ms", h.verdict(spread, target)])
    return rows


def main() -> None:
    options = h.arguments(__doc__).parse_args()
    h.build()
    h.quiet_warning()
    peers = [h.peer_c(), h.peer_c("gso"), h.peer_python("asyncio"), h.peer_python("uvloop")]
    if have("aiofastnet"):
        peers.append(h.peer_python("aiofastnet"))
    mine = [h.ours("sync"), h.ours("async"), h.ours("multi")] if h.have_ours() else []
    tail = f" --seconds {options.seconds}"
    table = [["work", "CPU us per reply", "replies/s", "peer's CPU us", "ratio", "target", ""]]
    raw: dict[str, object] = {}

    def group(name: str, contenders: list[h.Contender], load: str) -> Samples:
        print(f"{name}: {load}{tail}", file=sys.stderr)
        found = h.interleaved(contenders, load + tail, options.rounds)
        raw[name] = found
        return found

    eight = group("8 clients x 16", [*peers, *mine], EIGHT)
    thousand = group("1,000 clients x 1", [h.peer_c(), *peers[3:], *mine[:1]], THOUSAND)
    for peer in peers[1:]:
        table.append(h.row(f"{peer.name} / C echo", eight[peer.name], eight["C echo"], None))
    if mine:
        sync = "toolips_udp sync"
        targets = {"C echo": 0.80, "C echo gso": None, "uvloop": 0.55, "asyncio": 0.12, "aiofastnet": 0.60}
        for peer in peers:
            table.append(
                h.row(f"sync handler / {peer.name}", eight[sync], eight[peer.name], targets[peer.name])
            )
        table.append(
            h.row("1,000 clients x 1: sync handler / C echo", thousand[sync], thousand["C echo"], 1.10)
        )
        for peer in peers[3:]:
            work = f"1,000 clients x 1: sync handler / {peer.name}"
            table.append(h.row(work, thousand[sync], thousand[peer.name], None))
        table.append(
            h.row("async handler that does not wait / sync", eight["toolips_udp async"], eight[sync], 1.10)
        )
        table.append(
            h.row("MultiHandler + passing extension / plain", eight["toolips_udp multi"], eight[sync], 1.15)
        )
        entries = [
            h.ours("named").under("100 entries", FEW),
            h.ours("named").under("100,000 entries", MANY),
            h.peer_c().under("C echo, 100 sources", FEW),
            h.peer_c().under("C echo, 100,000 sources", MANY),
        ]
        found = group("entries", entries, ENTRIES)
        few, many = found["100 entries"], found["100,000 entries"]
        table.append(h.row("MultiHandler, 100,000 entries / 100", many, few, 1.20))
        few, many = found["C echo, 100 sources"], found["C echo, 100,000 sources"]
        table.append(h.row("C echo, 100,000 sources / 100", many, few, None))
        table += life_rows(max(options.rounds, 5), raw)
    settings = {"rounds": options.rounds, "seconds": options.seconds, "server core": 0, "generator core": 1}
    if options.dry:
        print(h.markdown(table))
    else:
        h.save("echo", "One 64-byte echo over loopback: server CPU per reply", table, raw, settings)


if __name__ == "__main__":
    main()
