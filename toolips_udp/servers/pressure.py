"""How near the memory limit of its control group a server is, and what it refuses then. Below base.py.

The kernel ends a process that passes the limit, and everybody's packets with it; so a server that comes
near takes less. At 80 % it refuses strangers: clients without a session or a chosen handler, new connections of
games, TCP and HTTP. At 95 % it refuses every packet that would reach Python, and is not ready. What native stages
answer costs no memory and is answered on. Without a limit nothing is looked at.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Server

MARKS = (0.80, 0.95)
BACK = 0.05
"""How far below a mark the use must fall until it counts as passed no more."""
PERIOD = 0.25
_FILES = ("memory.max", "memory.current", "inactive_file")
"""Where the limit and the use stand, and what `memory.stat` calls the pages that can be dropped."""
_OLD_FILES = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
"""The same in the first version of control groups."""
_NO_LIMIT = 1 << 60


class Group:
    """The control groups of this process that limit its memory, from its own to the outermost."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._groups = [found for found in _groups(root) if _limit(*found) is not None]

    def __bool__(self) -> bool:
        return bool(self._groups)

    def share(self) -> float:
        """Used memory over the limit, of the group that is nearest to it, without pages that the kernel can drop."""
        found = 0.0
        for folder, files in self._groups:
            limit = _limit(folder, files)
            try:
                used = int((folder / files[1]).read_text())
                lines = (folder / "memory.stat").read_text().splitlines()
            except (OSError, ValueError):
                continue
            cached = next((int(line.split()[1]) for line in lines if line.split()[0] == files[2]), 0)
            if limit:
                found = max(found, (used - cached) / limit)
        return found


def _groups(root: Path) -> list[tuple[Path, tuple[str, str, str]]]:
    """The folders of this process's groups, and what their files are called."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found: list[tuple[Path, tuple[str, str, str]]] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, files = root / "sys/fs/cgroup", _FILES
        elif "memory" in controllers.split(","):
            top, files = root / "sys/fs/cgroup/memory", _OLD_FILES
        else:
            continue
        own = top / path.strip("/")
        found += [(each, files) for each in (own, *own.parents) if each == top or top in each.parents]
    return found


def _limit(folder: Path, files: tuple[str, str, str]) -> int | None:
    try:
        limit = int((folder / files[0]).read_text())
    except (OSError, ValueError):  # there is no such group here, or its limit is "max"
        return None
    return limit if limit < _NO_LIMIT else None


class Pressure:
    """Looks four times a second how much memory is used, and tells the modes of one server."""

    def __init__(self, server: Server, group: Group) -> None:
        self.level = 0
        """How many of the marks are passed."""
        self._server = server
        self._group = group
        self._handle: asyncio.TimerHandle | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look from now on."""
        self._handle = loop.call_later(PERIOD, self._again, loop)

    def end(self) -> None:
        """Look no more."""
        if self._handle is not None:
            self._handle.cancel()

    def _again(self, loop: asyncio.AbstractEventLoop) -> None:
        self.look()
        self.begin(loop)

    def look(self) -> None:
        """Look now."""
        share = self._group.share()
        level = sum(share > mark - (BACK if self.level > n else 0) for n, mark in enumerate(MARKS))
        if level == self.level:
            return
        self.level = level
        for mode in self._server.modes:
            mode.press(level)
        what = ("everybody is served again", "strangers are refused", "what needs Python is refused")[level]
        text = f"memory is at {share:.0%} of the limit of its control group: {what}"
        self._server.journal.event(
            f"memory {level}", logging.WARNING if level else logging.INFO, text, word="shed"
        )


def watch(server: Server) -> Pressure | None:
    """Look after the memory of a running server until it stops, if there is a limit to look after."""
    group = Group()
    if not group or server.loop is None:
        return None
    found = Pressure(server, group)
    found.begin(server.loop)
    server.at_stop(found.end)
    return found
