"""Starting, stopping and extensions as users see them: the scenarios A-TC."""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import ModuleType, SimpleNamespace

import pytest

from toolips_udp import (
    UDP,
    Address,
    Extension,
    Logger,
    QuickExtension,
    Server,
    StartError,
    handler,
    kill,
    log,
    request,
    send,
    serve,
    start,
)


def port_is_free(address):
    with socket.socket(address.family, socket.SOCK_DGRAM) as sock:
        sock.bind((address.host, address.port))
    return True


def echo():
    return handler(lambda c: c.respond(c.packet))


def test_a_tc1_the_real_port_is_known_and_answers(server, transport):
    running = server(echo())
    assert isinstance(running, Server) and running.address.port > 0
    assert request("hi", running.address) == b"hi"


def test_a_tc2_a_killed_server_is_silent_and_leaves_nothing(server, transport):
    module = SimpleNamespace(main=echo())
    running = server(module=module)
    assert request("hi", running.address) == b"hi"
    kill(module)
    with pytest.raises(TimeoutError):
        request("hi", running.address, timeout=0.1)
    assert port_is_free(running.address)
    running.stop()
    running.close()
    kill(running)
    with pytest.raises(StartError, match="does not run"):
        running.send("x", running.address)


def test_a_tc2_killing_a_module_that_is_not_served_is_a_warning(caplog):
    kill(SimpleNamespace(main=echo()))
    assert "not being served" in caplog.text


def test_a_tc3_a_stopped_module_is_started_again(server, transport):
    class Seen(Extension):
        def on_start(self, server):
            self.packets = []

        def route(self, c):
            self.packets.append(c.packet)

    seen = Seen()
    module = SimpleNamespace(seen=seen, main=echo())
    for _ in range(2):
        running = server(module=module)
        assert seen.packets == []
        assert request("again", running.address) == b"again"
        assert seen.packets == [b"again"]
        running.stop()


def test_a_tc4_two_servers_in_one_process_are_strangers(server, transport):
    @handler
    def main(c):
        c["count"] = c.data.get("count", 0) + 1
        c.respond(str(c["count"]))

    one, two = server(main), server(main)
    assert [request("x", one.address) for _ in range(3)] == [b"1", b"2", b"3"]
    assert request("x", two.address) == b"1"
    one.stop()
    assert request("x", two.address) == b"2"
    assert two.data == {"count": 2}


def test_a_tc6_block_returns_when_another_thread_stops_it(nothing_left, transport, eventually):
    module = SimpleNamespace(main=echo())
    results = []

    def blocked():
        results.append(start(UDP, module, "127.0.0.1:0", block=True, transport=transport, control=False))

    thread = threading.Thread(target=blocked)
    thread.start()
    from toolips_udp.starting import server_of

    eventually(lambda: server_of(module) is not None and server_of(module).ready)
    running = server_of(module)
    assert request("hi", running.address) == b"hi"
    assert not results
    running.stop()
    thread.join(2)
    assert results == [running] and not running.running


def test_a_tc7_extensions_run_in_listed_order_and_false_ends_the_trip(server, transport, eventually):
    ran = []

    class Step(Extension):
        def __init__(self, name, result=None):
            self.name, self.result = name, result

        def route(self, c):
            ran.append(self.name)
            return self.result

    @handler
    def main(c):
        ran.append("handler")
        c.respond("end")

    passing = server(module=SimpleNamespace(z=Step("z"), a=Step("a"), m=Step("m"), main=main))
    assert request("x", passing.address) == b"end"
    assert ran == ["z", "a", "m", "handler"]
    ran.clear()
    ending = server(module=SimpleNamespace(z=Step("z"), a=Step("a", False), m=Step("m"), main=main))
    send("x", ending.address)
    eventually(lambda: ending.counters["ended"] == 1)
    assert ran == ["z", "a"]
    ran.clear()
    falsy = server(module=SimpleNamespace(z=Step("z", 0), a=Step("a", ""), main=main))
    assert request("only False ends", falsy.address) == b"end"


def test_a_tc8_a_client_tracker_holds_peers_and_none_after_a_restart(server, transport, peer):
    class Tracker(Extension):
        def on_start(self, server):
            self.clients = set()

        def route(self, c):
            self.clients.add(c.address)

    tracker = Tracker()
    module = SimpleNamespace(tracker=tracker, main=echo())
    running = server(module=module)
    busy, other = peer(running.address), peer(running.address)
    for _ in range(3):
        busy.ask()
    other.ask()
    assert len(tracker.clients) == 2
    running.stop()
    server(module=module)
    assert tracker.clients == set()


