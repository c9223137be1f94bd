"""One contract for the three transports: native, portable and memory."""

import asyncio
import socket

import pytest

from toolips_udp import MultiHandler, TooLong, UnknownHandler, handler, transports
from toolips_udp.connections.udp import LARGEST

MEMORY_TOO = True


class RealClient:
    def __init__(self, host="127.0.0.1"):
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.sock.bind((host, 0))

    def send(self, data, to):
        self.sock.sendto(data, to.sockaddr())

    def receive(self, timeout=10.0):
        self.sock.settimeout(timeout)
        return self.sock.recv(65536)

    def close(self):
        self.sock.close()


class InMemory:
    def __init__(self, host="127.0.0.1"):
        from toolips_udp.transports.memory import MemoryClient

        self.client = MemoryClient((host, 0))

    def send(self, data, to):
        self.client.send(data, to)

    def receive(self, timeout=10.0):
        return self.client.receive_from(timeout)[0]

    def close(self):
        self.client.close()


@pytest.fixture
def client(transport):
    made = []

    def make(host="127.0.0.1"):
        made.append(InMemory(host) if transport == "memory" else RealClient(host))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_all_three_transports_are_here():
    assert transports.available() == ["native", "portable", "memory"]


def test_a_datagram_is_answered(server, transport, client):
    at = server(handler(lambda c: c.respond(c.packet[::-1])))
    peer = client()
    peer.send(b"abc", at.address)
    assert peer.receive() == b"cba"


def test_every_size_comes_back_whole(server, transport, client):
    at = server(handler(lambda c: c.respond(c.packet)))
    peer = client()
    for size in (0, 1, 2, 63, 64, 1472, 1473, 9000, 65506, LARGEST):
        data = bytes(i * 7 & 255 for i in range(size))
        peer.send(data, at.address)
        assert peer.receive() == data


def test_answers_to_one_client_keep_their_order(server, transport, client):
    @handler
    def main(c):
        for size in (5, 5, 3, 5, 0, 5, 9, 9):
            c.respond(c.packet.ljust(size, b".")[:size])

    at = server(main)
    peer = client()
    for n in range(20):
        peer.send(b"%05d" % n, at.address)
    got = [peer.receive() for _ in range(160)]
    assert got == [
        (b"%05d" % n).ljust(size, b".")[:size] for n in range(20) for size in (5, 5, 3, 5, 0, 5, 9, 9)
    ]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda b: b.decode()])
def test_an_answer_may_be_bytes_or_text(server, transport, client, kind):
    at = server(handler(lambda c: c.respond(kind(b"hello"))))
    peer = client()
    peer.send(b"", at.address)
    assert peer.receive() == b"hello"


def test_too_much_or_junk_raises_in_the_handler(server, transport, client):
    found = []

    @handler
    def main(c):
        for answer, error in ((b"x" * (LARGEST + 1), TooLong), (5, TypeError), (None, TypeError)):
            with pytest.raises(error) as caught:
                c.respond(answer)
            found.append(str(caught.value))
        with pytest.raises(UnknownHandler, match=r"secnd.*second"):
            c.set_handler("secnd")
        c.respond(b"still here")

    at = server(main, handler(lambda c: None, "second"))
    peer = client()
    peer.send(b"", at.address)
    assert peer.receive() == b"still here"
    assert "65,508" in found[0] and "int" in found[1]


def test_a_handler_that_raises_costs_its_own_packet_only(server, transport, client):
    @handler
    def main(c):
        if c.packet == b"boom":
            raise RuntimeError("boom")
        c.respond(b"ok")

    at = server(main)
    peer = client()
    for data in (b"a", b"boom", b"b"):
        peer.send(data, at.address)
    assert [peer.receive(), peer.receive()] == [b"ok", b"ok"]
    at.stop()
    assert at.counters["handler_failed"] == 1 and at.counters["handled"] == 2


