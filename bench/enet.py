"""What an ENet message costs the server's CPU, next to libenet: echo, broadcast, joins, idle peers.

The generator (`enet_load.c`) runs many clients on our own C host, so that it is
faster than both servers; its own rate bounds the rates, not the CPU per message.
libenet serves at most 4,095 peers, so the row of 10,000 has nobody beside it.
Needs libenet-dev.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness as h

HOST = "enet_host enet_half enet_receive enet_send enet_memory enet_wire enet_range enet_loose"
LIBENET = h.Contender("libenet", (str(h.BUILD / "enet"), "4095"))
OURS = h.Contender("toolips_udp", (sys.executable, str(h.ROOT / "bench/peers/enet.py")))
PER_MESSAGE, PER_JOIN = "cpu_us_per_message", "cpu_us_per_join"
ROWS: list[tuple[str, str, str, float]] = [
    ("100 peers x 4 in flight", "100 4 {s} echo", PER_MESSAGE, 1.0),
    ("1,000 peers x 1", "1000 1 {s} echo", PER_MESSAGE, 0.5),
    ("4,000 peers x 1", "4000 1 {s} echo", PER_MESSAGE, 0.3),
    ("200 bytes broadcast to 1,000 peers", "1000 1 {s} broadcast", PER_MESSAGE, 0.5),
    ("join and leave, 50 at a time", "50 1 {s} join", PER_JOIN, 1.5),
]


def build() -> None:
    """The generator and the libenet server."""
    h.BUILD.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CC", "cc").split()
    flags = ["-O2", "-std=gnu11", "-D_GNU_SOURCE", f"-I{h.ROOT}/native"]
    sources = [f"{h.ROOT}/native/{name}.c" for name in HOST.split()]
    load = [str(h.ROOT / "bench/enet_load.c"), *sources, "-o", str(h.BUILD / "enet_load")]
    peer = [str(h.ROOT / "bench/peers/enet.c"), "-lenet", "-o", str(h.BUILD / "enet")]
    for command in (load, peer):
        subprocess.run([*compiler, *flags, *command], check=True)


def once(contender: h.Contender, options: str) -> dict[str, object]:
    with h.Served(contender) as served:
        command = [str(h.BUILD / "enet_load"), str(served.port), str(served.process.pid), *options.split()]
        done = subprocess.run(h.pinned(h.CLIENT_CORE, command), capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise SystemExit(done.stderr)
        found: dict[str, object] = json.loads(done.stdout)
        if found["broken"]:
            raise SystemExit(f"{contender.name}: {found['broken']} connections broke during {options!r}")
        return found


def row(
    name: str, pairs: list[tuple[dict[str, object], dict[str, object]]], key: str, target: float
) -> list[str]:
    mine, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    ratio = h.ratio(mine, theirs, key)
    figures = [str(h.Spread.of(h.column(side, key))) for side in (mine, theirs)]
    return [name, *figures, str(ratio), f"{target:.2f}", h.verdict(ratio, target)]


def main() -> None:
    options = h.arguments(__doc__).parse_args()
    build()
    h.quiet_warning()
    table = [["work", "CPU us each", "libenet's", "ratio", "target", ""]]
    raw: dict[str, object] = {}
    for name, load, key, target in ROWS:
        pairs = []
        for number in range(options.rounds):
            order = [OURS, LIBENET] if number % 2 == 0 else [LIBENET, OURS]
            found = {c.name: once(c, load.format(s=options.seconds)) for c in order}
            pairs.append((found[OURS.name], found[LIBENET.name]))
            print(f"  {name}: {[f'{side[key]:.2f}' for side in pairs[-1]]}", file=sys.stderr)
        raw[name] = pairs
        table.append(row(name, pairs, key, target))
    many = [once(OURS, f"10000 1 {max(options.seconds, 3)} idle") for _ in range(options.rounds)]
    raw["10,000 idle"] = many
    core = h.Spread.of(h.column(many, "core"))
    size = h.Spread.of(float(s["rss_per_peer"]) / 1024 for s in many)  # type: ignore[arg-type]
    table.append(["10,000 idle peers, share of a core", str(core), "-", "-", "0.15", h.verdict(core, 0.15)])
    table.append(["10,000 idle peers, KiB each", str(size), "-", "-", "4.00", h.verdict(size, 4.0)])
    settings = {"rounds": options.rounds, "seconds": options.seconds, "server core": 0, "generator core": 1}
    if options.dry:
        print(h.markdown(table))
    else:
        h.save("enet", "ENet over loopback: server CPU per message", table, raw, settings)


if __name__ == "__main__":
    main()
