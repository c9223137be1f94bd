"""Handlers of every kind as users see them: async, threaded, typed; hooks, timers, the watchdog."""

import asyncio
import contextvars
import json
import logging
import socket
import threading
import time
from types import SimpleNamespace

import msgspec
import pytest

from toolips_udp import (
    Extension,
    MultiHandler,
    StartError,
    TooLong,
    UDPIOConnection,
    WorkerError,
    handler,
    request,
    send,
)

# ---- async handlers ----


def test_an_async_handler_that_does_not_wait_makes_no_task(server, transport, peer):
    tasks = []

    @handler
    async def main(c):
        tasks.append(len(asyncio.all_tasks()))
        c.respond(c.packet)

    client = peer(server(main).address)
    for _ in range(20):
        client.ask()
    assert len(set(tasks)) == 1


def test_an_async_handler_is_a_proper_task_from_its_first_step_on(server, transport, peer):
    @handler
    async def main(c):
        task = asyncio.current_task()
        assert task is not None
        if c.text == "timeout before":
            async with asyncio.timeout(0.02):
                await asyncio.sleep(5)
        elif c.text == "group":
            async with asyncio.TaskGroup() as group:
                first = group.create_task(asyncio.sleep(0.01, "one"))
                second = group.create_task(asyncio.sleep(0.01, "two"))
            assert asyncio.current_task() is task
            c.respond(first.result() + second.result())
        elif c.text == "wait_for":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.sleep(5), 0.02)
            c.respond("timed out")
        elif c.text == "zero":
            await asyncio.sleep(0)
            assert asyncio.current_task() is task
            c.respond("zero")

    running = server(main)
    client = peer(running.address)
    assert client.ask(b"group") == b"onetwo"
    assert client.ask(b"wait_for") == b"timed out"
    assert client.ask(b"zero") == b"zero"
    client.send(b"timeout before")
    assert client.hears_nothing()
    assert running.counters["handler_failed"] == 1


variable = contextvars.ContextVar("variable", default="unset")


def test_context_variables_stay_with_their_packet(server, transport, peer):
    @handler
    async def main(c):
        before = variable.get()
        variable.set(c.text)
        if c.text.startswith("wait"):
            await asyncio.sleep(0.02)
        c.respond(f"{before} {variable.get()}")

    address = server(main).address
    first, second = peer(address), peer(address)
    first.send(b"wait 1")
    assert second.ask(b"quick") == b"unset quick"
    assert second.ask(b"wait 2") == b"unset wait 2"
    assert first.recv(100) == b"unset wait 1"


def test_two_handlers_may_wait_for_one_future(server, transport, peer):
    waiting = []

    @handler
    async def main(c):
        if c.text == "go":
            waiting.pop().set_result("released")
            return
        if not waiting:
            waiting.append(asyncio.get_running_loop().create_future())
        c.respond(await waiting[0])

    address = server(main).address
    clients = [peer(address) for _ in range(3)]
    for client in clients:
        client.send(b"wait")
    time.sleep(0.05)
    peer(address).send(b"go")
    assert [client.recv(100) for client in clients] == [b"released"] * 3


def test_a_handler_that_cancels_itself_costs_only_its_own_packet(server, transport, peer):
    @handler
    async def main(c):
        if c.text == "cancel":
            asyncio.current_task().cancel()
            await asyncio.sleep(1)
        if c.text == "cancel and end":
            asyncio.current_task().cancel()
            return
        c.respond("fine")

    running = server(main)
    client = peer(running.address)
    for text in (b"cancel", b"cancel and end", b"cancel"):
        client.send(text)
        assert client.ask() == b"fine"
    running.stop()
    assert running.counters["handler_failed"] == 2
    assert running.counters["handled"] == 4


def test_an_async_handler_that_passes_its_deadline_is_cancelled_and_named(server, transport, peer, caplog):
    ended = []

    @handler(timeout=0.05)
    async def main(c):
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    running = server(main)
    client = peer(running.address)
    client.send(b"x")
    assert client.hears_nothing(0.3)
    assert running.counters["handler_failed"] == 1 and ended == [True]
    assert "deadline of 0.05 s" in caplog.text and "main" in caplog.text


