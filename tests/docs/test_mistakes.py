"""The mistakes that users make, and what they read then: code, found, expected, fix, and their file and line.

`mistakes.txt` holds the words; `python tests/docs/test_mistakes.py` writes it anew, for a diff to be read.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing, redirect_stderr
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from toolips_udp import HTTP, TCP, UDP, MultiHandler, handler, send, start
from toolips_udp.cli import main
from toolips_udp.errors import ToolipsError, missing_extra
from toolips_udp.settings import Setting, resolve
from toolips_udp.templates import new_app

WORDS = Path(__file__).with_name("mistakes.txt")
HELLO = "from toolips_udp import Extension, MultiHandler, QuickExtension, handler\n"
ECHO = SimpleNamespace(__name__="echo", main=handler(lambda c: c.respond(c.packet)))
ANY = "127.0.0.1:0"

MODULES = {
    "no handler is exported": "def main(c): ...",
    "only named handlers": "@handler('second')\ndef second(c): ...",
    "two main handlers": "@handler\ndef one(c): ...\n@handler\ndef two(c): ...",
    "two handlers of one name": "@handler\ndef m(c): ...\n@handler('a')\ndef x(c): ...\n@handler('a')\ndef y(c): ...",
    "a handler without a parameter": "@handler\ndef main(): ...",
    "a handler with three parameters": "@handler\ndef main(c, a, b): ...",
    "a second parameter without a type": "@handler\ndef main(c, move): ...",
    "a type that is not defined": "@handler\ndef main(c, move: 'Move'): ...",
    "a type that cannot be decoded": "@handler\ndef main(c, move: dict[str, int] | dict[int, int]): ...",
    "two MultiHandlers": "@handler\ndef main(c): ...\na = MultiHandler()\nb = MultiHandler()",
    "an async route of an extension": (
        "class Log(Extension):\n    async def route(self, c): ...\nlog = Log()\n@handler\ndef main(c): ..."
    ),
    "two QuickExtensions of one name": (
        "a = QuickExtension('log')\nb = QuickExtension('log')\n@handler\ndef main(c): ..."
    ),
    "a module that raises": "1 / 0",
    "a module that imports what is not there": "import no_such_thing_at_all",
    "a misspelt name in __all__": "__all__ = ['mian']\n@handler\ndef main(c): ...",
}
SETTINGS = {
    "a misspelt setting": {"multicas": "239.1.2.3"},
    "a negative setting": {"age_limit": -1},
    "a setting of another type": {"age_limit": "soon"},
    "threads as text": {"threads": "two"},
    "no worker processes": {"workers": 0},
    "an unknown transport": {"transport": "nativ"},
    "a range of threads beyond the pool": {"threads": 2, "router_threads": "-2:5"},
    "a group that is no address": {"multicast": ["239.1.2.300"]},
    "another kind of pool": {"threads": 2, "kind": "proces"},
    "workers for an object": {"workers": 2},
}
COMMANDS = {
    "a misspelt command": ["rnu", "echo.py"],
    "a file to run that is not there": ["run", "nowhere.py"],
    "a module to run that is not there": ["run", "nowhere_at_all"],
    "a folder to run": ["run", "."],
    "a misspelt flag's value": ["lag", "--to", "127.0.0.1:9", "--up", "wify"],
    "a port beyond the last": ["send", "127.0.0.1:99999", "x"],
    "no port": ["send", "127.0.0.1", "x"],
    "more than a datagram on the command line": ["send", "127.0.0.1:9", "x" * 70_000],
    "TCP to where nothing listens": ["send", "--tcp", "127.0.0.1:1", "x"],
    "an admin address where nothing listens": ["doctor", "127.0.0.1:1"],
    "an admin address without a port": ["doctor", "127.0.0.1"],
    "nothing to serve over DNS": ["dns", "serve"],
    "a zone without its file": ["dns", "serve", "--zone", "example.test"],
}


def taken() -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as other:
        other.bind(("127.0.0.1", 0))
        start(UDP, ECHO, f"127.0.0.1:{other.getsockname()[1]}")


def to_an_unknown_handler() -> None:
    seen: list[Exception] = []

    @handler
    def main(c):
        try:
            c.set_handler("secnd")
        except ToolipsError as error:
            seen.append(error)
        c.respond(b"")

    @handler("second")
    def second(c): ...

    with start(
        UDP, SimpleNamespace(__name__="two", main=main, second=second, multi=MultiHandler()), ANY
    ) as server:
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
            client.settimeout(10)
            client.sendto(b"x", (server.address.host, server.address.port))
            client.recv(10)
    raise seen[0]


def stopped() -> None:
    server = start(UDP, ECHO, ANY)
    server.stop()
    server.send(b"x", "127.0.0.1:9")


def twice(folder: Path) -> None:
    new_app("udp", "Twice", into=folder)
    new_app("udp", "Twice", into=folder)


def from_a_file(folder: Path) -> None:
    (folder / "s.toml").write_text("[run]\ncolour = true\n")
    resolve([Setting("color", "colours", bool)], {}, {}, {"colour": True}, file="s.toml")


OTHERS: dict[str, Callable[[Path], object]] = {
    "no module at all": lambda folder: start(UDP, None, ANY),
    "a module name that is no name": lambda folder: start(UDP, "no-such module", ANY),
    "a port that is taken": lambda folder: taken(),
    "an address of another machine": lambda folder: start(UDP, ECHO, "192.0.2.1:2000"),
    "two addresses for one mode": lambda folder: start(UDP, ECHO, (ANY, ANY)),
    "an address that is none": lambda folder: start(UDP, ECHO, "localhost:port"),
    "TLS files that are not there": lambda folder: start(TCP, ECHO, ANY, tls=("no.pem", "no.key")),
    "TLS for datagrams": lambda folder: start(UDP, ECHO, ANY, tls=("cert.pem", "key.pem")),
    "a framing that is none": lambda folder: start(TCP, ECHO, ANY, framing=3),
    "a misspelt handler": lambda folder: to_an_unknown_handler(),
    "a call to a stopped server": lambda folder: stopped(),
    "sending more than a datagram": lambda folder: send(b"x" * 70_000, "127.0.0.1:9"),
    "a project whose folder exists": twice,
    "a misspelt key in a settings file": from_a_file,
    "an extra that is not installed": lambda folder: (_ for _ in ()).throw(
        missing_extra("HTTP mode", "http")
    ),
    "reloading an object": lambda folder: reload_an_object(),
    "a folder to mount that is not there": lambda folder: mounted(),
}


def reload_an_object() -> None:
    with start(UDP, ECHO, ANY) as server:
        server.reload()


def mounted() -> None:
    from toolips_udp import mount

    start(HTTP, SimpleNamespace(__name__="site", files=mount("/static", "nowhere")), ANY)


def from_a_module(source: str) -> Callable[[Path], object]:
    def run(folder: Path) -> object:
        (folder / "game.py").write_text(HELLO + textwrap.dedent(source))
        return start(UDP, str(folder / "game.py"), ANY)

    return run


def on_the_command_line(words: list[str]) -> Callable[[Path], object]:
    def run(folder: Path) -> str:
        said = StringIO()
        with redirect_stderr(said):
            status = main(words)
        assert status in (1, 2, 3)
        return said.getvalue().strip()

    return run


MISTAKES: dict[str, Callable[[Path], object]] = {
    **{name: from_a_module(source) for name, source in MODULES.items()},
    **{name: lambda folder, given=given: start(UDP, ECHO, ANY, **given) for name, given in SETTINGS.items()},
    **OTHERS,
    **{name: on_the_command_line(words) for name, words in COMMANDS.items()},
}


def told(name: str, folder: Path) -> str:
    """What a user reads, with what differs from run to run taken out."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        said = MISTAKES[name](folder)
    except ToolipsError as error:
        said = f"[{error.code}] {error}"
    finally:
        os.chdir(before)
    if not isinstance(said, str):
        raise AssertionError(f"{name}: was taken without a word")
    said = said.replace(str(folder), "FOLDER").replace(sys.executable, "PYTHON")
    said = re.sub(r"\b_served_[0-9a-f]+", "game", said)
    said = re.sub(r"127\.0\.0\.1:(?!9\b|1\b)\d+", "127.0.0.1:PORT", said)
    said = re.sub(r"by .+? \(pid \d+(, this process)?\)", "by PROGRAM (pid PID)", said)
    said = re.sub(r"(Known|Commands): .*", r"\1: ...", said)
    return re.sub(r" at 0x[0-9a-f]+", " at 0x...", said)


def all_told(folder: Path) -> Iterator[str]:
    for number, name in enumerate(MISTAKES):
        place = folder / str(number)
        place.mkdir()
        yield f"{name}\n{textwrap.indent(told(name, place), '    ')}\n"


def written() -> dict[str, str]:
    parts = re.split(r"^(?=\S)", WORDS.read_text(), flags=re.M)[1:]
    return {(lines := part.splitlines())[0]: textwrap.dedent("\n".join(lines[1:])).strip() for part in parts}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_the_catalogued_words(name, tmp_path):
    assert told(name, tmp_path) == written()[name]


def test_the_catalogue_has_every_mistake_and_each_its_code():
    catalogue = written()
    assert catalogue.keys() == MISTAKES.keys() and len(catalogue) >= 30
    for name, said in catalogue.items():
        assert re.search(r"\[[a-z-]+\] ", said), f"{name}: no code"
    places = [name for name in MODULES if re.search(r"game\.py:\d+", catalogue[name])]
    assert len(places) >= 6, "mistakes in a module name the user's file and line"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        WORDS.write_text("\n".join(all_told(Path(temporary))))
