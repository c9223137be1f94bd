"""Who hangs, and who is too old or too large: what the supervisor looks for ten times a second.

Above process.py; one per group, on its event loop. Ends a worker that hangs; names the one to renew.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Sequence

from . import restarts
from .process import Process

HANG = 5.0
"""Seconds without a heartbeat after which a worker is ended."""
YOUNG = 10.0
"""Seconds in which a worker is not replaced for its memory: a fresh one would be as large."""


class Lookout:
    """Watches the workers of one group. `active` is the group's own list, one place per socket."""

    def __init__(
        self,
        active: Sequence[Process | None],
        say: Callable[[int, str], None],
        max_age: float | None,
        max_rss: float | None,
    ) -> None:
        self.beating = True
        """All workers were there at the last look, and none was silent for too long."""
        self._active = active
        self._say = say
        self._max_age = max_age
        self._max_rss = max_rss
        self._ages: dict[Process, float | None] = {}

    def begin(self, process: Process) -> None:
        """Give a new process the age at which it is to be renewed."""
        self._ages[process] = restarts.lifetime(self._max_age)

    def forget(self, process: Process) -> None:
        """It has ended."""
        self._ages.pop(process, None)

    def look_for_hangs(self, now: float) -> None:
        """End those that have been silent for too long: with the place where they stand, then for good."""
        beating = True
        for index, process in enumerate(self._active):
            if process is None or process.status is not None:
                beating = False
                continue
            silent = now - max(process.region.heartbeat() / 1e9, process.began)
            beating = beating and silent < HANG
            if silent > HANG + 1.0:
                process.kill()
            elif silent > HANG and process.index >= 0:
                self._say(
                    logging.ERROR,
                    f"worker {index + 1} (pid {process.pid}) hangs for {silent:.1f} s: it is ended",
                )
                process.kill(signal.SIGABRT)  # faulthandler writes where it stood
        self.beating = beating

    def worn_out(self, now: float) -> tuple[int, str] | None:
        """The oldest worker that is past its age or memory, and in which way: one at a time is renewed."""
        for process in sorted(filter(None, self._active), key=lambda each: each.began):
            if process.leaving or process.status is not None:
                continue
            lived, limit = now - process.began, self._ages.get(process)
            if limit is not None and lived > limit:
                return process.index, f"{lived:.0f} s old"
            if self._max_rss is not None and lived > YOUNG and (rss := process.rss) > self._max_rss:
                return process.index, f"at {rss:.0f} MiB of memory"
        return None
