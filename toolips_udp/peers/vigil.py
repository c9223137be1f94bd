"""Vigil: keeps a loop from going to sleep while an answer is about to come. Imports nothing of ours.

To put a core to sleep and wake it again takes longer than a short question and its answer together, and it is done
twice for each: once on either side. Where answers have come at once several times in a row, a side therefore goes on
looking for the next one, for a moment. Everything else on the loop runs meanwhile: the vigil is a callback that asks
for the next round of the loop, which then polls its sockets instead of waiting for them. Called by messages' carrier.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

LONGEST = 100e-6
"""Seconds that one answer is looked for. A vigil that found none costs so much, and no more."""
SOON = 200e-6
"""Seconds within which an answer came at once, though a side had to be woken for it."""
LEAST = 8
"""Answers in a row that came at once, before the next is looked for."""
MOST = 1024
"""The same, after vigils in vain: each that did not pay for itself doubles it."""
FINE = time.get_clock_info("monotonic").resolution <= 10e-6
"""Whether the clock can tell such times apart. Where it cannot, nobody keeps a vigil."""


class Vigil:
    """`said` when something was sent that may be answered, `heard` when something came; both with a peer's number.

    A vigil is kept only while one who asks and one who answers take turns: several who send, or several messages at
    once, keep a loop busy anyhow. Who says nothing, or hears nothing soon, is not looked for: an idle side costs
    nothing at all.

    `fast` counts answers in a row that came at once. `waits` is when something was sent after which nothing has come
    yet, or 0. `looks` counts the rounds of the loop that were asked for, `vain` the vigils that saw no answer.
    """

    __slots__ = ("_began", "_clock", "_loop", "_need", "_until", "_who", "fast", "looks", "vain", "waits")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.monotonic) -> None:
        self.fast = 0
        self.waits = 0.0
        self.looks = 0
        self.vain = 0
        self._loop = loop
        self._clock = clock
        self._need = LEAST if FINE else sys.maxsize
        self._until = 0.0  # 0: nobody looks
        self._began = 0
        self._who = 0

    def said(self, who: int) -> None:
        """Something went out; what comes next may be its answer. Not to be called while it `waits` already."""
        self.waits = now = self._clock()
        self._who = who
        if self.fast < self._need:
            return
        if not self._until:
            self._began = self.fast
            self._loop.call_soon(self._look)
        self._until = now + LONGEST

    def heard(self, who: int, now: float) -> None:
        """Something has come, in a turn of the loop that began at `now` (seconds of the clock)."""
        said, self.waits = self.waits, 0.0
        if said and 0.0 <= now - said <= SOON and who == self._who:
            self.fast += 1
        else:
            self.fast = 0

    def _look(self) -> None:
        if self.fast >= self._need and self._clock() < self._until:
            self.looks += 1
            self._loop.call_soon(self._look)
            return
        self._until = 0.0
        if self.fast < self._need or not self.waits:  # others came between, or nothing is waited for
            return
        self.vain += 1
        paid = self.fast - self._began >= LEAST
        self._need = LEAST if paid else min(MOST, 2 * self._need)
        self.fast = 0
