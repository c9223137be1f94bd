"""What an ENet message costs the server's CPU, next to libenet and pyenet.

Echo, broadcast, joins, refusals, overload, idle peers. The generator (`enet_load.c`)
runs many clients on our own C host, so that it is faster than the servers; its own rate
bounds the rates, not the CPU per message. libenet serves at most 4,095 peers, so the row
of 10,000 has nobody beside it, and it passes a CONNECT that it has no place for by in
silence, so ours, which answers, is held against libenet's cost of a join. Needs
libenet-dev; pyenet where it is installed (a dash: each time it lost connections).

A run in which another's server lost connections is done again, at most MOST_REPEATS times for each
server in a row of the table; its cell says how often. One of ours that does so ends the bench.
"""

from __future__ import annotations

import importlib.machinery
import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness as h

PEERS = h.ROOT / "bench/peers"
LIBENET = h.Contender("libenet", (str(h.BUILD / "enet"), "4095"))
OURS = h.Contender("toolips_udp", (sys.executable, str(PEERS / "enet.py")))
FULL = h.Contender("toolips_udp", (*OURS.command, "1000"))
WORKING = h.Contender("toolips_udp", (*OURS.command, "1000", "work"))
# -P: the folder of the script holds an enet.py of ours
PYENET = h.Contender("pyenet", (sys.executable, "-P", str(PEERS / "enet_py.py"), "4095"))
MOST_REPEATS = 3
PER_MESSAGE, PER_JOIN, PER_ASK = "cpu_us_per_message", "cpu_us_per_join", "cpu_us_per_ask"
ROWS: list[tuple[str, str, str, float]] = [
    ("100 peers x 4 in flight", "100 4 {s} echo", PER_MESSAGE, 1.0),
    ("1,000 peers x 1", "1000 1 {s} echo", PER_MESSAGE, 0.5),
    ("4,000 peers x 1", "4000 1 {s} echo", PER_MESSAGE, 0.3),
    ("200 bytes broadcast to 1,000 peers", "1000 1 {s} broadcast", PER_MESSAGE, 0.5),
    ("join and leave, 50 at a time", "50 1 {s} join", PER_JOIN, 1.5),
]
OVERLOAD = {2: 0.80, 5: 0.70}
"""Goodput over peak with a Python handler of some 20 us, by overload factor."""
Sample = dict[str, object]


def build() -> None:
    """The generator and the libenet server."""
    h.BUILD.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CC", "cc").split()
    flags = ["-O2", "-std=gnu11", "-D_GNU_SOURCE", f"-I{h.ROOT}/native"]
    sources = sorted(str(source) for source in (h.ROOT / "native").glob("enet_*.c"))
    load = [str(h.ROOT / "bench/enet_load.c"), *sources, "-o", str(h.BUILD / "enet_load")]
    peer = [str(PEERS / "enet.c"), "-lenet", "-o", str(h.BUILD / "enet")]
    for command in (load, peer):
        subprocess.run([*compiler, *flags, *command], check=True)


def once(contender: h.Contender, options: str) -> Sample:
    """One run of the generator against a fresh server."""
    with h.Served(contender) as served:
        return load(served, contender.name, options)


