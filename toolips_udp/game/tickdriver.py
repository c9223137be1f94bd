"""Calls an agenda on time: a timerfd on Linux, the loop's timer elsewhere.

Game floor: imports the agenda's shape only. A loop's own timers count whole
milliseconds; a timerfd wakes at the microsecond, through `add_reader`. It is set a
little early, by what a wake-up of an idle core takes, and the rest is waited for awake.
A loop of virtual time says so with `nanoseconds`, and there its own timers are exact.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable

from .tick import SECOND, Agenda

_MONOTONIC = 1
_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000
_ABSOLUTE = 1


class _Spec(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns")]


class _TimerFd:
    """One absolute timer as a file descriptor."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._set = libc.timerfd_settime
        self.fd = libc.timerfd_create(_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._spec = _Spec()
        self._pointer = ctypes.byref(self._spec)

    def set(self, at: int) -> None:
        """Become readable at this time (0: never)."""
        self._spec.at_s, self._spec.at_ns = divmod(at, SECOND)
        if self._set(self.fd, _ABSOLUTE, self._pointer, None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def read(self) -> None:
        """Make it unreadable again."""
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            pass  # moved between its firing and this call


class Lead:
    """How much before a deadline to wake, in ns, so that the wake-up itself is over when it comes.

    Learned from the wake-ups: four of five should be in time. What is waited for awake is at most a
    hundredth of all time, so that many rooms of one process cost no more of a core than one.
    """

    MOST = 150_000
    SHARE = 100

    def __init__(self, now: int) -> None:
        self._takes = 50_000
        self._credit, self._counted = 0, now
        self._set = self._asked = 0

    def before(self, due: int, now: int) -> int:
        """When to wake for a deadline."""
        self._credit = min(self.MOST, self._credit + max(0, now - self._counted) // self.SHARE)
        self._counted = now
        self._set, self._asked = due - min(self._takes, self._credit), now
        return self._set

    def woke(self, now: int) -> None:
        """This is when the wake-up came."""
        if self._set > self._asked:  # else it was late before it was asked for
            late = now - self._set > self._takes
            self._takes = min(self.MOST, self._takes + 4_000) if late else max(0, self._takes - 1_000)

    def waits(self, due: int, now: int) -> bool:
        """Whether the rest of the time is waited for awake."""
        return 0 < due - now <= self.MOST and due - now <= self._credit

    def waited(self, time: int) -> None:
        """So long it was."""
        self._credit -= time


class TickDriver:
    """Runs `agenda.advance` when its deadline comes, on a loop.

    `done`, if given, is called after each run: the place to send what the ticks
    queued, in one flush. `close()` ends it and leaves no descriptor.
    """

    def __init__(
        self, agenda: Agenda, loop: asyncio.AbstractEventLoop, done: Callable[[], None] | None = None
    ):
        self.agenda = agenda
        self._loop = loop
        self._done = done
        self._at: int | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._timer: _TimerFd | None = None
        self._running = False
        self._lead = Lead(agenda.clock())
        if sys.platform == "linux" and not hasattr(loop, "nanoseconds"):
            self._timer = _TimerFd()
            loop.add_reader(self._timer.fd, self._fire)
        agenda.changed = self.rearm
        self.rearm()

    def rearm(self) -> None:
        """The deadline may have moved: set the timer to it. Called by the agenda; loop thread only."""
        if self._running:
            return
        due = self.agenda.deadline()
        if due == self._at:
            return
        self._at = due
        if self._timer is not None:
            at = 0 if due is None else max(1, self._lead.before(due, self.agenda.clock()))
            self._timer.set(at)
            return
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if due is not None:
            wait = max(0, due - self.agenda.clock()) / SECOND
            self._handle = self._loop.call_later(wait, self._fire)

    def close(self) -> None:
        """Never run again."""
        self.agenda.changed = None
        if self._handle is not None:
            self._handle.cancel()
        if self._timer is not None:
            self._loop.remove_reader(self._timer.fd)
            os.close(self._timer.fd)
            self._timer = None

    def _fire(self) -> None:
        now = self.agenda.clock()
        if self._timer is not None:
            self._timer.read()
            now = self._meet(now)
        self._at = None
        self._running = True
        try:
            ran = self.agenda.advance(now)
        finally:
            self._running = False
            self.rearm()
        if ran and self._done is not None:
            self._done()

    def _meet(self, now: int) -> int:
        """Stay awake until the deadline when it is near; the time then."""
        self._lead.woke(now)
        due, began = self._at, now
        if due is not None and self._lead.waits(due, now):
            while now < due:
                now = self.agenda.clock()
            self._lead.waited(now - began)
        return now
