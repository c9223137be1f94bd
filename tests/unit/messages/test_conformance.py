"""One suite over every carrier: UDP peers, WebSocket in HTTP mode, memory."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import pytest

from toolips_udp import HTTP, UDP, messages

MODES = {"udp": UDP, "websocket": HTTP, "memory": UDP}


@pytest.fixture(params=list(MODES))
def carrier(request):
    return request.param


@pytest.fixture
def serve(carrier):
    """`serve(**settings)`: a block with a server and the address that clients of this carrier use."""

    @contextlib.contextmanager
    def serving(token="test", **settings):
        with messages.serve(token, ip="127.0.0.1:0", mode=MODES[carrier], **settings) as server:
            addresses = {"udp": server.address, "websocket": f"ws://{server.address}", "memory": server}
            yield server, addresses[carrier]

    return serving


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 20))


async def until(condition, seconds=3.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("secure", [False, True])
def test_operations_messages_replies_and_broadcasts_pass(serve, secure):
    heard = []

    async def story(server, address):
        async with messages.connect("test", address, secure=secure) as client:
            assert client.connected
            assert await client.operation("add", a=1, b=2) == 3
            assert await client.operation("add", {"a": 1}, b=5) == 6

            @client.receive("hi")
            async def hi(message, data):
                heard.append((message.content, data, message.replying.content))

            sent = await client.message("hello", {"n": 1})
            assert sent.content == "hello" and heard == [("hi", {"n": 1}, "hello")]
            news = asyncio.Queue()
            client.receive("news")(lambda message, data: news.put_nowait(data))
            counts = await server.broadcast("news", [1, 2])
            assert counts == (1, 0, 0)
            assert await asyncio.wait_for(news.get(), 2) == [1, 2]

    with serve() as (server, address):

        @server.operation("add")
        async def add(a: int, b: int) -> int:
            return a + b

        @server.receive("hello")
        async def hello(message):
            await message.reply("hi", message.data)

        run(story(server, address))


def test_a_wrong_an_empty_and_a_huge_token_are_login_errors(serve):
    async def story(address):
        for token in ("wrong", "tést", "x" * 100_000, "\ud800", "test\0"):
            with pytest.raises(messages.LoginError):
                await messages.Client(token, address).connect()
        with pytest.raises((messages.LoginError, ValueError)):
            await messages.Client("", address).connect()
        with pytest.raises(ValueError):
            messages.Client(None, address)
        async with messages.connect("test", address) as client:
            assert client.connected

    with serve() as (server, address):
        run(story(address))
        assert server.counters["login_failed"] == 5


@pytest.mark.parametrize("size", [0, 1, 1391, 48 * 1024 - 1, 48 * 1024, 300_000, 900_000])
def test_payloads_of_every_size_arrive_whole_both_ways(serve, size):
    async def story(address):
        async with messages.connect("test", address) as client:
            text = "ab" * (size // 2) + "c" * (size % 2)
            assert await client.operation("echo", text=text, timeout=10) == text

    with serve() as (server, address):

        @server.operation("echo")
        async def echo(text: str) -> str:
            return text

        run(story(address))


def test_a_frame_above_max_message_is_refused_where_it_is_made(serve):
    async def story(server, address):
        async with messages.connect("test", address, max_message=10_000) as client:
            with pytest.raises(ValueError, match="max_message"):
                await client.operation("echo", text="x" * 20_000)
            with pytest.raises(messages.OperationFailed):
                await client.operation("big")
            assert await client.operation("echo", text="x") == "x"
            with pytest.raises(ValueError, match="max_message"):
                server.broadcast("x" * 20_000)

    with serve(max_message=10_000) as (server, address):

        @server.operation("echo")
        async def echo(text: str) -> str:
            return text

        @server.operation("big")
        async def big() -> str:
            return "x" * 20_000

        run(story(server, address))


def test_many_in_flight_are_matched_by_id_whatever_the_order(serve):
    async def story(address):
        async with messages.connect("test", address) as client:
            asked = [client.operation("later", n=n) for n in range(200)]
            assert await asyncio.gather(*asked) == list(range(200))

    with serve() as (server, address):

        @server.operation("later")
        async def later(n: int) -> int:
            await asyncio.sleep(0.001 * (200 - n) / 4)
            return n

        run(story(address))


def test_what_is_asked_in_one_turn_runs_in_its_order_whatever_its_length(serve):
    ran = []

    async def story(address):
        async with messages.connect("test", address) as client:
            texts = [f"{n}:" + "x" * (n * 37 % 900 if n % 50 else 70_000) for n in range(300)]
            found = await asyncio.gather(*(client.operation("take", text=text) for text in texts))
            assert found == [len(text) for text in texts] and ran == texts

    with serve() as (server, address):

        @server.operation()
        async def take(text: str) -> int:
            ran.append(text)
            return len(text)

        run(story(address))


def test_errors_leave_the_link_usable_and_say_nothing_of_the_inside(serve, caplog):
    async def story(address):
        async with messages.connect("test", address) as client:
            with pytest.raises(messages.OperationFailed) as failed:
                await client.operation("break")
            assert "secret" not in str(failed.value) and len(failed.value.id) == 16
            assert failed.value.id in caplog.text and "secret" in caplog.text
            with pytest.raises(messages.UnknownOperation):
                await client.operation("brake")
            with pytest.raises(messages.ContentError) as wrong:
                await client.operation("add", a=1, b="two")
            assert wrong.value.path == "b"
            with pytest.raises(messages.OperationFailed):
                await client.message("boom")
            with pytest.raises(TimeoutError):
                await client.operation("slow", timeout=0.05)
            assert await client.operation("add", a=1, b=1) == 2

    with serve() as (server, address):

        @server.operation("break")
        async def break_() -> None:
            raise RuntimeError("secret")

        @server.operation("add")
        def add(a: int, b: int) -> int:
            return a + b

        @server.operation("slow")
        async def slow() -> None:
            await asyncio.sleep(1)

        @server.receive("boom")
        async def boom():
            raise RuntimeError("secret too")

        run(story(address))


def test_a_server_that_stops_ends_the_connections(serve):
    async def story(server, address):
        async with messages.connect("test", address) as client:
            waiting = asyncio.create_task(client.operation("never"))
            await asyncio.sleep(0.05)
            await asyncio.to_thread(server.close)
            await until(lambda: not client.connected)
            with pytest.raises((messages.NotConnected, messages.OperationFailed)):
                await waiting
            with pytest.raises(messages.NotConnected):
                await client.operation("never")

    with serve() as (server, address):

        @server.operation("never")
        async def never() -> None:
            await asyncio.Event().wait()

        run(story(server, address))


def test_a_client_that_leaves_is_told_to_on_leave(serve):
    said = []

    async def story(server, address):
        async with messages.connect("test", address):
            await until(lambda: said == ["join"])
            assert [each["state"] for each in server.status()] == ["connected"]
        await until(lambda: len(said) == 2)
        assert server.status() == []

    with serve() as (server, address):
        server.on_join(lambda client: said.append("join"))

        @server.on_leave
        async def leave(client, word):
            said.append(word)

        run(story(server, address))
    assert said == ["join", "left"]


def test_probe_says_the_version_without_a_login(serve):
    import toolips_udp

    with serve() as (server, address):
        assert run(messages.probe(address)) == toolips_udp.__version__
        assert server.clients == {}


def test_a_custom_login_gets_the_token(serve):
    seen = []

    def login(server, token):
        seen.append(token)
        return token == "open sesame"

    async def story(address):
        for secure in (False, True):
            async with messages.connect("open sesame", address, secure=secure) as client:
                assert client.connected
            with pytest.raises(messages.LoginError):
                await messages.Client("nonsense", address, secure=secure).connect()

    with serve(login_func=login) as (_server, address):
        run(story(address))
    assert seen == ["open sesame", "nonsense"] * 2


def test_with_reconnect_a_restart_goes_unnoticed(serve, carrier):
    async def story(server, address):
        async with messages.connect("test", address, reconnect=True) as client:
            assert await client.operation("count") == 1
            where = server.address
            await asyncio.to_thread(server.close)
            await until(lambda: not client.connected)
            await asyncio.to_thread(lambda: server.start(where, mode=MODES[carrier]))
            assert await client.operation("count") == 2
            assert client.connected

    calls = []
    with serve() as (server, address):

        @server.operation("count")
        async def count() -> int:
            calls.append(1)
            return len(calls)

        run(story(server, address))


def test_broadcast_from_another_thread_and_another_loop(serve):
    async def story(server, address):
        async with messages.connect("test", address) as client:
            got = []
            client.receive("news")(lambda message: got.append(message.content))
            counts = []
            thread = threading.Thread(target=lambda: counts.append(server.broadcast("news").result()))
            thread.start()
            await asyncio.to_thread(thread.join)
            other = await asyncio.to_thread(lambda: asyncio.run(awaited(server)))
            await until(lambda: len(got) == 2)
            assert counts == [(1, 0, 0)] and other == (1, 0, 0)

    async def awaited(server):
        return await server.broadcast("news")

    with serve() as (server, address):
        run(story(server, address))