def load(served: h.Served, name: str, options: str) -> Sample:
    command = [str(h.BUILD / "enet_load"), str(served.port), str(served.process.pid), *options.split()]
    done = subprocess.run(h.pinned(h.CLIENT_CORE, command), capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: Sample = json.loads(done.stdout)
    if found["broken"]:
        raise Broke(f"{name}: {found['broken']} connections broke during {options!r}")
    return found


class Broke(SystemExit):
    """A server lost connections that it should have kept."""


def number(sample: Sample, key: str) -> float:
    return float(sample[key])  # type: ignore[arg-type]


def beside(
    name: str, options: str, key: str, target: float, rounds: int, raw: dict[str, object]
) -> list[str]:
    """A row of ours next to libenet, and next to pyenet where that is installed."""
    contenders = [OURS, LIBENET] + [PYENET] * (key == PER_MESSAGE and have_pyenet())
    found: dict[str, dict[int, Sample]] = {c.name: {} for c in contenders}
    again = dict.fromkeys(found, 0)
    for each in range(rounds):
        for contender in contenders if each % 2 == 0 else reversed(contenders):
            if contender is PYENET and each > 1:
                continue  # two rounds show where it stands
            try:
                sample = found[contender.name][each] = kept(contender, options, again)
            except Broke as error:
                if contender is OURS:
                    raise
                print(error, file=sys.stderr)  # a round without it
                continue
            print(f"  {name}: {contender.name} {sample[key]}", file=sys.stderr)
    raw[name] = {who: list(runs.values()) for who, runs in found.items()} | {"repeats": again}
    ours, libenet = found[OURS.name], found[LIBENET.name]
    others = [cell(found.get(c.name, {}), key, again.get(c.name, 0)) for c in (LIBENET, PYENET)]
    line = [name, cell(ours, key, 0), *others]
    pairs = [(number(ours[each], key), number(theirs, key)) for each, theirs in libenet.items()]
    if not pairs:
        return [*line, "-", f"{target:.2f}", "libenet lost connections each time"]
    ratio = h.Spread.of(mine / theirs for mine, theirs in pairs)
    return [*line, str(ratio), f"{target:.2f}", h.verdict(ratio, target)]


def kept(contender: h.Contender, options: str, again: dict[str, int]) -> Sample:
    """One run in which no connection broke: another's server gets further tries, counted in `again`."""
    while True:
        try:
            return once(contender, options)
        except Broke as error:
            if contender is OURS or again[contender.name] >= MOST_REPEATS:
                raise
            again[contender.name] += 1
            print(f"  {error} Repeated ({again[contender.name]} of {MOST_REPEATS}).", file=sys.stderr)


def cell(runs: dict[int, Sample], key: str, again: int) -> str:
    """Median and spread; a dash: not one run in which it kept its connections."""
    spread = str(h.Spread.of(h.column(list(runs.values()), key))) if runs else "-"
    return f"{spread}, {again} repeated" if again else spread


def have_pyenet() -> bool:
    """Whether pyenet is installed; this folder's own enet.py is not it."""
    return any(
        importlib.machinery.PathFinder.find_spec("enet", [path])
        for path in sys.path
        if "site-packages" in path
    )


def refused(rounds: int, seconds: float, raw: dict[str, object]) -> list[str]:
    """CONNECTs that a full server refuses with a reason, in parts of what a join costs libenet."""
    mine = [once(FULL, f"1000 50 {seconds} refused") for _ in range(rounds)]
    joins: list[Sample] = raw["join and leave, 50 at a time"][LIBENET.name]  # type: ignore[index]
    again: dict[str, int] = {LIBENET.name: 0}
    full = h.Contender(LIBENET.name, (LIBENET.command[0], "1000"))
    raw["refused"] = mine
    raw["refused, libenet's silence"] = kept(full, f"1000 50 {seconds} refused", again)
    if not joins:
        raise SystemExit(
            "libenet lost connections in each round of joins: nothing to hold a refusal against."
        )
    ratio = h.Spread.of(number(a, PER_ASK) / number(b, PER_JOIN) for a, b in zip(mine, joins, strict=False))
    figures = [str(h.Spread.of(h.column(mine, PER_ASK))), str(h.Spread.of(h.column(joins, PER_JOIN)))]
    return [
        "a CONNECT refused with its reason, beside a join",
        *figures,
        "-",
        str(ratio),
        "0.50",
        h.verdict(ratio, 0.5),
    ]


def overload(rounds: int, seconds: float, raw: dict[str, object]) -> list[list[str]]:
    """Answers a second when more comes than can be answered, over the most that a closed loop gets."""
    shares: dict[int, list[float]] = {factor: [] for factor in OVERLOAD}
    kept = []
    for _ in range(rounds):
        with h.Served(WORKING) as served:
            closed = load(served, WORKING.name, f"200 4 {seconds} echo")
            peak = number(closed, "rate")
            for factor in OVERLOAD:
                found = load(served, WORKING.name, f"200 {round(peak * factor / 1000)} {seconds} open")
                shares[factor].append(number(found, "rate") / peak)
                kept.append({"peak": peak, "factor": factor, **found})
                print(
                    f"  overload x{factor}: peak {peak:,.0f}/s, goodput {shares[factor][-1]:.0%}",
                    file=sys.stderr,
                )
    raw["overload"] = kept
    rows = []
    for factor, target in OVERLOAD.items():
        spread = h.Spread.of(shares[factor])
        verdict = "met" if spread.low >= target else "missed" if spread.high < target else "inside the noise"
        rows.append(
            [
                f"goodput at {factor} x peak, 20 us handler",
                str(spread),
                "-",
                "-",
                "-",
                f">= {target:.2f}",
                verdict,
            ]
        )
    return rows


def idle(rounds: int, seconds: float, raw: dict[str, object]) -> list[list[str]]:
    """Ten thousand who say nothing but what keeps their connections."""
    many = [once(OURS, f"10000 1 {max(seconds, 3)} idle") for _ in range(rounds)]
    raw["10,000 idle"] = many
    core = h.Spread.of(h.column(many, "core"))
    size = h.Spread.of(number(s, "rss_per_peer") / 1024 for s in many)
    return [
        ["10,000 idle peers, share of a core", str(core), "-", "-", "-", "0.15", h.verdict(core, 0.15)],
        ["10,000 idle peers, KiB each", str(size), "-", "-", "-", "4.00", h.verdict(size, 4.0)],
    ]


def main() -> None:
    parser = h.arguments(__doc__)
    parser.set_defaults(seconds=0.8)
    options = parser.parse_args()
    rounds, seconds = options.rounds, options.seconds
    build()
    h.quiet_warning()
    table = [["work", "CPU us each", "libenet's", "pyenet's", "ratio", "target", ""]]
    raw: dict[str, object] = {}
    for name, work, key, target in ROWS:
        table.append(beside(name, work.format(s=seconds), key, target, rounds, raw))
    table.append(refused(rounds, seconds, raw))
    table += overload(min(rounds, 3), seconds, raw)
    table += idle(min(rounds, 3), seconds, raw)
    settings = {"rounds": rounds, "seconds": seconds, "server core": 0, "generator core": 1}
    if options.dry:
        print(h.markdown(table))
    else:
        h.save("enet", "ENet over loopback: server CPU per message", table, raw, settings)


if __name__ == "__main__":
    main()
