"""Arena: ships, gems and lasers, authoritative at 60 Hz.

    python -m toolips_udp run examples/game/server.py --udp 127.0.0.1:2000 --http 127.0.0.1:8000
    python -m examples.game.bots 20

and a browser at http://127.0.0.1:8000/ (HTTP needs the extra `http`; without --http it is not asked for).
A lobby and two arenas. Clients send inputs and get 20 snapshots a second, as
differences and only of what is near. Shots are judged by what the shooter saw.
The rules (rules.py) are loaded anew when the file changes, in the middle of a match.
"""

import hmac
import importlib.util
import logging
import os
import secrets
import time
from collections import Counter
from itertools import count
from pathlib import Path

from msgspec import Struct

from toolips_udp import UDP, Extension, mount, start
from toolips_udp.game import (
    Enet,
    Game,
    History,
    InputMap,
    Lag,
    Near,
    Recorder,
    RoomFull,
    Snapshots,
    WebSocket,
    counter,
    dial,
    fixed,
    flag,
    number,
)

HERE = Path(__file__).parent
log = logging.getLogger("arena")


def load_rules(path=HERE / "rules.py"):
    """The rules as they are in the file now, tried out for a few ticks before they are used."""
    spec = importlib.util.spec_from_file_location("arena_rules", path)
    rules = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rules)
    trial = rules.Match(1)
    trial.join(1)
    for _ in range(10):
        trial.play(1, keys.unpack(keys.idle), lambda player: None)
        trial.end_tick()
    return rules


game = Game(Enet(), WebSocket("/play"), channels=2, codec="json", resume=15.0, dialect="godot3")
page = mount("/", HERE / "page")
keys = InputMap(buttons=("left", "right", "thrust", "brake", "fire"))
rules = load_rules()
UNIT = rules.UNIT
ships = Snapshots(
    kind=flag(), x=fixed(-rules.HALF, rules.HALF, 1), y=fixed(-rules.HALF, rules.HALF, 1), turn=dial(10),
    vx=fixed(-400, 400, 1), vy=fixed(-400, 400, 1), hp=fixed(0, 100, 1), score=counter(12), shots=number(4),
    hz=20, near=Near(30.0 * UNIT),
)  # fmt: skip
KEY = os.environ.get("ARENA_KEY") or secrets.token_urlsafe(12)
RECORDS = os.environ.get("ARENA_RECORDS")
INTERPOLATION = 2 / ships.hz
BARS = 12
stopwatch = time.perf_counter  # a simulated match puts a still one here: its bytes depend on the seed alone
seeds = count(int(os.environ.get("ARENA_SEED", "1")))


@game.message(1)
class Hello(Struct):
    name: str


@game.message(2)
class Go(Struct):
    room: str


@game.message(3)
class Weather(Struct):
    latency: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    rate: float = 0.0


@game.message(4)
class Kick(Struct):
    peer: int
    key: str


@game.message(10)
class Status(Struct):
    """What the page shows beside the field, once a second."""

    room: str
    rooms: list[str]
    present: dict[str, str]
    players: dict[str, str]
    ticks: list[int]
    worst: float


class Arena:
    """One arena: the match, what the clients are told of it, and its last second."""

    def __init__(self):
        self.seed = next(seeds)
        self.match = rules.Match(self.seed)
        self.entities, self.gems, self.peers = {}, {}, {}
        self.history = History(hz=rules.HZ)
        self.work, self.worst = Counter(), 0.0
        self.last, self.events = {}, []
        self.file = open(f"{RECORDS}/arena-{self.seed}.rec", "wb") if RECORDS else None  # noqa: SIM115
        self.recorder = Recorder(self.file, rules.VERSION, self.seed) if self.file else None

    def past(self, tick, peer):
        """A function that tells what a shot of this peer met, as the peer saw it."""

        def look(player):
            own = self.entities[player]
            view = self.history.view(
                tick.number, peer.feedback.rtt, INTERPOLATION, max(peer.feedback.lead, 0)
            )
            x, y, turn = self.match.state["ships"][player]["body"][:3]
            hit = self.history.shot(
                view, x, y, rules.COS[turn], rules.SIN[turn], reach=rules.REACH * UNIT,
                radius=rules.RADIUS * UNIT, skip=[own.id],
            )  # fmt: skip
            target = next((p for p, e in self.entities.items() if hit and e.id == hit.id), 0)
            self.note(player, "hit", target.to_bytes(4, "big"))
            return target

        return look

    def note(self, player, what, data=b""):
        """Something that goes into the record of this tick."""
        if self.recorder is not None:
            self.events.append((player, what, data))


arenas = game.room("arena:*", capacity=64, state=Arena, linger=60.0)
LOBBY, NAMES = "lobby", ("lobby", "arena:1", "arena:2")


@game.on_join
def joined(peer):
    peer.presence = {"name": f"player {peer.id}"}
    peer.enter(game.room(LOBBY))
    status(peer)


@game.on(Hello)
def hello(peer, it):
    peer.presence = {"name": "".join(c for c in it.name if c.isprintable())[:16] or f"player {peer.id}"}


@game.on(Go)
def go(peer, it):
    if it.room in NAMES and (peer.room is None or peer.room.name != it.room):
        try:
            peer.enter(game.room(it.room))
        except RoomFull as full:
            log.info("%s stays: %s", peer, full)
        status(peer)


