"""TCP mode as its users meet it: the scenarios A-TT1 to A-TT13, and what else the mode promises."""

import contextlib
import logging
import os
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from toolips_udp import (
    TCP,
    UDP,
    Extension,
    MultiHandler,
    StartError,
    access,
    continue_connection,
    get_ip,
    get_ip4,
    handler,
    is_closed,
    is_connected,
    limits,
    read_all,
    request,
    serve,
)
from toolips_udp.counters import DROPS

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def served(main, mode=TCP, **settings):
    """A server on a free port; afterwards every connection is counted under exactly one word."""
    module = main if not callable(main) else SimpleNamespace(main=main)
    extensions = settings.pop("extensions", {})
    for name, each in extensions.items():
        setattr(module, name, each)
    with serve(mode, module, "127.0.0.1:0", **settings) as server:
        yield server
    counters = server.counters
    assert counters["received"] == counters["handled"] + sum(counters[word] for word in DROPS), dict(counters)


def connect(server, **options):
    address = server.address
    return socket.create_connection((address.host, address.port), timeout=5, **options)


def read_to_end(sock):
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


def until(condition, seconds=20.0):
    """Wait for what another thread is about to do."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)


def quickest(ask, tries=5):
    """Seconds of the quickest of some tries: a busy machine may delay one, and does not delay all."""
    times = []
    for _ in range(tries):
        begin = time.monotonic()
        ask()
        times.append(time.monotonic() - begin)
    return min(times)


@handler
async def template(c):
    query = await read_all(c)
    c.write("hello client!" if query else "nothing?")


def test_a_tt1_lines_are_seen_answered_and_the_end_of_the_handler_closes_the_socket():
    seen = []

    @handler
    async def main(c):
        async for line in c.lines():
            seen.append(bytes(line))
            c.respond(b"got " + line)
            if len(seen) == 2:
                break

    with served(main) as server, connect(server) as client:
        client.sendall(b"m1\nm2\n")
        assert read_to_end(client) == b"got m1got m2"
    assert seen == [b"m1", b"m2"]
    assert server.counters["handled"] == 1


def test_a_tt2_a_silent_client_delays_nobody():
    def ask():
        with connect(server) as second:
            second.sendall(b"hello server!")
            second.shutdown(socket.SHUT_WR)
            assert read_to_end(second) == b"hello client!"

    with served(template) as server, connect(server):
        assert quickest(ask) < 0.1


def test_a_tt3_lines_are_neither_merged_nor_repeated_whatever_the_segments():
    seen = []

    @handler
    async def main(c):
        async for line in c.lines():
            seen.append(line.text)
            c.respond(".")

    with served(main) as server, connect(server) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(b"one\ntwo\n")
        until(lambda: len(seen) == 2)
        for piece in (b"th", b"re", b"e\n"):
            client.sendall(piece)
        until(lambda: len(seen) == 3)
    assert seen == ["one", "two", "three"]


def test_a_tt4_a_last_line_without_terminator_is_delivered_once_and_final():
    seen = []

    @handler
    async def main(c):
        async for line in c.lines():
            seen.append((line.text, line.final))

    with served(main) as server, connect(server) as client:
        client.sendall(b"first\nlast")
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(client) == b""
    assert seen == [("first", False), ("last", True)]


def test_a_tt5_a_handler_that_raises_costs_its_own_client_only(caplog):
    @handler
    async def main(c):
        async for line in c.lines():
            if line == b"boom":
                raise ValueError("no such thing")
            c.respond(line)

    with (
        caplog.at_level(logging.ERROR),
        served(main) as server,
        connect(server) as good,
        connect(server) as bad,
    ):
        port = bad.getsockname()[1]
        bad.sendall(b"boom\n")
        assert read_to_end(bad) == b""
        good.sendall(b"still here\n")
        assert good.recv(100) == b"still here"
        assert server.counters["handler_failed"] == 1
    [record] = [r for r in caplog.records if "ValueError" in r.getMessage()]
    assert f"127.0.0.1:{port}" in record.getMessage()
    assert "no such thing" in record.getMessage()


def test_a_tt6_a_client_that_half_closes_gets_its_answer():
    with served(template) as server, connect(server) as client:
        client.sendall(b"hello server!")
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(client) == b"hello client!"


def test_a_tt7_an_idle_open_connection_is_connected_and_not_closed_both_at_once():
    told = []

    @handler
    async def main(c):
        told.append((is_closed(c), is_connected(c), c.is_closed(), c.is_connected()))
        told.append(quickest(lambda: (is_closed(c), is_connected(c))) < 0.05)
        await c.read()
        told.append((c.is_closed(), get_ip(c), get_ip4(c).port))

    with served(main) as server, connect(server) as client:
        port = client.getsockname()[1]
        until(lambda: len(told) == 2)
        client.close()
        until(lambda: len(told) == 3)
    assert told == [(False, True, False, True), True, (True, "127.0.0.1", port)]


def test_a_tt8_an_endless_stream_without_terminator_is_dropped_with_bounded_memory():
    took = []

    @handler
    async def main(c):
        async for line in c.lines(limit=100_000):
            took.append(line)

    with served(main) as server, connect(server) as client:
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 50_000_000:
                client.sendall(b"x" * 65536)
                sent += 65536
        assert sent < 50_000_000
        until(lambda: server.counters["malformed"] == 1)
        assert server.counters["bytes_in"] < 1_000_000
    assert took == []


def test_a_tt9_the_template_answers_a_client_that_stays_open_within_200_ms():
    def ask():
        with connect(server) as client:
            client.sendall(b"hello server!")
            assert client.recv(100) == b"hello client!"

    with served(template) as server:
        assert quickest(ask) < 0.2


def test_a_tt10_the_password_program_runs_as_it_stands():
    source = (ROOT / "docs/seeds/password.py").read_text()
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=30, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


def test_a_tt11_blocking_handlers_serve_ten_clients_at_once_and_delay_no_udp_packet():
    everybody = threading.Barrier(10, timeout=10)

    @handler
    def main(c):
        name = c.read().decode()
        everybody.wait()  # passes only when ten of them run at the same time
        c.respond(name.upper())

    @handler
    async def echo(c):
        c.respond(c.packet)

    with serve(UDP, SimpleNamespace(main=echo), "127.0.0.1:0") as udp, served(main) as server:
        clients = [connect(server) for _ in range(10)]
        for client in clients[:9]:
            client.sendall(b"a")
        assert quickest(lambda: request("quick?", udp.address)) < 0.2
        clients[9].sendall(b"b")
        answers = [read_to_end(client) for client in clients]
        for client in clients:
            client.close()
    assert answers == [b"A"] * 9 + [b"B"]


def test_a_tt11_udp_and_tcp_of_one_server_do_not_wait_for_a_blocking_handler():
    free = threading.Event()

    @handler
    def main(c):
        if hasattr(c, "read"):
            free.wait(10)
        c.respond("done")

    with served(main, mode=(UDP, TCP)) as server, connect(server):
        assert request("quick?", server.address) == b"done"
        assert quickest(lambda: request("quick?", server.address)) < 0.5
        free.set()


@pytest.mark.parametrize("form", ["async", "thread"])
def test_a_tt12_continue_connection_calls_once_per_message_until_false(form):
    seen = []

    def each(c, line):
        seen.append(line.text)
        return [None, None, False][len(seen) - 1]

    @handler
    async def awaited(c):
        await continue_connection(c, each)
        seen.append(await c.read())

    @handler
    def blocking(c):
        continue_connection(c, each)
        seen.append(c.read())

    with served(awaited if form == "async" else blocking) as server, connect(server) as client:
        client.sendall(b"m1\nm2\nm3\nrest")
        assert read_to_end(client) == b""
    assert seen == ["m1", "m2", "m3", b"rest"]


@pytest.mark.parametrize("form", ["async", "thread"])
def test_a_tt13_a_client_that_never_reads_is_dropped_and_counted(form):
    ended = threading.Event()

    @handler
    async def on_loop(c):
        import asyncio

        while c.is_connected():
            c.write(b"x" * 65536)
            await asyncio.sleep(0)
        ended.set()

    @handler
    def blocking(c):
        while c.is_connected():
            c.write(b"x" * 65536)
        ended.set()

    with served(on_loop if form == "async" else blocking) as server, connect(server):
        until(lambda: server.counters["queue_full"] == 1)
        assert ended.wait(5)
    assert server.counters["handled"] == 0


def test_a_client_that_drains_slowly_is_waited_for():
    @handler
    async def main(c):
        for _ in range(200):
            c.write(b"x" * 65536)
            await c.drain()

    with served(main) as server, connect(server) as client:
        assert len(read_to_end(client)) == 200 * 65536
    assert server.counters["handled"] == 1


def test_an_answer_is_not_lost_when_the_client_has_sent_more_than_was_read():
    """Closing over unread bytes would reset the connection and could throw the answer away."""

    @handler
    async def main(c):
        await c.read(10)
        c.respond(b"y" * 500_000)

    with served(main) as server, connect(server) as client:
        client.sendall(b"x" * 300_000)
        assert read_to_end(client) == b"y" * 500_000


def test_s1_a_client_of_one_byte_per_moment_is_closed_at_the_message_deadline():
    @handler
    async def main(c):
        async for line in c.lines():
            c.respond(line)

    with served(main, message_timeout=0.3) as server, connect(server) as slow:
        begin = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - begin < 60 and not select.select([slow], [], [], 0.05)[0]:
                slow.send(b"x")
        assert time.monotonic() - begin < 20
        assert server.counters["stale"] == 1
        with connect(server) as other:
            other.sendall(b"hi\n")
            assert other.recv(10) == b"hi"


@pytest.mark.parametrize("form", ["async", "thread"])
def test_s1_a_silent_client_is_closed_at_the_idle_deadline(form):
    ended = []

    @handler
    async def awaited(c):
        ended.append(await c.read())

    @handler
    def blocking(c):
        ended.append(c.read())

    with (
        served(awaited if form == "async" else blocking, idle_timeout=0.2) as server,
        connect(server) as client,
    ):
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
        until(lambda: ended)
    assert ended == [b""]
    assert server.counters["stale"] == 1


def test_s1_a_client_that_is_served_is_not_idle():
    @handler
    async def main(c):
        import asyncio

        await c.read()
        await asyncio.sleep(0.5)  # longer than the idle deadline, but it is we who are slow
        c.respond("late")

    with served(main, idle_timeout=0.1) as server, connect(server) as client:
        client.sendall(b"x")
        assert client.recv(10) == b"late"


def test_s2_a_client_that_pipelines_and_never_reads_stops_being_read():
    @handler
    async def main(c):
        async for _ in c.lines():
            c.respond(b"y" * 1000)

    with served(main) as server, connect(server) as client:
        client.setblocking(False)
        lines = (b"x" * 63 + b"\n") * 1000
        sent, quiet = 0, time.monotonic()
        while time.monotonic() - quiet < 0.3:
            try:
                sent += client.send(lines[sent % len(lines) :])
                quiet = time.monotonic()
            except BlockingIOError:
                time.sleep(0.01)
            assert sent < 100_000_000
        taken = server.counters["bytes_in"]
        time.sleep(0.1)
        assert server.counters["bytes_in"] == taken  # reading has stopped
        client.setblocking(True)
        client.settimeout(5)
        client.shutdown(socket.SHUT_WR)
        whole, rest = divmod(sent, 64)
        assert len(read_to_end(client)) == 1000 * (whole + bool(rest))
    assert server.counters["handled"] == 1


def test_a_handler_that_never_reads_makes_the_client_wait_with_bounded_memory():
    release = threading.Event()
    unread = []

    @handler
    async def main(c):
        import asyncio

        while not release.is_set():
            await asyncio.sleep(0.01)
            unread.append(len(c._inbox))

    with served(main) as server, connect(server) as client:
        client.setblocking(False)
        quiet = time.monotonic()
        while time.monotonic() - quiet < 0.3:
            try:
                client.send(b"x" * 65536)
                quiet = time.monotonic()
            except BlockingIOError:
                time.sleep(0.01)
        release.set()
    assert max(unread) <= 64 * 1024 + 256 * 1024


@pytest.mark.parametrize("stream", [b"\0\0", b"\xff\xffabc"])
def test_s3_a_frame_of_length_0_or_over_the_limit_closes(stream):
    @handler
    async def main(c):
        async for frame in c.frames(2, limit=1000):
            c.write_frame(frame)

    with served(main) as server, connect(server) as client:
        client.sendall(b"\0\5hello" + stream)
        with contextlib.suppress(ConnectionResetError):
            assert read_to_end(client) in (b"\0\5hello", b"")
        until(lambda: server.counters["malformed"] == 1)


def test_s4_connections_over_the_cap_are_refused_and_counted():
    @handler
    async def main(c):
        await c.read()

    with served(main, max_connections=2) as server, connect(server), connect(server):
        until(lambda: server.in_flight == 2)
        with connect(server) as third, contextlib.suppress(ConnectionResetError):
            assert third.recv(1) == b""
        until(lambda: server.counters["shed"] == 1)


def test_short_of_memory_new_connections_are_refused_and_open_ones_go_on():
    @handler
    async def main(c):
        async for line in c.lines():
            c.respond(f"{line.text}\n")

    with served(main) as server, connect(server) as first:
        assert first.sendall(b"one\n") is None and first.recv(10) == b"one\n"
        server.on_loop(lambda: server.modes[0].press(1))
        with connect(server) as second, contextlib.suppress(ConnectionResetError):
            assert second.recv(1) == b""
        assert server.counters["shed"] == 1
        assert first.sendall(b"two\n") is None and first.recv(10) == b"two\n"
        server.on_loop(lambda: server.modes[0].press(0))
        with connect(server) as third:
            third.sendall(b"three\n")
            assert third.recv(10) == b"three\n"


def test_s4_the_longest_idle_connection_makes_room():
    names = []

    @handler
    async def main(c):
        async for line in c.lines():
            names.append(line.text)

    with served(main, max_connections=2) as server, connect(server) as old, connect(server) as busy:
        old.sendall(b"old\n")
        end = time.monotonic() + 2.5
        while time.monotonic() < end:  # `busy` talks, `old` falls silent
            busy.sendall(b"busy\n")
            time.sleep(0.2)
        with connect(server) as third:
            third.sendall(b"new\n")
            until(lambda: "new" in names)
            with contextlib.suppress(ConnectionResetError):
                assert old.recv(1) == b""
            busy.sendall(b"busy still\n")
            until(lambda: "busy still" in names)
    assert server.counters["shed"] == 1


def test_ten_thousand_idle_connections_and_the_next_one_is_served_at_once():
    """The idle clients live in a process of their own, for descriptors are few."""
    import resource

    wanted = 10_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < wanted + 500:
        wanted = hard - 500
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    program = (
        "import socket, sys, resource\n"
        "h = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (h, h))\n"
        "port, n = int(sys.argv[1]), int(sys.argv[2])\n"
        "kept = [socket.create_connection(('127.0.0.1', port), timeout=30) for _ in range(n)]\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )

    @handler
    async def main(c):
        async for line in c.lines():
            c.respond(line)

    try:
        with served(main, max_connections=wanted + 10, drain=20.0) as server:
            before = resident()
            command = [sys.executable, "-c", program, str(server.address.port), str(wanted)]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as idle:
                try:
                    assert idle.stdout.readline() == "ready\n"
                    until(lambda: server.in_flight == wanted, 30)
                    assert (resident() - before) / wanted < 16 * 1024
                    with connect(server) as client:

                        def ask():
                            client.sendall(b"hi\n")
                            assert client.recv(10) == b"hi"

                        assert quickest(ask) < 0.1
                finally:
                    idle.stdin.close()
                    idle.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_process_without_a_free_descriptor_refuses_clients_and_goes_on():
    """In a child, which may use up its descriptors."""
    program = """
