"""A game reloaded in mid-match: new code, the same connections."""

import asyncio
import sys

import pytest

from toolips_udp.game import Client

MODULE = """
from toolips_udp.game import Game
VERSION = {version}
game = Game({settings})
seen = []

@game.on_join
def join(peer):
    seen.append(("join", peer.id))
    peer.data.setdefault("first", VERSION)
    peer.enter(game.room("hall"))

@game.on_leave
def leave(peer, how):
    seen.append(("leave", peer.id, how.word))

@game.on_message
def answer(peer, m):
    text = f"{{VERSION}} {{peer.id}} {{peer['first']}} {{len(peer.room.members)}} "
    peer.send(text.encode() + m.data, m.channel, m.delivery)
"""


@pytest.fixture(autouse=True, params=["native", "pure"])
def both(request, monkeypatch):
    if request.param == "pure":
        monkeypatch.setenv("TOOLIPS_UDP_PURE", "1")


@pytest.fixture
def match(server, tmp_path):
    """A served game, and a function that changes and reloads it."""
    path = tmp_path / "match_that_goes_on.py"

    def write(version, settings="resume=15.0"):
        path.write_text(MODULE.format(version=version, settings=settings))

    write(1)
    running = server(module=str(path))

    async def change(version, **settings):
        write(version, **settings)
        return await asyncio.to_thread(running.reload)

    yield running, change
    sys.modules.pop("match_that_goes_on", None)


def game_of(running):
    return running.manifest.extensions[0]


def run(story, seconds=30):
    async def told():
        async with asyncio.timeout(seconds):
            await story()

    asyncio.run(told())


async def ask(client, data):
    client.send(data)
    return (await client.receive(10)).data


def test_a_reload_in_mid_match_keeps_every_connection_its_id_its_data_and_its_order(match):
    running, change = match

    async def story():
        async with Client(running.address) as ann, Client(running.address) as bob:
            assert (await ask(ann, b"x")).startswith(b"1 ") and (await ask(bob, b"x")).endswith(b" 1 2 x")
            first = await ask(ann, b"x")
            sent = []

            async def talk():
                for n in range(600):
                    ann.send(b"%d" % n)
                    sent.append(n)
                    await asyncio.sleep(0.001)

            talking = asyncio.ensure_future(talk())
            await asyncio.sleep(0.1)
            assert await change(2) == []
            await talking
            answers = [(await ann.receive(10)).data.split() for _ in range(600)]
            assert [int(a[4]) for a in answers] == sent, "exactly once and in order, across the reload"
            assert answers[0][0] == b"1" and answers[-1][0] == b"2"
            assert {a[1] for a in answers} == {first.split()[1]} and {a[2] for a in answers} == {b"1"}
            assert ann.leave is None and bob.leave is None
            assert (await ask(bob, b"still")).endswith(b" 1 2 still")
            seen = sys.modules["match_that_goes_on"].seen
            assert [each[0] for each in seen] == ["join", "join"]
        while len(seen) < 4:
            await asyncio.sleep(0.01)
        assert sorted(each[2] for each in seen[2:]) == ["left", "left"]
        assert len(game_of(running).peers) == 0

    run(story)


def test_limits_of_the_new_code_hold_for_the_old_connections(match):
    running, change = match

    async def story():
        async with Client(running.address) as ann:
            await ask(ann, b"x")
            await change(2, settings="max_message=2000, queue_bytes=1 << 18")
            assert (await ask(ann, bytes(1900)))[:1] == b"2"
            ann.send(bytes(3000))
            while ann.leave is None:
                await asyncio.sleep(0.01)
            assert ann.leave.word == "too_big"

    run(story)


def test_a_token_from_before_the_reload_opens_after_it(match):
    running, change = match

    async def story():
        ann = await Client(running.address).__aenter__()
        number = (await ask(ann, b"x")).split()[1]
        while ann.token is None:
            await asyncio.sleep(0.01)
        await change(2)
        assert (await ask(ann, b"x")).split()[1] == number
        token = ann.token
        async with Client(running.address, token=token) as again:
            while (await ask(again, b"x")).split()[1] != number:
                await asyncio.sleep(0.01)
        ann.abandon()

    run(story)


def test_connections_that_cannot_be_carried_are_told_and_the_log_says_how_many(match, caplog):
    running, change = match

    async def story():
        async with Client(running.address) as ann:
            await ask(ann, b"x")
            await change(2, settings="dialect='godot3'")
            while ann.leave is None:
                await asyncio.sleep(0.01)
            assert ann.leave.word == "stopping"

    run(story)
    assert any(
        "1 connections of the game could not be carried over" in r.getMessage() for r in caplog.records
    )


def test_what_was_banned_stays_banned(match):
    running, change = match

    async def story():
        game_of(running).server.call_soon(game_of(running).bans.add, "127.0.0.1", 60.0)
        await asyncio.sleep(0.05)
        await change(2)
        with pytest.raises(ConnectionRefusedError):
            async with Client(running.address):
                pass

    run(story)
