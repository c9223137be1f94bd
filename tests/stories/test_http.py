"""HTTP mode as its users meet it: routes, pages, files, WebSockets, and what bad clients get."""

import asyncio
import contextlib
import http.client
import json
import os
import socket
import statistics
import sys
import threading
import time
from types import ModuleType, SimpleNamespace

import msgspec
import pytest

from toolips_udp import (
    HTTP,
    UDP,
    Extension,
    StartError,
    access,
    get_args,
    get_cookies,
    get_headers,
    get_ip,
    get_method,
    get_post,
    handler,
    limits,
    mount,
    request,
    route,
)

pytest.importorskip("uvicorn", reason="HTTP mode needs the extra http: pip install 'toolips_udp[http]'")


class Client:
    """Keeps one connection and its cookies."""

    def __init__(self, address):
        self.connection = http.client.HTTPConnection(address.host, address.port, timeout=5)
        self.cookies = {}

    def ask(self, path, method="GET", body=None, headers=None):
        headers = dict(headers or {})
        if self.cookies:
            headers["cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        answer.body = answer.read()
        for cookie in answer.headers.get_all("set-cookie") or ():
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer

    def close(self):
        self.connection.close()


@pytest.fixture
def site(server):
    """`site(exports...)` serves them over HTTP and gives a client."""
    clients = []

    def make(*exports, mode=HTTP, **settings):
        module = SimpleNamespace(**{f"export_{i}": each for i, each in enumerate(exports)})
        found = server(module=module, mode=mode, **settings)
        client = Client(found.addresses[HTTP])
        client.server = found
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


def raw(address, data, until_closed=True):
    """What a socket gets for `data`."""
    with socket.create_connection(address, timeout=5) as sock:
        sock.sendall(data)
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while part := sock.recv(65536):
                got += part
                if not until_closed:
                    break
        return got


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def test_tc_12_a_route_answers_every_method_with_path_parameters_decoded(site):
    @route("/hello/{name}/{times:int}")
    def hello(c):
        c.write(c.method, " ", c.params["name"], " " + "hi" * c.params["times"])

    client = site(hello)
    for method in ("GET", "POST", "DELETE", "PATCH"):
        answer = client.ask("/hello/J%C3%B6rg%20B/2", method)
        assert (answer.status, answer.body.decode()) == (200, f"{method} Jörg B hihi")


def test_tc_12_an_exact_path_goes_before_one_with_parameters(site):
    client = site(
        route("/a/{name}", lambda c: c.write("parameter")), route("/a/exact", lambda c: c.write("exact"))
    )
    assert client.ask("/a/exact").body == b"exact"
    assert client.ask("/a/other").body == b"parameter"


def test_tc_12_of_several_routes_of_one_path_the_first_that_accepts_answers(site):
    def is_mobile(c):
        return "Mobile" in c.headers.get("user-agent", "")

    client = site(
        route("/", lambda c: c.write("small"), when=is_mobile), route("/", lambda c: c.write("large"))
    )
    assert client.ask("/", headers={"user-agent": "Mobile"}).body == b"small"
    assert client.ask("/").body == b"large"


def test_tc_12_a_method_that_no_route_takes_is_405_with_the_ones_that_are(site):
    client = site(route("/x", lambda c: c.write("x"), methods=["GET", "put"]))
    answer = client.ask("/x", "DELETE")
    assert (answer.status, answer.getheader("allow")) == (405, "GET, PUT")
    assert client.ask("/x", "HEAD").status == 200
    assert client.server.counters["no_handler"] == 1


def test_tc_12_without_a_match_the_404_route_answers_else_the_default_page(site):
    assert site(route("/", lambda c: c.write("home"))).ask("/no").body == b"404: not found"
    own = site(route("/", lambda c: c.write("home")), route("404", lambda c: c.write("nothing at ", c.path)))
    answer = own.ask("/no")
    assert (answer.status, answer.body) == (404, b"nothing at /no")
    assert own.server.counters["no_handler"] == 1


def test_tc_12_a_main_handler_without_routes_answers_every_path(site):
    @handler
    async def main(c):
        c.respond(c.packet[::-1] or c.path)

    client = site(main)
    assert client.ask("/any/where", "POST", b"abc").body == b"cba"
    assert client.ask("/any/where").body == b"/any/where"


def test_tc_10_the_getters_tell_what_was_asked(site):
    told = {}

    @route("/ask")
    def ask(c):
        told.update(
            args=dict(get_args(c)),
            post=get_post(c),
            method=get_method(c),
            ip=get_ip(c),
            cookies=get_cookies(c),
        )
        told.update(agent=get_headers(c)["User-Agent"], host=c.host, path=c.path, form=c.post, text=c.text)
        told["many"] = c.args.getlist("a")

    site(ask).ask(
        "/ask?a=1&b=%26%20x&a=2&bare",
        "POST",
        "name=J%C3%B6rg&empty=",
        {
            "user-agent": "test",
            "cookie": "one=1; two=zwei",
            "content-type": "application/x-www-form-urlencoded",
        },
    )
    assert told == {
        "args": {"a": "2", "b": "& x", "bare": ""},
        "many": ["1", "2"],
        "post": b"name=J%C3%B6rg&empty=",
        "text": "name=J%C3%B6rg&empty=",
        "form": {"name": "Jörg", "empty": ""},
        "method": "POST",
        "ip": "127.0.0.1",
        "cookies": {"one": "1", "two": "zwei"},
        "agent": "test",
        "host": "127.0.0.1",
        "path": "/ask",
    }


def test_tc_10_forwarded_for_counts_from_listed_proxies_only(site):
    where = route("/", lambda c: c.write(c.ip))
    forged = {"x-forwarded-for": "203.0.113.9"}
    assert site(where).ask("/", headers=forged).body == b"127.0.0.1"
    assert site(where, proxies=["127.0.0.1"]).ask("/", headers=forged).body == b"203.0.113.9"


class Point(msgspec.Struct):
    x: int
    y: int


class Bold:
    def __init__(self, text):
        self.text = text

    def __html__(self):
        return f"<b>{self.text}</b>"


@pytest.mark.parametrize(
    "parts, kind, body",
    [
        (("text <b>",), "text/plain; charset=utf-8", b"text <b>"),
        ((b"\0\1",), "application/octet-stream", b"\0\1"),
        (({"a": [1]},), "application/json", b'{"a":[1]}'),
        ((Point(1, 2),), "application/json", b'{"x":1,"y":2}'),
        ((Bold("x"), "<script>", 5), "text/html; charset=utf-8", b"<b>x</b>&lt;script&gt;5"),
        (("one ", 2), "text/plain; charset=utf-8", b"one 2"),
    ],
)
def test_tc_24_the_kind_of_an_answer_follows_from_its_parts_and_text_is_never_a_page(site, parts, kind, body):
    answer = site(route("/", lambda c: c.write(*parts))).ask("/")
    assert (answer.getheader("content-type"), answer.body) == (kind, body)
    assert answer.getheader("content-length") == str(len(body))
    assert answer.getheader("x-content-type-options") == "nosniff"


def test_tc_11_respond_sets_status_and_headers_and_twice_joins_the_bodies(site):
    @route("/")
    async def page(c):
        c.respond("one", 201, {"X-A": "1"})
        c.respond(" two", 202, {"x-a": "2", "content-type": "text/css"})

    answer = site(page).ask("/")
    assert (answer.status, answer.body) == (202, b"one two")
    assert answer.headers.get_all("x-a") == ["2"]
    assert answer.getheader("content-type") == "text/css"


def test_tc_24_a_starlette_response_brings_its_own_cookies(site):
    from starlette.responses import PlainTextResponse

    @route("/")
    async def page(c):
        answer = PlainTextResponse("hi", 203)
        answer.set_cookie("first", "1")
        answer.set_cookie("second", "2")
        return answer

    client = site(page)
    assert client.ask("/").status == 203
    assert client.cookies == {"first": "1", "second": "2"}


def test_a_header_with_a_line_break_is_an_error_of_the_route_and_reaches_nobody(site):
    answer = site(route("/", lambda c: c.respond("x", headers={"x-a": "1\r\nset-cookie: a=b"}))).ask("/")
    assert answer.status == 500
    assert answer.getheader("set-cookie") is None


def test_a_route_that_raises_is_500_without_details_and_counted(site, caplog):
    @route("/")
    def page(c):
        c.write("half an answer")
        raise ValueError("secret detail")

    client = site(page, route("/ok", lambda c: c.write("ok")))
    answer = client.ask("/")
    assert (answer.status, answer.body) == (500, b"500: internal server error")
    assert client.ask("/ok").body == b"ok"
    assert client.server.counters["handler_failed"] == 1
    assert "secret detail" in caplog.text and "127.0.0.1:" in caplog.text


def test_an_error_page_of_ones_own_answers_its_status(site):
    @route("500")
    def sorry(c):
        c.write("sorry")

    @route("/")
    def page(c):
        raise ValueError

    answer = site(page, sorry).ask("/")
    assert (answer.status, answer.body) == (500, b"sorry")


def test_plain_def_routes_run_side_by_side_in_threads(site):
    together = threading.Barrier(5, timeout=5)

    @route("/")
    def page(c):
        together.wait()
        c.write("done")

    client = site(page)
    others = [Client(client.server.address) for _ in range(5)]
    answers = []
    threads = [threading.Thread(target=lambda o=o: answers.append(o.ask("/").body)) for o in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        other.close()
    assert answers == [b"done"] * 5


def test_extensions_are_shared_with_udp_and_false_ends_the_request(site):
    seen = []

    class Doorman(Extension):
        def route(self, c):
            seen.append(type(c).__name__)
            if getattr(c, "path", "") == "/no":
                return False
            if getattr(c, "path", "") == "/mine":
                c.respond("mine")
                return False

    @handler
    def main(c):
        c.respond("udp")

    client = site(Doorman(), main, route("/", lambda c: c.write("http")), mode=(UDP, HTTP))
    assert request("x", client.server.addresses[UDP]) == b"udp"
    assert client.ask("/").body == b"http"
    assert client.ask("/no").status == 403
    assert client.ask("/mine").body == b"mine"
    assert len(seen) == 4 and seen[1:] == ["Connection"] * 3
    assert client.server.counters["ended"] == 1


def test_sources_that_may_not_ask_or_ask_too_often_get_403_and_429(site):
    home = route("/", lambda c: c.write("x"))
    denied = site(home, access(deny=["127.0.0.1"]))
    assert denied.ask("/").status == 403
    assert denied.server.counters["denied"] == 1
    limited = site(home, limits(rate=1, burst=2, loopback=True))
    assert [limited.ask("/").status for _ in range(3)] == [200, 200, 429]
    assert limited.server.counters["limited"] == 1


def test_a_route_reaches_the_udp_servers_data_and_counters(site):
    @handler
    def main(c):
        c.data["seen"] = c.data.get("seen", 0) + 1
        c.respond("ok")

    @route("/admin")
    def admin(c):
        c.respond({"seen": c["seen"], "received": c.server.counters["received"]})

    client = site(main, admin, mode=(UDP, HTTP))
    for _ in range(3):
        request("x", client.server.addresses[UDP])
    assert json.loads(client.ask("/admin").body) == {"seen": 3, "received": 4}


LOBBY = """
import htpy
from toolips_udp import route
from toolips_udp.game import Game

game = Game(channels=1)

@game.on_join
def joined(peer):
    peer.enter(game.room("lobby"))

@route("/")
def lobby(c):
    seats = [htpy.li[f"{peer.id} {peer.address.host} in {room.name}"] for room in game.rooms.values() for peer in room]
    c.write(htpy.ul[seats], htpy.p[f"{c.server.counters['received']} datagrams"])
"""


def test_a_lobby_page_of_ten_lines_shows_peers_rooms_and_counters(server, monkeypatch):
    from toolips_udp.game import Client as Player

    page = LOBBY[LOBBY.index("game = ") :]
    assert len([line for line in page.splitlines() if line]) <= 10
    module = ModuleType("lobby")
    monkeypatch.setitem(sys.modules, "lobby", module)
    exec(compile(LOBBY, "lobby.py", "exec"), module.__dict__)
    running = server(module=module, mode=(UDP, HTTP))
    browser = Client(running.addresses[HTTP])

    async def play():
        address = str(running.addresses[UDP])
        async with Player(address, channels=1), Player(address, channels=1):
            return await asyncio.to_thread(browser.ask, "/")

    try:
        body = asyncio.run(play()).body.decode()
    finally:
        browser.close()
    assert body.count("127.0.0.1 in lobby</li>") == 2
    datagrams = int(body.partition("<p>")[2].partition(" ")[0])
    assert 0 < datagrams <= running.counters["received"]


def test_a_route_may_ask_a_udp_server_and_wait(site, server):
    @handler
    def echo(c):
        c.respond(c.packet.upper())

    other = server(echo)

    @route("/proxy")
    async def proxy(c):
        c.respond(await c.request(c.args["q"], other.address))

    assert site(proxy).ask("/proxy?q=abc").body == b"ABC"


def test_a_session_follows_its_cookie_and_a_forged_one_is_nobody(site):
    @route("/")
    def count(c):
        c.session["n"] = c.session.get("n", 0) + 1
        c.write(c.session["n"])

    one = site(count, route("/plain", lambda c: c.write("x")))
    two = Client(one.server.address)
    assert one.ask("/plain").getheader("set-cookie") is None
    first = one.ask("/")
    assert "HttpOnly" in first.getheader("set-cookie") and "SameSite=Lax" in first.getheader("set-cookie")
    assert [one.ask("/").body, one.ask("/").body, two.ask("/").body] == [b"2", b"3", b"1"]
    [name] = one.cookies
    assert len(one.cookies[name]) >= 43 and one.cookies[name] != two.cookies[name]
    two.cookies[name] = "x" * 43
    assert two.ask("/").body == b"1"
    two.close()


@pytest.fixture
def files(tmp_path):
    public = tmp_path / "public"
    (public / "sub").mkdir(parents=True)
    (public / "index.html").write_text("<h1>index</h1>")
    (public / "sub" / "a.txt").write_text("a")
    (tmp_path / "secret.txt").write_text("secret")
    (public / "link.txt").symlink_to(tmp_path / "secret.txt")
    return public


def test_tc_18_a_mounted_folder_serves_its_files_as_they_are_now(site, files):
    client = site(mount("/p", files), mount("/one", files / "sub" / "a.txt"))
    assert client.ask("/p/").body == b"<h1>index</h1>"
    assert client.ask("/p").status in (301, 302, 307)
    assert client.ask("/p/sub/a.txt").body == b"a"
    assert client.ask("/one").body == b"a"
    (files / "sub" / "a.txt").write_text("changed")
    answer = client.ask("/p/sub/a.txt")
    assert answer.body == b"changed"
    again = client.ask("/p/sub/a.txt", headers={"if-none-match": answer.getheader("etag")})
    assert (again.status, again.body) == (304, b"")
    assert client.ask("/p/none.txt").status == 404
    assert client.ask("/p/sub/a.txt", "POST").status == 405


@pytest.mark.parametrize(
    "path",
    [
        "/p/../secret.txt",
        "/p/..%2fsecret.txt",
        "/p/%2e%2e/secret.txt",
        "/p/sub/../../secret.txt",
        "/p/..%5csecret.txt",
        "/p//etc/passwd",
        "/p/%2fetc%2fpasswd",
        "/p/%00",
        "/p/link.txt",
        "/p/" + "a" * 5000,
        "/psecret.txt",
    ],
)
def test_tc_18_nothing_outside_a_mounted_folder_is_served(site, files, path):
    client = site(mount("/p", files))
    got = raw(client.server.address, f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    assert b" 404 " in got.partition(b"\r\n")[0]
    assert b"secret" not in got.partition(b"\r\n\r\n")[2]
    assert client.server.counters["handler_failed"] == 0


def test_tc_18_a_missing_source_is_a_start_error(server, tmp_path):
    with pytest.raises(StartError, match="no such file or folder"):
        server(module=SimpleNamespace(files=mount("/p", tmp_path / "none")), mode=HTTP)


@pytest.mark.parametrize(
    "route_, words",
    [
        (lambda: route("/{broken", lambda c: None), "cannot be read"),
        (lambda: route("/ws", lambda c: None, methods=["WEBSOCKET"]), "async def"),
    ],
)
def test_a_wrong_route_is_an_error_at_start(server, route_, words):
    with pytest.raises(StartError, match=words):
        server(module=SimpleNamespace(page=route_()), mode=HTTP)


def test_s5_a_body_over_the_limit_is_413_and_its_connection_goes_on_or_closes_cleanly(site):
    client = site(route("/", lambda c: c.write(len(c.packet))), max_body=1000)
    assert client.ask("/", "POST", b"x" * 1000).body == b"1000"
    address = client.server.address
    told = raw(
        address,
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\nconnection: close\r\n\r\n" + b"x" * 1001,
    )
    assert told.startswith(b"HTTP/1.1 413")
    chunks = b"".join(b"100\r\n" + b"x" * 256 + b"\r\n" for _ in range(8)) + b"0\r\n\r\n"
    told = raw(
        address,
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n" + chunks,
    )
    assert told.startswith(b"HTTP/1.1 413")
    assert client.server.counters["malformed"] == 2


def test_s5_a_head_without_end_is_431_with_bounded_memory(site):
    client = site(route("/", lambda c: c.write("x")))
    with socket.create_connection(client.server.address, timeout=5) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n")
        got = b""
        with contextlib.suppress(ConnectionError):
            for number in range(100_000):
                sock.sendall(b"x-%d: y\r\n" % number)
            got = sock.recv(1000)
        with contextlib.suppress(ConnectionError):
            got = got or sock.recv(1000)
    assert got == b"" or got.startswith(b"HTTP/1.1 431")
    until(lambda: client.server.counters["malformed"] == 1)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
        b"NO SUCH THING\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"\0" * 100,
    ],
)
def test_malformed_http_is_refused_and_counted_and_others_are_served(site, data):
    client = site(route("/", lambda c: c.write("fine")))
    got = raw(client.server.address, data)
    assert got == b"" or got.startswith(b"HTTP/1.1 4")
    assert client.ask("/").body == b"fine"
    until(lambda: client.server.counters["malformed"] == 1)
    assert client.server.counters["handled"] == 1


@pytest.mark.parametrize(
    "begin",
    [b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: ", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n"],
    ids=["head", "body"],
)
def test_s1_a_slow_request_is_cut_at_the_message_deadline(site, begin):
    client = site(route("/", lambda c: c.write("x")), message_timeout=0.2)
    with socket.create_connection(client.server.address, timeout=5) as sock:
        sock.sendall(begin)
        started = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - started < 30:
                sock.sendall(b"y")
                time.sleep(0.05)
        assert time.monotonic() - started < 15
    until(lambda: client.server.counters["stale"] == 1)


def test_s1_a_silent_connection_is_closed_at_the_idle_deadline(site):
    client = site(route("/", lambda c: c.write("x")), idle_timeout=0.2)
    with (
        socket.create_connection(client.server.address, timeout=5) as sock,
        contextlib.suppress(ConnectionError),
    ):
        assert sock.recv(1) == b""
    assert client.server.counters["stale"] == 1


def test_s2_pipelined_requests_are_answered_in_order_without_recursion(site):
    client = site(route("/{n:int}", lambda c: c.write(c.params["n"])))
    count = 3000
    asked = b"".join(b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n" % n for n in range(count - 1))
    asked += b"GET /%d HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" % (count - 1)
    got = b""
    with socket.create_connection(client.server.address, timeout=20) as sock:
        threading.Thread(target=lambda: sock.sendall(asked)).start()
        while part := sock.recv(65536):
            got += part
    bodies = [int(piece.partition(b"HTTP/")[0]) for piece in got.split(b"\r\n\r\n")[1:]]
    assert bodies == list(range(count))


def test_a_client_that_leaves_before_its_answer_disturbs_nobody(site):
    release = threading.Event()

    @route("/slow")
    def slow(c):
        release.wait(5)
        c.write("x" * 100_000)

    client = site(slow, route("/", lambda c: c.write("ok")))
    with socket.create_connection(client.server.address, timeout=5) as sock:
        sock.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        until(lambda: client.server.in_flight == 1)
    release.set()
    until(lambda: client.server.in_flight == 0)
    assert client.ask("/").body == b"ok"
    assert client.server.counters["handled"] == 2


def test_s4_http_connections_over_the_cap_are_refused_and_counted(site):
    client = site(route("/", lambda c: c.write("x")), max_connections=2)
    address = client.server.address
    with socket.create_connection(address, timeout=5), socket.create_connection(address, timeout=5):
        time.sleep(0.05)
        assert raw(address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n") == b""
    assert client.server.counters["shed"] == 1


def test_stop_answers_what_is_in_flight(site):
    begun = threading.Event()

    @route("/")
    async def slow(c):
        begun.set()
        await asyncio.sleep(0.3)
        c.write("answered")

    client = site(slow)
    answers = []
    asker = threading.Thread(target=lambda: answers.append(client.ask("/").body))
    asker.start()
    assert begun.wait(5)
    client.server.stop()
    asker.join(5)
    assert answers == [b"answered"]


def test_udp_is_not_slowed_by_http_work(site):
    @handler
    def main(c):
        c.respond(c.packet)

    @route("/")
    def busy(c):
        time.sleep(0.2)
        c.write("x")

    client = site(main, busy, mode=(UDP, HTTP))
    asker = threading.Thread(target=lambda: client.ask("/"))
    asker.start()
    times = []
    while asker.is_alive():
        begin = time.monotonic()
        request("x", client.server.addresses[UDP])
        times.append(time.monotonic() - begin)
    assert statistics.median(times) < 0.1


# -- WebSockets


@pytest.fixture
def live(site):
    websockets = pytest.importorskip("websockets.sync.client", reason="needs the extra http")

    def make(*exports, origin=None, path="/live", client=None, **settings):
        client = client or site(*exports, **settings)
        url = f"ws://{client.server.addresses[HTTP]}{path}"
        return client, opened.enter_context(websockets.connect(url, origin=origin, open_timeout=5))

    with contextlib.ExitStack() as opened:
        yield make


def test_a_websocket_route_takes_messages_and_answers_them(live):
    @route("/live", methods=["WEBSOCKET"])
    async def echo(c):
        c.respond("welcome " + c.args["name"])
        async for message in c.messages():
            c.respond(message[::-1])
            if message == "bye":
                break

    client, sock = live(echo, path="/live?name=x")
    assert sock.recv(5) == "welcome x"
    sock.send("abc")
    assert sock.recv(5) == "cba"
    sock.send(b"\0\1")
    assert sock.recv(5) == b"\1\0"
    sock.send("bye")
    assert sock.recv(5) == "eyb"
    until(lambda: client.server.counters["handled"] == 1)
    assert client.ask("/live").status == 404


def test_a_websocket_from_another_origin_is_refused(live):
    from websockets.exceptions import InvalidStatus

    @route("/live", methods=["WEBSOCKET"])
    async def echo(c):
        c.respond("hi")

    with pytest.raises(InvalidStatus, match="403"):
        live(echo, origin="https://evil.example")
    client, sock = live(echo, origins=["https://friend.example"], origin="https://friend.example")
    assert sock.recv(5) == "hi"
    _, own = live(client=client, origin=f"http://{client.server.addresses[HTTP]}")
    assert own.recv(5) == "hi"


def test_a_websocket_that_is_not_read_is_dropped_and_counted(live):
    @route("/live", methods=["WEBSOCKET"])
    async def flood(c):
        while c.is_connected():
            c.respond("x" * 65536)
            await asyncio.sleep(0)

    client, _ = live(flood)
    until(lambda: client.server.counters["queue_full"] == 1)


def test_a_websocket_message_over_the_limit_ends_it(live):
    from websockets.exceptions import ConnectionClosed

    @route("/live", methods=["WEBSOCKET"])
    async def echo(c):
        async for message in c.messages():
            c.respond(message)

    _, sock = live(echo)
    sock.send("x" * 60_000)
    assert len(sock.recv(5)) == 60_000
    with pytest.raises(ConnectionClosed):
        sock.send("x" * 70_000)
        sock.recv(5)


def test_a_websocket_route_that_raises_closes_it_and_is_counted(live):
    from websockets.exceptions import ConnectionClosed

    @route("/live", methods=["WEBSOCKET"])
    async def boom(c):
        raise ValueError

    client, sock = live(boom)
    with pytest.raises(ConnectionClosed):
        sock.recv(5)
    until(lambda: client.server.counters["handler_failed"] == 1)


def test_stop_closes_websockets(live):
    from websockets.exceptions import ConnectionClosed

    @route("/live", methods=["WEBSOCKET"])
    async def wait(c):
        async for _ in c.messages():
            pass

    client, sock = live(wait)
    until(lambda: client.server.in_flight == 1)
    begin = time.monotonic()
    client.server.stop()
    assert time.monotonic() - begin < 15
    with pytest.raises(ConnectionClosed):
        sock.recv(5)


def test_http_mode_without_its_extra_names_the_fix(tmp_path):
    import subprocess
    import sys

    program = (
        "import sys; sys.modules['uvicorn'] = None\n"
        "from toolips_udp import HTTP, route, serve\n"
        "home = route('/', lambda c: None)\n"
        "serve(HTTP, '__main__', '127.0.0.1:0').__enter__()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, env=os.environ
    )
    assert "pip install 'toolips_udp[http]'" in done.stderr


def test_https_serves_pages_and_marks_its_cookies_secure(site, certificate):
    import ssl
    import urllib.request

    @route("/")
    def home(c):
        c.session["x"] = 1
        c.write(c.scope["scheme"])

    client = site(home, tls=certificate)
    trust = ssl.create_default_context(cafile=certificate[0])
    with urllib.request.urlopen(f"https://localhost:{client.server.address.port}/", context=trust) as answer:
        assert answer.read() == b"https"
        assert "Secure" in answer.headers["set-cookie"]


def test_uvicorn_says_nothing_of_its_own_life(site, caplog):
    caplog.set_level("INFO")
    client = site(route("/", lambda c: c.write("x")))
    client.ask("/")
    client.server.stop()
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]