import os, resource, socket, sys, time
from types import SimpleNamespace
from toolips_udp import TCP, handler, serve

@handler
async def main(c):
    async for line in c.lines():
        c.respond(line)

with serve(TCP, SimpleNamespace(main=main), "127.0.0.1:0") as server:
    place = (server.address.host, server.address.port)
    first = socket.create_connection(place, timeout=5)
    first.sendall(b"one\\n"); assert first.recv(10) == b"one"
    clients = [socket.socket() for _ in range(5)]
    taken = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20,) * 2)
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    for client in clients:
        client.settimeout(5)
        client.connect(place)
        try:
            assert client.recv(1) == b""  # refused, not left to wait
        except ConnectionResetError:
            pass
    first.sendall(b"two\\n"); assert first.recv(10) == b"two"
    cpu = time.process_time(); time.sleep(0.2)
    assert time.process_time() - cpu < 0.1  # the loop does not spin
    for fd in taken:
        os.close(fd)
    late = socket.create_connection(place, timeout=5)
    late.sendall(b"three\\n"); assert late.recv(10) == b"three"
    assert server.counters["shed"] == 5, dict(server.counters)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


def test_tt_01_extensions_run_once_per_connection_in_order_and_false_ends_it():
    seen = []

    class Doorman(Extension):
        def route(self, c):
            seen.append(c.ip)
            if len(seen) == 2:
                return False

    with served(template, extensions={"doorman": Doorman()}) as server:
        for expected in (b"hello client!", b""):
            with connect(server) as client:
                client.sendall(b"one")
                time.sleep(0.02)
                client.sendall(b"two")
                with contextlib.suppress(ConnectionResetError):
                    assert read_to_end(client) == expected
    assert seen == ["127.0.0.1", "127.0.0.1"]
    assert (server.counters["handled"], server.counters["ended"]) == (1, 1)


