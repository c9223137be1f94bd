"""UDP mode as its users see it: the scenarios A-UD."""

import logging
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from toolips_udp import (
    TCP,
    UDP,
    Address,
    BindError,
    Extension,
    MultiHandler,
    NamedHandler,
    UDPHandler,
    UnknownHandler,
    get_ip4,
    handler,
    request,
    send,
    start,
)


def test_a_ud1_a_handler_is_unnamed_or_has_the_name_it_was_given():
    def f(c):
        pass

    plain, named = handler(f), handler(f, "sample")
    assert isinstance(plain, UDPHandler) and plain.name is None
    assert isinstance(named, NamedHandler) and named.name == "sample"
    assert handler()(f).name is None and handler("sample")(f).name == "sample"


def test_a_ud2_a_handler_sends_to_another_server(server, transport, eventually):
    seen_by_a, seen_by_b = [], []
    a = server(handler(lambda c: seen_by_a.append(c.text)))

    @handler
    def main(c):
        seen_by_b.append(c.text)
        send(c, "ctest", a.address)

    b = server(main)
    send("hi", b.address)
    eventually(lambda: seen_by_a == ["ctest"] and seen_by_b == ["hi"])


def test_a_ud3_a_server_sends_and_its_handler_gets_the_answer(server, transport, eventually):
    answers = []

    @handler
    def main(c):
        if c.text == "sendback":
            c.respond("sent")

    a = server(main)
    b = server(handler(lambda c: answers.append((c.text, get_ip4(c)))))
    b.send("sendback", a.address)
    eventually(lambda: answers == [("sent", a.address)])


def test_a_ud4_a_named_handler_answers_once_and_removes_itself(server, transport, peer):
    @handler
    def main(c):
        if c.text == "changehandler":
            c.set_handler("other")
        c.respond("main")

    @handler("other")
    def other(c):
        c.respond("other")
        c.remove_handler()

    client = peer(server(MultiHandler(main), main, other).address)
    assert [client.ask(text) for text in (b"changehandler", b"other", b"ctest")] == [
        b"main",
        b"other",
        b"main",
    ]


def test_a_ud5_two_handlers_alternate_for_ever(server, transport, peer):
    @handler
    def main(c):
        c.respond("1")
        c.set_handler("second")

    @handler("second")
    def second(c):
        c.respond("2")
        c.remove_handler()

    address = server(main, second).address
    first, late = peer(address), peer(address)
    assert [first.ask() for _ in range(6)] == [b"1", b"2"] * 3
    first.ask()
    assert late.ask() == b"1"


def test_a_ud6_another_clients_handler_is_set(server, transport, peer):
    @handler
    def main(c):
        if c.text.startswith("move "):
            c.set_handler("chat", client=c.text.removeprefix("move "))
        c.respond("main")

    chat = handler(lambda c: c.respond("chat"), "chat")
    address = server(main, chat).address
    x, y = peer(address), peer(address)
    assert x.ask() == b"main"
    host, port = x.getsockname()
    assert y.ask(f"move {host}:{port}".encode()) == b"main"
    assert (x.ask(), y.ask()) == (b"chat", b"main")


def test_a_ud7_an_unknown_handler_name_raises_at_the_call_and_the_server_goes_on(
    server, transport, peer, caplog
):
    @handler
    def main(c):
        if c.text == "bad":
            c.set_handler("secnd")
        c.respond("fine")

    running = server(main, handler(lambda c: None, "second"))
    client = peer(running.address)
    client.send(b"bad")
    assert client.ask(b"good") == b"fine"
    assert running.counters["handler_failed"] == 1
    assert "UnknownHandler" in caplog.text and "second" in caplog.text
    assert issubclass(UnknownHandler, LookupError)


def test_a_ud8_a_bound_port_is_a_bind_error_that_names_the_address(server, transport):
    address = server(handler(lambda c: None)).address
    begin = time.monotonic()
    with pytest.raises(BindError) as caught:
        start(UDP, SimpleNamespace(main=handler(lambda c: None)), address, transport=transport)
    assert time.monotonic() - begin < 5
    assert str(address) in str(caught.value) and "Fix:" in str(caught.value)
    assert isinstance(caught.value, OSError) and caught.value.errno


def test_a_ud9_every_byte_and_every_size_comes_back_unchanged(server, transport, peer):
    client = peer(server(handler(lambda c: c.respond(c.packet))).address)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    for packet in (bytes(range(256)), b"", bytes(65_507)):
        assert client.ask(packet) == packet


def test_a_ud10_a_handler_that_raises_costs_only_its_own_packet(server, transport, peer, caplog):
    @handler
    def main(c):
        if c.packet == b"boom":
            raise RuntimeError("exploded")
        c.respond(c.packet)

    running = server(main)
    client = peer(running.address)
    answered = 0
    for number in range(1000):
        if number == 500:
            client.send(b"boom")
        answered += client.ask(str(number).encode()) == str(number).encode()
    assert answered == 1000
    assert running.counters["handler_failed"] == 1
    host, port = client.getsockname()
    assert f"{host}:{port}" in caplog.text and "exploded" in caplog.text and "Traceback" in caplog.text


def test_a_ud11_ipv6_is_served_and_prints_in_brackets(server, transport, peer):
    running = server(handler(lambda c: c.respond(str(c.address))), ip="[::1]:0")
    client = peer(running.address)
    assert client.ask().decode() == f"[::1]:{client.getsockname()[1]}"
    assert str(running.address).startswith("[::1]:")


def test_a_ud18_a_handler_that_never_responds_sends_nothing(server, transport, peer, eventually):
    running = server(handler(lambda c: "not an answer"))
    client = peer(running.address)
    client.send(b"x")
    eventually(lambda: running.counters["handled"] == 1)
    assert client.hears_nothing()
    assert running.counters["send_queued"] == 0


