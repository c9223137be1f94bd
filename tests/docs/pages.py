"""Runs the code blocks of a Markdown page as a reader would. Used by test_docs.py.

- ```python with `# NAME.py` as its first line is a file of that name. It is run when it has
  a part for `__main__`; else a later block must use it. Any other is a program of its own.
  Programs must end by themselves.
- ```sh runs line by line in the page's folder. A line that ends with `&` goes on in the
  background and must have said a line on stderr before the next one runs. A ```text
  block right after it is what stdout must have been, where `...` stands for any text or lines.
- Lines of make, pip, sudo, apt and git are not run: the make target and the extra must exist.
- ```toml and ```json must parse. A word after the language (```sh quiet) changes nothing.

Each 127.0.0.1:PORT and [::1]:PORT of a page is replaced by a free port. At the end the background
programs get SIGINT and must exit with 0.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import free_port

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.S | re.M)
NOT_RUN = ("make", "pip", "python -m pip", "sudo", "apt", "git")
PORT = re.compile(r"(127\.0\.0\.1|\[::1\]):(\d{2,5})\b")
FIRST_LINE = re.compile(r"# ([\w./-]+\.(?:py|pyx|toml|zone))\n")


class PageError(AssertionError):
    """A block of a page that does not do what the page says."""


@dataclass(frozen=True)
class Block:
    kind: str
    text: str
    line: int


def blocks(text: str) -> Iterator[Block]:
    for found in BLOCK.finditer(text):
        yield Block(found[1], found[2], text[: found.start()].count("\n") + 1)


def with_free_ports(text: str) -> str:
    ports: dict[str, int] = {}

    def other(found: re.Match[str]) -> str:
        if found[2] not in ports:
            ports[found[2]] = free_port()
        return f"{found[1]}:{ports[found[2]]}"

    return PORT.sub(other, text)


class Page:
    """One page in a folder of its own."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self.folder = path, folder
        self.running: list[tuple[str, subprocess.Popen[str]]] = []
        shims = folder / ".bin"
        shims.mkdir()
        for name, words in (("python", ""), ("toolips-udp", "-m toolips_udp"), ("pytest", "-m pytest")):
            shim = shims / name
            shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
            shim.chmod(0o755)
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
            "PATH": f"{shims}:{os.environ['PATH']}",
            "PYTHONPATH": f"{folder}:{ROOT}",
            "PYTHONUNBUFFERED": "1",
            "NO_COLOR": "1",
        }

    def run(self) -> int:
        """Runs every block; how many."""
        text = with_free_ports(self.path.read_text())
        todo = list(blocks(text))
        try:
            for number, block in enumerate(todo):
                self.block(block, todo[number + 1 :])
        finally:
            self.end()
        return len(todo)

    def fail(self, block: Block, why: str) -> PageError:
        return PageError(f"{self.path.relative_to(ROOT)}:{block.line}: {why}")

    def block(self, block: Block, later: list[Block]) -> None:
        try:
            if block.kind == "toml":
                tomllib.loads(block.text)
            elif block.kind == "json":
                json.loads(block.text)
        except ValueError as error:
            raise self.fail(block, f"no {block.kind}: {error}") from None
        named = FIRST_LINE.match(block.text)
        if named:
            target = self.folder / named[1]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text)
            self.prove(block, target, later)
        elif block.kind == "python":
            self.finish(block, [sys.executable, "-c", block.text])
        elif block.kind == "sh":
            expected = later[0].text if later and later[0].kind == "text" else None
            self.shell(block, expected)

    def prove(self, block: Block, target: Path, later: list[Block]) -> None:
        """A file proves itself when it has a main part; else a later block must use it."""
        if target.suffix == ".py" and "__main__" in block.text:
            self.finish(block, [sys.executable, str(target)])
        elif not any(re.search(rf"\b{target.stem}\b", other.text) for other in later):
            raise self.fail(block, f"nothing on this page uses {target.name}")

    def finish(self, block: Block, command: list[str]) -> str:
        try:
            done = subprocess.run(
                command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=60
            )
        except subprocess.TimeoutExpired:
            raise self.fail(block, f"does not end: {command[-1]}") from None
        if done.returncode:
            raise self.fail(block, f"exit {done.returncode}: {command[-1]}\n{done.stdout}{done.stderr}")
        return done.stdout

    def shell(self, block: Block, expected: str | None) -> None:
        said = ""
        for line in block.text.replace("\\\n", " ").splitlines():
            line = line.strip().removeprefix("$ ")
            if not line or line.startswith("#"):
                continue
            if line.startswith(NOT_RUN):
                self.exists(block, line)
            elif line.endswith("&"):
                self.background(block, line.removesuffix("&").strip())
            else:
                said += self.finish(block, ["bash", "-ec", line])
        if expected is not None and not matches(said, expected):
            raise self.fail(block, f"printed\n{said}\nexpected\n{expected}")

    def exists(self, block: Block, line: str) -> None:
        words = line.split()
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
        if words[0] == "make" and words[1] not in targets:
            raise self.fail(block, f"the Makefile has no target {words[1]}")
        for extras in re.findall(r"toolips_udp\[([\w,]+)\]", line):
            known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            if not set(extras.split(",")) <= known.keys():
                raise self.fail(block, f"there is no extra {extras}")

    def background(self, block: Block, line: str) -> None:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {line}"],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        self.running.append((f"{self.path.name}:{block.line}: {line}", process))
        assert process.stderr
        with selectors.DefaultSelector() as waiting:
            waiting.register(process.stderr, selectors.EVENT_READ)
            ready = waiting.select(timeout=20)
        first = process.stderr.readline() if ready else ""
        if not first or process.poll() is not None:
            raise self.fail(block, f"did not start: {line}\n{first}")

    def end(self) -> None:
        for what, process in reversed(self.running):
            process.send_signal(signal.SIGINT)
            try:
                _, said = process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                raise PageError(f"{what}: goes on after Ctrl-C") from None
            if process.returncode:
                raise PageError(f"{what}: exit {process.returncode} after Ctrl-C\n{said}")
            time.sleep(0)


def matches(said: str, expected: str) -> bool:
    """Equal, where a line `...` of `expected` stands for any lines, and `...` in a line for any of its text."""
    lines = (".*".join(map(re.escape, line.split("..."))) for line in expected.strip("\n").split("\n"))
    parts = ["(?:.*\n)*?" if line == ".*.*" or line == ".*" else f"{line}\n" for line in lines]
    return re.fullmatch("".join(parts), said.strip("\n") + "\n") is not None