def test_more_async_handlers_than_allowed_are_queue_full(server, transport, peer, eventually):
    @handler
    async def main(c):
        await asyncio.sleep(0.2)
        c.respond("ok")

    running = server(main, max_async=5)
    client = peer(running.address)
    for _ in range(8):
        client.send(b"x")
    eventually(lambda: running.counters["queue_full"] == 3)
    assert [client.recv(10) for _ in range(5)] == [b"ok"] * 5


def test_an_async_handler_asks_another_server(server, transport, peer):
    other = server(handler(lambda c: c.respond(c.text.upper())))

    @handler
    async def proxy(c):
        if c.text == "nobody":
            with pytest.raises(TimeoutError, match="no answer"):
                await c.request("x", "127.0.0.1:9", timeout=0.05)
            c.respond("nobody answered")
        else:
            c.respond(await c.request(c.packet, other.address))

    client = peer(server(proxy).address)
    assert client.ask(b"loud") == b"LOUD"
    assert client.ask(b"nobody") == b"nobody answered"


def test_a_request_in_an_inline_handler_names_the_fix(server, transport, peer):
    @handler
    def main(c):
        with pytest.raises(RuntimeError, match="async def"):
            c.request("x", "127.0.0.1:9")
        with pytest.raises(RuntimeError, match="request blocks"):
            request("x", "127.0.0.1:9")
        c.respond("both refused")

    assert peer(server(main).address).ask() == b"both refused"


# ---- threaded handlers ----


def test_a_threaded_handler_holds_an_io_connection_and_blocks_nobody(server, transport, peer):
    over = threading.Event()

    @handler
    def main(c):
        if c.text == "slow":
            c.set_handler("slow")
        c.respond("quick")

    @handler("slow", threaded=True)
    def slow(c):
        assert isinstance(c, UDPIOConnection) and c.worker >= 2
        assert threading.current_thread() is not threading.main_thread()
        assert over.wait(30)
        c.respond(c.text)
        c.respond(c.ip)
        c.remove_handler()

    address = server(main, slow).address
    blocked, free = peer(address), peer(address)
    blocked.ask(b"slow")
    blocked.send(b"now")
    for _ in range(10):
        assert free.ask() == b"quick"
    over.set()
    assert [blocked.recv(100), blocked.recv(100)] == [b"now", b"127.0.0.1"]
    assert blocked.ask() == b"quick"


def test_effects_of_a_threaded_handler_happen_in_the_order_called(server, transport, peer):
    @handler
    def main(c):
        c.set_handler("work")

    @handler("work", threaded=True)
    def work(c):
        for number in range(50):
            c.respond(str(number))
        c["done"] = c.data.get("done", 0) + 1
        c.session["seen"] = c.text
        c.set_handler("last")
        c.respond("end")

    @handler("last")
    def last(c):
        c.respond(f"{c['done']} {c.session['seen']}")

    client = peer(server(main, work, last).address)
    client.send(b"x")
    client.send(b"begin")
    assert [client.recv(10) for _ in range(51)] == [str(number).encode() for number in range(50)] + [b"end"]
    assert client.ask() == b"1 begin"


def test_mistakes_in_a_threaded_handler_raise_at_the_call(server, transport, peer, eventually):
    from toolips_udp import UnknownHandler

    seen = []

    @handler(threaded=True)
    def main(c):
        for error, call in (
            (UnknownHandler, lambda: c.set_handler("nobody")),
            (TooLong, lambda: c.respond(bytes(70_000))),
            (TypeError, lambda: c.respond(7)),
            (TypeError, lambda: c.write("x")),
            (KeyError, lambda: c["missing"]),
        ):
            with pytest.raises(error):
                call()
            seen.append(error)
        raise RuntimeError("and one of its own")

    running = server(main)
    client = peer(running.address)
    client.send(b"x")
    eventually(lambda: running.counters["handler_failed"] == 1)
    assert len(seen) == 5


