"""What messages says: lines `key: text` on the logger `toolips_udp.messages`, and `debug`, which shows them.

Imports the journal's escaping. Importing it changes nothing; a handler of ours is put on our own logger when
`debug` is called, and it is silent where the root logger has one.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from typing import Any

from ..journal import escape

NAME = "toolips_udp.messages"
SPAN, MOST = 30.0, 50


class _State:
    """What `debug` asked for."""

    on = False
    trace: bool | str = False
    uvicorn = False


class Fallback(logging.Handler):
    """Writes a line to stderr when the root logger has no handler that would."""

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            print(self.format(record), file=sys.stderr, flush=True)


def debug(trace: bool | str = False, enable_uvicorn: bool = False) -> None:
    """Show every line of the servers that start from now on, as `log_level=logging.DEBUG` does.

    `trace=True` puts the function that spoke in front: `(start) startup: starting server on ...`; `trace="only"`
    shows traced lines alone, hiding what other parts of the package say. `enable_uvicorn=True` lets uvicorn's own
    lines through, each once, where HTTP mode runs.

    >>> debug(trace=True)
    """
    if trace not in (True, False, "only"):
        raise ValueError(f"trace is True, False or 'only', found {trace!r}")
    _State.on, _State.trace, _State.uvicorn = True, trace, enable_uvicorn
    _show(logging.getLogger(NAME))
    if trace == "only":
        logging.getLogger("toolips_udp").addFilter(_only_ours)


def _only_ours(record: logging.LogRecord) -> bool:
    return _State.trace != "only"


def _show(logger: logging.Logger) -> None:
    if not any(isinstance(handler, Fallback) for handler in logger.handlers):
        logger.addHandler(Fallback())


def let_uvicorn_speak(has_http: bool, lines: Lines) -> None:
    """What `debug(enable_uvicorn=True)` does at a start."""
    if not _State.uvicorn:
        return
    if not has_http:
        lines.say("uvicorn", "enable_uvicorn has no effect: this server has no HTTP mode", logging.DEBUG)
        return
    logger = logging.getLogger("uvicorn")
    logger.setLevel(logging.INFO)
    _show(logger)


class Lines:
    """The lines of one server or client. `level` is the least that it says."""

    def __init__(self, level: int | None = None) -> None:
        self._level = level
        self._logger = logging.getLogger(NAME)
        self._kinds: dict[str, list[float]] = {}  # kind -> [end of its span, lines in it, left out]

    @property
    def level(self) -> int:
        """The level given, else DEBUG after `debug()`, else INFO."""
        if self._level is not None:
            return self._level
        return logging.DEBUG if _State.on else logging.INFO

    def event(
        self, kind: str, text: str, level: int, peer: Any = None, error: BaseException | None = None
    ) -> None:
        """A line that a client can cause: at most 50 of a kind in 30 s; the next says how many were left out."""
        now = time.monotonic()
        entry = self._kinds.setdefault(kind, [0.0, 0, 0])
        if now >= entry[0]:
            entry[0], entry[1] = now + SPAN, 0
        entry[1] += 1
        if entry[1] > MOST:
            entry[2] += 1
            return
        if entry[2]:
            text, entry[2] = f"{text} (and {entry[2]:.0f} more of this kind before)", 0
        self.say(kind, text, level, peer, error, above=2)

    def say(
        self, key: str, text: str, level: int = logging.INFO, peer: Any = None, error: BaseException | None = None,
        *, secret: str = "", above: int = 1,
    ) -> None:  # fmt: skip
        """One line, escaped. `secret` is put at its end as it is, for the one line that may show a token."""
        if level < self.level:
            return
        line = f"{key}: {escape(text)}"
        if peer is not None:
            line = f"{line} [{escape(str(peer), 100)}]"
        if secret:
            line += " with token " + escape(secret, 8192)
        frame = sys._getframe(above)
        if _State.trace:
            line = f"({frame.f_code.co_name}) {line}"
        if error is not None:
            lines = "".join(traceback.format_exception(error)).rstrip("\n").split("\n")
            line += "\n" + "\n".join(escape(each) for each in lines[-200:])
        record = self._logger.makeRecord(
            NAME, level, frame.f_code.co_filename, frame.f_lineno, "%s", (line,), None, frame.f_code.co_name
        )
        if self._logger.hasHandlers():
            self._logger.handle(record)
        elif key == "startup" or level >= logging.WARNING:
            print(line, file=sys.stderr, flush=True)