def test_a_source_that_may_not_ask_is_refused_over_tcp_as_over_udp():
    module = SimpleNamespace(main=template, doorman=access(deny=["127.0.0.0/8"]))
    with served(module) as server, connect(server) as client:
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
        until(lambda: server.counters["denied"] == 1)


def test_a_source_over_its_rate_is_refused_over_tcp_as_over_udp():
    module = SimpleNamespace(main=template, slowly=limits(rate=1, burst=3, loopback=True))
    with served(module) as server:
        for _ in range(5):
            with connect(server) as client, contextlib.suppress(OSError):
                client.sendall(b"x")
                client.recv(100)
        assert server.counters["limited"] == 2
    assert server.counters["handled"] == 3


def test_an_extension_may_serve_the_connection_by_itself():
    class Frames(Extension):
        answers = True

        async def stream(self, c):
            async for frame in c.frames(2):
                c.write_frame(frame[::-1])

    with served(SimpleNamespace(frames=Frames())) as server, connect(server) as client:
        client.sendall(b"\0\3abc\0\2de")
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(client) == b"\0\3cba\0\2ed"
    assert server.counters["handled"] == 1


def test_tt_10_the_chosen_handler_serves_the_clients_next_connection():
    @handler
    async def main(c):
        c.respond("first")
        c.set_handler("second")

    @handler("second")
    def second(c):
        c.respond("second")
        c.remove_handler()

    module = SimpleNamespace(main=main, second=second, chooser=MultiHandler(main, key="ip"))
    answers = []
    with served(module) as server:
        for _ in range(4):
            with connect(server) as client:
                answers.append(read_to_end(client))
    assert answers == [b"first", b"second"] * 2


