"""`toolips-udp doctor ADDRESS`: what it finds at a running server, and what it says where there is none."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from toolips_udp import HTTP, TCP, cli, handler, limits, request, route
from toolips_udp.cli import _admin, _server
from toolips_udp.counters import AGE_BOUNDS, DROPS, WORDS
from toolips_udp.servers import admin
from toolips_udp.servers.udp import UDPMode

ANY = "127.0.0.1:0"


def echo():
    return handler(lambda c: c.respond(c.packet))


@pytest.fixture
def look(capsys):
    """`look(running)` is what doctor finds there: name to finding."""

    def ask(running, *flags, code=0):
        capsys.readouterr()
        given = running.settings.admin
        address = given if given.startswith("unix:") else str(running.admin.address)
        assert cli.main(["doctor", address, "--json", *flags]) == code
        told = json.loads(capsys.readouterr().out)
        assert told["weak"] == sum(finding["fine"] is False for finding in told["findings"])
        assert all(finding["fix"] for finding in told["findings"] if finding["fine"] is False)
        return {finding["name"]: SimpleNamespace(**finding) for finding in told["findings"]}

    return ask


@pytest.fixture
def unanswered(eventually):
    """`unanswered(running, word)` sends one datagram that ends under that word."""

    def send(running, word):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"x", running.address)
        eventually(lambda: running.counters[word] == 1)

    return send


def change(monkeypatch, **numbers):
    """From now on `/counters` tells these numbers in place of the right ones."""

    def page(server):
        status, kind, text = admin.counters(server)
        return status, kind, json.dumps({**json.loads(text), **numbers})

    monkeypatch.setitem(admin.PAGES, "/counters", page)


def test_doctor_shows_both_ledgers_of_a_running_server_with_its_figures(server, look, transport):
    running = server(echo(), admin=ANY)
    for _ in range(3):
        request("x", running.address)
    found = look(running)
    assert found["receive ledger"].found == "received 3 = handled 3 + dropped 0 + in flight 0"
    assert found["send ledger"].found == "queued 3 = sent 3 + refused or dropped 0 + waiting 0"
    assert found["kernel drops"].found.startswith("0:") and found["workers"].found.startswith("one process")
    good = ("ready", "receive ledger", "send ledger", "kernel drops")
    assert all(found[name].fine for name in good) and "loop lag" in found
    granted, asked = running.modes[0].receive_buffer, 2 * running.settings.receive_buffer
    assert f"{granted:,} bytes of {asked:,} asked" in found["receive buffer"].found
    assert not set(found) & {"queue age", *WORDS}, "what never was is not told"


def test_doctor_prints_a_drop_as_a_weakness_with_its_fix_and_strict_exits_1(
    server, look, unanswered, capsys, transport
):
    @handler
    def main(c):
        raise ValueError("a fault of mine")

    running = server(main, admin=ANY)
    unanswered(running, "handler_failed")
    found = look(running, "--strict", code=1)
    assert found["handler_failed"].fine is False and found["handler_failed"].found.startswith("1: ")
    assert found["receive ledger"].found == "received 1 = handled 0 + dropped 1 + in flight 0"
    assert cli.main(["doctor", str(running.admin.address)]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("WEAK handler_failed"))
    assert lines[at + 1].strip() == f"fix: {found['handler_failed'].fix}"


def test_doctor_tells_what_is_in_flight_and_the_ledger_closes(server, look, eventually, transport):
    go = asyncio.Event()

    @handler
    async def main(c):
        await go.wait()

    running = server(main, admin=ANY)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", running.address)
    eventually(lambda: running.in_flight == 1)
    ledger = look(running)["receive ledger"]
    assert ledger.fine and ledger.found == "received 1 = handled 0 + dropped 0 + in flight 1"
    running.loop.call_soon_threadsafe(go.set)
    eventually(lambda: running.in_flight == 0)


def test_doctor_takes_what_protects_the_server_for_no_weakness(server, look, unanswered, transport):
    running = server(echo(), limits(0.001, burst=1, loopback=True), admin=ANY)
    assert request("x", running.address) == b"x"
    unanswered(running, "limited")
    found = look(running)["limited"]
    assert found.fine is None and "limits(...)" in found.fix


def test_doctor_tells_of_a_server_that_sheds_and_why_it_is_not_ready(server, look, unanswered, transport):
    running = server(echo(), admin=ANY)
    running.pressure = SimpleNamespace(level=2, end=lambda: None)  # memory past its second mark
    running.modes[0].press(2)
    unanswered(running, "shed")
    found = look(running)
    assert (
        found["ready"].fine is False
        and found["ready"].found == "not ready: memory is above 95 % of its limit"
    )
    assert found["shed"].fine is False and "MemoryMax" in found["shed"].fix + found["ready"].fix
    running.pressure, running.ready = None, False
    assert look(running)["ready"].found == "not ready: it starts or stops"
    running.ready = True
    assert look(running)["ready"].fine


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="what the kernel dropped is read on Linux")
def test_doctor_tells_of_the_kernels_drops_and_of_the_receive_buffer(
    server, look, eventually, transport, monkeypatch, tmp_path
):
    go, begun = threading.Event(), threading.Event()

    @handler
    def main(c):
        begun.set()
        go.wait(20)

    running = server(main, admin=ANY, receive_buffer=16_384, watchdog=0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for _ in range(300):
            client.sendto(b"x", running.address)
            begun.wait(20)
    go.set()
    eventually(
        lambda: (
            running.counters["received"] == 300 == running.counters["handled"] + running.counters["kernel"]
        )
    )
    found = look(running)
    assert found["kernel drops"].fine is False and " of 300 received" in found["kernel drops"].found
    assert found["kernel drops"].fix.startswith("start it with receive_buffer=32768"), (
        "the kernel grants that"
    )
    monkeypatch.setattr(_server, "LIMIT", tmp_path / "rmem_max")
    more = "sudo sysctl -w net.core.rmem_max=32768, then start it with receive_buffer=32768"
    for limit in ("", "16384\n"):
        _server.LIMIT.write_text(limit)
        assert look(running)["kernel drops"].fix.startswith(more)
    assert found["receive buffer"].fine

    greedy = server(echo(), admin=ANY, receive_buffer=1 << 30)
    found = look(greedy)["receive buffer"]
    assert found.fine is False and found.fix.startswith(f"sudo sysctl -w net.core.rmem_max={1 << 30}")


MODULE = """
from toolips_udp import handler

