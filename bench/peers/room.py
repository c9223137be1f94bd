"""A room as a contender: ships in a square field, inputs, snapshots twenty times a second of what is near.

usage: python room.py HZ WIDTH. Each line on stdin is answered with one of JSON: what the ticks since the last
line took, how late they began, how many were skipped, and the CPU of this process. Other datagrams are echoed.
"""

from __future__ import annotations

import json
import signal
import sys
import time
import types

import toolips_udp as t
from toolips_udp.game import Game, InputMap, Near, Snapshots, fixed

HZ, WIDTH = float(sys.argv[1]), float(sys.argv[2])
VIEW = 20.0
game = Game(channels=2, max_peers=4000, per_prefix=4000)
keys = InputMap(buttons=("left", "right", "up", "down"))
place = fixed(-WIDTH / 2, WIDTH / 2, 1 / 128)
ships = Snapshots(x=place, y=place, hz=20, near=Near(VIEW))
arena = game.room("arena")
work: list[float] = []
late: list[float] = []
skipped = [0]
clock = time.perf_counter


@arena.on_join
def spawn(room, peer):  # type: ignore[no-untyped-def]
    n = peer.id * 0.618034
    peer["ship"] = ships.add(room, owner=peer, x=(n % 1 - 0.5) * WIDTH, y=(n * 7.13 % 1 - 0.5) * WIDTH)


@arena.on_leave
def gone(room, peer):  # type: ignore[no-untyped-def]
    ships.remove(room, peer["ship"])


@arena.tick(hz=HZ)
def step(room, tick):  # type: ignore[no-untyped-def]
    began = clock()
    for peer in room.members:
        i, ship = keys.at(peer, tick), peer["ship"]
        ship.x += (i.right - i.left) * 5.0 * tick.dt
        ship.y += (i.down - i.up) * 5.0 * tick.dt
    ships.send(room, tick)
    work.append((clock() - began) * 1e3)
    late.append(tick.late * 1e3)
    skipped[0] += tick.skipped


@game.on_join
def join(peer):  # type: ignore[no-untyped-def]
    peer.enter(arena)


@t.handler
def echo(c):  # type: ignore[no-untyped-def]
    c.respond(c.packet)


def window(since: tuple[float, float]) -> dict[str, object]:
    """The ticks since the last one."""
    cpu, at = since
    ordered, later = sorted(work), sorted(late)

    def mark(values: list[float], share: float) -> float:
        return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0

    told: dict[str, object] = {
        "ticks": len(work), "skipped": skipped[0], "members": len(arena.members),
        "work_p50": mark(ordered, 0.5), "work_p99": mark(ordered, 0.99), "work_max": mark(ordered, 1.0),
        "late_p50": mark(later, 0.5), "late_p99": mark(later, 0.99), "late_max": mark(later, 1.0),
        "core": (time.process_time() - cpu) / (time.monotonic() - at), "seconds": time.monotonic() - at,
    }  # fmt: skip
    work.clear(), late.clear()
    skipped[0] = 0
    return told


if __name__ == "__main__":
    module = types.ModuleType("bench_room")
    module.game, module.echo = game, echo  # type: ignore[attr-defined]
    server = t.start(t.UDP, module, "127.0.0.1:0")

    def stop(*_: object) -> None:
        server.stop(wait=False)
        raise SystemExit

    signal.signal(signal.SIGTERM, stop)
    print(f"ready {server.address.port}", flush=True)
    since = time.process_time(), time.monotonic()
    for _ in sys.stdin:
        print(json.dumps(window(since)), flush=True)
        since = time.process_time(), time.monotonic()
    server.wait()