def test_an_async_handler_answers_at_once_or_after_a_wait(server, transport, client):
    @handler
    async def main(c):
        task = asyncio.current_task()
        async with asyncio.timeout(5):
            if c.packet == b"slow":
                await asyncio.sleep(0.01)
        assert asyncio.current_task() is task
        c.respond(c.packet)

    at = server(main)
    peer = client()
    peer.send(b"slow", at.address)
    peer.send(b"fast", at.address)
    assert [peer.receive(), peer.receive()] == [b"fast", b"slow"]


def test_a_threaded_handler_answers_from_its_thread(server, transport, client):
    at = server(handler(lambda c: c.respond(c.packet.upper()), threaded=True))
    peer = client()
    peer.send(b"abc", at.address)
    assert peer.receive() == b"ABC"


def test_handlers_are_chosen_per_client(server, transport, client):
    @handler
    def main(c):
        c.respond(b"1")
        c.set_handler("second")

    @handler("second")
    def second(c):
        c.respond(b"2")
        c.remove_handler()

    at = server(MultiHandler(main), main, second)
    one, other = client(), client()
    for peer, expected in ((one, b"1"), (one, b"2"), (other, b"1"), (one, b"1"), (other, b"2"), (one, b"2")):
        peer.send(b"x", at.address)
        assert peer.receive() == expected


def test_a_session_belongs_to_one_client(server, transport, client):
    @handler
    def main(c):
        c.session["n"] = c.session.get("n", 0) + 1
        c.respond(str(c.session["n"]))

    at = server(main)
    one, other = client(), client()
    for peer, expected in ((one, b"1"), (one, b"2"), (other, b"1"), (one, b"3")):
        peer.send(b"x", at.address)
        assert peer.receive() == expected


def test_what_was_kept_of_a_packet_stays_what_it_was(server, transport, client):
    kept = []

    @handler
    def main(c):
        if c.packet == b"mine":
            kept.extend((c, c.view))
        c.respond(c.packet)

    at = server(main)
    peer = client()
    peer.send(b"mine", at.address)
    assert peer.receive() == b"mine"
    for n in range(500):
        peer.send(b"%04d" % n, at.address)
        peer.receive()
    c, view = kept
    assert bytes(view) == c.packet == b"mine" and view.readonly
    with pytest.raises(TypeError):
        view[0] = 1


def test_the_server_sends_from_any_thread(server, transport, client):
    at = server(handler(lambda c: None))
    peer = client()
    peer.send(b"here i am", at.address)
    to = peer.client.address if transport == "memory" else ("127.0.0.1", peer.sock.getsockname()[1])
    at.send(b"news", to)
    assert peer.receive() == b"news"


def test_short_of_memory_strangers_are_shed_first_and_then_everybody(server, transport, client, eventually):
    @handler
    def main(c):
        if c.text == "stay":
            c.session["name"] = "known"
        elif c.text == "go on":
            c.set_handler("second")
        c.respond(c.packet)

    at = server(MultiHandler(main), main, handler("second")(lambda c: c.respond(b"2")))
    known, placed, stranger = client(), client(), client()

    def ask(peer, packet):
        peer.send(packet, at.address)
        return peer.receive()

    def shed(peer, packet):
        before = at.counters["shed"]
        peer.send(packet, at.address)
        eventually(lambda: at.counters["shed"] == before + 1)

    def press(level):
        at.on_loop(lambda: at.modes[0].press(level))

    assert ask(known, b"stay") == b"stay" and ask(placed, b"go on") == b"go on"
    press(1)
    assert ask(known, b"x") == b"x" and ask(placed, b"x") == b"2"
    shed(stranger, b"stay")
    press(2)
    for peer in (known, placed, stranger):
        shed(peer, b"x")
    press(0)
    assert ask(stranger, b"x") == b"x"


def test_every_drop_is_told_to_on_drop(server, transport, client, eventually):
    seen = []

    @handler
    def main(c):
        raise ValueError("no")

    at = server(main, on_drop=lambda word, address: seen.append((word, address.host)))
    client().send(b"x", at.address)
    eventually(lambda: seen == [("handler_failed", "127.0.0.1")])
