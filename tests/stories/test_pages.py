"""Pages: Python callbacks for elements of a page, seen from the wire and from a browser."""

import contextlib
import json
import re
import shutil
import subprocess
import threading
import time
import urllib.request
from types import SimpleNamespace

import pytest

from toolips_udp import HTTP, Session, StartError, on, route

pytest.importorskip("uvicorn", reason="HTTP mode needs the extra http: pip install 'toolips_udp[http]'")
htpy = pytest.importorskip("htpy", reason="components need the extra http: pip install 'toolips_udp[http]'")
from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
    return found


class Visit:
    """A page that was asked for, and how to open its WebSocket."""

    def __init__(self, server, path="/"):
        self.address = server.addresses[HTTP]
        with urllib.request.urlopen(f"http://{self.address}{path}") as answer:
            self.html = answer.read().decode()
            self.cookie = (answer.headers["set-cookie"] or "").partition(";")[0]
        found = re.search(r'<script src="([^"]+)" data-key="([^"]+)"></script>', self.html)
        self.script, self.key = found.groups() if found else (None, None)

    @contextlib.contextmanager
    def open(self, key=None, cookie=None, origin=None):
        with connect(
            f"ws://{self.address}/_toolips_udp/page",
            origin=origin,
            additional_headers={"cookie": self.cookie if cookie is None else cookie},
            open_timeout=5,
        ) as sock:
            sock.send(json.dumps({"key": key or self.key}))
            yield sock


def told(sock):
    return json.loads(sock.recv(5))


@pytest.fixture
def site(server):
    def make(**exports):
        return server(module=SimpleNamespace(**exports), mode=HTTP)

    return make


def button_page(session, clicked, **options):
    @route("/")
    def home(c):
        button = htpy.button(id="go", type="button")["go <&>"]
        on(c, button, "click", clicked, **options)
        c.write(htpy.html[htpy.body[button, htpy.p(id="out")["nothing"]]])

    return {"session": session, "home": home}


def click(sock, number=0, **what):
    sock.send(json.dumps({"number": number, **what}))


def test_se_02_a_callback_runs_for_its_visitor_and_its_changes_leave_together(site):
    def clicked(page):
        page.session["clicks"] = page.session.get("clicks", 0) + 1
        page.text("out", page.session["clicks"])
        page.style("out", background_color="red")
        page.attribute("out", "title", page.value)
        page.append("out", htpy.b["<bold>"])
        page.append("out", "<i>")
        page.remove("go")
        page.alert("hi")
        page.redirect("/next?a=1")

    running = site(**button_page(Session(), clicked))
    visit = Visit(running)
    assert visit.html.endswith("</script></body></html>")
    with visit.open() as sock:
        assert told(sock) == [["bind", "go", "click", 0]]
        click(sock, value="<v>")
        assert told(sock) == [
            ["text", "out", "1"],
            ["style", "out", "background-color", "red"],
            ["attribute", "out", "title", "<v>"],
            ["append", "out", "<b>&lt;bold&gt;</b>"],
            ["append", "out", "&lt;i&gt;"],
            ["remove", "go"],
            ["alert", "hi"],
            ["redirect", "/next?a=1"],
        ]
        click(sock)
        assert told(sock)[0] == ["text", "out", "2"]
    with Visit(running).open() as other:
        told(other)
        click(other)
        assert told(other)[0] == ["text", "out", "1"]
    with urllib.request.urlopen(f"http://{visit.address}{visit.script}") as script:
        assert script.headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize("kind", ["inline", "async", "threaded"])
def test_a_se5_a_page_callback_may_be_def_async_or_threaded(site, kind):
    threads = []

    def plain(page):
        threads.append(threading.current_thread().name)
        page.text("out", f"{page.ip} {page.data['x']}")

    async def awaited(page):
        plain(page)

    running = site(
        **button_page(Session(), awaited if kind == "async" else plain, threaded=kind == "threaded")
    )
    running.data["x"] = 5
    with Visit(running).open() as sock:
        told(sock)
        click(sock)
        assert told(sock) == [["text", "out", "127.0.0.1 5"]]
    assert (" http" in threads[0]) == (kind == "threaded")


def test_a_page_is_only_for_the_visitor_with_its_key_its_cookie_and_our_origin(site):
    running = site(**button_page(Session(), lambda page: None))
    visit, stranger = Visit(running), Visit(running)
    assert len(visit.key) >= 43 and visit.key != stranger.key
    for key, cookie in (("x" * 43, None), (None, stranger.cookie), (None, ""), (stranger.key, None)):
        with visit.open(key, cookie) as sock, pytest.raises(ConnectionClosed) as closed:
            sock.recv(5)
        assert closed.value.rcvd.code == 1008
    until(lambda: running.counters["denied"] == 4)
    with pytest.raises(InvalidStatus, match="403"), visit.open(origin="https://evil.example"):
        pass
    with visit.open(origin=f"http://{visit.address}") as sock:
        assert told(sock) == [["bind", "go", "click", 0]]


