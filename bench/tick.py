"""How late does a tick begin and what does it cost: alone, beside datagrams, and with players in the room.

    python bench/tick.py [--rounds 5] [--seconds 5] [--only WORD] [--dry]

Lateness: a 60 Hz tick as games are driven (a timerfd through add_reader, set early by what waking up takes), beside
the loop's own timers, which count whole ms; both in turn in one process on one uvloop. Rooms: `peers/room.py` on core
0, all players in `tick_load.c` on core 1, over UDP; each sends an input per tick, spread over the tick, and
acknowledges snapshots. Making: one snapshot for each of 700 clients by native/snapshot.c and by its Python twin, from
the same frames. The row of the reload says how long Arena stands still.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import time
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace

import harness as h
import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent))
from toolips_udp.game import Near, fixed
from toolips_udp.game.making import Made, Plan
from toolips_udp.game.tick import Agenda
from toolips_udp.game.tickdriver import TickDriver

HZ = 60
Sample = dict[str, float]


# ---- lateness ----


async def by_timerfd(seconds: float) -> list[float]:
    """Lateness of each tick in ms, driven as games are."""
    late: list[float] = []
    agenda = Agenda(time.monotonic_ns)
    driver = TickDriver(agenda, asyncio.get_running_loop())
    schedule = agenda.tick(HZ, lambda tick: late.append((time.monotonic_ns() / 1e9 - tick.now) * 1e3))
    await asyncio.sleep(seconds)
    driver.close()
    assert abs(schedule.number - seconds * HZ) <= 3, f"{schedule.number} ticks in {seconds} s"
    return late


async def by_loop_timer(seconds: float) -> list[float]:
    """The same with the loop's own timers."""
    loop, late, count = asyncio.get_running_loop(), [], 0
    start = time.monotonic()

    def tick() -> None:
        nonlocal count
        late.append((time.monotonic() - (start + count / HZ)) * 1e3)
        count += 1
        loop.call_later(max(0.0, start + count / HZ - time.monotonic()), tick)

    tick()
    await asyncio.sleep(seconds)
    return late


def marks(late: list[float]) -> tuple[float, float]:
    """Median and 99th percentile."""
    ordered = sorted(late[2:])
    return statistics.median(ordered), ordered[int(len(ordered) * 0.99)]


def lateness(rounds: int, seconds: float, raw: dict[str, object]) -> list[list[str]]:
    """Idle, beside the loop's timers."""
    both: dict[str, list[tuple[float, float]]] = {"timerfd": [], "loop": []}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for _ in range(rounds):
            both["timerfd"].append(marks(runner.run(by_timerfd(seconds))))
            both["loop"].append(marks(runner.run(by_loop_timer(seconds))))
    raw["lateness"] = both
    rows = []
    for n, (name, limit, share) in enumerate((("median", 0.15, 0.25), ("p99", 1.0, 0.5))):
        mine, theirs = [[each[n] for each in side] for side in both.values()]
        ratio = h.Spread.of(a / b for a, b in zip(mine, theirs, strict=True))
        spread = h.Spread.of(mine)
        rows.append(
            [f"60 Hz idle, lateness {name}, ms", str(spread), f"<= {limit}", h.verdict(spread, limit)]
        )
        rows.append(
            [f"the same over `call_later`'s, {name}", str(ratio), f"<= {share}", h.verdict(ratio, share)]
        )
    return rows


# ---- rooms ----