@handler
def main(c):
    c.respond("ok")
"""


def test_doctor_asks_a_server_of_two_workers_on_its_unix_socket(server, look, eventually, tmp_path):
    (tmp_path / "asked_by_the_doctor.py").write_text(MODULE)
    running = server(module=str(tmp_path / "asked_by_the_doctor.py"), workers=2, admin=f"unix:{tmp_path}/admin")
    for _ in range(3):
        request("x", running.address)
    eventually(lambda: running.counters["sent"] == 3)  # the client may be sooner
    found = look(running)
    assert found["workers"].fine and found["workers"].found == "2, generation 1, 0 restarts"
    assert (
        found["receive ledger"].found
        == "received 3 = handled 3 + dropped 0 + in flight 0 (in flight is the rest)"
    )
    assert found["send ledger"].found.endswith("waiting 0 (waiting is the rest)")
    assert found["loop lag"].found.startswith("the supervisor's loop")
    os.kill(running.pids[0], signal.SIGKILL)
    eventually(lambda: running.group.restarts == 1 and all(running.pids), 60)
    running.reload()
    found = look(running)
    assert found["workers"].fine is False and "2, generation 2, 1 restarts" in found["workers"].found


def test_doctor_takes_a_page_that_is_being_sent_for_no_gap_in_the_ledger(server, look, eventually):
    responses = pytest.importorskip("starlette.responses", reason="HTTP mode needs the extra http")
    go, begun = asyncio.Event(), threading.Event()

    async def parts():
        yield "first"
        begun.set()
        await go.wait()
        yield "last"

    @route("/")
    async def slow(c):
        c.respond(responses.StreamingResponse(parts()))

    running = server(slow, mode=HTTP, admin=ANY)
    with socket.create_connection(running.address, timeout=20) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert begun.wait(20)
        ledger = look(running)["send ledger"]
        running.loop.call_soon_threadsafe(go.set)
        with client.makefile("rb") as answer:
            assert b"last" in answer.read()
    assert ledger.fine and ledger.found.endswith("waiting 1 (waiting is the rest)")


@pytest.mark.parametrize(
    ("wrong", "ledger", "gap"),
    [
        (
            {"handled": 1},
            "receive ledger",
            "received 2, but handled 1 + dropped 0 + in flight 0 = 1: 1 without a word",
        ),
        ({"handled": 4}, "receive ledger", "2 too many"),
        (
            {"sent": 0},
            "send ledger",
            "queued 2, but sent 0 + refused or dropped 0 + waiting 0 = 0: 2 without a word",
        ),
        ({"workers": 2, "handled": 5, "in_flight": -3}, "receive ledger", "3 too many"),
    ],
)
def test_doctor_says_by_how_much_a_ledger_does_not_close(server, look, monkeypatch, wrong, ledger, gap):
    monkeypatch.setattr(_server, "PAUSE", 0)
    running = server(echo(), admin=ANY)
    for _ in range(2):
        request("x", running.address)
    change(monkeypatch, **wrong)
    found = look(running)[ledger]
    assert found.fine is False and gap in found.found


def test_doctor_looks_again_at_a_ledger_that_was_read_while_it_moved(server, look, monkeypatch):
    monkeypatch.setattr(_server, "PAUSE", 0)
    running, wrong = server(echo(), admin=ANY), [1, 1]

    def page(server):
        status, kind, text = admin.counters(server)
        told = json.loads(text)
        return status, kind, json.dumps({**told, "handled": told["handled"] + (wrong.pop() if wrong else 0)})

    monkeypatch.setitem(admin.PAGES, "/counters", page)
    assert look(running)["receive ledger"].fine and not wrong


def test_the_ledgers_of_the_counters_page_are_of_one_moment_while_the_kernel_drops(server, monkeypatch):
    running, drops = server(echo(), admin=ANY), iter([0, 0, 3, 5, 5, 5, 5])

    class Moving(dict):
        """The kernel drops while its words are read: `received` before, `kernel` after."""

        def __getitem__(self, word):
            if word in ("received", "kernel"):
                return next(drops)
            return 0

    monkeypatch.setattr(type(running), "counters", property(lambda self: Moving.fromkeys(WORDS)))
    monkeypatch.setattr(Moving, "items", lambda self: [(word, self[word]) for word in WORDS], raising=False)
    told = json.loads(admin.counters(running)[2])
    assert told["received"] == told["kernel"] == 5
    monkeypatch.undo()


def test_doctor_tells_how_long_datagrams_waited_once_that_was_measured(server, look, monkeypatch):
    ages = [0] * (len(AGE_BOUNDS) + 1)
    ages[2], ages[-1] = 97, 3
    monkeypatch.setattr(UDPMode, "_ages", lambda self: ages)
    found = look(server(echo(), admin=ANY))["queue age"]
    assert found.fine is None
    assert found.found.startswith("half waited under 1.0 ms, 99 % at least 1,073.7 ms")


def test_doctor_tells_of_a_handler_that_holds_the_loop(server, look, eventually):
    @handler
    def main(c):
        time.sleep(0.6)  # alarms ring four times a second: one of them is late by over a third of one
        c.respond("late")

    running = server(main, admin=ANY, watchdog=0)
    assert request("x", running.address) == b"late"
    eventually(lambda: running.admin.lag.worst > 0.3)
    found = look(running)["loop lag"]
    assert found.fine is False and "threaded=True" in found.fix


def test_doctor_does_not_take_a_silent_stream_for_a_weakness(server, look, eventually):
    @handler
    async def main(c):
        await c.read()

    running = server(main, mode=TCP, admin=ANY, idle_timeout=0.2)
    with socket.create_connection(running.address, timeout=20) as client:
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(10) == b""
    eventually(lambda: running.counters["stale"] == 1)
    found = look(running)
    assert found["stale"].fine is None and "on TCP silent for idle_timeout" in found["stale"].found
    assert found["receive ledger"].fine and "receive buffer" not in found


def test_doctor_tells_every_number_a_server_can_have(server, look, monkeypatch):
    """Each drop and each way in which a message fails has words and, where it is a weakness, its fix."""
    assert {*_server.WORDS_TOLD, "kernel"} == {*DROPS, *_server.FAILED_SENDS}
    running = server(echo(), admin=ANY)
    change(monkeypatch, **dict.fromkeys(_server.WORDS_TOLD, 7), workers=2, refused_calls=1)
    monkeypatch.setattr(_server, "PAUSE", 0)
    found = look(running)
    assert all(found[word].found.startswith("7: ") for word in _server.WORDS_TOLD)
    weak = {word for word in _server.WORDS_TOLD if found[word].fine is False}
    assert weak >= {"stale", "shed", "queue_full", "worker_lost"} and not weak & {
        "limited",
        "denied",
        "malformed",
    }
    assert found["refused calls"].fine is False
    change(monkeypatch, kernel=9, shed=4)
    assert "filter that sheds strangers" in look(running)["kernel drops"].found


# ---- where there is no server ----


@pytest.fixture
def refused(capsys):
    """`refused(address)` is the one line that doctor says; it exits 2."""

    def ask(address):
        capsys.readouterr()
        assert cli.main(["doctor", address]) == 2
        said = capsys.readouterr()
        assert not said.out and said.err.count("\n") == 1 and said.err.startswith("toolips-udp: [")
        return said.err

    return ask


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.0.0.1:admin", "unix:", "http://127.0.0.1:9100", "not a host:1"]
)
def test_doctor_says_what_an_admin_address_looks_like(refused, address):
    said = refused(address)
    assert "[bad-address]" in said and "Expected" in said and "127.0.0.1:9100 or unix:" in said


def test_doctor_says_that_nobody_listens_and_how_to_start_it(refused, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        for each in (address, f"unix:{tmp_path}/nobody"):
            said = refused(each)
            assert "[no-answer] nothing listens at" in said and f"--admin {each}" in said
    assert "[no-answer]" in refused(f"unix:{tmp_path}/{'x' * 200}")


@pytest.fixture
def stranger():
    """`stranger(answer)` is the address of somebody who says that to everybody; None: nothing, and stays."""
    made = []

    def make(answer):
        listener = socket.create_server(("127.0.0.1", 0))
        over = threading.Event()

        def serve():
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    if answer is None:
                        over.wait(20)
                        continue
                    try:
                        client.recv(1000)
                        client.sendall(answer)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        made.append((listener, over, thread))
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield make
    for listener, over, thread in made:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


OK = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (b"SSH-2.0-\x1b[31mred\r\n", r"answers b'SSH-2.0-\x1b[31mred\r\n'"),
        (b"HTTP/1.1 404 Not Found\r\n\r\nno", "with status 404"),
        (OK + b"<html>", "'<html>'"),
        (OK + b"[" * 9000, "'[[["),
        (OK + b"[1]", "'[1]'"),
        (OK + b'{"addresses": [[1]]}', "addresses"),
        (OK + b'{"received": 1}', "no number for 'handled'"),
        (
            OK + json.dumps({**dict.fromkeys((*WORDS, "in_flight"), 0), "loop_lag": "x"}).encode(),
            "'loop_lag'",
        ),
        (OK + b"x" * 200_000, "more than 65,536 bytes"),
        (b"", "answers b''"),
    ],
    ids=["ssh", "404", "html", "depth", "list", "lists", "words", "types", "long", "nothing"],
)
def test_doctor_says_that_somebody_else_answers(refused, stranger, answer, found):
    address = stranger(answer)
    said = refused(address)
    assert (
        f"{address} is no admin listener" in said
        and found in said
        and "Expected JSON" in said
        and "Fix:" in said
    )


def test_doctor_does_not_wait_for_one_who_never_answers(refused, stranger, monkeypatch):
    monkeypatch.setattr(_admin, "PATIENCE", 0.1)
    assert "does not answer within 0.1 s" in refused(stranger(None))


def test_doctor_does_not_wait_for_one_who_answers_byte_by_byte(refused, monkeypatch):
    monkeypatch.setattr(_admin, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip():
            client, _ = listener.accept()
            with client, contextlib.suppress(OSError):
                while True:
                    client.send(b"x")
                    time.sleep(0.01)

        thread = threading.Thread(target=drip)
        thread.start()
        assert "does not answer within 0.2 s" in refused(f"127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