@pytest.mark.parametrize("hello", ["", "{", "[]", '{"key": 5}', b"\xff"])
def test_a_hello_that_is_none_is_closed_and_counted(site, hello):
    running = site(**button_page(Session(), lambda page: None))
    with connect(f"ws://{running.address}/_toolips_udp/page") as sock:
        sock.send(hello)
        with pytest.raises(ConnectionClosed):
            sock.recv(5)
    until(lambda: running.counters["malformed"] == 1)


def test_a_se2_events_without_callback_and_nonsense_are_counted_and_nothing_fails(site):
    running = site(**button_page(Session(), lambda page: page.text("out", "ok")))
    with Visit(running).open() as sock:
        told(sock)
        click(sock, 99)
        click(sock, -1)
        for nonsense in ("{", '{"number": "0"}', b"\xff\xfe", '{"number": 0, "value": {}}'):
            sock.send(nonsense)
        click(sock)
        assert told(sock) == [["text", "out", "ok"]]
    counters = running.counters
    assert (counters["no_handler"], counters["malformed"]) == (2, 4)


def test_a_callback_that_raises_is_logged_counted_and_sends_nothing(site, caplog):
    def clicked(page):
        page.text("out", "half")
        if page.value == "boom":
            raise ValueError("secret")

    running = site(**button_page(Session(), clicked))
    with Visit(running).open() as sock:
        told(sock)
        click(sock, value="boom")
        click(sock)
        assert told(sock) == [["text", "out", "half"]]
    assert running.counters["handler_failed"] == 1
    assert "secret" in caplog.text and "127.0.0.1:" in caplog.text


def test_everyone_is_changed_at_once_and_only_open_pages(site):
    session = Session()
    running = site(**button_page(session, lambda page: None))
    visits = [Visit(running) for _ in range(3)]
    with visits[0].open() as one, visits[1].open() as two:
        for sock in (one, two):
            told(sock)
        until(lambda: len(session.pages) == 2)
        with session.everyone() as page:
            page.text("out", "news")
        assert told(one) == told(two) == [["text", "out", "news"]]


def test_server_ticks_reach_a_page_that_was_kept(site):
    session, pages = Session(), []
    session.on_join(pages.append)
    running = site(**button_page(session, lambda page: None))

    def tick():
        for page in pages:
            with page:
                page.text("out", "tick")

    with Visit(running).open() as sock:
        told(sock)
        until(lambda: pages)
        running.every(0.02, tick)
        assert [told(sock), told(sock)] == [[["text", "out", "tick"]]] * 2


def test_a_page_that_was_cut_may_come_back_and_leaves_once_when_it_does_not(site, monkeypatch):
    monkeypatch.setattr("toolips_udp.extensions.pages.OPENING", 0.5)
    session, joined, left = Session(timeout=2), [], []
    session.on_join(joined.append)
    session.on_leave(left.append)
    running = site(**button_page(session, lambda page: page.text("out", "back")))
    visit = Visit(running)
    with visit.open() as sock:
        told(sock)
    with visit.open() as sock:
        told(sock)
        click(sock)
        assert told(sock) == [["text", "out", "back"]]
    assert len(joined) == 1 and left == []
    until(lambda: left)
    assert left == joined and len(session.pages) == 0
    with visit.open() as sock, pytest.raises(ConnectionClosed):
        sock.recv(5)


@pytest.mark.parametrize(
    "change",
    [
        lambda page: page.redirect("javascript:alert(1)"),
        lambda page: page.redirect("java\nscript:alert(1)"),
        lambda page: page.redirect("data:text/html,x"),
        lambda page: page.attribute("a", "onclick", "x"),
        lambda page: page.attribute("a", "href", " javascript:x"),
        lambda page: page.attribute("a", "srcdoc", "x"),
        lambda page: page.attribute("a", "x y", "x"),
        lambda page: page.style("a", **{"color;x": "y"}),
        lambda page: page.text(htpy.p["no id"], "x"),
    ],
)
def test_a_change_that_would_run_code_is_refused(change):
    from toolips_udp.extensions.pages import Changes

    with pytest.raises(ValueError):
        change(Changes())


def test_on_without_a_session_says_how_to_have_one(site, caplog):
    @route("/")
    def home(c):
        with pytest.raises(StartError, match="export session"):
            on(c, "go", "click", lambda page: None)
        c.write("told")

    assert Visit(site(home=home)).html == "told"


def test_stop_ends_pages_and_everybody_has_left(site):
    session, left = Session(), []
    session.on_leave(left.append)
    running = site(**button_page(session, lambda page: None))
    with Visit(running).open() as sock:
        told(sock)
        running.stop()
        with pytest.raises(ConnectionClosed):
            sock.recv(5)
    assert len(left) == 1


