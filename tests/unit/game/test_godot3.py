"""Godot 3's eight bytes: taken off, put on, and nothing for those who do not speak them."""

import asyncio
import struct

import pytest

from toolips_udp import HTTP, UDP, serve
from toolips_udp.game import SEQUENCED, Client, Enet, Game, WebSocket

ME = 77


class Module:
    pass


def play(game, story, *modes):
    module = Module()
    module.game = game

    async def told(server):
        async with asyncio.timeout(20):
            return await story(server)

    with serve(modes or UDP, module, ("127.0.0.1:0",) * len(modes) if modes else "127.0.0.1:0") as server:
        return asyncio.run(told(server))


def head(source, target):
    return struct.pack("<ii", source, target)


@pytest.fixture
def game():
    game = Game(Enet(), WebSocket("/play"), dialect="godot3")
    game.heard = []

    @game.on_message
    def echo(peer, m):
        game.heard.append((peer.user_data, m.data))
        game.broadcast(m.data, 0, m.delivery)

    return game


def test_a_godot_3_client_hears_each_delivery_on_the_engine_s_channel(game):
    async def story(server):
        async with Client(server.address, channels=3, data=ME) as godot:
            godot.send(head(ME, 1) + b"hello", 1)
            reliable = await godot.receive(5)
            godot.send(head(ME, 1) + b"moved", 2, SEQUENCED)
            return reliable, await godot.receive(5)

    reliable, sequenced = play(game, story)
    assert (reliable.data, reliable.channel) == (head(1, ME) + b"hello", 1)
    assert (sequenced.data, sequenced.channel, sequenced.delivery) == (head(1, ME) + b"moved", 2, SEQUENCED)
    assert game.heard == [(ME, b"hello"), (ME, b"moved")]


@pytest.mark.parametrize("target", [0, 1, -5])
def test_what_is_for_the_server_or_for_all_reaches_the_game(game, target):
    async def story(server):
        async with Client(server.address, channels=3, data=ME) as godot:
            godot.send(head(ME, target) + b"x", 1)
            return (await godot.receive(5)).data

    assert play(game, story) == head(1, ME) + b"x"


@pytest.mark.parametrize("wrong", [head(ME, 5) + b"x", head(ME, -1) + b"x", head(ME + 1, 1) + b"x", b"short"])
def test_what_is_for_others_or_has_another_s_name_never_does(game, wrong):
    async def story(server):
        async with Client(server.address, channels=3, data=ME) as godot:
            godot.send(wrong, 1)
            godot.send(head(ME, 1) + b"after", 0)  # a note of the engine: not for the game either
            godot.send(head(ME, 1) + b"after", 1)
            return (await godot.receive(5)).data

    assert play(game, story) == head(1, ME) + b"after"
    assert game.heard == [(ME, b"after")]


def test_godot_3_a_plain_enet_client_and_a_browser_meet_in_one_game(game):
    websockets = pytest.importorskip(
        "websockets", reason="needs the extra http: pip install 'toolips_udp[http]'"
    )
    pytest.importorskip("htpy", reason="needs the extra http: pip install 'toolips_udp[http]'")

    async def story(server):
        web = next(a for mode, a in server.addresses.items() if str(mode) != str(UDP))
        async with (
            Client(server.address, channels=3, data=ME) as godot,
            Client(server.address) as plain,
            websockets.connect(f"ws://{web}/play") as page,
        ):
            await asyncio.sleep(0)
            got = []
            for send in (
                lambda: godot.send(head(ME, 1) + b"from godot", 1),
                lambda: plain.send(b"from python", 0),
                lambda: page.send(b"\0\0from the page"),
            ):
                sent = send()
                if asyncio.iscoroutine(sent):
                    await sent
                got.append(((await godot.receive(5)).data, (await plain.receive(5)).data, await page.recv()))
            return got

    assert play(game, story, UDP, HTTP) == [
        (head(1, ME) + said, said, b"\0\0" + said)
        for said in (b"from godot", b"from python", b"from the page")
    ]
