"""The programs of the game book, as they stand there, each in a world or over real UDP."""

import asyncio
import contextlib
import itertools
import sys
import types

from toolips_udp import UDP, start
from toolips_udp.game import SEQUENCED, UNSEQUENCED, Replica, simulate

ECHO = """
from toolips_udp import UDP, start
from toolips_udp.game import Game

game = Game(channels=2)

@game.on_message
def echo(peer, m):
    peer.send(m.data, m.channel, m.delivery, fragment=True)

if __name__ == "__main__":
    start(UDP, __name__, "127.0.0.1:2000")
"""
CHAT = """
from msgspec import Struct
from toolips_udp.game import Game

game = Game(channels=1)

@game.message(1)
class Say(Struct):
    text: str

@game.message(2)
class Go(Struct):
    room: str

@game.on_join
def welcome(peer):
    peer.enter(game.room("lobby"))

@game.on(Go)
def go(peer, want):
    peer.enter(game.room("chat:" + want.room[:32]))

@game.on(Say)
def say(peer, line):
    peer.room.broadcast(Say(f"{peer.id}: {line.text[:200]}"), exclude=peer)
"""
ARENA = """
from toolips_udp.game import Game, InputMap, Snapshots, fixed

game = Game(channels=2)
keys = InputMap(buttons=("left", "right", "up", "down"))
ships = Snapshots(x=fixed(-64, 64, 1 / 128), y=fixed(-64, 64, 1 / 128), hz=20)
arena = game.room("arena", capacity=64)

@arena.on_join
def spawn(room, peer):
    peer["ship"] = ships.add(room, x=0.0, y=0.0)

@arena.on_leave
def gone(room, peer):
    ships.remove(room, peer["ship"])

@arena.tick(hz=60)
def step(room, tick):
    for peer in room.members:
        i, ship = keys.at(peer, tick), peer["ship"]
        ship.x += (i.right - i.left) * 5.0 * tick.dt
        ship.y += (i.down - i.up) * 5.0 * tick.dt
    ships.send(room, tick)                  # every third tick, delta to what each peer has acked

@game.on_join
def join(peer):
    peer.enter(arena)
"""
SIMULATED = """
from toolips_udp.game import simulate
import chat

def test_every_line_arrives_once_and_in_order_at_ten_percent_loss():
    with simulate.World(seed=7, loss=0.10, latency=0.050, jitter=0.010) as world:
        world.serve(chat)
        ann, bob = world.client(), world.client()              # each runs until on_join has run
        for n in range(100):
            ann.send(chat.Say(str(n)))
        world.run(20.0)                                        # twenty simulated seconds, some 20 real ms
        assert [m.text.split(": ")[1] for m in bob.received(chat.Say)] == [str(n) for n in range(100)]
"""
BOTS = """
import asyncio, itertools, random, sys
from toolips_udp.game import Client
from arena import keys

async def bot(n):
    r = random.Random(n)
    async with Client("127.0.0.1:2000", channels=2) as me:
        for tick in itertools.takewhile(lambda _: me.open, itertools.count()):
            keys.send(me, tick, left=r.random() < .5, up=r.random() < .5)
            await me.sleep(1 / 60)

async def main(count):
    await asyncio.gather(*map(bot, range(count)))

asyncio.run(main(int(sys.argv[1])))
"""


def program(text, name, monkeypatch):
    """The program as a module of this name."""
    made = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, made)
    exec(compile(text, f"{name}.py", "exec"), made.__dict__)
    return made


def test_echo_returns_each_message_on_its_channel_with_its_delivery(monkeypatch):
    with simulate.World(seed=1, latency=0.01) as world:
        world.serve(program(ECHO, "echo", monkeypatch))
        ann = world.client()
        ann.send(b"hello")
        ann.send(b"x" * 5000, 1, SEQUENCED, fragment=True)
        ann.send(b"fx", 1, UNSEQUENCED)
        ann.send(b"y" * 60_000, 1)
        world.run(1.0)
        got = {(m.data, m.channel, m.delivery.name) for m in ann.messages}
        assert got == {
            (b"hello", 0, "RELIABLE"), (b"x" * 5000, 1, "SEQUENCED"), (b"fx", 1, "UNSEQUENCED"),
            (b"y" * 60_000, 1, "RELIABLE"),
        }  # fmt: skip


def test_chat_reaches_the_others_in_the_room_and_nobody_else(monkeypatch):
    chat = program(CHAT, "chat", monkeypatch)
    with simulate.World(seed=2, latency=0.02, loss=0.05) as world:
        world.serve(chat)
        ann, bob, eve = (world.client(channels=1) for _ in range(3))
        eve.send(chat.Go("secret"))
        world.run(1.0)
        ann.send(chat.Say("hi"))
        eve.send(chat.Say("alone"))
        world.run(1.0)
        assert [m.text for m in bob.received(chat.Say)] == ["1: hi"]
        assert ann.received() == [] == eve.received()
        assert sorted(chat.game.rooms) == ["chat:secret", "lobby"]


def test_a_60_hz_room_moves_ships_by_inputs_and_sends_snapshots(monkeypatch):
    arena = program(ARENA, "arena", monkeypatch)
    with simulate.World(seed=3, latency=0.05, loss=0.05) as world:
        world.serve(arena)
        ann = world.client()
        host = world.host(ann)
        ann.replica = Replica(arena.ships, lambda: host.local(world.ns) / 1e9)
        ann.on_message = lambda m: ann.replica.receive(m.data)

        def press(tick=itertools.count()):
            arena.keys.send(ann, next(tick), right=1, up=1)
            if world.now < 4.0:
                world.at(world.now + 1 / 60, press)

        world.at(world.now, press)
        world.run(6.0)
        (ship,) = ann.replica.latest.entities.values()
        assert 15.0 < ship["x"] < 32.0 and -32.0 < ship["y"] < -15.0
        assert ann.replica.latest.number > 90 and ann.replica.refused == 0


def test_the_test_with_the_in_memory_wire_passes_as_it_stands(monkeypatch):
    program(CHAT, "chat", monkeypatch)
    program(
        SIMULATED, "simulated", monkeypatch
    ).test_every_line_arrives_once_and_in_order_at_ten_percent_loss()


def test_bots_play_over_real_udp(monkeypatch):
    arena = program(ARENA, "arena", monkeypatch)
    with start(UDP, arena, "127.0.0.1:0", control=False) as server:
        text = BOTS.replace("127.0.0.1:2000", str(server.address)).replace(
            "asyncio.run(main(int(sys.argv[1])))", ""
        )
        bots = program(text, "bots", monkeypatch)

        async def for_a_second():
            playing = asyncio.create_task(bots.main(5))
            await asyncio.sleep(1.5)
            ships = [peer["ship"] for peer in list(arena.game.peers.values())]
            places = [(ship.x, ship.y) for ship in ships]
            playing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await playing
            return places

        places = asyncio.run(for_a_second())
        assert len(places) == 5 and all(x < 0 and y < 0 for x, y in places)
        assert server.counters["handler_failed"] == 0
