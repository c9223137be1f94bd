"""Bad input for games as their servers see it: logs, rooms, tokens, workers that die, rules that do not load."""

import asyncio
import logging
import os
import random
import signal
import sys
import time
from types import SimpleNamespace

import pytest

from toolips_udp import StartError
from toolips_udp.game import Client, Game
from toolips_udp.game.admission import Vanished
from toolips_udp.game.room import RoomFull

RULES = """
import os
from toolips_udp.game import Game
game = Game(ping=0.5, sharded={sharded})
VERSION = {version}

@game.on_message
def answer(peer, m):
    peer.send(b"%d %d " % (VERSION, os.getpid()) + m.data)
"""


def run(story, seconds=30):
    async def told():
        async with asyncio.timeout(seconds):
            return await story()

    return asyncio.run(told())


async def ask(client, data):
    client.send(data)
    return (await client.receive(10)).data


def test_b25_no_text_of_a_client_forges_a_line_and_a_class_of_errors_speaks_once(server, caplog):
    game = Game(max_malformed=0)

    @game.on_message
    def fragile(peer, m):
        raise ValueError(m.data.decode("latin-1") * 50_000)

    caplog.set_level(logging.INFO)
    running = server(game)

    async def story():
        async with Client(running.address) as me:
            for value in range(256):
                me.send(bytes((value,)) + b"\r\n2026 INFO all is well \x1b[2J\0")
            while (
                running.counters["handler_failed"] < 1
                or me.stats.in_flight_commands
                or me.stats.queued_reliable
            ):
                await asyncio.sleep(0.01)

    run(story)
    lines = [r.getMessage() for r in caplog.records if "fragile" in r.getMessage()]
    assert len(lines) == 1, "one line for a class of errors in 30 s"
    for text in (line for r in caplog.records for line in r.getMessage().split("\n")):
        assert len(text) <= 1024 + 100 and all(" " <= letter <= "~" for letter in text)
        assert not text.startswith("2026"), "a line that a client wrote"


def test_b25_every_byte_value_in_a_room_name_and_a_presence_is_data(server, caplog):
    game, seen = Game(), []
    names = game.room("any:*")
    assert names is not None

    @game.on_message
    def enter(peer, m):
        name = "any:" + m.data.decode("latin-1")
        peer.enter(game.room(name))
        peer.presence = {"name": name}
        seen.append(peer.room.name)

    running = server(game)

    async def story():
        async with Client(running.address) as me:
            for start in range(0, 250, 50):  # five rooms: what one peer may open at once
                me.send(bytes(range(start, start + 50)))
            while len(seen) < 5:
                await asyncio.sleep(0.01)

    run(story)
    assert [name[4:].encode("latin-1") for name in seen] == [
        bytes(range(n, n + 50)) for n in range(0, 250, 50)
    ]
    assert all(" " <= letter <= "~" for r in caplog.records for letter in r.getMessage())


def test_b28_a_peer_that_opens_rooms_and_changes_presence_without_end_is_held_to_its_share(server):
    game, full = Game(), []
    assert game.room("r:*") is not None

    @game.on_message
    def enter(peer, m):
        peer.presence = {"n": int(m.data)}
        try:
            game.room("r:" + m.data.decode()).join(peer)
        except RoomFull:
            full.append(peer.id)

    running = server(game)

    async def story():
        async with Client(running.address) as me, Client(running.address) as other:
            other.send(b"0")
            for n in range(3000):
                me.send(b"%d" % (n % 7))
                me.send(b"%d" % n)
                if n % 200 == 0:
                    await asyncio.sleep(0.01)
            while me.stats.in_flight_commands or me.stats.queued_reliable:
                await asyncio.sleep(0.01)
            mine = next(p for p in game.peers.values() if len(p.rooms) > 1)
            assert len(game.rooms) <= 25 and len(mine.rooms) <= game.rooms.most_rooms
            assert len(full) > 2000
            presences = [m async for m in drain(other)]
            assert len(presences) < 200, "ten a second at most"

    run(story)


async def drain(client):
    while True:
        try:
            yield await client.receive(0.05)
        except TimeoutError:
            return


