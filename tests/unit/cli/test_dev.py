"""dev: a saved file is loaded anew, a broken one is not."""

from __future__ import annotations

import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from toolips_udp.cli import dev

ROOT = Path(__file__).parents[3]
SERVER = """
from toolips_udp import handler


@handler
def main(c):
    c.session["asked"] = c.session.get("asked", 0) + 1
    c.respond(f"one {c.session['asked']}")
"""


class Lines:
    """The lines a process writes to stderr, waited for one by one."""

    def __init__(self, stream):
        self.found, self.all = queue.Queue(), []
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream):
        for line in stream:
            self.found.put(line)

    def until(self, text, seconds=20):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                self.all.append(self.found.get(timeout=left))
            except queue.Empty:
                break
            if text in self.all[-1]:
                return self.all[-1]
        raise AssertionError(f"{text!r} was not said: {self.all}")


def test_a_saved_file_is_loaded_anew_and_a_broken_one_leaves_the_old_code_serving(tmp_path):
    (tmp_path / "hello.py").write_text(SERVER)
    process = subprocess.Popen(
        [sys.executable, "-m", "toolips_udp", "dev", "hello.py", "--udp", "127.0.0.1:0"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TOOLIPS_UDP_RUNTIME": str(tmp_path)},
    )
    said = Lines(process.stderr)
    try:
        port = int(re.search(r"127\.0\.0\.1:(\d+)", said.until("serves"))[1])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(10)
            client.connect(("127.0.0.1", port))

            def ask():
                client.send(b"?")
                return client.recv(100)

            assert ask() == b"one 1"
            save(tmp_path / "hello.py", "one", "two")
            said.until("loaded anew")
            assert ask() == b"two 2"
            save(tmp_path / "hello.py", "c.respond(", "c.respond((")
            said.until("the old code serves on")
            assert ask() == b"two 3"
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        process.stderr.close()


def save(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    at = path.stat().st_mtime_ns + 2_000_000_000  # a clock of coarse files must not hide the change
    os.utime(path, ns=(at, at))


@pytest.fixture
def looked_at(tmp_path, monkeypatch):
    """A module of this folder that the process has loaded: its file."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "looked_at.py"
    path.write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "looked_at", raising=False)  # another test's
    __import__("looked_at")
    yield path
    del sys.modules["looked_at"]


def test_without_watchfiles_the_files_of_the_process_are_looked_at(looked_at, monkeypatch):
    monkeypatch.setattr(dev, "EVERY", 0.001)
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    over = threading.Event()

    def keep_saving():  # whenever the first look comes
        while not over.wait(0.05):
            save(looked_at, "x = ", "x = 1")

    saving = threading.Thread(target=keep_saving)
    saving.start()
    found = dev.changes(over, time.time_ns())
    assert next(found) == {looked_at}
    over.set()
    saving.join()
    assert list(found) == []


def test_a_file_saved_before_the_first_look_counts_as_changed(looked_at):
    over = threading.Event()
    since = looked_at.stat().st_mtime_ns
    save(looked_at, "x = 1", "x = 2")
    assert next(dev.changes(over, since)) == {looked_at}
    over.set()


def test_files_of_other_folders_are_not_watched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert dev.files() == {}


@pytest.mark.skipif(
    not __import__("importlib.util").util.find_spec("watchfiles"), reason="pip install watchfiles"
)
def test_with_watchfiles_the_system_tells(looked_at, monkeypatch):
    over = threading.Event()
    threading.Timer(0.5, save, (looked_at, "x = 1", "x = 2")).start()
    assert next(dev.changes(over, time.time_ns())) == {looked_at}
    over.set()
