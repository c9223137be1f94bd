"""Game over a real server and the Python client: events, verbs, bans, resuming, typed messages."""

from __future__ import annotations

import asyncio
import types

import pytest
from msgspec import Struct

from toolips_udp import UDP, serve
from toolips_udp.errors import StartError
from toolips_udp.game import RELIABLE, SEQUENCED, UNSEQUENCED, Client, Game, Refuse


def module(game: Game, **more: object) -> types.ModuleType:
    made = types.ModuleType("match")
    made.game = game  # type: ignore[attr-defined]
    for name, value in more.items():
        setattr(made, name, value)
    return made


def echo_game(**settings: object) -> Game:
    game = Game(**settings)

    @game.on_message
    def echo(peer, m):
        peer.send(m.data, m.channel, m.delivery, fragment=True)

    return game


@pytest.fixture(autouse=True, params=["native", "pure"])
def both(request, monkeypatch):
    """Every test here runs over the native stage, and over the portable transport with the Python host."""
    if request.param == "pure":
        monkeypatch.setenv("TOOLIPS_UDP_PURE", "1")


def run(game: Game, story, **more: object) -> object:
    with serve(UDP, module(game, **more), "127.0.0.1:0") as server:

        async def told() -> object:
            async with asyncio.timeout(20):
                return await story(server)

        return asyncio.run(told())


def test_a_message_of_each_delivery_is_echoed_with_its_channel_and_delivery():
    async def story(server):
        async with Client(server.address, channels=2, data=7) as me:
            for channel, delivery in ((0, RELIABLE), (1, SEQUENCED), (1, UNSEQUENCED)):
                assert me.send(b"abc" * 50, channel, delivery)
                back = await me.receive(5)
                assert (back.data, back.channel, back.delivery) == (b"abc" * 50, channel, delivery)
            me.send(bytes(60_000))
            assert len((await me.receive(5)).data) == 60_000
            assert me.stats.messages_out["reliable"] == 2
        assert me.leave.word == "left" and not me.open
        return dict(server.counters)

    counters = run(echo_game(), story)
    assert counters["handler_failed"] == counters["no_handler"] == counters["malformed"] == 0


def test_there_is_exactly_one_leave_for_each_join_with_its_code():
    game, seen = Game(), []
    game.on_join(lambda peer: seen.append(("join", peer.id, peer.user_data)))
    game.on_leave(lambda peer, leave: seen.append(("leave", peer.id, leave.word, leave.code, leave.by)))

    async def story(server):
        async with Client(server.address, data=5) as me:
            await me.close(99)
        async with Client(server.address, data=6):
            pass

    run(game, story)
    assert seen == [
        ("join", 1, 5),
        ("leave", 1, "left", 99, "peer"),
        ("join", 2, 6),
        ("leave", 2, "left", 0, "peer"),
    ]


def test_admit_refuses_with_a_code_before_any_join():
    game, seen = Game(), []

    @game.admit
    def door(peer):
        return True if peer.user_data == 1 else Refuse(1234)

    game.on_join(lambda peer: seen.append(peer.user_data))
    game.on_leave(lambda peer, leave: seen.append(leave.word))

    async def story(server):
        async with Client(server.address, data=2) as me:
            await me.sleep(5)
            assert me.leave.code == 1234
        async with Client(server.address, data=1):
            pass

    run(game, story)
    assert seen == [1, "left"]


def test_b24_a_handler_that_raises_fails_its_message_only():
    game, seen = Game(), []

    @game.on_message
    def picky(peer, m):
        if m.data == b"poison":
            raise RuntimeError("poisoned")
        seen.append(m.data)
        peer.send(m.data)

    async def story(server):
        async with Client(server.address) as me:
            for n in range(20):
                me.send(b"poison" if n % 5 == 0 else b"good")
            for _ in range(16):
                assert (await me.receive(5)).data == b"good"
        return dict(server.counters)

    counters = run(game, story)
    assert seen == [b"good"] * 16 and counters["handler_failed"] >= 1


def test_broadcast_from_another_thread_reaches_all_but_the_excluded():
    game = Game()

    async def story(server):
        async with Client(server.address) as ann, Client(server.address) as bob:
            while len(game.peers) < 2:  # a client is in a little before its server knows
                await asyncio.sleep(0.01)
            first = next(iter(game.peers.values()))
            assert game.broadcast(b"hello all", exclude=first) == 1
            assert (await bob.receive(5)).data == b"hello all"
            with pytest.raises(TimeoutError):
                await ann.receive(0.1)

    run(game, story)


def test_a_kicked_peer_gets_what_is_queued_and_the_code():
    game, seen = Game(), []

    @game.on_message
    def bye(peer, m):
        peer.send(b"last words")
        peer.kick(31)

    game.on_leave(lambda peer, leave: seen.append((leave.word, leave.code)))

    async def story(server):
        async with Client(server.address) as me:
            me.send(b"kick me")
            assert (await me.receive(5)).data == b"last words"
            await me.sleep(5)
            assert (me.leave.code, me.leave.by) == (31, "server")
            await asyncio.sleep(0.1)

    run(game, story)
    assert seen == [("kicked", 31)]


