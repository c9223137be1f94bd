"""run, send and routes, as a user types them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from toolips_udp import UDP, handler, serve
from toolips_udp.cli import main

ROOT = Path(__file__).parents[3]
HELLO = """
from toolips_udp import Extension, handler

class Counts(Extension):
    def route(self, c):
        pass

counts = Counts()

@handler
def main(c):
    c.respond("hello, " + c.text)

@handler("later", threaded=True)
def later(c):
    c.respond("later")
"""


class Running:
    """`toolips-udp run ...` as a process; `address` is that of its start line."""

    def __init__(self, *words: str, cwd: Path, **env: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "toolips_udp", "run", *words],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr
        self.first = self.process.stderr.readline()
        found = re.search(r"127\.0\.0\.1:\d+", self.first)
        assert found, self.first + self.process.stderr.read()
        self.address = found[0]

    def end(self, number: int = signal.SIGINT) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, self.first + err


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "hello.py").write_text(HELLO)
    return tmp_path


@pytest.mark.parametrize("module", ["hello.py", "hello"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_serves_a_file_or_a_module_until_a_signal_and_exits_0(folder, module, number, capsys):
    running = Running(module, "--udp", "127.0.0.1:0", cwd=folder)
    try:
        assert main(["send", running.address, "you", "--wait", "5"]) == 0
    finally:
        code, out, err = running.end(number)
    assert capsys.readouterr().out == "hello, you\n"
    assert code == 0, err
    assert out == "", "stdout belongs to the user's program"
    assert "Traceback" not in err


def test_flags_come_from_the_environment_and_from_a_file_too(folder):
    for number, env in enumerate(({"TOOLIPS_UDP_UDP": "127.0.0.1:0"}, {})):
        if number:
            (folder / "toolips_udp.toml").write_text('[run]\nudp = "127.0.0.1:0"\ndrain = 1.0\n')
        running = Running("hello.py", cwd=folder, **env)
        assert not running.address.endswith(":2000")
        assert running.end()[0] == 0


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["run", "absent.py"], 3, "there is no file"),
        (["run", "hello.py", "--udp", "127.0.0.1:x"], 3, "--udp 127.0.0.1:x: "),
        (
            ["run", "hello.py", "--threads", "many"],
            2,
            "threads from the command line is 'many', expected a whole number",
        ),
        (["run", "hello.py", "--config", "absent.toml"], 2, "absent.toml does not exist"),
        (["send", "127.0.0.1", "x"], 2, "127.0.0.1"),
        (["send", "127.0.0.1:9"], 2, "give a text or --hex"),
        (["send", "127.0.0.1:9", "--hex", "0g"], 2, "not pairs of hexadecimal digits"),
        (["send", "127.0.0.1:1", "x", "--tcp"], 1, "nothing listens at 127.0.0.1:1 over TCP"),
        (["routes", "absent.py"], 3, "there is no file"),
    ],
)
def test_a_mistake_is_one_line_with_cause_and_the_right_code(folder, monkeypatch, capsys, words, code, says):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(words) == code
    told = capsys.readouterr().err
    assert says in told and told.count("\n") == 1


def test_a_port_in_use_exits_3_and_names_the_address(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        assert main(["run", "hello.py", "--udp", place]) == 3
    assert place in capsys.readouterr().err


def test_a_misspelt_variable_is_a_usage_error_with_a_suggestion(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TOOLIPS_UDP_WORKRES", "2")
    assert main(["run", "hello.py"]) == 2
    assert "Did you mean 'TOOLIPS_UDP_WORKERS'?" in capsys.readouterr().err


class Echo:
    """Answers three times, with bytes that must not reach a terminal as they are."""

    @handler
    def main(c):
        for _ in range(3):
            c.respond(b"\x1b[31m\xff" + c.packet)


def test_send_prints_answers_escaped_and_stops_at_the_count(capsys):
    with serve(UDP, Echo, "127.0.0.1:0") as server:
        assert main(["send", str(server.address), "--hex", "41", "--wait", "5", "--count", "3"]) == 0
    assert capsys.readouterr().out == "\\x1b[31m\\xffA\n" * 3


def test_send_without_an_answer_exits_1(capsys):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        assert main(["send", place, "hello", "--wait", "0.05"]) == 1
        assert silent.recv(100) == b"hello"
        assert "no answer" in capsys.readouterr().err
        assert main(["send", place, "again"]) == 0


def test_routes_lists_what_a_packet_meets_in_order(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["routes", "hello.py", "--json"]) == 0
    stops = json.loads(capsys.readouterr().out)["stops"]
    assert [(s["what"], s["name"], s["kind"]) for s in stops] == [
        ("extension", "counts", "Counts"),
        ("main", "main", "inline"),
        ("named", "later", "threaded"),
    ]
    assert stops[1]["place"].startswith("hello.py:")
    assert main(["routes", "hello.py"]) == 0
    assert re.search(r"1\. extension +counts", capsys.readouterr().out)
    assert main(["routes", "hello.py", "--graph"]) == 0
    text = capsys.readouterr().out
    assert "packet --> counts[counts: Counts]" in text and "-. set_handler later .->" in text