@pytest.mark.parametrize(
    "framing, asked, told",
    [
        ("lines", b"abc\nde\n", b"ABC\nDE\n"),
        (2, b"\0\3abc\0\2de", b"\0\3ABC\0\2DE"),
        (4, b"\0\0\0\3abc\0\0\0\2de", b"\0\0\0\3ABC\0\0\0\2DE"),
    ],
)
@pytest.mark.parametrize("kind", ["inline", "async", "threaded"])
def test_with_framing_one_handler_serves_udp_packets_and_tcp_messages(framing, asked, told, kind):
    def plain(c):
        c.respond(c.packet.upper())

    async def awaited(c):
        c.respond(c.packet.upper())

    main = handler(awaited) if kind == "async" else handler(threaded=kind == "threaded")(plain)
    with served(main, mode=(UDP, TCP), framing=framing) as server:
        assert request("abc", server.address) == b"ABC"
        address = server.addresses[TCP]
        assert address.port == server.addresses[UDP].port
        with socket.create_connection(address, timeout=5) as client:
            client.sendall(asked)
            client.shutdown(socket.SHUT_WR)
            assert read_to_end(client) == told


def test_stop_closes_idle_clients_at_once_and_lets_an_answer_finish():
    begun, go_on = threading.Event(), threading.Event()

    @handler
    async def main(c):
        import asyncio

        async for line in c.lines():
            begun.set()
            while not go_on.is_set():
                await asyncio.sleep(0.01)
            c.respond(b"answered " + line)

    with served(main) as server, connect(server) as idle, connect(server) as busy:
        busy.sendall(b"in flight\n")
        assert begun.wait(5)
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        assert idle.recv(1) == b""  # while the other still waits for its answer
        go_on.set()
        assert read_to_end(busy) == b"answered in flight"
        stopper.join(5)
        assert not stopper.is_alive()
    assert server.counters["handled"] == 2


