"""Logger and log: lines on the standard `logging`, with colours on a terminal and a real file.

Above connections, below the pipeline. Lines go to `toolips_udp.<module>`; the
root logger is never touched, and nothing is written to stdout.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import queue
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..journal import level_of
from .base import Extension

if TYPE_CHECKING:
    from ..servers.base import Server

QUEUED = 10_000
"""Lines that may wait for the writing thread; more are counted in `Logger.lost`."""

_COLOURS = {10: "\x1b[2m", 20: "\x1b[36m", 30: "\x1b[33m", 40: "\x1b[31m", 50: "\x1b[1;31m"}


class Logger(Extension):
    """Writes what `log` and the server say to stderr, and to a file when one is named.

    `prefix` stands in front of each line. `level` is the lowest level shown,
    `file_level` the lowest that goes to `file`, which is opened at start and
    appended to. A thread writes; a handler never waits for it. Unknown levels
    are a `ValueError`, a file that cannot be opened ends the start.

    >>> logger = Logger(prefix="game", file="game.log", file_level="warning")
    """

    def __init__(
        self,
        prefix: str = "",
        level: str | int = "info",
        file: str | Path | None = None,
        file_level: str | int = "warning",
        *,
        stream: IO[str] | None = None,
    ) -> None:
        self.prefix = prefix
        self.level = level_of(level)
        self.file = file
        self.file_level = level_of(file_level)
        self.lost = 0
        self._stream = stream
        self._listener: _Back | None = None
        self._front: _Front | None = None
        self._logger: logging.Logger | None = None
        self._level_before = logging.NOTSET

    def on_start(self, server: Server) -> None:
        targets: list[logging.Handler] = []
        logger = server.journal.logger
        stream = self._stream or sys.stderr
        if self._stream is not None or not _already_shown(logger, stream):
            shown: logging.Handler = logging.StreamHandler(stream)
            shown.setFormatter(_Lines(self.prefix, coloured=_colours_fit(stream)))
            shown.setLevel(self.level)
            targets.append(shown)
        if self.file is not None:
            kept = logging.FileHandler(self.file, encoding="utf-8")
            kept.setFormatter(_Lines(self.prefix))
            kept.setLevel(self.file_level)
            targets.append(kept)
        waiting: queue.Queue[logging.LogRecord] = queue.Queue(QUEUED)
        self._front = _Front(waiting, self)
        self._listener = _Back(waiting, *targets, respect_handler_level=True)
        self._listener.start()
        self._logger, self._level_before = logger, logger.level
        logger.setLevel(min([self.level, *([self.file_level] if self.file is not None else [])]))
        logger.addHandler(self._front)

    def on_stop(self, server: Server) -> None:
        if self._listener is None or self._logger is None or self._front is None:
            return
        self._logger.removeHandler(self._front)
        self._logger.setLevel(self._level_before)
        self._listener.stop()
        for target in self._listener.handlers:
            target.flush()
            target.close()
        self._listener = self._front = self._logger = None

    def log(self, message: str, level: str | int = "info") -> None:
        """One line without a peer. Before the start there is nobody to write it: then it goes to `logging`."""
        (self._logger or logging.getLogger("toolips_udp")).log(level_of(level), "%s", message)


class _Front(logging.handlers.QueueHandler):
    """Hands records to the writing thread and never waits."""

    def __init__(self, waiting: queue.Queue[logging.LogRecord], owner: Logger) -> None:
        super().__init__(waiting)
        self._owner = owner

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self._owner.lost += 1


class _Back(logging.handlers.QueueListener):
    """The writing thread."""

    def enqueue_sentinel(self) -> None:
        waiting: Any = self.queue
        waiting.put(None)  # waits for room: the end must not be lost as a line may be


class _Lines(logging.Formatter):
    def __init__(self, prefix: str, coloured: bool = False) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")
        self._prefix = f"{prefix} " if prefix else ""
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        line = self._prefix + super().format(record)
        return f"{_COLOURS.get(record.levelno, '')}{line}\x1b[0m" if self._coloured else line


def _colours_fit(stream: Any) -> bool:
    return bool(getattr(stream, "isatty", lambda: False)()) and "NO_COLOR" not in os.environ


def _already_shown(logger: logging.Logger, stream: Any) -> bool:
    """Whether the user's own logging set-up writes these lines to the same stream."""
    above: logging.Logger | None = logger
    while above is not None:
        if any(getattr(h, "stream", None) is stream for h in above.handlers):
            return True
        above = above.parent if above.propagate else None
    return False


def log(target: Any, message: str, level: str | int = "info") -> None:
    """Say one line: `log(c, "...")` adds server and peer, `log(server, "...")` the server.

    Works with or without an exported `Logger`. The line reaches the standard
    logger `toolips_udp.<module>`; control characters are escaped.

    >>> log(c, "registering client")
    """
    target.log(message, level)