def test_a_tc9_a_quick_extension_saw_one_start_and_two_packets(server, transport):
    seen = []
    quick = QuickExtension("quick")
    assert quick.on_start(lambda server: seen.append("start")) is not None
    quick.route(lambda c: seen.append("packet"))
    quick.on_stop(lambda server: seen.append("stop"))
    running = server(quick, echo())
    request("1", running.address)
    request("2", running.address)
    running.stop()
    assert seen == ["start", "packet", "packet", "stop"]


def test_a_tc10_a_log_file_has_its_own_level(server, transport, peer, tmp_path):
    file = tmp_path / "server.log"

    @handler
    def main(c):
        log(c, "this is information", "info")
        c.log("this is a warning", "warning")
        c.respond("logged")

    module = ModuleType("logged_module")
    module.logger, module.main = Logger(file=file, file_level="warning"), main
    running = server(module=module)
    client = peer(running.address)
    client.ask()
    running.stop()
    lines = file.read_text().splitlines()
    host, port = client.getsockname()
    assert len(lines) == 1
    for part in ("this is a warning", "logged_module", f"{host}:{port}", "WARNING"):
        assert part in lines[0]


def test_a_tc11_a_port_is_0_to_65535_and_port_0_prints_without_a_colon():
    for port in (-1, 65536):
        with pytest.raises(ValueError, match=r"0\.\.65535"):
            Address("127.0.0.1", port)
    assert ":" not in str(Address("host", 0))


def module_of(**names):
    module = ModuleType("faulty")
    vars(module).update(names)
    return module


def nothing(c):
    pass


@pytest.mark.parametrize(
    "module, found",
    [
        (module_of(logger=Logger()), ["no handler", "logger (Logger)"]),
        (module_of(second=handler(nothing, "second")), ["only named handlers", "'second'"]),
        (module_of(one=handler(nothing), two=handler(nothing)), ["2 main handlers", "one", "two"]),
        (module_of(main=handler(nothing), __all__=["main", "gone"]), ["'gone'", "__all__"]),
        (
            module_of(a=handler(nothing, "x"), b=handler(nothing, "x"), main=handler(nothing)),
            ["'x'", "a", "b"],
        ),
        (module_of(main=handler(lambda: None)), ["signature", "one connection"]),
        (module_of(main=handler(lambda c, d: None)), ["'d'", "no type"]),
        (module_of(main=handler(lambda a, b, c: None)), ["signature"]),
        (
            module_of(main=handler(nothing), a=QuickExtension("q"), b=QuickExtension("q")),
            ["QuickExtensions", "'q'"],
        ),
    ],
    ids=["none", "named", "two", "missing", "same-name", "no-parameter", "untyped", "three", "two-quick"],
)
def test_a_tc15_what_is_wrong_with_a_module_is_a_start_error(nothing_left, module, found):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        address = Address.of(probe.getsockname())
    with pytest.raises(StartError) as caught:
        start(UDP, module, address)
    for part in found:
        assert part in str(caught.value)
    assert port_is_free(address)


def test_a_tc15_an_extension_that_answers_needs_no_handler(server, transport):
    class Answerer(Extension):
        answers = True

        def route(self, c):
            c.respond("by myself")
            return False

    running = server(Answerer())
    assert request("x", running.address) == b"by myself"
    assert running.counters["handled"] == 1


def test_a_tc15_a_module_that_cannot_be_found_says_so():
    for missing in ("no_such_module_at_all", "/nowhere/hello.py", None, "not a name"):
        with pytest.raises(StartError):
            start(UDP, missing)


def test_a_tc16_other_exported_names_are_skipped(server, transport):
    module = module_of(start=start, UDP=UDP, f=nothing, number=7, main=echo())
    module.__all__ = ["start", "UDP", "f", "number", "main"]
    assert request("x", server(module=module).address) == b"x"


SCRIPT = """
import asyncio, sys
from toolips_udp import UDP, handler, start

@handler
async def main(c):
    if c.text == "slow":
        await asyncio.sleep(0.3)
    c.respond("done")

start(UDP, __name__, "127.0.0.1:0", control=False)
"""


