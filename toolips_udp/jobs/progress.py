"""The progress bar of `distribute`, on stderr: rich when it is installed, plain text otherwise."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, TextIO

MANY = 100
"""From so many jobs on a bar shows by itself, on a terminal."""
WIDTH = 30
PAUSE = 0.1


def show(futures: Sequence[Future[Any]], wanted: bool | None, stream: TextIO | None = None) -> None:
    """Follow `futures` with a bar. `wanted=None`: only for many jobs on a terminal."""
    stream = stream if stream is not None else sys.stderr
    if stream is None or not futures:
        return
    terminal = stream.isatty()
    if wanted is None and not (terminal and len(futures) >= MANY):
        return
    bar = _rich_bar(len(futures), stream) if terminal else None
    follower = _Follower(len(futures), bar or PlainBar(len(futures), stream, redraw=terminal))
    for future in futures:
        # past JobFuture's own form, which would send the callback through a server's loop
        Future.add_done_callback(future, follower.one_more)


class PlainBar:
    """`[#####.....] 50/100`: redrawn on a terminal, a line per tenth elsewhere."""

    def __init__(self, total: int, stream: TextIO, redraw: bool) -> None:
        self.total = total
        self.stream = stream
        self.redraw = redraw
        self._shown = -1

    def update(self, done: int) -> None:
        filled = WIDTH * done // self.total
        tenth = 10 * done // self.total
        if not self.redraw and tenth == self._shown:
            return
        self._shown = tenth
        start = "\r" if self.redraw else ""
        end = "" if self.redraw else "\n"
        self.stream.write(f"{start}jobs [{'#' * filled:.<{WIDTH}}] {done}/{self.total}{end}")
        self.stream.flush()

    def end(self) -> None:
        if self.redraw:
            self.stream.write("\n")
            self.stream.flush()


class _Follower:
    """Counts ended jobs, in whatever threads they end, and draws at most ten times a second."""

    def __init__(self, total: int, bar: Any) -> None:
        self.total = total
        self.bar = bar
        self._done = 0
        self._drawn = 0.0
        self._lock = threading.Lock()

    def one_more(self, _future: Future[Any]) -> None:
        with self._lock:
            self._done += 1
            now = time.monotonic()
            if now - self._drawn >= PAUSE or self._done == self.total:
                self._drawn = now
                self.bar.update(self._done)
            if self._done == self.total:
                self.bar.end()


class _RichBar:
    def __init__(self, progress: Any, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("jobs", total=total)
        progress.start()

    def update(self, done: int) -> None:
        self._progress.update(self._task, completed=done)

    def end(self) -> None:
        self._progress.stop()


def _rich_bar(total: int, stream: TextIO) -> _RichBar | None:
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        return None
    return _RichBar(Progress(console=Console(file=stream), transient=False), total)