def test_what_does_not_end_within_the_drain_time_is_cut_and_counted_stopping():
    @handler
    async def main(c):
        import asyncio

        await c.read()
        await asyncio.sleep(60)

    with served(main, drain=0.2) as server, connect(server) as client:
        client.sendall(b"x")
        until(lambda: server.counters["bytes_in"] == 1)
        begin = time.monotonic()
        server.stop()
        assert time.monotonic() - begin < 30  # it would sleep for 60
    assert server.counters["stopping"] == 1


def test_a_timeout_that_the_handler_asked_for_is_raised_in_it():
    told = []

    @handler
    async def main(c):
        for verb in (c.read, c.read_all):
            try:
                await verb(timeout=0.05)
            except TimeoutError as error:
                told.append(str(error))

    with served(main) as server, connect(server) as client:
        assert read_to_end(client) == b""
    assert len(told) == 2 and "sent nothing within 0.05 s" in told[0]


def test_read_all_past_its_limit_raises_too_long_in_the_handler():
    from toolips_udp import TooLong

    @handler
    async def main(c):
        try:
            await c.read_all(limit=1000)
        except TooLong as error:
            c.respond(f"no: {error}")

    with served(main) as server, connect(server) as client:
        client.sendall(b"x" * 5000)
        assert b"the limit of read_all is 1000" in read_to_end(client)