def test_more_threaded_jobs_than_allowed_are_queue_full(server, transport, peer, eventually):
    gate = threading.Event()

    @handler(threaded=True)
    def main(c):
        gate.wait(5)
        c.respond("ok")

    running = server(main, threads=3, max_jobs=6)
    client = peer(running.address)
    for _ in range(10):
        client.send(b"x")
    eventually(lambda: running.counters["queue_full"] == 4)
    assert running.in_flight == 6
    gate.set()
    assert [client.recv(10) for _ in range(6)] == [b"ok"] * 6


def test_a_threaded_handler_past_its_deadline_is_counted_and_its_late_effects_are_refused_and_counted(
    server, transport, peer, eventually, caplog
):
    gate, raised = threading.Event(), []

    @handler(threaded=True, timeout=0.1)
    def main(c):
        if c.packet != b"hang":
            c.respond(c.packet)
            return
        c["before"] = True
        c.respond("in time")
        gate.wait(10)
        for late in (
            lambda: c.respond("late"),
            lambda: c.send("late", c.address),
            lambda: c.set_handler("other"),
            lambda: c.session,
            lambda: c.data,
            lambda: c.__setitem__("after", True),
        ):
            with pytest.raises(WorkerError, match="goes on after its deadline"):
                late()
            raised.append(True)

    @handler("other")
    def other(c):
        c.respond("the wrong one")

    running = server(main, other, threads=2)
    client = peer(running.address)
    assert client.ask(b"hang") == b"in time"
    eventually(lambda: running.counters["handler_failed"] == 1)
    eventually(lambda: "deadline of 0.1 s" in caplog.text and "cannot be stopped" in caplog.text)
    assert client.ask(b"next") == b"next", "the slot is free again while the thread still hangs"
    gate.set()
    eventually(lambda: running.counters["stale_effects"] == 6)
    assert client.ask(b"last") == b"last"
    eventually(lambda: running.counters["handled"] == 2)
    assert len(raised) == 6 and running.in_flight == 0
    assert dict(running.data) == {"before": True}


def test_a_packet_that_waits_past_its_deadline_for_a_thread_is_stale_and_never_begins(
    server, transport, peer, eventually
):
    gate, begun = threading.Event(), []

    @handler
    def main(c):
        c.set_handler(c.text)
        c.respond("chosen")

    @handler("block", threaded=True, timeout=None)
    def block(c):
        gate.wait(10)

    @handler("short", threaded=True, timeout=0.1)
    def short(c):
        begun.append(c.packet)

    running = server(main, block, short, threads=2)
    blocking, waiting = peer(running.address), peer(running.address)
    assert blocking.ask(b"block") == waiting.ask(b"short") == b"chosen"
    blocking.send(b"x")
    eventually(lambda: running.in_flight == 1)
    waiting.send(b"y")
    eventually(lambda: running.counters["stale"] == 1)
    gate.set()
    eventually(lambda: running.counters["handled"] == 3)
    assert begun == [] and running.counters["handler_failed"] == 0 and running.in_flight == 0


def test_an_ordered_client_is_served_on_after_its_packet_passed_the_deadline(
    server, transport, peer, eventually
):
    gate = threading.Event()

    @handler(threaded=True, timeout=0.15)
    def main(c):
        if c.packet == b"hang":
            gate.wait(10)
        c.respond(c.packet)

    running = server(main, threads=3, ordered=True)
    client = peer(running.address)
    client.send(b"hang")
    time.sleep(0.1)
    client.send(b"after")
    assert client.recv(100) == b"after"
    gate.set()
    eventually(lambda: running.counters["stale_effects"] == 1)


def test_ordered_keeps_the_packets_of_one_client_in_order(server, transport, peer):
    import random

    @handler(threaded=True)
    def main(c):
        time.sleep(random.random() / 200)
        c.respond(c.packet)

    client = peer(server(main, threads=5, ordered=True).address)
    for number in range(100):
        client.send(str(number).encode())
    assert [client.recv(10) for _ in range(100)] == [str(number).encode() for number in range(100)]


def test_a_threaded_handler_with_threads_1_is_a_start_error(server, transport):
    with pytest.raises(StartError, match="threads=2"):
        server(handler(threaded=True)(lambda c: None), threads=1)