def test_b29_a_million_guessed_tokens_open_nothing():
    malformed, dice = [], random.Random(29)
    game = SimpleNamespace(gone=None, _on={}, agenda=SimpleNamespace(after=lambda *a: None))
    vanished = Vanished(game, 15.0)
    vanished.random = dice.randbytes
    owner = SimpleNamespace(id=1, token=None, send=lambda data: True)
    vanished.joined(owner)
    guesser = SimpleNamespace(id=2, token=None, malformed=lambda why: malformed.append(1))
    message = SimpleNamespace(data=b"")
    near = bytearray(b"\xfe" + owner.token)
    near[16] ^= 1  # all but one bit of it
    for n in range(1_000_000):
        message.data = bytes(near) if n % 1000 == 0 else b"\xfe" + n.to_bytes(16)
        assert vanished.take(guesser, message)
    assert len(malformed) == 1_000_000 and owner.token is not None


def test_b29_sixteen_guesses_end_the_guesser_and_a_token_opens_once_and_only_where_it_was_given(server):
    game, elsewhere = Game(resume=15.0, ping=0.2), Game(resume=15.0)
    one, two = server(game), server(elsewhere)

    async def story():
        async with Client(one.address) as me:
            while me.token is None:
                await asyncio.sleep(0.01)
            token = me.token
            async with Client(two.address, token=token) as there:
                await asyncio.sleep(0.1)
                assert there.open and there.token != token and len(elsewhere.peers) == 1
            thief = Client(one.address)
            async with thief:
                for n in range(16):
                    thief.send(b"\xfe" + n.to_bytes(16))
                while thief.open:
                    await asyncio.sleep(0.01)
                assert thief.leave.word == "malformed"
            assert me.open and await_nothing(game, me)

    def await_nothing(game, me):
        return len(game.peers) == 1 and me.leave is None

    run(story)


@pytest.mark.alone
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", [2, pytest.param(100, marks=pytest.mark.long)])
def test_b33_a_worker_that_is_killed_takes_nobody_elses_players_with_it(server, tmp_path, kills):
    path = tmp_path / "sharded_rules.py"
    path.write_text(RULES.format(sharded=True, version=1))
    running = server(module=str(path), workers=2)

    async def join(homes):
        """A player more, and the worker that has it."""
        client = await Client(running.address).__aenter__()
        homes[client] = int((await ask(client, b"where")).split()[1])

    async def kill_one(homes, dice):
        while running.group.spare is None:  # two kills without a pause are a crash loop, which is another story
            await asyncio.sleep(0.02)
        while len(set(homes.values())) < 2:  # both workers have players
            await join(homes)
        victim = dice.choice(sorted(set(homes.values())))
        os.kill(victim, signal.SIGKILL)
        for n in range(5):
            for client, home in homes.items():
                if home != victim:
                    assert (await ask(client, b"%d" % n)).endswith(b" %d" % n)
        for client in [c for c, home in homes.items() if home == victim]:
            del homes[client]
            client.abandon()
            began = time.monotonic()
            await join(homes)  # whoever had to go can come again
            assert time.monotonic() - began < 2
        assert all(client.open for client in homes)

    async def story():
        homes, dice = {}, random.Random(33)
        for _ in range(10):
            await join(homes)
        for _ in range(kills):
            await kill_one(homes, dice)
            if kills > 4:  # and so are more than 5 in 10 s
                await asyncio.sleep(2.5)
        for client in homes:
            await client.close()

    run(story, 500)


BROKEN = (
    "def (:\n", "raise RuntimeError('no rules today')\n", "import no_such_module_of_rules\n",
    "from toolips_udp.game import Game\ngame = Game(channels=0)\n",
)  # fmt: skip


def test_b34_twenty_broken_reloads_of_a_hundred_disturb_no_match_and_each_is_said_once(
    server, tmp_path, caplog
):
    path = tmp_path / "rules_of_b34.py"
    good = RULES.format(sharded=False, version=1)
    path.write_text(good)
    running = server(module=str(path))

    async def story():
        async with Client(running.address) as me:
            for n in range(20):
                path.write_text(BROKEN[n % len(BROKEN)])
                before = sum("reload failed" in r.getMessage() for r in caplog.records)
                with pytest.raises((StartError, RuntimeError, ImportError, SyntaxError, ValueError)):
                    await asyncio.to_thread(running.reload)
                assert sum("reload failed" in r.getMessage() for r in caplog.records) == before + 1
                assert (await ask(me, b"%d" % n)).startswith(b"1 ")
                assert me.leave is None

    run(story)
    sys.modules.pop("rules_of_b34", None)
