"""Games at every kind of address: wildcard binds answer from where they were asked, IPv6, both at once."""

import asyncio
import socket
import sys
from pathlib import Path

import pytest

from toolips_udp import Address
from toolips_udp.game import Client, Game

sys.path.insert(0, str(Path(__file__).parents[1] / "unit/peers"))
from enet_examples import EXAMPLES
from test_enet_bad_input import ack_of, reliable


def echo_game(**settings):
    game = Game(**settings)

    @game.on_message
    def echo(peer, m):
        peer.send(m.data, m.channel, m.delivery)

    return game


@pytest.fixture(autouse=True, params=["native", "pure"])
def both(request, monkeypatch):
    if request.param == "pure":
        monkeypatch.setenv("TOOLIPS_UDP_PURE", "1")


def talk(address):
    async def told():
        async with asyncio.timeout(10), Client(address) as me:
            me.send(b"hello")
            return (await me.receive(5)).data

    return asyncio.run(told())


def test_a_wildcard_bind_answers_from_the_address_that_was_asked(server):
    game = echo_game(ping=0.2)
    running = server(game, ip="0.0.0.0:0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.1", 0))
        client.settimeout(5)
        there = ("127.0.0.77", running.address.port)
        client.sendto(EXAMPLES["E1 connect"], there)
        verify, source = client.recvfrom(2000)
        assert source == there
        client.sendto(ack_of(verify), there)
        word = int.from_bytes(verify[8:10]) | verify[11] << 12 | 0x8000
        client.sendto(word.to_bytes(2) + b"\0\1" + reliable(1, b"hello"), there)
        while True:  # its answer, and then what only a timer sends: the echo again, and pings
            data, source = client.recvfrom(2000)
            assert source == there
            if data[-4:-2] == b"\x85\xff" or (data[0] & 0x80 and b"hello" in data and source == there):
                break
        again, source = client.recvfrom(2000)
        assert source == there and again
        client.sendto(word.to_bytes(2) + b"\0\1" + b"\x44\xff\0\2\0\0\0\0", there)


def test_a_game_is_played_over_ipv6(server):
    running = server(echo_game(), ip="[::1]:0")
    assert talk(running.address) == b"hello"


def test_one_wildcard_of_ipv6_serves_both_families(server):
    running = server(echo_game(), ip="[::]:0")
    port = running.address.port
    assert talk(Address("::1", port)) == b"hello"
    assert talk(Address("127.0.0.1", port)) == b"hello"
    assert talk(Address("127.0.0.9", port)) == b"hello"