def test_a_threaded_handler_may_block_on_a_request(server, transport, peer):
    other = server(handler(lambda c: c.respond("from the other")))
    main = handler(threaded=True)(lambda c: c.respond(c.request("x", other.address)))
    assert peer(server(main).address).ask() == b"from the other"


# ---- typed handlers ----


class Move(msgspec.Struct):
    x: int
    y: int = 0


class Answer(msgspec.Struct):
    total: int


def test_a_typed_handler_gets_what_its_type_says_and_answers_in_kind(server, transport, peer):
    @handler
    def main(c, move: Move):
        c.respond(Answer(move.x + move.y))

    client = peer(server(main).address)
    assert json.loads(client.ask(b'{"x": 1, "y": 2}')) == {"total": 3}
    assert msgspec.msgpack.decode(client.ask(msgspec.msgpack.encode({"x": 4}))) == {"total": 4}


@pytest.mark.parametrize("kind", ["inline", "async", "threaded"])
def test_a_packet_that_does_not_fit_is_malformed_and_never_reaches_the_handler(
    server, transport, peer, kind, eventually
):
    reached = []

    def plain(c, move: Move):
        reached.append(move)

    async def waiting(c, move: Move):
        reached.append(move)

    main = handler(waiting) if kind == "async" else handler(threaded=kind == "threaded")(plain)
    running = server(main)
    client = peer(running.address)
    bad = [
        b"",
        b"{",
        b'{"x": "text"}',
        b"[1]",
        b"\xc1",
        b"\x81\xa1x\xa1y",
        b'{"y": 1}',
        b"[" * 50_000,
        b"\x91" * 50_000,
    ]
    for packet in bad:
        client.send(packet)
    eventually(lambda: running.counters["malformed"] == len(bad))
    client.send(b'{"x": 1}')
    eventually(lambda: reached == [Move(1)])


def test_types_by_name_and_from_further_down_are_resolved_at_start(server, transport, peer):
    @handler
    def main(c, later: "Later"):
        c.respond(later.word)

    global Later

    class Later(msgspec.Struct):
        word: str

    assert peer(server(main).address).ask(b'{"word": "found"}') == b"found"


def test_a_type_that_cannot_be_decoded_is_a_start_error(server, transport):
    class Strange:
        pass

    @handler
    def main(c, thing: lambda: None):
        pass

    with pytest.raises(StartError, match="cannot be decoded"):
        server(main)


# ---- hooks ----


def test_on_error_and_on_drop_are_told(server, transport, peer, eventually, caplog):
    errors, drops = [], []

    def on_error(c, error):
        errors.append((c.packet, str(error)))
        raise RuntimeError("on_error itself fails")

    @handler
    def main(c):
        raise ValueError("bad")

    running = server(
        main, on_error=on_error, on_drop=lambda word, address: drops.append((word, address.port))
    )
    client = peer(running.address)
    client.send(b"x")
    eventually(lambda: errors == [(b"x", "bad")])
    eventually(lambda: drops == [("handler_failed", client.getsockname()[1])])
    assert "on_error raised RuntimeError" in caplog.text


def test_a_route_that_raises_costs_its_packet_and_is_named(server, transport, peer, caplog):
    class Fragile(Extension):
        def route(self, c):
            if c.packet == b"boom":
                raise RuntimeError("exploded")

    running = server(module=SimpleNamespace(glass=Fragile(), main=handler(lambda c: c.respond("ok"))))
    client = peer(running.address)
    client.send(b"boom")
    assert client.ask(b"x") == b"ok"
    assert running.counters["handler_failed"] == 1
    assert "glass (Fragile)" in caplog.text


def test_after_and_every_ring_and_can_be_cancelled(server, transport, peer, eventually):
    rung = []

    @handler
    def main(c):
        c.after(0.02, lambda: c.respond("later"))
        c.after(0.02, lambda: rung.append("never")).cancel()
        c.respond("now")

    running = server(main)
    ticks = running.every(0.01, lambda: rung.append("tick"))

    async def waits():
        await asyncio.sleep(0)
        rung.append("async")

    running.after(0, waits)
    client = peer(running.address)
    assert [client.ask(), client.recv(10)] == [b"now", b"later"]
    eventually(lambda: rung.count("tick") >= 5 and "async" in rung)
    ticks.cancel()
    time.sleep(0.03)
    count = rung.count("tick")
    time.sleep(0.05)
    assert rung.count("tick") == count and "never" not in rung