def test_a_ud19_async_handlers_wait_side_by_side(server, transport, peer):
    import asyncio

    @handler
    async def main(c):
        await asyncio.sleep(0.05)
        c.respond(c.packet)

    client = peer(server(main).address)
    begin = time.monotonic()
    for number in range(100):
        client.send(str(number).encode())
    answers = {client.recv(100) for _ in range(100)}
    assert len(answers) == 100
    assert 0.05 <= time.monotonic() - begin <= 2.5  # one after the other would take 5 s


def test_a_ud20_write_on_udp_names_respond(server, transport, peer):
    @handler
    def main(c):
        with pytest.raises(TypeError, match="respond"):
            c.write("x")
        c.respond("raised")

    assert peer(server(main).address).ask() == b"raised"


def test_a_ud22_a_chat_module_relays_to_the_partner_only(server, transport, peer):
    @handler
    def main(c):
        name = c.text
        if " " in name or name in c.data:
            c.respond("name refused")
        else:
            c[name] = c.address
            c.session["name"] = name
            c.set_handler("pick")
            c.respond("pick a partner")

    @handler("pick")
    def pick(c):
        if c.text in c.data:
            c.session["partner"] = c.data[c.text]
            c.set_handler("chat")
            c.respond("connected")
        else:
            c.respond("nobody of that name")

    @handler("chat")
    def chat(c):
        if c.text == "exit":
            c.set_handler("pick")
            c.respond("pick a partner")
        else:
            c.send(f"{c.session['name']}: {c.text}", c.session["partner"])

    running = server(main, pick, chat)
    ann, bob = peer(running.address), peer(running.address)
    assert ann.ask(b"ann") == b"pick a partner"
    assert bob.ask(b"ann") == b"name refused"
    assert bob.ask(b"b ob") == b"name refused"
    assert bob.ask(b"bob") == b"pick a partner"
    assert ann.ask(b"bob") == b"connected" and bob.ask(b"ann") == b"connected"
    ann.send(b"hello")
    assert bob.recv(100) == b"ann: hello"
    assert ann.hears_nothing()
    bob.close()
    ann.send(b"are you there?")  # into the void
    assert ann.ask(b"exit") == b"pick a partner"
    assert ann.ask(b"carl") == b"nobody of that name"
    assert running.counters["handler_failed"] == 0


def test_a_ud23_fifty_requests_at_once_and_a_timeout_without_a_server(server, transport):
    address = server(handler(lambda c: c.respond(c.packet))).address
    answers = {}

    def ask(number):
        answers[number] = request(str(number), address, timeout=5)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: str(number).encode() for number in range(50)}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        begin = time.monotonic()
        with pytest.raises(TimeoutError, match="no answer"):
            request("x", Address.of(silent.getsockname()), timeout=0.2)
        assert 0.2 <= time.monotonic() - begin < 5
    with pytest.raises(TimeoutError):
        request("x", Address.of(("127.0.0.1", 9)), timeout=0.1)


def test_a_ud24_a_dead_peer_does_not_stop_the_server(server, transport, peer):
    dead = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    dead.bind(("127.0.0.1", 0))
    gone = Address.of(dead.getsockname())
    dead.close()

    @handler
    def main(c):
        for _ in range(20):
            c.send("to nobody", gone)
        c.respond("alive")

    client = peer(server(main).address)
    for _ in range(20):
        assert client.ask() == b"alive"


def test_a_ud25_the_mode_is_a_constant_or_its_name_in_any_case(server, transport, peer):
    for mode in (UDP, "UDP", "udp"):
        assert peer(server(handler(lambda c: c.respond("up")), mode=mode).address).ask() == b"up"
    with pytest.raises(ValueError, match=r"UDP, TCP, HTTP"):
        start("smtp", SimpleNamespace(main=handler(lambda c: None)))
    assert TCP is not UDP


def test_a_ud26_named_handlers_work_without_a_multi_handler(server, transport, peer):
    @handler
    def main(c):
        c.set_handler("next")
        c.respond("main")

    client = peer(server(main, handler(lambda c: c.respond("next"), "next")).address)
    assert [client.ask(), client.ask()] == [b"main", b"next"]


def test_a_ud27_a_kept_view_shows_its_own_packet_for_ever(server, transport, peer):
    kept = []

    @handler
    def main(c):
        if c.packet == b"keep this":
            kept.append(c.view)
        c.respond(b"ok")

    running = server(main)
    client = peer(running.address)
    client.ask(b"keep this")
    for number in range(10_000):
        client.ask(b"other %d" % number)
    assert bytes(kept[0]) == b"keep this"
    kept.clear()


def test_a_ud21_a_counting_extension_tells_peers_1_to_5(server, transport, peer):
    class Counter(Extension):
        def on_start(self, server):
            self.peers = []

        def route(self, c):
            if c.address not in self.peers:
                self.peers.append(c.address)

    for threaded in (False, True):
        counter = Counter()
        main = handler(threaded=threaded)(
            lambda c, counter=counter: c.respond(str(counter.peers.index(c.address) + 1))
        )
        address = server(counter, main).address
        assert [peer(address).ask() for _ in range(5)] == [b"1", b"2", b"3", b"4", b"5"]


def test_a_handler_that_returns_junk_answers_nothing_and_is_handled(server, transport, peer, caplog):
    caplog.set_level(logging.ERROR)

    @handler
    def main(c):
        c.respond(c.packet)
        return object()

    running = server(main)
    assert peer(running.address).ask(b"x") == b"x"
    assert not caplog.records
