"""Running: where operations, listeners and logins run, each with a deadline. Async in place, plain in threads.

Imports the stepper of the runners. One per server and start. Whatever runs here ends in one `done(value, error)`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from ..runners.tasks import Stepper
from .errors import BadAction

THREADS = 8
QUEUED = 4096
"""Plain functions that may wait for a thread, of all clients together."""

Done = Callable[[Any, BaseException | None], None]


class _Valued:
    """A coroutine that waits, and what it returns in the end, which the task that drives it does not keep."""

    __slots__ = ("_coro", "value")

    def __init__(self, coro: Coroutine[Any, Any, Any]) -> None:
        self._coro = coro
        self.value: Any = None

    def send(self, value: Any) -> Any:
        try:
            return self._coro.send(value)
        except StopIteration as stop:
            self.value = stop.value
            raise

    def throw(self, error: BaseException) -> Any:
        try:
            return self._coro.throw(error)
        except StopIteration as stop:
            self.value = stop.value
            raise

    def close(self) -> None:
        self._coro.close()


class Running:
    """Runs things on one loop, and in threads beside it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        self._loop = loop
        self._deadline = deadline
        self._stepper = Stepper(loop)
        self._threads: ThreadPoolExecutor | None = None
        self._in_threads = 0

    def run(self, coro: Coroutine[Any, Any, Any], done: Done) -> None:
        """Run a coroutine, its first steps at once; `done` comes exactly once."""
        stepper = self._stepper
        if len(stepper.waiting) >= stepper.most:
            coro.close()
            done(None, BadAction("the server has too much to do. Try again later"))
            return
        stepper.enter()
        try:
            yielded = stepper.context.run(coro.send, None)
        except BaseException as error:
            stepper.leave()
            if stepper.context != stepper.base:
                stepper.tidy()
            if error.__class__ is StopIteration:
                done(error.value, None)
            elif isinstance(error, Exception):
                done(None, error)
            else:
                raise
        else:
            stepper.leave()
            rest = _Valued(coro)
            stepper.suspended(
                cast("Coroutine[Any, Any, Any]", rest), yielded,
                lambda error: done(rest.value, error), self._deadline,
            )  # fmt: skip

    def in_thread(
        self,
        fn: Callable[..., Any],
        given: tuple[Any, ...],
        named: dict[str, Any],
        done: Done,
    ) -> None:
        """Run a function in a thread; `done(value, error)` comes on the loop, at the latest at the deadline."""
        if self._in_threads >= QUEUED:
            done(None, BadAction("the server has too much to do. Try again later"))
            return
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, "toolips_udp messages")
        self._in_threads += 1
        told = False

        def tell(value: Any, error: BaseException | None, late: bool = False) -> None:
            nonlocal told
            if not late:
                self._in_threads -= 1
            if not told:
                told = True
                timer.cancel()
                done(value, error)

        def work() -> None:
            value, failure = None, None
            try:
                value = fn(*given, **named)
            except BaseException as error:
                failure = (
                    error
                    if isinstance(error, Exception)
                    else RuntimeError(f"{type(error).__name__} in a thread")
                )
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(tell, value, failure)

        timer = self._loop.call_later(self._deadline, tell, None, TimeoutError(), True)
        self._threads.submit(work)

    async def finish(self, seconds: float) -> None:
        """Wait until nothing runs, at most this long."""
        until = self._loop.time() + seconds
        while (self._stepper.waiting or self._in_threads) and self._loop.time() < until:
            await asyncio.sleep(0.005)

    async def close(self) -> None:
        """End everything that still runs; threads are not waited for."""
        await self._stepper.close()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