def test_a_timer_that_raises_goes_on_and_says_so(server, transport, eventually, caplog):
    calls = []

    def fails():
        calls.append(1)
        raise RuntimeError("tick failed")

    server(handler(lambda c: None)).every(0.01, fails)
    eventually(lambda: len(calls) >= 3)
    assert caplog.text.count("the timer function") == 1


def test_a_se3_ticks_come_at_their_rate_until_they_are_cancelled(server, transport, eventually):
    """That they do not drift is shown on a clock of its own, in tests/unit/test_timers.py."""
    times = []
    running = server(handler(lambda c: None))
    begin = time.monotonic()
    timer = running.every(0.05, lambda: times.append(time.monotonic()))
    eventually(lambda: len(times) >= 10)
    timer.cancel()
    assert running.on_loop(lambda: len(times)) <= (time.monotonic() - begin) / 0.05 + 1
    rung = len(times)
    time.sleep(0.12)
    assert len(times) == rung


def test_the_watchdog_names_a_handler_that_holds_the_loop(server, transport, peer, eventually, caplog):
    caplog.set_level(logging.WARNING)

    @handler
    def main(c):
        if c.text == "block":
            time.sleep(0.5)
        c.respond("done")

    running = server(main)
    client = peer(running.address)
    client.ask()
    assert not caplog.records
    assert client.ask(b"block") == b"done"
    eventually(lambda: "has held the loop" in caplog.text)
    message = next(r.getMessage() for r in caplog.records if "has held" in r.getMessage())
    assert "test_handlers.py" in message and "main" in message and "threaded=True" in message


def test_a_handler_that_hangs_for_ever_is_named_when_the_server_is_stopped(transport, caplog, monkeypatch):
    release = threading.Event()

    @handler
    def hangs(c):
        release.wait(30)

    from toolips_udp import UDP, start
    from toolips_udp.servers import stopping

    running = start(
        UDP, SimpleNamespace(hangs=hangs), "127.0.0.1:0", transport=transport, control=False, drain=0
    )
    send("x", running.address)
    time.sleep(0.3)
    monkeypatch.setattr(stopping, "PATIENCE", 0.3)
    running.stop()
    assert running.exit_code == 1 and "does not stop" in caplog.text and "hangs" in caplog.text
    release.set()
    assert running.wait(5)
    running.stop()


# ---- clients ----


def test_a_multi_handler_may_be_keyed_by_ip_or_by_a_function(server, transport, peer):
    move = handler(lambda c: c.respond("moved"), "moved")

    def first(c):
        c.set_handler("moved")
        c.respond("main")

    by_ip = server(module=SimpleNamespace(chooser=MultiHandler(first, key="ip"), move=move)).address
    assert [peer(by_ip).ask(), peer(by_ip).ask()] == [b"main", b"moved"]
    by_word = MultiHandler(first, key=lambda c: c.text)
    address = server(module=SimpleNamespace(chooser=by_word, move=move)).address
    client = peer(address)
    assert [client.ask(b"a"), client.ask(b"a"), client.ask(b"b"), client.ask(b"a")] == [
        b"main",
        b"moved",
        b"main",
        b"moved",
    ]


def test_a_session_is_per_client_and_expires(server, transport, peer):
    @handler
    def main(c):
        c.session["count"] = c.session.get("count", 0) + 1
        c.respond(str(c.session["count"]))

    running = server(main, session_timeout=0.2)
    one, two = peer(running.address), peer(running.address)
    assert [one.ask(), one.ask(), two.ask()] == [b"1", b"2", b"1"]
    time.sleep(0.3)
    assert one.ask() == b"1"


