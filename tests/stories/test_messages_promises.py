"""What messages promises in one line each: errors, running loops, entry points, bounds that a client notices."""

from __future__ import annotations

import asyncio
import gc
import inspect
import re
import signal
import subprocess
import sys
import time

import pytest

from toolips_udp import errors, messages
from toolips_udp.messages import errors as ours

ANY = "127.0.0.1:0"


def run(story):
    return asyncio.run(asyncio.wait_for(story, 20))


def test_every_error_of_messages_has_one_base_a_code_a_text_an_id_and_a_description():
    kinds = [
        kind for kind in vars(ours).values() if inspect.isclass(kind) and issubclass(kind, ours.MessagesError)
    ]
    assert len(kinds) == 14 and issubclass(ours.MessagesError, errors.ToolipsError)
    for kind in kinds:
        error = kind("what was wrong", id="abc")
        assert (error.message, error.id, error.path) == ("what was wrong", "abc", "")
        assert "what was wrong" in str(error)
        assert (
            isinstance(error.code, int)
            and len(kind.__doc__) > 20
            and getattr(messages, kind.__name__) is kind
        )
    assert sorted(ours.OF_CODE) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_each_error_is_raised_where_it_is_said_to_be():
    async def story(server):
        async def raises(kind, call, *words):
            with pytest.raises(kind) as caught:
                await call
            for word in words:
                assert word in str(caught.value), (word, str(caught.value))

        await raises(messages.ConnectError, messages.Client("test", "127.0.0.1:1", timeout=0.3).connect())
        await raises(messages.LoginError, messages.Client("wrong", server.address).connect(), "token")
        await raises(
            messages.VersionError,
            messages.Client("test", server.address, minimum_version="99.0").connect(),
            "99.0",
        )
        client = messages.Client("test", server.address)
        await raises(messages.NotConnected, client.operation("add"), "connect()")
        await client.connect()
        await raises(messages.AlreadyConnected, client.connect())
        await raises(messages.ContentError, client.operation("add", a="x", b=1), "a: Expected `int`")
        await raises(messages.UnknownOperation, client.operation("ad"), "Did you mean 'add'?")
        await raises(messages.UnsupportedOperation, client.operation("hidden"), "not allowed")
        await raises(messages.OperationFailed, client.operation("breaks"), "its log has more under")
        server.pause()
        await raises(messages.BadAction, client.operation("add", a=1, b=2), "paused")
        server.resume()
        client._link.send(client._protocol.close(b"\xc1", 0.0))  # no frame: told under id 0, and counted there
        assert await client.operation("add", a=1, b=2) == 3
        assert server.counters["malformed"] == 1 and client.counts["late"] == 1
        await client.close()
        await raises(messages.NotConnected, client.operation("add", a=1, b=2), "it was closed")

    server = messages.Server("test", unsupported_operations=["hidden"], log_level=50)
    with pytest.raises(messages.NotStarted):
        server.close()
    with pytest.raises(messages.NotStarted):
        server.broadcast("news")
    server.operation("hidden")(lambda: 1)

    @server.operation()
    def add(a: int, b: int) -> int:
        return a + b

    @server.operation()
    async def breaks() -> None:
        raise RuntimeError("the inside")

    with server.start(ANY):
        with pytest.raises(messages.AlreadyRunning):
            server.start(ANY)
        run(story(server))


def test_serve_works_inside_a_running_loop_with_either_kind_of_with():
    async def story():
        with messages.serve("test", ip=ANY) as server:
            server.operation("two")(lambda: 2)
            async with messages.connect("test", server.address) as client:
                assert await client.operation("two") == 2
        async with messages.serve("test", ip=ANY) as server:
            async with messages.connect("test", server.address) as client:
                assert client.connected
        assert not server.running

    run(story())


def test_the_body_of_a_with_block_raises_its_own_error():
    with pytest.raises(KeyError, match="mine"), messages.serve("test", ip=ANY) as server:
        raise KeyError("mine")
    assert not server.running


