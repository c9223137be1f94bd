"""make_docroute: a module's documentation as a page."""

import types
import urllib.request

import pytest

from toolips_udp import HTTP, Extension, StartError, default_404, handler, make_docroute, mount, route

pytest.importorskip("uvicorn", reason="HTTP mode needs the extra http: pip install 'toolips_udp[http]'")


def module():
    made = types.ModuleType("documented", "A module <with> a docstring.")

    class Counter(Extension):
        """Counts what comes."""

    @handler
    def main(c):
        """Answers everybody."""

    @handler("second")
    async def second(c):
        """Answers later."""

    @route("/home/{name}", methods=("GET",))
    def home(c):
        """A home & garden."""

    made.counter, made.second, made.main, made.home = Counter(), second, main, home
    made.missing, made.files = default_404, mount("/files", ".")
    made.docs = make_docroute(made)
    return made


def test_tc_23_the_page_lists_extensions_handlers_and_routes_in_order_with_their_docstrings(server):
    running = server(module=module(), mode=HTTP)
    with urllib.request.urlopen(f"http://{running.address}/docs") as answer:
        page = answer.read().decode()
        assert answer.headers["content-type"].startswith("text/html")
    expected = [
        "<h1>documented</h1>",
        "A module &lt;with&gt; a docstring.",
        "counter: Counter",
        "Counts what comes.",
        "second: handler &#x27;second&#x27;, async",
        "Answers later.",
        "main: main handler, inline",
        "Answers everybody.",
        "/home/{name} (GET)",
        "A home &amp; garden.",
        "404 (any method)",
        "/files (GET, HEAD)",
        "/docs (GET, HEAD)",
    ]
    places = [page.index(words) for words in expected]
    assert places == sorted(places)


def test_tc_23_a_module_is_documented_without_starting_it():
    from toolips_udp.docroute import page_of

    started = []

    class Loud(Extension):
        def on_start(self, server):
            started.append(server)

    made = module()
    made.loud = Loud()
    assert "loud: Loud" in page_of(made) and not started
    with pytest.raises(StartError):
        page_of("no.such.module")