class Script:
    """A program of its own, its stderr in a file, so that nothing of it is lost."""

    def __init__(self, folder, text, **environ):
        file, self.err = folder / "script.py", folder / "err"
        file.write_text(text)
        with self.err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", str(file)],
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
                env=os.environ | environ,
            )
        end = time.monotonic() + 20
        while "serves UDP" not in self.said or not self.said.endswith("\n"):
            assert time.monotonic() < end and self.process.poll() is None, self.said
            time.sleep(0.01)
        self.address = Address.parse(self.said.split("serves UDP ")[1].split(" ")[0])

    @property
    def said(self):
        return self.err.read_text()

    def end(self, code, within=20):
        """Wait for the end and check the exit code; what it wrote to stdout."""
        try:
            out, _ = self.process.communicate(timeout=within)
        finally:
            self.process.kill()
        assert self.process.returncode == code, self.said
        return out


@pytest.fixture
def script(tmp_path):
    """`script(text)` runs a program until it serves; ended at the end of the test whatever happens."""
    made = []

    def run(text, **environ):
        made.append(Script(tmp_path, text, **environ))
        return made[-1]

    yield run
    for each in made:
        each.process.kill()
        each.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_tc17_a_script_serves_after_its_last_line_until_a_signal(script, number):
    program = script(SCRIPT)
    assert request("quick", program.address, retries=5) == b"done"
    time.sleep(0.2)  # the script's last line is long past
    assert program.process.poll() is None
    with send("slow", program.address, keep_open=True) as client:
        client.settimeout(5)
        time.sleep(0.1)
        program.process.send_signal(number)
        assert client.recv(100) == b"done"
    assert program.end(0) == ""
    assert "Traceback" not in program.said and "Warning" not in program.said


THREADED = SCRIPT.replace("async def", "def").replace("await asyncio.sleep", "__import__('time').sleep")
THREADED = THREADED.replace("@handler", "@handler(threaded=True)")


def test_threaded_handlers_go_on_after_the_scripts_last_line(script):
    program = script(THREADED)
    time.sleep(0.2)
    for _ in range(10):
        assert request("quick", program.address, retries=3) == b"done"
    with send("slow", program.address, keep_open=True) as client:
        client.settimeout(5)
        time.sleep(0.1)
        program.process.terminate()
        assert client.recv(100) == b"done"
    program.end(0)


def test_a_second_signal_ends_at_once(script):
    program = script(SCRIPT.replace("0.3", "30"))
    send("slow", program.address)
    time.sleep(0.3)
    program.process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert program.process.poll() is None
    program.process.send_signal(signal.SIGINT)
    program.end(130)


def test_a_handler_that_outlives_the_drain_is_named_and_the_exit_code_is_1(script):
    program = script(SCRIPT.replace("0.3", "30"), TOOLIPS_UDP_DRAIN="0.2")
    send("slow", program.address)
    time.sleep(0.3)
    program.process.terminate()
    program.end(1)
    assert "drain time" in program.said and "main" in program.said


def test_a_script_that_fails_after_start_does_not_serve_on(script):
    program = script(SCRIPT + "\nraise RuntimeError('too bad')\n")
    program.end(1)
    assert "too bad" in program.said


def test_block_in_the_main_thread_answers_signals_and_returns(script):
    text = SCRIPT.replace("start(UDP", "server = start(UDP").replace(
        "control=False)", "control=False, block=True)"
    )
    program = script(text + "\nprint('after', server.running)\n")
    program.process.send_signal(signal.SIGINT)
    assert program.end(0) == "after False\n"


def test_wait_in_the_main_thread_answers_signals_like_block(script):
    program = script(
        SCRIPT.replace("start(UDP", "server = start(UDP") + "\nprint(server.wait(), server.running)\n"
    )
    assert request("quick", program.address, retries=3) == b"done"
    time.sleep(0.2)
    program.process.send_signal(signal.SIGINT)
    assert program.end(0) == "True False\n"


def test_sigterm_in_the_middle_of_a_script_unwinds_it_and_drains(script):
    text = (
        SCRIPT
        + """
import time
try:
    time.sleep(60)
finally:
    print("unwound")
"""
    )
    program = script(text)
    with send("slow", program.address, keep_open=True) as client:
        client.settimeout(5)
        time.sleep(0.1)
        program.process.terminate()
        assert client.recv(100) == b"done"
    assert program.end(0) == "unwound\n"