class Room(h.Served):
    """A room that can be asked how its ticks went."""

    stdin = subprocess.PIPE

    def window(self) -> Sample:
        """What happened since the last call."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        found: Sample = json.loads(self.process.stdout.readline())
        return found


def room(hz: float, width: float) -> Room:
    command = (sys.executable, str(h.ROOT / "bench/peers/room.py"), str(hz), str(width))
    return Room(h.Contender(f"room at {hz:g} Hz", command))


def play(players: int, hz: float, width: float, seconds: float) -> Sample:
    """One room full of players: its window, and what the players saw."""
    with room(hz, width) as served:
        command = [str(h.BUILD / "tick_load"), str(served.port), str(players), str(hz), str(seconds + 2.0)]
        load = subprocess.Popen(h.pinned(h.CLIENT_CORE, command), stdout=subprocess.PIPE, text=True)
        assert load.stdout
        line = load.stdout.readline()
        if line != f"joined {players}\n":
            raise SystemExit(f"only {line!r} of {players} players came in")
        time.sleep(1.0)
        served.window()
        time.sleep(seconds)
        found = served.window()
        seen = json.loads(load.communicate()[0])
    if seen["left"]:
        raise SystemExit(f"{seen['left']} of {players} players lost their connection")
    found["inputs"] = seen["inputs"] / seen["seconds"]
    found["kbit_per_player"] = seen["bytes"] * 8e-3 / seen["seconds"] / players
    return found


ROOMS: list[tuple[str, int, float, float, str, float]] = [
    ("128 Hz, 10 players: work p99, ms", 10, 128, 128, "work_p99", 2.0),
    ("60 Hz, 128 players: share of a core", 128, 60, 128, "core", 0.5),
    ("30 Hz, 700 players in one zone: missed ticks", 700, 30, 128, "skipped", 0.0),
    ("60 Hz, 700 players in one zone: missed ticks", 700, 60, 128, "skipped", 0.0),
]


def rooms(rounds: int, seconds: float, raw: dict[str, object]) -> list[list[str]]:
    """With players."""
    rows = []
    for name, players, hz, width, key, target in ROOMS:
        samples = []
        for _ in range(rounds):
            samples.append(play(players, hz, width, seconds))
            print(f"  {name}: { {k: round(v, 2) for k, v in samples[-1].items()} }", file=sys.stderr)
        raw[name] = samples
        spread = h.Spread.of(s[key] for s in samples)
        core, work = (h.Spread.of(s[k] for s in samples).median for k in ("core", "work_p99"))
        told = f"{spread}; core {core:.0%}, work p99 {work:.1f} ms"
        rows.append([name, told, f"<= {target:g}", h.verdict(spread, target)])
    return rows


def beside(rounds: int, seconds: float, raw: dict[str, object]) -> list[list[str]]:
    """A tick with 20,000 datagrams a second echoed beside it."""
    samples = []
    for _ in range(rounds):
        with room(HZ, 128) as served:
            command = [str(h.BUILD / "load"), f"127.0.0.1:{served.port}", "--rate", "20000", "--sockets", "8"]
            command += ["--seconds", str(seconds + 1.0)]
            load = subprocess.Popen(h.pinned(h.CLIENT_CORE, command), stdout=subprocess.PIPE, text=True)
            time.sleep(0.5)
            served.window()
            time.sleep(seconds)
            samples.append(served.window())
            json.loads(load.communicate()[0])
    raw["beside"] = samples
    spread = h.Spread.of(s["late_p99"] for s in samples)
    return [
        ["60 Hz beside 20,000 datagrams/s, lateness p99, ms", str(spread), "<= 2", h.verdict(spread, 2.0)]
    ]


# ---- making, reloading ----


def making(rounds: int, seconds: float, raw: dict[str, object]) -> list[list[str]]:
    """One snapshot for each of 700 clients, in C and in Python."""
    from toolips_udp._native import snapshot as native

    fields = {"x": fixed(-64, 64, 1 / 128), "y": fixed(-64, 64, 1 / 128)}
    get, near, dice = attrgetter("x", "y"), Near(20.0), random.Random(1)
    things = [
        SimpleNamespace(id=n + 1, teleport=False, _jumps=0, x=dice.uniform(-64, 64), y=dice.uniform(-64, 64))
        for n in range(700)
    ]
    took: dict[str, list[float]] = {"C": [], "Python": []}
    for _ in range(rounds):
        for name, made, plan, nothing in (
            ("C", native.Made, native.Plan(fields, get, near, 1079), (b"", b"")),
            ("Python", Made, Plan(fields, get, near, 1079), ({}, {})),
        ):
            first = made(plan, things)
            bases = [first.body(nothing[0], nothing[1], own)[1] for own in things]
            for thing in things:
                thing.x += dice.uniform(-0.25, 0.25)
            began = time.perf_counter()
            second = made(plan, things)
            for own, base in zip(things, bases, strict=True):
                second.body(nothing[0], base, own)
            took[name].append((time.perf_counter() - began) * 1e3)
    raw["making"] = took
    mine = h.Spread.of(took["C"])
    ratio = h.Spread.of(a / b for a, b in zip(took["C"], took["Python"], strict=True))
    return [
        ["a snapshot for 700 clients, ms", str(mine), "", ""],
        ["the same over the Python twin's", str(ratio), "", h.verdict(ratio, None)],
    ]


def reload(rounds: int, seconds: float, raw: dict[str, object]) -> list[list[str]]:
    """Arena's rules read anew with 60 ships in the match."""
    from examples.game import server as arena

    room = arena.game.room("arena:1")
    for player in range(60):
        room.state.match.join(player)
    took = []
    for _ in range(max(rounds, 5)):
        began = time.perf_counter()
        assert arena.reload_rules()
        took.append((time.perf_counter() - began) * 1e3)
    raw["reload"] = took
    spread = h.Spread.of(took)
    return [["reload of Arena's rules, ms", str(spread), "<= 16.7", h.verdict(spread, 1000 / 60)]]


PARTS = {"lateness": lateness, "beside": beside, "rooms": rooms, "making": making, "reload": reload}


def build() -> None:
    """The generators."""
    h.build()
    sources = sorted(str(source) for source in (h.ROOT / "native").glob("enet_*.c"))
    flags = [*h.CFLAGS, "-Wno-unused-parameter", f"-I{h.ROOT}/native"]
    command = [*os.environ.get("CC", "cc").split(), *flags, str(h.ROOT / "bench/tick_load.c"), *sources]
    subprocess.run([*command, "-o", str(h.BUILD / "tick_load")], check=True)


def main() -> None:
    parser = h.arguments(__doc__)
    parser.set_defaults(seconds=5.0)
    parser.add_argument("--only", choices=PARTS, help="one part")
    options = parser.parse_args()
    h.quiet_warning()
    build()
    raw: dict[str, object] = {}
    table = [["work", "figure", "target", ""]]
    for name, part in PARTS.items():
        if options.only in (None, name):
            table += part(options.rounds, options.seconds, raw)
    if options.dry:
        print(h.markdown(table))
    else:
        h.save(
            "tick", "The tick of a room", table, raw, {"rounds": options.rounds, "seconds": options.seconds}
        )


if __name__ == "__main__":
    main()
