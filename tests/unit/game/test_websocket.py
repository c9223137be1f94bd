"""Browsers in a game: the WebSocket carrier on the HTTP mode of the same server."""

from __future__ import annotations

import asyncio
import types

import pytest

from toolips_udp import HTTP, UDP, serve
from toolips_udp.game import SEQUENCED, Client, Enet, Game, WebSocket

websockets = pytest.importorskip("websockets.asyncio.client")


def run(game: Game, story) -> object:
    module = types.ModuleType("match")
    module.game = game  # type: ignore[attr-defined]
    with serve((UDP, HTTP), module, ("127.0.0.1:0", "127.0.0.1:0")) as server:
        page = next(a for mode, a in server.addresses.items() if str(mode) != str(UDP))

        async def told() -> object:
            async with asyncio.timeout(20):
                return await story(server, f"ws://{page}/play")

        return asyncio.run(told())


def test_a_browser_and_an_enet_client_hear_each_other_in_one_room():
    game, seen = Game(Enet(), WebSocket("/play")), []
    lobby = game.room("lobby")
    game.on_join(lambda peer: peer.enter(lobby))
    game.on_leave(lambda peer, leave: seen.append((peer.transport, leave.word)))

    @lobby.on_message
    def say(room, peer, m):
        room.broadcast(peer.transport.encode() + b": " + m.data, exclude=peer)

    async def story(server, url):
        async with websockets.connect(url) as page, Client(server.address) as me:
            await page.send(b"\0\0hello from the page")
            assert (await me.receive(5)).data == b"websocket: hello from the page"
            me.send(b"hello back")
            assert await page.recv() == b"\0\0enet: hello back"
            assert game.broadcast(b"all") == 2
            assert await page.recv() == b"\0\0all"
        await asyncio.sleep(0.2)

    run(game, story)
    assert sorted(seen) == [("enet", "left"), ("websocket", "left")]


@pytest.mark.parametrize(
    ("frame", "code"),
    [("text", 1003), (b"\0", 4908), (b"\7\0x", 4908), (b"\0\3x", 4908), (b"\0\0" + bytes(2000), 1009)],
)
def test_b31_frames_that_are_none_close_with_a_code(frame, code):
    game, seen = Game(Enet(), WebSocket("/play"), max_message=1000), []
    game.on_leave(lambda peer, leave: seen.append(leave.word))

    async def story(server, url):
        async with websockets.connect(url) as page:
            await page.send(frame)
            with pytest.raises(Exception) as ended:
                await page.recv()
            assert ended.value.rcvd.code == code
        await asyncio.sleep(0.1)

    run(game, story)
    assert seen == ["too_big" if code == 1009 else "malformed"]


def test_a_kicked_browser_is_told_the_code_and_sequenced_messages_keep_the_newest():
    game = Game(Enet(), WebSocket("/play"))

    @game.on_message
    def many(peer, m):
        for n in range(50):
            peer.send(b"%d" % n, 1, SEQUENCED)
        peer.kick(31, drain=True) if m.data == b"end" else None

    async def story(server, url):
        async with websockets.connect(url) as page:
            await page.send(b"\0\0go")
            got = [await page.recv()]
            while got[-1] != b"\1\x0149":
                got.append(await page.recv())
            assert len(got) < 50
            peer = next(iter(game.peers.values()))
            server.on_loop(lambda: peer.kick(31, drain=False))
            with pytest.raises(Exception) as ended:
                await page.recv()
            assert ended.value.rcvd.code == 4031

    run(game, story)


def test_b31_a_page_of_another_site_does_not_get_in():
    game, seen = Game(Enet(), WebSocket("/play")), []
    game.on_join(lambda peer: seen.append(peer))

    async def story(server, url):
        with pytest.raises(Exception, match="403"):
            await websockets.connect(url, origin="https://evil.example")
        async with websockets.connect(url, origin=url.replace("ws:", "http:").removesuffix("/play")) as page:
            await page.send(b"\0\0mine")
            while not seen:
                await asyncio.sleep(0.01)

    run(game, story)
    assert len(seen) == 1


def test_b31_a_page_that_never_reads_is_slow_and_delays_nobody():
    game, left = Game(Enet(), WebSocket("/play")), []
    game.on_leave(lambda peer, leave: left.append(leave.word))

    @game.on_message
    def flood(peer, m):
        if peer.transport == "enet":
            peer.send(m.data)
            return
        while peer.send(bytes(60_000)):
            pass

    async def story(server, url):
        async with websockets.connect(url, max_queue=1) as page, Client(server.address) as me:
            await page.send(b"\0\0flood")
            while not left:
                me.send(b"still there?")
                assert (await me.receive(2)).data == b"still there?"
        assert left[0] == "slow"

    run(game, story)


def test_b31_pings_without_end_are_answered_and_make_no_message():
    game, seen = Game(Enet(), WebSocket("/play")), []
    game.on_message(lambda peer, m: seen.append(m.data))

    async def story(server, url):
        async with websockets.connect(url) as page:
            answers = [await page.ping() for _ in range(2000)]
            await asyncio.gather(*answers)
            await page.send(b"\0\0end")
            while not seen:
                await asyncio.sleep(0.01)

    run(game, story)
    assert seen == [b"end"]


def test_b17_a_page_that_says_too_much_is_read_at_its_rate_and_loses_nothing():
    from toolips_udp.peers.websocket import Pace

    pace, now, waits = Pace(100, 10_000, 0.0), 0.0, []
    for n in range(1000):
        waits.append(pace.take(10 if n < 500 else 1000, now))
        now += waits[-1]
    assert waits[:100] == [0.0] * 100 and waits[101] == pytest.approx(0.01)
    assert now == pytest.approx(4.0 + 50.0, abs=2.0), "500 at 100 a second, 500,000 bytes at 10,000 a second"
    assert Pace(0, 0, 0.0).take(1 << 30, 0.0) == 0.0

    game, seen = Game(Enet(), WebSocket("/play"), rate=100, limit_loopback=True), []
    game.on_message(lambda peer, m: seen.append((m.now, m.data)))

    async def story(server, url):
        async with websockets.connect(url) as page:
            for n in range(150):
                await page.send(b"\0\0%d" % n)
            while len(seen) < 150:
                await asyncio.sleep(0.01)

    run(game, story)
    assert [data for _, data in seen] == [b"%d" % n for n in range(150)]
    assert seen[-1][0] - seen[0][0] > 0.45