def test_writing_after_the_client_left_is_counted_and_does_not_raise():
    done = threading.Event()

    @handler
    async def main(c):
        await c.read()
        await c.read()
        c.close()
        c.respond("into the void")
        done.set()

    with served(main) as server, connect(server) as client:
        client.sendall(b"x")
        client.close()
        assert done.wait(5)
    assert server.counters["send_refused"] == 1
    assert server.counters["send_queued"] == server.counters["sent"] + server.counters["send_refused"]


def test_cancelling_a_read_leaves_the_connection_usable():
    @handler
    async def main(c):
        import asyncio

        try:
            async with asyncio.timeout(0.05):
                await c.read()
        except TimeoutError:
            c.respond("too slow")
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(c.read(), 0.05)
        c.respond((await c.read()).upper())

    with served(main) as server, connect(server) as client:
        assert client.recv(100) == b"too slow"
        time.sleep(0.15)
        client.sendall(b"now")
        assert read_to_end(client) == b"NOW"


def test_lines_come_the_same_under_a_tracer_or_debugger():
    """A tracer makes the interpreter ask for the next line in another way."""

    @handler
    async def main(c):
        sys.settrace(lambda *_: None)
        try:
            async for line in c.lines():
                c.respond(line.upper())
        finally:
            sys.settrace(None)

    with served(main) as server, connect(server) as client:
        client.sendall(b"one\ntw")
        assert client.recv(10) == b"ONE"
        client.sendall(b"o\n")
        assert client.recv(10) == b"TWO"
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(client) == b""
    assert server.counters["handled"] == 1


def test_two_reads_at_once_are_an_error_that_says_so(caplog):
    @handler
    async def main(c):
        import asyncio

        await asyncio.gather(c.read(), c.read())

    with served(main) as server, connect(server) as client:
        with contextlib.suppress(ConnectionResetError):
            client.recv(1)
        until(lambda: server.counters["handler_failed"] == 1)
    assert "two reads at once" in caplog.text


def test_context_variables_and_the_current_task_are_the_handlers_own():
    import asyncio
    import contextvars

    who = contextvars.ContextVar("who", default="nobody")
    told = []

    @handler
    async def main(c):
        task = asyncio.current_task()
        who.set(c.port)
        async for _ in c.lines():
            told.append(who.get() == c.port and asyncio.current_task() is task)
        assert who.get() == c.port

    with served(main) as server:
        clients = [connect(server) for _ in range(3)]
        for number in range(1, 4):
            for client in clients:
                client.sendall(b"x\n")
            until(lambda number=number: len(told) == 3 * number)
        for client in clients:
            client.close()
    assert told == [True] * 9


