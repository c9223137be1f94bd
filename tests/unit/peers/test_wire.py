"""A client's host on a socket: the native one and the Python one do the same, and nothing that arrives stops them."""

from __future__ import annotations

import asyncio
import os
import socket
import time

import pytest

from toolips_udp.address import Address
from toolips_udp.peers.enet import Enet, native_core
from toolips_udp.peers.wire import Wire

KINDS = [False, True] if native_core() is not None else [False]


class Server:
    """An ENet host on a socket, driven by hand."""

    def __init__(self):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.address = Address(*self.sock.getsockname())
        self.host = Enet().host(os.urandom(16), native=False)
        self.got, self.datagrams, self.last = [], 0, None
        self.host.joined = lambda peer: None
        self.host.left = lambda *rest: None
        self.host.received = lambda peer, message: self.got.append((peer, message.data))

    def turn(self):
        while True:
            try:
                data, self.last = self.sock.recvfrom(65536)
            except BlockingIOError:
                break
            self.datagrams += 1
            self.host.receive(time.monotonic_ns(), Address(*self.last), data)
        self.host.advance(time.monotonic_ns())
        for data, to in self.host.outgoing():
            self.sock.sendto(data, to)

    async def until(self, true, seconds=5.0):
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, "it did not come"
            self.turn()
            await asyncio.sleep(0)


def client(native, server):
    host = Enet(checksum=False).host(os.urandom(16), native=native, accept=0)
    got = []
    host.joined = lambda peer: got.append("joined")
    host.left = lambda peer, word, *rest: got.append(word)
    host.received = lambda peer, message: got.append(message.data)
    wire = Wire(host, server.address)
    return wire, host.connect(server.address, 1, now=time.monotonic_ns()), got


def run(story):
    server = Server()
    try:
        asyncio.run(asyncio.wait_for(story(server), 20))
    finally:
        server.sock.close()


@pytest.mark.parametrize("native", KINDS)
def test_messages_of_every_size_pass_both_ways(native):
    async def story(server):
        wire, peer, got = client(native, server)
        await server.until(lambda: got == ["joined"])
        for size in (0, 1, 1300, 60_000):
            data = os.urandom(size)
            peer.send(data)
            await server.until(lambda data=data: server.got and server.got[-1][1] == data)
            server.got[-1][0].send(data)
            await server.until(lambda data=data: got[-1] == data)
        wire.close()
        wire.close()
        assert not wire.open and peer.send(b"x") in (True, False)

    run(story)


@pytest.mark.parametrize("native", KINDS)
def test_nonsense_and_datagrams_that_are_too_long_are_passed_over(native):
    async def story(server):
        wire, peer, got = client(native, server)
        await server.until(lambda: got == ["joined"])
        for size in (0, 1, 3, 4096, 4097, 65_000):
            server.sock.sendto(os.urandom(size), server.last)
        for _ in range(100):
            server.sock.sendto(os.urandom(50), server.last)
        peer.send(b"still here")
        await server.until(lambda: bool(server.got))
        server.got[0][0].send(b"yes")
        await server.until(lambda: got[-1] == b"yes")
        wire.close()

    run(story)


@pytest.mark.parametrize("native", KINDS)
def test_an_answer_in_the_turn_carries_the_acknowledgement_in_one_datagram(native):
    async def story(server):
        wire, peer, got = client(native, server)
        await server.until(lambda: got == ["joined"])
        peer.send(b"first")
        await server.until(lambda: bool(server.got))
        wire._host.received = lambda peer, message: peer.send(b"at once")
        await asyncio.sleep(0.05)
        server.turn()
        before = server.datagrams
        server.got[0][0].send(b"?")
        await server.until(lambda: server.got[-1][1] == b"at once")
        assert server.datagrams == before + 1
        wire.close()

    run(story)


@pytest.mark.parametrize("native", KINDS)
def test_a_wire_that_is_closed_by_what_it_heard_reads_no_more(native):
    async def story(server):
        wire, peer, got = client(native, server)
        await server.until(lambda: got == ["joined"])
        peer.send(b"go")
        await server.until(lambda: bool(server.got))

        def heard(peer, message):
            got.append(message.data)
            wire.close()

        wire._host.received = heard
        for _ in range(3):
            server.got[0][0].send(b"end")
        await server.until(lambda: not wire.open)
        assert b"end" in got

    run(story)


@pytest.mark.parametrize("native", KINDS)
def test_nobody_there_is_no_error_of_the_wire(native):
    async def story(server):
        server.sock.close()
        wire, _peer, got = client(native, server)
        await asyncio.sleep(0.1)
        wire.turn()
        assert wire.open and got == []
        wire.close()

    run(story)