@pytest.mark.parametrize("words", [["toolips_udp", "messages"], ["toolips_udp.messages"]])
def test_both_ways_to_run_the_package_serve_with_a_token_that_is_made(words):
    with subprocess.Popen(
        [sys.executable, "-m", *words, "-a", ANY], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        line = process.stderr.readline()
        found = re.fullmatch(
            r"startup: starting server on (127\.0\.0\.1:\d+) with token ([A-Za-z]{25})\n", line
        )
        assert found, line

        async def story():
            async with messages.connect(found[2], found[1]) as client:
                return client.server_version

        assert run(story())
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_a_broadcast_is_delivered_queued_or_failed_for_each_client_once():
    async def story(server):
        clients = [messages.Client("test", server) for _ in range(3)]
        for client in clients:
            await client.connect()
        counts = await server.broadcast("news", "x")
        assert counts == (3, 0, 0)
        clients[0]._link.pause()
        for _ in range(4):
            counts = await server.broadcast("news", "x" * 100_000)
            assert sum(counts) == 3
        assert counts == (2, 1, 0)
        for client in clients:
            await client.close()

    with messages.serve("test", ip=ANY) as server:
        run(story(server))


def test_hc_02_a_client_that_is_dropped_open_warns_and_its_server_sees_it_leave():
    left = []

    async def main():
        with messages.serve("test", ip=ANY) as server:
            server.on_leave(lambda client, word: left.append(word))
            client = messages.Client("test", server.address)
            await client.connect()
            await client.close()
            client = messages.Client("test", server.address)
            await client.connect()
            with pytest.warns(ResourceWarning, match="was dropped open"):
                del client
                gc.collect()
            until = time.monotonic() + 10
            while len(left) < 2 and time.monotonic() < until:
                await asyncio.sleep(0.01)

    asyncio.run(main())
    assert len(left) == 2


def test_hc_03_connect_with_runs_at_once_keeps_the_name_and_raises_here():
    with messages.serve("test", ip=ANY) as server:
        server.operation("add")(lambda a, b: a + b)
        seen = []

        @messages.connect_with("test", server.address)
        async def story(client):
            seen.append(await client.operation("add", a=1, b=2))

        assert seen == [3] and inspect.iscoroutinefunction(story) and story.__name__ == "story"
        with pytest.raises(messages.LoginError):
            messages.connect_with("wrong", server.address)(story)
        with pytest.raises(ZeroDivisionError):

            @messages.connect_with("test", server.address)
            async def breaks(client):
                raise ZeroDivisionError

    assert seen == [3]


@pytest.mark.parametrize("body, status", [("pass", 0), ("raise ValueError('mine')", 1)])
def test_hc_03_main_runs_in_the_script_and_its_error_is_the_exit_status(body, status, tmp_path):
    script = tmp_path / "script_with_main.py"
    script.write_text(
        "from toolips_udp import messages\n@messages.main\nasync def main():\n"
        f"    print('ran')\n    {body}\nprint(main.__name__)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == status and done.stdout.startswith("ran\n"), done.stderr
    assert status == 0 or "ValueError: mine" in done.stderr
    code = "import script_with_main as s; print(s.main.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert done.stdout == "main\nmain\n", "imported, it does not run"


def test_a_wait_looks_up_now_and_then_so_that_no_signal_is_answered_never(monkeypatch):
    """A signal between Python's last look at its flags and a wait without an end would not interrupt it."""
    server = messages.Server("test").start(ANY)
    ended, waits = server.host.ended, []

    class Looked:
        is_set, set = ended.is_set, ended.set

        def wait(self, timeout=None):
            waits.append(timeout)
            if len(waits) == 1:
                return False  # its time was over
            server.host.stop(wait=False)
            return ended.wait(30)

    monkeypatch.setattr(server.host, "ended", Looked())
    assert server.wait() is True
    assert len(waits) == 2 and None not in waits
