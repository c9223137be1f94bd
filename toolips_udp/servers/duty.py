"""Duty: what one of the processes of a server does for all of them. Below base.py.

A server of one process has the duty from its start on. Of several workers one has it; the supervisor
gives it to another when that one ends or hands over.
"""

from __future__ import annotations

from collections.abc import Callable

Watcher = Callable[[bool], object]


class Duty:
    """Whether this process has it, and who wants to know."""

    def __init__(self, held: bool) -> None:
        self.held = held
        self._watchers: list[Watcher] = []

    def watch(self, fn: Watcher) -> None:
        """`fn(held)` now, and whenever it changes; on the server's loop."""
        self._watchers.append(fn)
        fn(self.held)

    def unwatch(self, fn: Watcher) -> None:
        """No more. Harmless for one who does not watch."""
        if fn in self._watchers:
            self._watchers.remove(fn)

    def set(self, held: bool) -> None:
        """From now on."""
        if held != self.held:
            self.held = held
            for fn in tuple(self._watchers):
                fn(held)