@game.on(Weather)
def weather(peer, it):
    """The player's own bad network; values are cut to what makes sense."""
    lag = peer.get("lag") or Lag(game, peer, seed=peer.id)
    peer["lag"] = lag
    lag.set(
        latency=min(max(it.latency, 0.0), 1.0), jitter=min(max(it.jitter, 0.0), 1.0),
        loss=min(max(it.loss, 0.0), 0.9), rate=max(it.rate, 1024.0) if it.rate > 0 else None,
    )  # fmt: skip


@game.on(Kick)
def kick(peer, it):
    """From the page of who started the server: the key is in its address."""
    target = game.peers.get(it.peer)
    if target is not None and hmac.compare_digest(it.key.encode(), KEY.encode()):
        log.info("%s is kicked by %s", target, peer)
        target.kick(1)


@arenas.on_join
def spawn(room, peer):
    arena = room.state
    arena.match.join(peer.id)
    arena.peers[peer.id] = peer
    arena.entities[peer.id] = ships.add(room, owner=peer)
    arena.note(peer.id, "join")


@arenas.on_leave
def gone(room, peer):
    arena = room.state
    arena.match.leave(peer.id)
    arena.peers.pop(peer.id, None)
    arena.last.pop(peer.id, None)
    ships.remove(room, arena.entities.pop(peer.id))
    arena.note(peer.id, "leave")


@arenas.tick(hz=rules.HZ)
def step(room, tick):
    began = stopwatch()
    arena = room.state
    for player, peer in list(arena.peers.items()):
        i = keys.at(peer, tick)
        if arena.recorder is not None:
            pressed = keys.pack(**{name: getattr(i, name) for name in keys.buttons})
            if arena.last.get(player) != pressed:
                arena.last[player] = pressed
                arena.note(player, "input", pressed)
        arena.match.play(player, i, arena.past(tick, peer))
    arena.match.end_tick()
    show(room, arena)
    arena.history.record(
        tick.number, [e for p, e in arena.entities.items() if not arena.match.state["ships"][p]["away"]]
    )
    ships.send(room, tick)
    keep(arena, tick)
    took = (stopwatch() - began) * 1000
    arena.work[min(int(took * 4), BARS - 1)] += 1
    arena.worst = max(arena.worst, took)


def show(room, arena):
    """Put the match's state into what the clients are told."""
    state = arena.match.state
    for player, entity in arena.entities.items():
        ship = state["ships"][player]
        entity.x, entity.y, entity.turn, entity.vx, entity.vy = ship["body"]
        entity.hp, entity.score, entity.shots = ship["hp"], ship["score"], ship["shots"]
        entity.teleport = entity.teleport or ship["jump"]
    for name in arena.gems.keys() - state["gems"].keys():
        ships.remove(room, arena.gems.pop(name))
    for name in state["gems"].keys() - arena.gems.keys():
        x, y = state["gems"][name]
        arena.gems[name] = ships.add(room, kind=1, x=x, y=y)


def keep(arena, tick):
    """Write this tick's events, and once a second the state's hash."""
    if arena.recorder is not None:
        done = arena.match.state["tick"] - 1
        arena.recorder.tick(done, arena.events)
        if done % rules.HZ == rules.HZ - 1:
            arena.recorder.check(done, arena.match.hash())
            arena.file.flush()
        arena.events = []


def status(peer):
    """Tell a peer where it is and who else is."""
    room = peer.room
    arena = room.state if isinstance(room.state, Arena) else None
    names = {other.id: other.presence.get("name", "") for other in room.members}
    peer.send(
        Status(
            room=room.name,
            rooms=list(NAMES),
            present={str(id): name for id, name in names.items()},
            players={str(e.id): names.get(p, "") for p, e in arena.entities.items()} if arena else {},
            ticks=[arena.work[n] for n in range(BARS)] if arena else [],
            worst=arena.worst if arena else 0.0,
        )
    )


def every_second():
    for peer in list(game.peers.values()):
        if peer.room is not None:
            status(peer)
    for room in arenas.rooms:
        room.state.work.clear()
        room.state.worst = 0.0


def reload_rules(path=HERE / "rules.py"):
    """Take the rules as they are now; when they do not work, the old ones go on and the error is told once."""
    global rules
    try:
        fresh = load_rules(path)
        matches = [
            (room.state, fresh.Match(room.state.seed, room.state.match.state)) for room in arenas.rooms
        ]
    except Exception:
        log.exception("the new rules do not work; the old ones go on")
        return False
    rules = fresh
    for arena, match in matches:
        arena.match = match
    log.info("new rules, version %s", fresh.VERSION)
    return True


_stamp = [(HERE / "rules.py").stat().st_mtime_ns]


def watch():
    stamp = (HERE / "rules.py").stat().st_mtime_ns
    if stamp != _stamp[0]:
        _stamp[0] = stamp
        reload_rules()


class Clockwork(Extension):
    """What happens by the clock, from the server's start on."""

    def on_start(self, server):
        server.every(1.0, every_second)
        server.every(0.5, watch)
        web = next((a for mode, a in server.addresses.items() if mode.name == "HTTP"), None)
        if web is not None:
            print(f"play at http://{web}/ or, with the right to kick, at http://{web}/?key={KEY}", flush=True)


clockwork = Clockwork()

if __name__ == "__main__":
    start(UDP, __name__, "127.0.0.1:2000")
