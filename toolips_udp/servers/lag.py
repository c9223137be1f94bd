"""How late the loop of a server is. Below admin.py, which owns one while it listens: without it nothing is measured."""

from __future__ import annotations

import asyncio
from collections import deque

PERIOD = 0.25
KEPT = 240
"""Looks that are remembered: a minute."""


class Lag:
    """Sets an alarm four times a second and sees how late it rings."""

    def __init__(self) -> None:
        self._late: deque[float] = deque(maxlen=KEPT)
        self._handle: asyncio.TimerHandle | None = None

    @property
    def worst(self) -> float:
        """Seconds that the latest alarm of the last minute was late."""
        return max(self._late, default=0.0)

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look from now on."""
        due = loop.time() + PERIOD
        self._handle = loop.call_at(due, self._ring, loop, due)

    def end(self) -> None:
        """Look no more."""
        if self._handle is not None:
            self._handle.cancel()

    def _ring(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._late.append(max(0.0, loop.time() - due))
        self.begin(loop)
