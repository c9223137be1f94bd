"""Session for UDP clients: events, joins and leaves, timers, callbacks for all and for one."""

import asyncio
import threading
import time

import pytest

from toolips_udp import Address, Session, StartError, handler, on
from toolips_udp.connections.udp import UDPConnection


@handler
def main(c):
    c.respond("main")


def at(peer):
    return Address.of(peer.getsockname())


def until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def test_a_se1_a_silent_client_leaves_once_and_its_state_and_events_are_gone(server, peer, transport):
    session, left, rung = Session(timeout=0.3), [], []

    @session.on_leave
    def gone(client):
        left.append((client.address, dict(client.session)))

    @session.on("mark")
    def mark(c):
        c.session["mark"] = c.session.get("mark", 0) + 1
        session.on("mine", lambda c: c.respond("mine"), client=c)
        c.after(10, lambda: rung.append("late"))
        c.respond(str(c.session["mark"]))

    running = server(session, main)
    one = peer(running.address)
    assert [one.ask(b"mark"), one.ask(b"mark"), one.ask(b"mine")] == [b"1", b"2", b"mine"]
    timers = len(running._timers._timers)
    until(lambda: left)
    assert left == [(at(one), {"mark": 2})]
    until(lambda: len(running._timers._timers) == timers - 2)  # those of c.after
    time.sleep(0.4)
    assert len(left) == 1 and rung == []
    assert [one.ask(b"mine"), one.ask(b"mark")] == [b"main", b"1"]


def test_a_se2_callbacks_for_all_and_for_one_run_for_the_right_peer(server, peer, transport):
    session = Session(event=lambda c: c.text.split()[0] if c.text.startswith(("hello", "who")) else None)

    @session.on("hello")
    def everybody(c):
        c.respond("everybody")

    @session.on_join
    def joined(c):
        if c.text == "vip":
            session.on("hello", lambda c: c.respond("you alone"), client=c.address)

    running = server(session, main)
    first, second = peer(running.address), peer(running.address)
    assert first.ask(b"vip") == b"main"
    assert first.ask(b"hello there") == b"you alone"
    assert second.ask(b"hello there") == b"everybody"
    second.send(b"who are you")  # an event that nobody registered
    until(lambda: running.counters["no_handler"] == 1)
    assert second.ask(b"x") == b"main"


def test_a_se5_a_threaded_callback_sees_the_same_connection_interface(server, peer, transport):
    session, where = Session(), []

    @session.on("think", threaded=True)
    def think(c):
        assert isinstance(c, UDPConnection)
        where.append(threading.current_thread().name)
        c.session["thought"] = c.text
        c["shared"] = 1
        c.respond(f"{c.ip} {c.packet == b'think hard'} {'shared' in c}")
        c.send("second", c.address)

    running = server(session, main)
    one = peer(running.address)
    assert one.ask(b"think hard") == b"127.0.0.1 True True"
    assert one.recv(100) == b"second"
    assert where and where[0] != threading.main_thread().name
    assert running.data == {"shared": 1}


def test_an_async_callback_is_awaited_and_its_errors_are_counted(server, peer, transport):
    session = Session()

    @session.on("slow")
    async def slow(c):
        await asyncio.sleep(0.01)
        c.respond("slept")

    @session.on("boom")
    async def boom(c):
        raise ValueError

    running = server(session, main)
    one = peer(running.address)
    assert one.ask(b"slow") == b"slept"
    one.send(b"boom")
    until(lambda: running.counters["handler_failed"] == 1)


def test_se_07_a_dropped_client_loses_state_callbacks_and_chosen_handler(server, peer, transport):
    session, left = Session(), []
    session.on_leave(lambda client: left.append(client.address))

    @handler("other")
    def other(c):
        c.respond("other")

    @session.on("setup")
    def setup(c):
        c.session["x"] = 1
        c.set_handler("other")
        c.respond("ok")

    @session.on("drop")
    def drop(c):
        session.drop(c)
        c.respond(str(dict(c.session)))

    one = peer(server(session, main, other).address)
    assert [one.ask(b"setup"), one.ask(b"x"), one.ask(b"drop"), one.ask(b"x")] == [
        b"ok",
        b"other",
        b"{}",
        b"main",
    ]
    assert left == [at(one)]


def test_more_clients_than_the_cap_push_out_the_longest_silent(server, peer, transport):
    session, left = Session(max_clients=2), []
    session.on_leave(lambda client: left.append(client.address))
    running = server(session, main)
    clients = [peer(running.address) for _ in range(3)]
    for each in clients:
        each.ask(b"x")
    assert left == [at(clients[0])]
    assert session.clients == [at(clients[1]), at(clients[2])]
    running.stop()
    assert left == [at(each) for each in clients]


def test_a_join_runs_once_per_client_and_one_that_raises_harms_nobody(server, peer, transport):
    session, seen = Session(), []

    @session.on_join
    def bad(c):
        raise ValueError

    session.on_join(lambda c: seen.append(c.port))
    running = server(session, main)
    one, two = peer(running.address), peer(running.address)
    for each in (one, two, one):
        assert each.ask(b"x") == b"main"
    assert seen == [at(one).port, at(two).port]


def test_on_says_what_is_wrong(server, tmp_path):
    session = Session()
    with pytest.raises(LookupError, match="not here"):
        session.on("x", lambda c: None, client="127.0.0.1:9")
    with pytest.raises(TypeError, match="named by text"):
        session.on(None)
    with pytest.raises(ValueError, match="timeout"):
        Session(timeout=0)
    server(session, main)
    with pytest.raises(StartError, match="without a pool"):
        session.on("x", lambda c: None, threaded=True)
    threaded = Session()
    on(threaded, "x", lambda c: None, threaded=True)
    assert threaded.threaded_callbacks
    source = (
        "from toolips_udp import Session, handler\n"
        "session = Session()\n"
        "session.on('x', print, threaded=True)\n"
        "main = handler(print)\n"
    )
    (tmp_path / "in_processes.py").write_text(source)
    with pytest.raises(StartError, match="kind='process'"):
        server(module=str(tmp_path / "in_processes.py"), kind="process", threads=2)


def test_a_word_may_drop_a_packet_and_anything_else_a_route_returns_passes(server, peer, transport):
    from toolips_udp import Extension

    class Words(Extension):
        def route(self, c):
            return {b"deny": "denied", b"junk": "no such word", b"true": True, b"list": []}.get(c.packet)

    running = server(Words(), main)
    one = peer(running.address)
    one.send(b"deny")
    for packet in (b"junk", b"true", b"list"):
        assert one.ask(packet) == b"main"
    assert running.counters["denied"] == 1