def test_a_client_that_left_is_freed_without_the_garbage_collector():
    import gc

    from toolips_udp.connections.tcp import SocketConnection

    @handler
    async def main(c):
        async for line in c.lines():
            c.respond(line + b"\n")

    def kept():
        return sum(type(each) is SocketConnection for each in gc.get_objects())

    with served(main) as server:
        gc.collect()
        gc.disable()
        try:
            before = kept()
            clients = [connect(server) for _ in range(20)]
            for client in clients:
                client.sendall(b"x\n")
                assert client.recv(10) == b"x\n"
            assert kept() == before + 20
            for client in clients:
                client.close()
            until(lambda: kept() == before)
        finally:
            gc.enable()


def test_a_client_that_vanished_without_a_word_is_found_by_the_kernel():
    """Half-open: accepted sockets probe a silent peer, whatever the handler waits for."""
    told = []

    @handler
    async def main(c):
        sock = c._transport.get_extra_info("socket")
        told.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        told.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE))
        c.respond("x")

    with served(main) as server, connect(server) as client:
        assert read_to_end(client) == b"x"
    assert told == [1, 60]


def test_tls_serves_lines_and_refuses_what_is_no_tls(certificate):
    @handler
    async def main(c):
        assert c.tls.version() in ("TLSv1.2", "TLSv1.3")
        async for line in c.lines():
            c.respond(line.upper())

    trust = ssl.create_default_context(cafile=certificate[0])
    with served(main, tls=certificate, message_timeout=1.0) as server:
        with trust.wrap_socket(connect(server), server_hostname="localhost") as client:
            client.sendall(b"secret\n")
            assert client.recv(100) == b"SECRET"
        with connect(server) as plain:
            plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                while plain.recv(100):
                    pass
        until(lambda: server.counters["malformed"] == 1)
        with connect(server) as silent, contextlib.suppress(ConnectionResetError):
            assert silent.recv(1) == b""  # the handshake has a deadline too
        until(lambda: server.counters["malformed"] == 2)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"tls": ("/no/such.pem", "/no/key.pem")}, "PEM"),
        ({"framing": 3}, "framing"),
        ({"idle_timeout": 0}, "idle_timeout"),
        ({"threads": 1}, "async def"),
    ],
)
def test_a_wrong_setting_is_an_error_at_start(settings, words):
    @handler
    def main(c):
        pass

    with pytest.raises(StartError, match=words):
        serve(TCP, SimpleNamespace(main=main), "127.0.0.1:0", **settings).__enter__()


def test_a_def_handler_waits_for_a_thread_only_so_long():
    release = threading.Event()

    @handler
    def main(c):
        release.wait(10)

    with served(main, threads=2, message_timeout=0.2) as server, connect(server):
        until(lambda: server.in_flight == 1)
        with connect(server) as second, contextlib.suppress(ConnectionResetError):
            assert second.recv(1) == b""
        until(lambda: server.counters["queue_full"] == 1)
        release.set()


def test_two_modes_on_port_0_share_one_port_and_each_other_is_not_disturbed():
    @handler
    async def main(c):
        c.respond(c.packet or await c.read())

    with served(main, mode=(UDP, TCP)) as server:
        udp, tcp = server.addresses[UDP], server.addresses[TCP]
        assert udp.port == tcp.port > 0
        assert request("datagram", udp) == b"datagram"
        with socket.create_connection(tcp, timeout=5) as client:
            client.sendall(b"stream")
            assert read_to_end(client) == b"stream"


def test_the_python_twin_of_the_native_half_serves_the_same_scenarios():
    """Where the native core is absent; in a process of its own, for it is chosen at import."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    command += ["-k", "a_tt or s1 or s2 or s3 or cancelling or context"]
    environ = {**os.environ, "TOOLIPS_UDP_PURE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, cwd=ROOT, env=environ)
    assert done.returncode == 0, done.stdout[-3000:]
