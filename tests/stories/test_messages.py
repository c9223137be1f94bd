"""The scenarios of the control plane, A-HS1 to A-HS25, by their numbers."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
import string
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import pytest

import toolips_udp
from toolips_udp import BindError, cli, messages
from toolips_udp.messages import log as messages_log
from toolips_udp.messages.carriers import memory, udp
from toolips_udp.messages.login import CHALLENGE, HELLO, ClientLogin, Terms

ANY = "127.0.0.1:0"


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 20))


async def until(condition, seconds=3.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def quiet_again():
    """What `debug` switched on is off in the next test."""
    yield
    state = messages_log._State
    state.on, state.trace, state.uvicorn = False, False, False
    logging.getLogger("uvicorn").setLevel(logging.NOTSET)


def test_a_hs1_serve_answers_a_probe_and_frees_the_port():
    with messages.serve(ip=ANY) as server:
        assert run(messages.probe(server.address)) == toolips_udp.__version__
        address = server.address
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(address)
    with pytest.raises(messages.ConnectError):
        run(messages.probe(address, timeout=0.3))


@pytest.mark.parametrize("custom", [False, True])
def test_a_hs2_only_the_right_token_is_let_in(custom):
    def login(server, token):
        return token == "test"

    async def story(address):
        async with messages.connect("test", address) as client:
            assert client.connected
        for token in ("Test", "t", "tést", "test\0", "x" * 5000, "\ud83d"):
            client = messages.Client(token, address)
            with pytest.raises(messages.LoginError):
                await client.connect()
            assert not client.connected
            with pytest.raises(messages.NotConnected):
                await client.operation("secret")
        with pytest.raises((messages.LoginError, ValueError)):
            await messages.Client("", address).connect()

    with messages.serve("test", ip=ANY, login_func=login if custom else None) as server:
        ran = []
        server.operation("secret")(lambda: ran.append(1))
        run(story(server.address))
        assert ran == [] and server.counters["login_failed"] >= 5


def test_a_hs3_tokens_are_generated_as_asked_and_hidden_when_asked(caplog):
    caplog.set_level(logging.DEBUG)
    one, two = messages.Server(), messages.Server("")
    for token in (one.token, two.token):
        assert len(token) == 25 and set(token) <= set(string.ascii_letters)
    assert one.token != two.token
    digits = messages.Server(default_token_len=50, default_token_choices=string.digits).token
    assert len(digits) == 50 and digits.isdigit()
    for wrong in ({"default_token_len": 0}, {"default_token_len": -1}, {"default_token_choices": "aa"}):
        with pytest.raises(ValueError):
            messages.Server(**wrong)
    messages.Server(default_token_len=5)
    assert "29 bits" in caplog.text
    messages.debug()
    with messages.serve(ip=ANY, hide_token=True) as server:
        with pytest.raises(messages.LoginError):
            run(messages.Client("wrong", server.address).connect())
        assert server.token not in caplog.text and server.token not in repr(server)


def test_a_hs4_starting_and_stopping_say_what_is_wrong():
    server = messages.Server("test")
    for call in (server.close, lambda: server.broadcast("news"), lambda: server.address):
        with pytest.raises(messages.NotStarted):
            call()
    server.start(ANY)
    with pytest.raises(messages.AlreadyRunning):
        server.start(ANY)
    taken = server.address
    errors = []

    def elsewhere():
        begin = time.monotonic()
        for attempt in (
            lambda: messages.start("test", ip=taken),
            lambda: messages.serve("test", ip=taken).__enter__(),
        ):
            try:
                attempt()
            except BindError as error:
                errors.append((error, time.monotonic() - begin))

    elsewhere()
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(errors) == 4 and all(seconds < 1.0 for _, seconds in errors)
    server.close()
    server.close()
    assert not server.running
    server.start(taken)
    assert server.running and server.address == taken
    server.stop()


def test_a_hs5_versions_are_compared_number_by_number_on_either_side():
    first, _, patch = toolips_udp.__version__.rpartition(".")
    newer = f"{first}.{int(patch) + 1}"

    async def refused(address, **settings):
        with pytest.raises(messages.VersionError) as error:
            await messages.Client("test", address, **settings).connect()
        assert newer in str(error.value) and toolips_udp.__version__ in str(error.value)
        assert error.value.code == 4

    with messages.serve("test", ip=ANY, minimum_version=newer) as server:
        run(refused(server.address))
        with pytest.raises(messages.LoginError):  # the token counts first
            run(messages.Client("wrong", server.address).connect())
    with messages.serve("test", ip=ANY, minimum_version=toolips_udp.__version__) as server:
        run(refused(server.address, minimum_version=newer))
        client = messages.Client("test", server.address, minimum_version=toolips_udp.__version__)
        run(_connect_and_close(client))
    with pytest.raises(ValueError):
        messages.Server(minimum_version="new")


async def _connect_and_close(client):
    await client.connect()
    await client.close()


def test_a_hs6_login_functions_may_be_def_or_async_and_may_raise(caplog):
    seen = []

    def plain(server, token):
        seen.append((server.token, token, threading.current_thread()))
        return token == "a"

    async def waits(server, token):
        await asyncio.sleep(0.01)
        return token == "a"

    def raises(server, token):
        raise RuntimeError("no such table")

    for login in (plain, waits):
        with messages.serve("secret", ip=ANY, login_func=login) as server:
            run(_connect_and_close(messages.Client("a", server.address)))
            with pytest.raises(messages.LoginError):
                run(messages.Client("b", server.address).connect())
    assert seen[0][:2] == ("secret", "a")
    with messages.serve("secret", ip=ANY, login_func=raises) as server:
        with pytest.raises(messages.LoginError) as error:
            run(messages.Client("a", server.address).connect())
        assert "no such table" in caplog.text and "no such table" not in str(error.value)


@dataclass
class Point:
    x: int
    y: float = 0.5


def test_a_hs7_operations_get_and_return_what_their_signatures_say():
    server = messages.Server("test")

    @server.operation()
    async def nothing():
        return "nothing"

    @server.operation("server")
    async def only_server(s: messages.Server) -> bool:
        return s is server

    @server.operation()
    async def payload(payload):
        return payload

    @server.operation()
    def both(server: messages.Server, payload: dict) -> list:
        return [server.token, payload]

    @server.operation()
    def named(a: int, b: str | None = None, c: list[int] | None = None, *, d: float = 1) -> list:
        return [a, b, c, d]

    @server.operation()
    async def unhinted(a, b=2):
        return [a, b]

    @server.operation()
    async def point(where: Point) -> Point:
        return Point(where.x + 1, where.y)

    @server.operation()
    async def points(many: list[Point]) -> dict[str, Point]:
        return {str(n): each for n, each in enumerate(many)}

    async def story(address):
        async with messages.connect("test", address) as client:
            ask = client.operation
            assert await ask("nothing") == "nothing"
            assert await ask("server") is True
            assert await ask("payload", {"any": [1, None, b"bytes"]}) == {"any": [1, None, b"bytes"]}
            assert await ask("payload", [1, 2]) == [1, 2]
            assert await ask("both", {"k": 1}) == ["test", {"k": 1}]
            assert await ask("named", a=1) == [1, None, None, 1]
            assert await ask("named", {"a": 1, "b": "x"}, c=[3], d=2) == [1, "x", [3], 2]
            assert await ask("unhinted", a="any") == ["any", 2]
            assert await ask("point", x=1) == {"x": 2, "y": 0.5}
            assert await ask("points", many=[{"x": 1, "y": 2}]) == {"0": {"x": 1, "y": 2}}

    with server.start(ANY):
        run(story(server.address))


def test_a_hs8_a_wrong_payload_names_the_field_and_the_link_goes_on():
    server = messages.Server("test")

    @server.operation()
    async def add(a: int, b: float = 0) -> float:
        return a + b

    @server.operation()
    async def shift(where: Point) -> int:
        return where.x

    @server.operation()
    async def lines(many: list[Point]) -> int:
        return len(many)

    wrong = [
        ("add", {"a": "1"}, "a"), ("add", {"b": 1}, "a"), ("add", {"a": 1, "c": 2}, "c"), ("add", {"a": 1.5}, "a"),
        ("add", [1], ""), ("add", None, "a"), ("shift", {"x": "1"}, "x"), ("shift", {"x": 1, "z": 2}, "z"),
        ("lines", {"many": [{"x": 1}, {"x": None}]}, "many[1].x"), ("lines", {"many": [{"x": 1, "q": 1}]}, "many[0].q"),
    ]  # fmt: skip

    async def story(address):
        async with messages.connect("test", address) as client:
            for name, payload, path in wrong:
                with pytest.raises(messages.ContentError) as error:
                    await client.operation(name, payload)
                assert error.value.path == path and error.value.code == 2, (name, payload, error.value.path)
                assert path in str(error.value)
                assert await client.operation("add", a=1, b=2) == 3

    with server.start(ANY):
        run(story(server.address))


def test_a_hs9_exactly_the_allowed_operations_run(tmp_path):
    both = {"a": lambda: "a", "b": lambda: "b"}
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_text("content")
    (tmp_path / "secret").write_text("secret")

    async def allowed(**lists):
        with messages.serve("test", ip=ANY, extra_operations=both, **lists) as server:
            async with messages.connect("test", server.address) as client:
                ran = set()
                for name in both:
                    try:
                        ran.add(await client.operation(name))
                    except messages.UnsupportedOperation as error:
                        assert error.code == 7
                return ran

    assert run(allowed()) == {"a", "b"}
    assert run(allowed(supported_operations=["a"])) == {"a"}
    assert run(allowed(supported_operations=["a"], unsupported_operations="*")) == {"a"}
    assert run(allowed(supported_operations="*")) == {"a", "b"}
    assert run(allowed(unsupported_operations=["a"])) == {"b"}
    assert run(allowed(unsupported_operations=["*"])) == set()
    with pytest.raises(ValueError):
        messages.Server("t", supported_operations=["a"], unsupported_operations=["a", "b"])
    assert list(messages.Server("t").operations) == []

    async def reads():
        tools = {"read": messages.read_operation(tmp_path / "in"), "print": messages.print_operation()}
        with messages.serve("test", ip=ANY, extra_operations=tools) as server:
            async with messages.connect("test", server.address) as client:
                assert await client.operation("read", path="file") == "content"
                for path in ("../secret", str(tmp_path / "secret"), "file\0", "nothing", "."):
                    with pytest.raises(messages.ContentError):
                        await client.operation("read", path=path)
                await client.operation("print", text="shown")

    run(reads())


def test_a_hs10_what_raises_gives_an_opaque_id_here_and_the_traceback_there(caplog):
    server = messages.Server("test")

    @server.operation()
    def fails():
        raise ZeroDivisionError("the inside")

    @server.receive("boom")
    async def boom():
        raise KeyError("the inside")

    async def story(address):
        async with messages.connect("test", address) as client:
            for call in (lambda: client.operation("fails"), lambda: client.message("boom")):
                with pytest.raises(messages.OperationFailed) as error:
                    await call()
                assert error.value.code == 6 and re.fullmatch("[0-9a-f]{16}", error.value.id)
                assert "inside" not in str(error.value)
                line = next(r.getMessage() for r in caplog.records if error.value.id in r.getMessage())
                assert "Traceback" in line and "the inside" in line
            with pytest.raises(messages.OperationFailed):
                await client.operation("fails")

    with server.start(ANY):
        run(story(server.address))


def test_a_hs11_a_broadcast_reaches_who_is_logged_in_at_once_from_any_thread():
    async def story(server):
        stranger = await udp.open_udp(server.address, 2.0, 1000)
        heard_by_stranger, heard = [], asyncio.Queue()
        stranger.on_message = heard_by_stranger.append
        async with messages.connect("test", server.address) as client:
            client.receive("news")(lambda message: heard.put_nowait((message.content, time.monotonic())))
            for call in (
                lambda: server.broadcast("news").result(),
                lambda: asyncio.run(_await(server.broadcast("news"))),
            ):
                begin = time.monotonic()
                counts = await asyncio.to_thread(call)
                _, at = await asyncio.wait_for(heard.get(), 2)
                assert counts == (1, 0, 0) and at - begin < 0.1 * slowness()
            begin = time.monotonic()
            assert await server.broadcast("news") == (1, 0, 0)
            await asyncio.wait_for(heard.get(), 2)
        await asyncio.sleep(0.02)
        assert heard_by_stranger == []
        stranger.abort()
        assert (await server.broadcast("news")).failed == 0

    with messages.serve("test", ip=ANY) as server:
        run(story(server))


def slowness():
    """A machine that others use is slower."""
    return 5 if os.getloadavg()[0] > 1 else 1


async def _await(what):
    return await what


def test_a_hs12_a_reply_reaches_its_listener_with_what_it_replies_to():
    async def story(address):
        async with messages.connect("test", address) as client:
            heard = []

            @client.receive("hi")
            async def hi(message, data):
                heard.append((message.content, data, message.replying.content, message.replying.data))
                assert message.to_dict()["replying"] == message.replying.id

            sent = await client.message("hello", [1])
            assert heard == [("hi", {"from": "server"}, "hello", [1])]
            assert sent.content == "hello" and sent.id == 1

    with messages.serve("test", ip=ANY) as server:

        @server.receive("hello")
        async def hello(message):
            await message.reply("hi", {"from": "server"})

        run(story(server.address))


def test_a_hs13_a_prepared_message_hears_its_own_replies_before_the_block_ends():
    async def story(server, address):
        async with messages.connect("test", address) as client:
            heard = []
            async with client.message_later("hello", 5) as pending:

                @pending.receive()
                async def answered(message, data):
                    await asyncio.sleep(0.02)
                    heard.append((message.content, data, message.replying.content))

                assert heard == [] and got == []
            assert heard == [("hi", 5, "hello")] and pending.result.content == "hello"
            with pytest.raises(RuntimeError, match="on purpose"):
                async with client.message_later("hello") as pending:
                    raise RuntimeError("on purpose")
            assert len(got) == 1
            later = client.pend_message()
            later.content = "hello"
            await later.send()
            assert len(got) == 2

            answers = []  # the server's form is a broadcast
            client.receive("who?")(lambda message: asyncio.ensure_future(message.reply("me")))
            async with server.message_later("who?") as pending:

                @pending.receive("me")
                async def me(message):
                    answers.append(message.replying.content)

            assert pending.result == (1, 0, 0)
            await until(lambda: answers == ["who?"])

    got = []
    with messages.serve("test", ip=ANY) as server:

        @server.receive("hello")
        async def hello(message):
            got.append(message.content)
            await message.reply("hi", message.data)

        run(story(server, server.address))


def test_a_hs14_listeners_take_none_one_or_two_by_position():
    async def story(address):
        async with messages.connect("test", address) as client:
            ran = []

            @client.receive("1")
            async def none():
                ran.append(())

            @client.receive("2")
            def one(payload):  # the message, whatever it is called
                ran.append((payload.content,))

            @client.receive("3")
            async def two(data: messages.Message, message: dict):
                ran.append((data.content, message))

            @client.receive("3", parameter={"n": int})
            def checked(m, d):
                ran.append((m.content, d))

            @client.receive("3", parameter={"n": str})
            def passed_over(m, d):
                ran.append("never")

            await client.message("go")
            assert ran == [(), ("2",), ("3", {"n": 3}), ("3", {"n": 3})]

    with messages.serve("test", ip=ANY) as server:

        @server.receive("go")
        async def go(message):
            for n in (1, 2, 3):
                await message.reply(str(n), {"n": n})

        run(story(server.address))


def test_a_hs15_a_catch_all_hears_everything_and_a_pair_exactly_its_two():
    heard = {"all": [], "two": []}

    async def story(address):
        async with messages.connect("test", address) as client:
            for text in ("a", "b", "c", "a"):
                await client.message(text)

    with messages.serve("test", ip=ANY) as server:
        server.receive()(lambda message: heard["all"].append(message.content))
        server.receive(("a", "b"))(lambda message: heard["two"].append(message.content))
        run(story(server.address))
    assert heard == {"all": ["a", "b", "c", "a"], "two": ["a", "b", "a"]}


def test_a_hs16_a_hundred_operations_at_once_are_all_answered_and_matched():
    async def story(address):
        async with messages.connect("test", address) as client:
            asked = [client.operation("square", n=n) for n in range(100)]
            assert await asyncio.gather(*asked) == [n * n for n in range(100)]

    with messages.serve("test", ip=ANY) as server:

        @server.operation()
        def square(n: int) -> int:  # in a thread
            time.sleep(0.001 * (n % 3))
            return n * n

        run(story(server.address))


def test_a_hs17_ten_thousand_messages_leave_nothing_behind():
    import tracemalloc

    async def burst(client, count):
        for _ in range(count // 100):
            await asyncio.gather(*(client.message("x", {"some": "data"}) for _ in range(100)))

    async def story(address):
        async with messages.connect("test", address) as client:
            tracemalloc.start()
            await burst(client, 3000)
            before, _ = tracemalloc.get_traced_memory()
            await burst(client, 10_000)
            after, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert after - before < 500_000, "about 1,000 messages of history, not 10,000"

    with messages.serve("test", ip=ANY) as server:

        @server.receive("x")
        async def x(message):
            await message.reply("y", message.data)

        run(story(server.address))
        assert len(server.history) == 1024


def test_a_hs18_silence_is_dropped_and_guessing_is_throttled():
    shift = 0.0

    async def story(server):
        nonlocal shift
        link = await udp.open_udp(server.address, 2.0, 1000)
        over = []
        link.on_close = over.append
        await until(lambda: server.status()[0:1] and server.status()[0]["state"] == "authenticating")
        await asyncio.sleep(0.05)
        assert not over
        shift += 5.1
        await until(lambda: over)
        assert server.counters["login_late"] == 1 and server.status() == []
        begin = time.monotonic()
        for n in range(11):
            with pytest.raises(messages.LoginError):
                await messages.Client(f"guess {n}", server.address).connect()
        assert server.counters["throttled"] == 1
        async with messages.connect(
            "test", server.address
        ) as client:  # a right one is let in, a little later
            assert client.connected and time.monotonic() - begin > 1.9
        shift += 61
        begin = time.monotonic()
        async with messages.connect("test", server.address):
            assert time.monotonic() - begin < 0.9

    server = messages.Server("test", heartbeat=1000)
    server.clock = lambda: time.monotonic() + shift
    with server.start(ANY):
        run(story(server))


def test_a_hs19_a_vanished_server_is_noticed_and_a_restart_is_survived():
    async def vanishes(server):
        async with messages.connect("test", server, heartbeat=0.1, timeout=0.5) as client:
            client._link.vanish()  # no word reaches the other side any more
            begin = time.monotonic()
            with pytest.raises((TimeoutError, messages.NotConnected)):
                await client.operation("count")
            assert time.monotonic() - begin < 1.5
            await until(lambda: not client.connected)
            with pytest.raises(messages.NotConnected):
                await client.operation("count")

    async def restarts(server):
        address = server.address
        async with messages.connect("test", address, reconnect=True) as client:
            assert await client.operation("count") == 1
            await asyncio.to_thread(server.close)
            await until(lambda: not client.connected)
            waiting = asyncio.create_task(client.operation("count"))
            await asyncio.to_thread(server.start, address)
            assert await waiting == 2
            assert await client.operation("count") == 3

    calls = []
    server = messages.Server("test")

    @server.operation()
    async def count() -> int:
        calls.append(1)
        return len(calls)

    with server.start(ANY):
        run(vanishes(server))
        calls.clear()
        run(restarts(server))


def test_a_hs19_a_question_that_is_asked_again_is_not_run_again():
    calls = []
    server = messages.Server("test")

    @server.operation()
    async def slow() -> int:
        calls.append(1)
        await asyncio.sleep(0.2)
        return len(calls)

    async def story():
        async with messages.connect("test", server, reconnect=True) as client:
            waiting = asyncio.create_task(client.operation("slow"))
            await until(lambda: calls)
            client._link.ended("lost")  # the link dies while the operation runs
            assert await waiting == 1
            assert await client.operation("slow") == 2

    with server.start(ANY):
        run(story())


def command(*words):
    return subprocess.Popen(
        [sys.executable, "-m", "toolips_udp.messages", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_hs20_the_command_line_tells_the_truth(capsys):
    with command("-t", "test", "-a", ANY) as process:  # no action: it serves
        line = process.stderr.readline()
        assert re.fullmatch(r"startup: starting server on 127\.0\.0\.1:\d+\n", line), line
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert "Traceback" not in process.stderr.read()

    with messages.serve("test", ip=ANY) as server:
        server.operation("echo")(lambda text="": text)
        server.operation("sum")(lambda numbers: sum(numbers))

        @server.receive("hello")
        async def hello(message):
            await message.reply("hi", message.data)

        def call(*words):
            code = cli.main(["messages", "connect", "-a", str(server.address), *words])
            return code, capsys.readouterr().out

        assert call("-t", "test", "echo", "-p", '{"text": "abc"}') == (0, "abc\n")
        assert call("-t", "test", "sum", "--payload", '{"numbers": [1, 2]}') == (0, "3\n")
        assert call("-t", "test", "-m", "hello", "-d", '{"n": 1}') == (0, 'hi {"n":1}\n')
        big = "x" * 300_000
        assert call("-t", "test", "-s", "echo", "--progress", "-p", f'{{"text": "{big}"}}') == (0, big + "\n")
        assert call("-t", "wrong", "echo") == (1, "")
        assert call("-t", "test", "nothing") == (1, "")
        assert call("-t", "test", "echo", "-p", "{") == (2, "")
        assert call("-t", "test") == (2, "")
        assert call("echo") == (2, "")
        assert call("-t", "test", "echo", "--hide-token") == (2, "")
        assert cli.main(["messages", "conect", "-t", "test"]) == 2
        assert "Did you mean 'connect'?" in capsys.readouterr().err
        with pytest.raises(SystemExit) as usage:
            call("-x")
        assert usage.value.code == 2
    assert cli.main(["messages", "-t", "test", "-a", str(server.address), "--listen"]) == 2
    parser = cli.parser_of("messages", cli.command("messages"))
    flags = [flag for action in parser._actions for flag in action.option_strings]
    assert len(flags) == len(set(flags)) and {"-t", "-a", "-p", "-m", "-d", "-l", "-s"} <= set(flags)


def test_a_hs21_trace_says_who_spoke_and_importing_changes_nothing(caplog):
    program = (
        "import logging, warnings\n"
        "before = (logging.root.level, list(logging.root.handlers), list(warnings.filters), "
        "sorted(logging.root.manager.loggerDict))\n"
        "import toolips_udp.messages as m\n"
        "for name in m.__all__: getattr(m, name)\n"
        "ours = [n for n in logging.root.manager.loggerDict if n.startswith('toolips_udp')]\n"
        "assert all(not logging.getLogger(n).handlers and logging.getLogger(n).level == 0 for n in ours)\n"
        "assert (logging.root.level, list(logging.root.handlers), list(warnings.filters)) == before[:3]\n"
        "assert not logging.getLogger('uvicorn').handlers and logging.getLogger('uvicorn').level == 0\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
    messages.debug(trace=True)
    with messages.serve("test", ip=ANY) as server:
        run(_connect_and_close(messages.Client("test", server.address)))
    ours = [record.getMessage() for record in caplog.records if record.name == messages_log.NAME]
    assert ours[0] == f"(start) startup: starting server on {server.address}"
    assert all(re.match(r"\(\w+\) \w+: ", line) for line in ours) and len(ours) >= 3


def test_a_hs22_the_startup_line_is_said_once_with_the_real_address(caplog):
    def lines():
        found = [r.getMessage() for r in caplog.records if "starting server" in r.getMessage()]
        caplog.clear()
        return found

    with messages.serve(ip=ANY) as server:
        assert lines() == [f"startup: starting server on {server.address} with token {server.token}"]
        assert server.address.port != 0
    with messages.serve(ip=ANY, hide_token=True) as server:
        assert lines() == [f"startup: starting server on {server.address}"]
    with messages.serve("given", ip=ANY) as server:
        assert lines() == [f"startup: starting server on {server.address}"]
    with messages.serve("given", ip=ANY, log_level=logging.ERROR):
        assert lines() == []
    messages.debug(trace=True)
    with messages.serve(ip=ANY) as server:
        assert lines() == [f"(start) startup: starting server on {server.address} with token {server.token}"]


def test_a_hs23_a_token_leaves_this_machine_only_when_told_to(monkeypatch):
    seen = []

    def login(server, token):
        seen.append(token)
        return True

    async def story(address):
        with pytest.raises(messages.LoginError, match="send_token=True"):
            await messages.Client("test", address).connect()
        assert seen == []
        async with messages.connect("test", address, send_token=True):
            assert seen == ["test"]

    with messages.serve("test", ip=ANY, login_func=login) as server:
        with pytest.raises(messages.LoginError):
            run(messages.Client("test", server.address, send_token=False).connect())
        monkeypatch.setattr(udp, "is_loopback", lambda host: False)  # as if it were elsewhere
        run(story(server.address))
    with messages.serve(
        "test", ip=ANY
    ) as server:  # the default login sends no token, so it needs no permission
        run(_connect_and_close(messages.Client("test", server.address)))


def test_a_hs24_what_was_recorded_has_no_effect_when_replayed(monkeypatch):
    ran = []
    server = messages.Server("test")

    @server.operation()
    async def once() -> None:
        ran.append(1)

    sent = []
    send = memory.MemoryLink.send
    monkeypatch.setattr(
        memory.MemoryLink, "send", lambda self, data: (sent.append((self, data)), send(self, data))[1]
    )

    async def story():
        async with messages.connect("test", server) as client:
            await client.operation("once")
            link = client._link
            recorded = [data for who, data in sent if who is link]
            assert [data[0] for data in recorded[:2]] == [1, 3] and len(recorded) == 3
            assert not any(b"test" in data for _, data in sent), "the token crossed the wire"
            link.other.run(link.other.arrive, recorded[2])  # the operation again, into its own session
            await until(lambda: server.counters.get("replayed") == 1)
            thief = await memory.open_memory(server)
            answers, over = [], []
            thief.on_message, thief.on_close = answers.append, over.append
            for data in recorded:  # the whole connection again, as a client of its own
                thief.send(data)
            await until(lambda: over)
            assert [answer[0] for answer in answers] == [2, 5], (
                "a challenge with another nonce, and a refusal"
            )
            assert server.counters["login_failed"] == 1
            async with messages.connect("test", server) as other:  # and into somebody else's session
                other._link.send(recorded[2])
                await until(lambda: server.counters.get("denied") == 1)
                assert other.connected
        assert ran == [1]

    with server.start(ANY):
        run(story())


def test_a_hs24_the_token_is_nowhere_in_what_crosses_the_wire():
    """Both frames of the client, for a token of every length up to 40: neither it nor its hash is in them."""
    for size in range(8, 40):
        token = "s" * size
        login = ClientLogin(token, Terms("1.0"), True, bytes(16), False, os.urandom)
        hello = login.hello()
        challenge = bytes((CHALLENGE, 0)) + os.urandom(32) + bytes(32) + b"\x031.0" + b"\x09127.0.0.1"
        proof = login.answer(challenge)
        assert hello[0] == HELLO and token.encode() not in hello + proof


def test_a_hs25_uvicorns_lines_appear_once_each(capfd):
    program = (
        "import sys\n"
        "from toolips_udp import HTTP, messages\n"
        "messages.debug(enable_uvicorn=True)\n"
        "with messages.serve('test', ip='127.0.0.1:0', mode=HTTP): pass\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Started server process") == 1, done.stderr
    assert done.stderr.count("Finished server process") == 1
    with_root = "import logging; logging.basicConfig()\n" + program
    done = subprocess.run([sys.executable, "-c", with_root], capture_output=True, text=True, timeout=30)
    assert done.stderr.count("Started server process") == 1, done.stderr
    without = program.replace("enable_uvicorn=True", "")
    done = subprocess.run([sys.executable, "-c", without], capture_output=True, text=True, timeout=30)
    assert "server process" not in done.stderr
    no_http = program.replace(", mode=HTTP", "")
    done = subprocess.run([sys.executable, "-c", no_http], capture_output=True, text=True, timeout=30)
    assert "has no effect" in done.stderr
