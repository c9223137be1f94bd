"""Calls an agenda on time: a timerfd on Linux, the loop's timer elsewhere.

Game floor: imports the agenda's shape only. A loop's own timers count whole
milliseconds; a timerfd wakes at the microsecond, through `add_reader`. A loop of
virtual time says so with `nanoseconds`, and there its own timers are exact.
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
            self._timer.set(max(due, 1) if due is not None else 0)
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
        if self._timer is not None:
            self._timer.read()
        self._at = None
        self._running = True
        try:
            ran = self.agenda.advance(self.agenda.clock())
        finally:
            self._running = False
            self.rearm()
        if ran and self._done is not None:
            self._done()