# -- in a browser


class Browser:
    """Headless Chromium, steered by its own protocol."""

    FLAGS = (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--remote-debugging-port=0",
    )

    def __init__(self, folder):
        self.process = subprocess.Popen(
            [CHROMIUM, *self.FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in self.process.stderr:
            if line.startswith("DevTools listening on "):
                place = line.split("/")[2]
                break
        self._drain = threading.Thread(target=self.process.stderr.read, daemon=True)
        self._drain.start()
        with urllib.request.urlopen(f"http://{place}/json") as answer:
            [target] = [each for each in json.load(answer) if each["type"] == "page"]
        self._opened = contextlib.ExitStack()
        self.sock = self._opened.enter_context(connect(target["webSocketDebuggerUrl"], max_size=None))
        self.number = 0
        self.dialogs = []
        self.call("Page.enable")
        self.call("Runtime.enable")

    def call(self, method, **params):
        self.number += 1
        self.sock.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            message = json.loads(self.sock.recv(20))
            if message.get("method") == "Page.javascriptDialogOpening":
                self.dialogs.append(message["params"]["message"])
                self.sock.send(
                    json.dumps({"id": 0, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}})
                )
            if message.get("id") == self.number:
                return message.get("result", message)

    def run(self, script):
        told = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return told.get("result", {}).get("value")  # nothing while the page is changing

    def close(self):
        with contextlib.suppress(Exception):
            self.call("Browser.close")
        self._opened.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._drain.join()
        self.process.stderr.close()


@pytest.fixture
def browser(tmp_path):
    if CHROMIUM is None:
        pytest.skip("needs a browser: apt install chromium")
    found = Browser(tmp_path / "profile")
    yield found
    found.close()


@pytest.mark.browser
@pytest.mark.long
def test_in_a_browser_a_click_changes_the_page_in_every_way(browser, site):
    def clicked(page):
        page.session["clicks"] = page.session.get("clicks", 0) + 1
        page.style("mainbod", background_color="red")
        page.text("out", f"{page.session['clicks']} <{page.value}>")
        page.attribute("field", "value", "from python")
        page.append("mainbod", htpy.p(id="new")["<new>"])
        page.append("mainbod", "<script>window.hacked = 1</script>")
        page.on("new", "click", lambda page: page.remove("new"))

    def typed(page):
        page.text("out", f"{page.value}|{page.key}")

    @route("/")
    def home(c):
        main = htpy.body(id="mainbod")[
            htpy.button(id="go", value="v")["go"], htpy.input(id="field"), htpy.p(id="out"), htpy.a(id="away")
        ]
        on(c, "go", "click", clicked)
        on(c, "field", "keyup", typed)
        on(c, "away", "click", lambda page: (page.alert("leaving"), page.redirect("/next")))
        c.write(htpy.html[main])

    session = Session()
    running = site(session=session, home=home, next=route("/next", lambda c: c.write("next")))
    browser.call("Page.navigate", url=f"http://{running.address}/")
    until(lambda: len(session.pages) == 1, 15)
    until(lambda: browser.run("document.readyState") == "complete")
    browser.run("document.getElementById('go').click()")
    until(lambda: browser.run("document.getElementById('out').textContent") == "1 <v>")
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 0, 0)"
    assert browser.run("document.getElementById('field').value") == "from python"
    assert browser.run("document.getElementById('new').textContent") == "<new>"
    assert browser.run("window.hacked") is None
    browser.run("document.getElementById('new').click()")
    until(lambda: browser.run("document.getElementById('new') === null"))
    browser.run(
        "document.getElementById('field').value = 'abc';"
        "document.getElementById('field').dispatchEvent(new KeyboardEvent('keyup', {key: 'c'}))"
    )
    until(lambda: browser.run("document.getElementById('out').textContent") == "abc|c")
    with session.everyone() as page:
        page.text("out", "from the server")
    until(lambda: browser.run("document.getElementById('out').textContent") == "from the server")
    browser.run("document.getElementById('away').click()")
    until(lambda: browser.run("location.pathname") == "/next", 10)
    assert browser.dialogs == ["leaving"]
    assert browser.run("document.body.innerText") == "next"


@pytest.mark.browser
@pytest.mark.long
def test_in_a_browser_a_page_comes_back_after_its_connection_was_cut(browser, site):
    session = Session()
    running = site(**button_page(session, lambda page: page.text("out", "clicked")))
    browser.call("Page.navigate", url=f"http://{running.address}/")
    [page] = until(lambda: list(session.pages), 15)
    before = page._socket
    running.call_soon(before._abort)
    until(lambda: page._socket not in (None, before), 10)
    browser.run("document.getElementById('go').click()")
    until(lambda: browser.run("document.getElementById('out').textContent") == "clicked", 10)
