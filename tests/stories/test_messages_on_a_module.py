"""A module exports Messages beside its handlers, routes or Game; one port serves them all."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from toolips_udp import HTTP, UDP, handler, messages, request, serve
from toolips_udp.game import Client, Game


def desk(**more):
    house = messages.Messages(token="test")

    @house.operation("add")
    async def add(server: messages.Messages, a: int, b: int) -> int:
        assert server is house
        return a + b

    return SimpleNamespace(house=house, **more)


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 15))


async def adds(address):
    async with messages.connect("test", address) as client:
        assert await client.operation("add", a=1, b=2) == 3


def test_plain_handlers_and_messages_share_one_port():
    echo = handler(lambda c: c.respond(c.packet))
    with serve(UDP, desk(echo=echo), "127.0.0.1:0") as server:
        run(adds(server.address))
        assert request("still here", server.address) == b"still here"


@pytest.mark.parametrize("core", ["native", "pure"])
def test_a_wildcard_bind_answers_from_the_address_that_was_asked(core, monkeypatch):
    if core == "pure":
        monkeypatch.setenv("TOOLIPS_UDP_PURE", "1")
    with serve(UDP, desk(), "0.0.0.0:0") as server:
        run(adds(f"127.0.0.77:{server.address.port}"))


def test_messages_alone_need_no_handler_and_serve_again_after_a_stop():
    module = desk()
    for _ in range(2):
        with serve(UDP, module, "127.0.0.1:0") as server:
            run(adds(server.address))


def test_udp_and_websocket_clients_hear_the_same_broadcast():
    async def story(module, server):
        async with (
            messages.connect("test", server.address) as one,
            messages.connect("test", f"ws://{server.addresses[HTTP]}") as two,
        ):
            heard = asyncio.Queue()
            for client in (one, two):
                client.receive("news")(lambda message, data: heard.put_nowait(data))
            assert await module.house.broadcast("news", 7) == (2, 0, 0)
            assert [await heard.get(), await heard.get()] == [7, 7]

    module = desk()
    with serve((UDP, HTTP), module, "127.0.0.1:0") as server:
        run(story(module, server))


def test_messages_ride_on_the_modules_game():
    game = Game()
    players = []

    @game.on_join
    def join(peer):
        players.append(peer.id)

    @game.on_message
    def back(peer, message):
        peer.send(message.data.upper())

    async def story(address):
        async with Client(address) as player, messages.connect("test", address) as client:
            player.send(b"hello")
            assert (await player.receive(timeout=3)).data == b"HELLO"
            assert await client.operation("add", a=20, b=3) == 23
            assert len(players) == 1 and len(game.peers) == 1

    for module in (desk(game=game), SimpleNamespace(game=game, **vars(desk()))):
        players.clear()
        with serve(UDP, module, "127.0.0.1:0") as server:
            assert module.house._carrier.host is None, "one peer stage per port"
            run(story(server.address))


def test_on_a_game_no_frame_is_longer_than_the_games_messages():
    async def story(address):
        async with messages.connect("test", address) as client:
            try:
                await client.operation("add", {"a": 1, "b": 2, "c": "x" * 70_000})
            except ValueError as error:
                assert "max_message" in str(error)
            else:
                raise AssertionError("a frame that the game would not take")
            assert await client.operation("add", a=1, b=1) == 2

    with serve(UDP, desk(game=Game()), "127.0.0.1:0") as server:
        run(story(server.address))


def test_the_portable_transport_serves_messages_too():
    with serve(UDP, desk(), "127.0.0.1:0", transport="portable") as server:
        run(adds(server.address))