def test_a_broadcast_reaches_clients_with_a_session_and_those_named(server, transport, peer):
    @handler
    def main(c):
        c.session["here"] = True
        c.respond("in")

    running = server(main)
    clients = [peer(running.address) for _ in range(3)]
    for client in clients:
        client.ask()
    gone = clients.pop()
    gone.close()
    host, port = clients[0].getsockname()
    assert running.broadcast("news") == 3
    assert [client.recv(10) for client in clients] == [b"news"] * 2
    assert running.broadcast("others", exclude=[(host, port)]) == 2
    assert clients[1].recv(10) == b"others" and clients[0].hears_nothing()
    assert running.broadcast("one", to=[f"{host}:{port}"]) == 1
    assert clients[0].recv(10) == b"one"


def test_multicast_groups_are_joined(server, transport, eventually):
    seen = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server(handler(lambda c: seen.append(c.packet)), ip=f"0.0.0.0:{port}", multicast=["239.77.1.2@127.0.0.1"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        sender.sendto(b"to all", ("239.77.1.2", port))
        eventually(lambda: seen == [b"to all"])
    for bad in ("127.0.0.1", "ff02::1", "nonsense group", "239.1.1.1@no-such-interface"):
        with pytest.raises(StartError, match="multicast"):
            server(handler(lambda c: None), multicast=[bad])


def test_a_socket_that_systemd_only_bound_gets_its_buffer_and_its_groups(server, transport, monkeypatch):
    from toolips_udp.servers import binding

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as fresh:
        before = fresh.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        fresh.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * before)
        granted = fresh.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    given = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    given.bind(("0.0.0.0", 0))
    given.setblocking(False)
    monkeypatch.setattr(binding.systemd, "take", lambda address, kind: given)
    at = server(
        handler(lambda c: c.respond("joined")),
        ip="0.0.0.0:0",
        multicast=["239.77.88.98@127.0.0.1"],
        receive_buffer=2 * before,
    )
    assert given.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == granted
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        client.settimeout(10)
        client.sendto(b"x", ("239.77.88.98", at.address.port))
        assert client.recv(100) == b"joined"


def test_a_wildcard_server_answers_from_the_address_that_was_asked(server, transport):
    running = server(handler(lambda c: c.respond("x")), ip="0.0.0.0:0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(2)
        client.sendto(b"x", ("127.0.0.2", running.address.port))
        assert client.recvfrom(10)[1] == ("127.0.0.2", running.address.port)


def test_a_dual_stack_server_sees_one_spelling_of_an_ipv4_client(server, transport):
    running = server(handler(lambda c: c.respond(str(c.address))), ip="[::]:0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(2)
        client.sendto(b"x", ("127.0.0.1", running.address.port))
        assert client.recv(100).decode() == f"127.0.0.1:{client.getsockname()[1]}"


def test_answers_through_a_kept_connection_leave_at_once(server, transport, peer, eventually):
    kept = []
    running = server(handler(lambda c: kept.append(c)))
    client = peer(running.address)
    client.send(b"keep me")
    eventually(lambda: kept)
    for _ in range(50):
        peer(running.address).send(b"others")
    eventually(lambda: running.counters["handled"] == 51)
    assert kept[0].packet == b"keep me" and kept[0].address.port == client.getsockname()[1]
    kept[0].respond("from another thread")
    assert client.recv(100) == b"from another thread"
    running.stop()
    kept[0].respond("after the stop")  # counted, not raised
    kept.clear()


def test_what_respond_takes_and_refuses(server, transport, peer):
    @handler
    def main(c):
        for good in (b"bytes", "tëxt", bytearray(b"array"), memoryview(b"view"), b""):
            c.respond(good)
        for bad, error in (
            (7, TypeError),
            (None, TypeError),
            (bytes(65_508), TooLong),
            ("é" * 40_000, TooLong),
        ):
            with pytest.raises(error):
                c.respond(bad)
        c.respond(f"{c.max_reply}")

    client = peer(server(main).address)
    client.send(b"x")
    assert [client.recv(100) for _ in range(6)] == [
        b"bytes",
        "tëxt".encode(),
        b"array",
        b"view",
        b"",
        b"65507",
    ]
