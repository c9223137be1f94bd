"""What `run --live` shows on stderr: commands to try, and the counters as they move."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Mapping

from ..counters import DROPS

EVERY = 1.0
"""Seconds between two looks."""


def to_try(text: str | None) -> list[str]:
    """The commands of a module's docstring: the lines that stand with the one that serves it."""
    for paragraph in inspect.cleandoc(text or "").split("\n\n"):
        lines = [line.strip() for line in paragraph.splitlines()]
        others = [line for line in lines if "toolips_udp run" not in line]
        if len(others) < len(lines):
            return others
    return []


def line_of(now: Mapping[str, int], before: Mapping[str, int], seconds: float) -> str:
    """One line: totals, the rate since the last look, and the drops by word."""
    rate = (now["received"] - before.get("received", 0)) / seconds
    drops = [f"{word} {now[word]:,}" for word in DROPS if now[word]]
    parts = [f"received {now['received']:,}", f"handled {now['handled']:,}", f"sent {now['sent']:,}", *drops]
    return f"{rate:>9,.0f}/s  " + "  ".join(parts)


def show(over: threading.Event) -> None:
    """Until `over`: once per second a line when something moved; on a terminal always the same line."""
    from ..starting import running

    terminal = sys.stderr.isatty()
    before: dict[str, int] = {}
    told = False
    while not over.wait(EVERY if told else 0.05):
        servers = running()
        if not servers:
            continue
        if not told:
            told, before = True, dict.fromkeys(servers[0].counters, 0)
            commands = to_try(servers[0].module.__doc__)
            print("".join(f"  try: {each}\n" for each in commands), end="", file=sys.stderr, flush=True)
        now = dict(servers[0].counters)
        if now != before:
            line = line_of(now, before, EVERY)
            print(
                f"\r\x1b[K{line}" if terminal else line,
                end="" if terminal else "\n",
                file=sys.stderr,
                flush=True,
            )
        before = now
    if terminal:
        print(file=sys.stderr)