def test_a_ban_ends_the_peer_refuses_the_next_one_and_can_be_lifted():
    game, seen = Game(), []

    @game.on_message
    def ban(peer, m):
        peer.ban(60)

    game.on_leave(lambda peer, leave: seen.append(leave.word))

    async def story(server):
        async with Client(server.address) as me:
            me.send(b"ban me")
            await me.sleep(5)
            assert me.leave.word == "banned"
        assert list(game.bans) == ["127.0.0.1"] and 55 < game.bans["127.0.0.1"] <= 60
        with pytest.raises(ConnectionRefusedError, match="banned"):
            await Client(server.address).connect()
        server.on_loop(lambda: game.bans.lift("127.0.0.1"))
        async with Client(server.address):
            pass
        return dict(server.counters)

    counters = run(game, story)
    assert seen == ["banned", "left"] and counters["denied"] >= 1


def test_a_vanished_peer_is_taken_over_by_its_token_with_room_and_data():
    game, seen = Game(resume=15.0, ping=0.1), []
    lobby = game.room("lobby")

    @game.on_join
    def welcome(peer):
        peer["score"] = 7
        peer.enter(lobby)

    @game.on_resume
    def back(peer):
        seen.append((peer.id, peer["score"], peer.room is lobby))

    game.on_leave(lambda peer, leave: seen.append((peer.id, leave.word)))
    game.on_message(lambda peer, m: peer.send(f"{peer.id} {m.text}"))

    async def story(server):
        first = Client(server.address)
        await first.connect()
        first.send("hi")
        assert (await first.receive(5)).text == "1 hi"
        token = first.token
        assert token is not None and len(token) == 16
        first.abandon()
        async with Client(server.address, token=token) as again:
            again.send("me again")
            assert (await again.receive(5)).text == "1 me again"
            assert again.token not in (None, token)
        async with Client(server.address, token=token) as thief:  # used up
            thief.send("mine?")
            assert (await thief.receive(5)).text != "1 mine?"

    run(game, story)
    assert seen[:2] == [(2, "replaced"), (1, 7, True)]


def test_b23_typed_messages_decode_to_their_handler_and_nonsense_never_reaches_one():
    game, seen = Game(), []

    @game.message(1)
    class Say(Struct):
        text: str

    @game.on(Say)
    def say(peer, line):
        seen.append(line.text)
        peer.send(Say(line.text.upper()))

    async def story(server):
        async with Client(server.address) as me:
            me.send(Say("hello"))
            assert (await me.receive(5)).data == b"\x01\x81\xa4text\xa5HELLO"
            for bad in (
                b"\x01",
                b"\x01\x81\xa4text\x05",
                b"\x01" + b"\x81\xa1a" * 5000,
                b"\x01\xdd\xff\xff\xff\xff",
            ):
                me.send(bad)
            me.send(Say("still here"))
            assert (await me.receive(5)).data.endswith(b"STILL HERE")

    run(game, story)
    assert seen == ["hello", "still here"]


def test_an_async_handler_may_wait_and_still_answer():
    game = Game()

    @game.on_message
    async def later(peer, m):
        await asyncio.sleep(0.01)
        peer.send(m.data[::-1])

    async def story(server):
        async with Client(server.address) as me:
            me.send(b"abc")
            assert (await me.receive(5)).data == b"cba"

    run(game, story)


def test_datagrams_of_strangers_go_on_to_the_modules_handler():
    from toolips_udp import handler

    @handler
    def main(c):
        c.respond(b"plain " + c.packet)

    async def story(server):
        from toolips_udp import request

        reply = await asyncio.to_thread(request, b"hello", server.address, timeout=2.0)
        assert bytes(reply) == b"plain hello"
        async with Client(server.address) as me:
            me.send(b"x")
            assert (await me.receive(5)).data == b"x"

    run(echo_game(), story, main=main)


def test_b35_a_stop_tells_every_peer_that_it_stops():
    async def story(server):
        async with Client(server.address) as me:
            await asyncio.to_thread(server.stop)
            await me.sleep(5)
            assert me.leave is not None and me.leave.code == 0xFFFFFF09 and me.leave.word == "stopping"

    run(Game(), story)


def test_wrong_settings_are_told_at_once():
    with pytest.raises(ValueError, match="8 x max_message"):
        Game(queue_bytes=1000)
    with pytest.raises(TypeError, match="no cap called"):
        Game(speed=3)
    with pytest.raises(ValueError, match="channels"):
        Game(channels=0)
    game = Game()
    game.on_join(lambda peer: None)
    with pytest.raises(ValueError, match="already has an on_join"):
        game.on_join(lambda peer: None)
    assert issubclass(StartError, Exception)
