"""Timers of a server: `after` and `every`, on its loop, gone when it stops. Below base.py."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import Server


class Timer:
    """A call that is to come. `.cancel()` from any thread; cancelling twice does nothing."""

    def __init__(self, timers: Timers, seconds: float, fn: Callable[[], Any], repeat: bool) -> None:
        self._timers = timers
        self._seconds = seconds
        self._fn = fn
        self._repeat = repeat
        self._begin = 0.0
        self._number = 0
        self._handle: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Any] | None = None
        self.cancelled = False
        self.calls = 0

    def cancel(self) -> None:
        """No further call begins."""
        self.cancelled = True
        self._timers.forget(self)

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set the next alarm at a whole multiple of the period from the beginning, so that it cannot drift."""
        if self.cancelled:
            return
        now = loop.time()
        if self._number == 0:
            self._begin = now
        behind = int((now - self._begin) / self._seconds) if self._seconds > 0 else 0
        self._number = max(self._number, behind) + 1 if self._repeat else 1
        self._handle = loop.call_at(self._begin + self._number * self._seconds, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.cancelled:
            return
        if self._repeat:
            self._arm(loop)
        else:
            self._timers.forget(self)
        if self._task is not None and not self._task.done():
            return  # the last call still runs: this tick is left out
        self.calls += 1
        try:
            result = self._fn()
        except Exception as error:
            self._timers.failed(self._fn, error)
            return
        if inspect.iscoroutine(result):
            self._task = loop.create_task(self._timers.watch(self._fn, result))
            self._timers.tasks.add(self._task)
            self._task.add_done_callback(self._timers.tasks.discard)


class Timers:
    """All timers of one server. May be set before it starts; they begin with it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._timers: set[Timer] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.tasks: set[asyncio.Task[Any]] = set()

    def every(self, seconds: float, fn: Callable[[], Any]) -> Timer:
        """A timer that repeats."""
        if not seconds > 0:
            raise ValueError(f"every needs seconds above 0, found {seconds!r}")
        return self._add(Timer(self, float(seconds), fn, True))

    def after(self, seconds: float, fn: Callable[[], Any]) -> Timer:
        """A timer that rings once."""
        if not seconds >= 0:
            raise ValueError(f"after needs 0 seconds or more, found {seconds!r}")
        return self._add(Timer(self, float(seconds), fn, False))

    def _add(self, timer: Timer) -> Timer:
        if not callable(timer._fn):
            raise TypeError(f"a timer needs a function, found {timer._fn!r}")
        self._timers.add(timer)
        if self._loop is not None:
            self._server.call_soon(timer._arm, self._loop)
        return timer

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """The server serves: arm what was set before."""
        self._loop = loop
        for timer in tuple(self._timers):
            timer._arm(loop)

    def end(self) -> None:
        """The server stops: no timer rings any more."""
        self._loop = None
        for timer in tuple(self._timers):
            timer.cancelled = True
            if timer._handle is not None:
                timer._handle.cancel()
        self._timers.clear()
        for task in self.tasks:
            task.cancel()

    def forget(self, timer: Timer) -> None:
        """A timer has rung for the last time."""
        self._timers.discard(timer)
        if timer._handle is not None and self._loop is not None and timer.cancelled:
            self._server.call_soon(timer._handle.cancel)

    def failed(self, fn: Callable[[], Any], error: BaseException) -> None:
        """Say that a timer's function raised; the timer goes on."""
        name = getattr(fn, "__qualname__", repr(fn))
        text = f"the timer function {name} raised {type(error).__name__}"
        self._server.journal.event(f"timer {name}", logging.ERROR, text, None, error)

    async def watch(self, fn: Callable[[], Any], coro: Any) -> None:
        """Run an async timer function and say when it raises."""
        try:
            await coro
        except Exception as error:
            self.failed(fn, error)
