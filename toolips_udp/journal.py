"""What a server says: lines with a peer, escaped, and no more of them than anybody can read.

Ground floor: imports nothing of ours. Speaks only through the standard
`logging` logger `toolips_udp.<module>`; the root logger is never touched.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from typing import Any

from .clock import Clock, monotonic

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
LINE = 1024
"""Characters of a line; the rest is cut."""
QUIET = 30.0
"""Seconds in which one class of event gets one line."""

_UNSAFE = re.compile(r"[^\x20-\x7e]")


def level_of(level: str | int) -> int:
    """A level as `logging` counts it. Raises `ValueError` that lists the levels."""
    if isinstance(level, int) and not isinstance(level, bool):
        return level
    if isinstance(level, str) and level.lower() in LEVELS:
        return LEVELS[level.lower()]
    raise ValueError(f"{level!r} is not a log level. Expected one of {', '.join(LEVELS)}")


def escape(text: str, most: int = LINE) -> str:
    """Text that cannot forge a line or steer a terminal: control and non-ASCII characters as `\\xNN`."""
    safe = _UNSAFE.sub(_escaped, text[: most + 1])  # what is cut off is not looked at
    return safe if len(safe) <= most else safe[: most - 3] + "..."


def _escaped(match: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02x}" for byte in match.group().encode("utf-8", "surrogatepass"))


class Journal:
    """The lines of one server.

    `say` always speaks. `event` says the first of a class at once, then at most
    one line each 30 s with the number that was left out.
    """

    def __init__(self, name: str, clock: Clock = monotonic) -> None:
        self.logger = logging.getLogger(f"toolips_udp.{name}")
        if self.logger.level == logging.NOTSET and logging.getLogger("toolips_udp").level == logging.NOTSET:
            self.logger.setLevel(logging.INFO)
        self._clock = clock
        self._lock = threading.Lock()
        self._classes: dict[str, list[float]] = {}  # class -> [when it may speak again, left out since]

    def say(
        self, level: int, text: str, peer: Any = None, exc: BaseException | None = None, word: str = ""
    ) -> None:
        """One line. `peer` is put in front and kept as a field of the record."""
        if not self.logger.isEnabledFor(level):
            return
        text = escape(str(text))
        if peer is not None:
            text = f"{peer} {text}"
        if exc is not None:
            text = f"{text}\n{_traceback(exc)}"
        fields = {"peer": None if peer is None else str(peer), "word": word}
        self.logger.log(level, "%s", text, extra=fields)

    def event(
        self,
        kind: str,
        level: int,
        text: str,
        peer: Any = None,
        exc: BaseException | None = None,
        word: str = "",
    ) -> None:
        """A line of a class of events; `kind` names the class and never comes from a packet."""
        with self._lock:
            now = self._clock()
            entry = self._classes.get(kind)
            if entry is None:
                entry = self._classes[kind] = [0.0, 0]
            elif now < entry[0]:
                entry[1] += 1
                return
            left_out, entry[0], entry[1] = entry[1], now + QUIET, 0
        if left_out:
            text = f"{text} (and {left_out:.0f} more of this kind before)"
        self.say(level, text, peer, exc, word)

    def summary(self) -> None:
        """Say how many lines were left out. For the end of a server."""
        with self._lock:
            rest = {kind: entry[1] for kind, entry in self._classes.items() if entry[1]}
            self._classes.clear()
        for kind, left_out in rest.items():
            self.say(logging.INFO, f"{left_out:.0f} more lines of the kind {kind!r} were left out")

    def announce(self, text: str) -> None:
        """The line of a start: by `logging`, or straight to stderr when nobody listens to `logging`."""
        if self.logger.hasHandlers():
            self.say(logging.INFO, text)
        elif self.logger.isEnabledFor(logging.INFO):
            print(escape(text), file=sys.stderr, flush=True)


def _traceback(exc: BaseException) -> str:
    import traceback

    lines: list[str] = []
    for part in traceback.format_exception(exc):
        if part.startswith(
            ("  ", "Traceback ", "\n")
        ):  # ours: frames, and the words between chained exceptions
            lines += part.rstrip("\n").split("\n")
        else:  # what it says may be a stranger's text: one line, whatever is in it
            lines.append(part.rstrip("\n"))
    return "\n".join(escape(line) for line in lines[-200:])