def test_sigterm_after_the_last_server_has_stopped_is_the_default_again(script):
    text = (
        SCRIPT.replace("start(UDP", "server = start(UDP") + "\nserver.stop()\nprint('stopped', flush=True)\n"
    )
    program = script(text + "__import__('time').sleep(60)\n")
    assert program.process.stdout.readline() == "stopped\n"
    program.process.terminate()
    program.end(-signal.SIGTERM)


def test_without_uvloop_the_asyncio_loop_serves(nothing_left, transport, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with serve(
        UDP, SimpleNamespace(main=echo()), "127.0.0.1:0", transport=transport, control=False
    ) as server:
        assert isinstance(server.loop, asyncio.SelectorEventLoop)
        assert request("x", server.address) == b"x"


def test_a_module_that_imports_the_verbs_can_be_named_in_them(server, transport, peer):
    from toolips_udp import broadcast, respond

    @handler
    def main(c):
        c.session["here"] = True
        respond(c, "seen")

    module = module_of(main=main, respond=respond, send=send, broadcast=broadcast)
    running = server(module=module)
    client = peer(running.address)
    assert client.ask() == b"seen"
    send(module, "from the module", client.getsockname())
    assert client.recv(100) == b"from the module"
    assert broadcast(module, "to all") == 1
    assert client.recv(100) == b"to all"
    running.stop()
    with pytest.raises(StartError, match="not being served"):
        send(module, "x", client.getsockname())


def test_the_last_answer_of_a_blocking_start_leaves_before_it_returns(script):
    text = SCRIPT.replace("control=False)", "control=False, block=True)")
    program = script(text)
    with send("slow", program.address, keep_open=True) as client:
        client.settimeout(5)
        time.sleep(0.1)
        program.process.terminate()
        assert client.recv(100) == b"done"
    program.end(0)


def test_a_tc18_log_works_without_a_logger(server, transport, peer, caplog):
    @handler
    def main(c):
        log(c, "hello world!")
        c.respond("said")

    module = module_of(main=main)
    client = peer(server(module=module).address)
    client.ask()
    records = [r for r in caplog.records if "hello world!" in r.getMessage()]
    host, port = client.getsockname()
    assert [r.name for r in records] == ["toolips_udp.faulty"]
    assert f"{host}:{port}" in records[0].getMessage()


def test_a_tc19_an_on_start_that_raises_ends_the_start(nothing_left, transport):
    seen = []

    class First(Extension):
        def on_start(self, server):
            seen.append("first started")

        def on_stop(self, server):
            seen.append("first stopped")

    class Second(Extension):
        def on_start(self, server):
            seen.append(server.address)
            raise OSError("no database")

        def on_stop(self, server):
            seen.append("second stopped")

    module = SimpleNamespace(first=First(), second=Second(), main=echo())
    with pytest.raises(OSError, match="no database"):
        start(UDP, module, "127.0.0.1:0", transport=transport, control=False)
    address = seen.pop(1)
    assert seen == ["first started", "first stopped"]
    assert port_is_free(address)


def test_async_hooks_run_in_order_and_in_reverse(server, transport):
    seen = []

    class Async(Extension):
        def __init__(self, name):
            self.name = name

        async def on_start(self, server):
            await asyncio.sleep(0.01)
            seen.append(f"+{self.name}")

        async def on_stop(self, server):
            await asyncio.sleep(0.01)
            seen.append(f"-{self.name}")

    server(module=SimpleNamespace(a=Async("a"), b=Async("b"), main=echo())).stop()
    assert seen == ["+a", "+b", "-b", "-a"]


def test_async_with_start_serves_on_the_running_loop(nothing_left, transport):
    threads = []

    @handler
    def main(c):
        threads.append(threading.current_thread())
        c.respond("here")

    async def program():
        module = SimpleNamespace(main=main)
        async with start(UDP, module, "127.0.0.1:0", transport=transport, control=False) as server:
            assert await asyncio.to_thread(request, "x", server.address) == b"here"
            with pytest.raises(RuntimeError, match="request blocks"):
                request("x", server.address)
        assert not server.running
        async with serve(UDP, module, "127.0.0.1:0", transport=transport, control=False) as server:
            assert await asyncio.to_thread(request, "x", server.address) == b"here"

    asyncio.run(program())
    assert threads == [threading.main_thread()] * 2


def test_start_inside_a_running_loop_has_a_thread_of_its_own(nothing_left, transport):
    threads = []

    @handler
    def main(c):
        threads.append(threading.current_thread())
        c.respond("here")

    async def program():
        server = start(UDP, SimpleNamespace(main=main), "127.0.0.1:0", transport=transport, control=False)
        assert request("x", server.address) == b"here"  # blocks this loop, not the server's
        server.stop()
        with serve(
            UDP, SimpleNamespace(main=main), "127.0.0.1:0", transport=transport, control=False
        ) as server:
            assert request("x", server.address) == b"here"
        late = start(UDP, SimpleNamespace(main=main), "127.0.0.1:0", transport=transport, control=False)
        async with late:
            assert request("x", late.address) == b"here"
        assert not late.running

    asyncio.run(program())
    assert threading.main_thread() not in threads and len(threads) == 3


def test_a_start_from_any_thread_and_a_stop_from_a_handler(nothing_left, transport):
    results = []

    @handler
    def main(c):
        c.respond("bye")
        c.server.stop()

    def elsewhere():
        with start(
            UDP, SimpleNamespace(main=main), "127.0.0.1:0", transport=transport, control=False
        ) as server:
            results.append(request("x", server.address))
            results.append(server.wait(2))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(5)
    assert results == [b"bye", True]


def test_the_body_s_own_error_leaves_the_serve_block(nothing_left, transport):
    with pytest.raises(KeyError, match="mine"):
        with serve(UDP, SimpleNamespace(main=echo()), "127.0.0.1:0", transport=transport, control=False):
            raise KeyError("mine")


def test_nothing_is_left_behind_200_times_in_a_row(nothing_left, transport):
    logging.getLogger("toolips_udp").setLevel(logging.ERROR)
    try:
        for _ in range(200):
            with serve(UDP, SimpleNamespace(main=echo()), "127.0.0.1:0", transport=transport) as server:
                assert request("x", server.address) == b"x"
    finally:
        logging.getLogger("toolips_udp").setLevel(logging.NOTSET)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there is no root here")
def test_root_that_serves_other_machines_is_told_once_how_not_to(monkeypatch, server, caplog):
    def told(ip, uid):
        caplog.clear()
        monkeypatch.setattr(os, "geteuid", lambda: uid)
        running = server(handler(lambda c: None), ip=ip)
        running.stop()
        return [text for text in caplog.messages if "runs as root" in text]

    assert len(told("0.0.0.0:0", 0)) == 1 and "user='nobody'" in told("0.0.0.0:0", 0)[0]
    assert not told("127.0.0.1:0", 0) and not told("0.0.0.0:0", 1000)


def test_a_module_is_found_by_name_path_and_object(tmp_path, nothing_left, monkeypatch):
    file = tmp_path / "by_path_module.py"
    file.write_text("from toolips_udp import handler\n\n@handler\ndef main(c):\n    c.respond(__name__)\n")
    with serve(UDP, str(file), "127.0.0.1:0", control=False) as server:
        assert request("x", server.address) == b"by_path_module"
    with serve(UDP, "by_path_module", "127.0.0.1:0", control=False) as server:
        assert request("x", server.address) == b"by_path_module"

    class Module:
        @handler
        def main(c):
            c.respond("class")

    for module in (Module, Module()):
        with serve(UDP, module, "127.0.0.1:0", control=False) as server:
            assert request("x", server.address) == b"class"
    del sys.modules["by_path_module"]
    sys.path.remove(str(tmp_path))


def test_tc_21_a_server_lists_its_handlers_and_extensions_in_order():
    from toolips_udp import QuickExtension, UDPHandler

    first, second = QuickExtension("first"), QuickExtension("second")
    module = SimpleNamespace(
        z=first, a=second, main=handler(lambda c: c.respond(b"")), step=handler(lambda c: None, "step")
    )
    with serve(UDP, module, "127.0.0.1:0") as server:
        assert list(server.extensions) == [first, second]
        assert list(server.handlers) == [None, "step"]
        assert all(isinstance(one, UDPHandler) for one in server.handlers.values())
