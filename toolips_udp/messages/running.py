"""Running: where operations, listeners and logins run, each with a deadline. Async in place, plain in threads.

Imports the stepper of the runners. One per server and start.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..runners.tasks import Stepper
from .errors import BadAction

THREADS = 8
QUEUED = 4096
"""Plain functions that may wait for a thread, of all clients together."""

Ended = Callable[[BaseException | None], None]


class Running:
    """Runs things on one loop, and in threads beside it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        self._loop = loop
        self._deadline = deadline
        self._stepper = Stepper(loop)
        self._threads: ThreadPoolExecutor | None = None
        self._in_threads = 0

    def run(self, coro: Coroutine[Any, Any, Any], ended: Ended) -> None:
        """Run a coroutine, its first steps at once; `ended(error)` comes exactly once."""
        if self._stepper.full:
            coro.close()
            ended(BadAction("the server has too much to do. Try again later"))
            return
        try:
            yielded = self._stepper.step(coro)
        except StopIteration:
            ended(None)
        except Exception as error:
            ended(error)
        else:
            self._stepper.suspended(coro, yielded, ended, self._deadline)

    def in_thread(
        self,
        fn: Callable[..., Any],
        given: tuple[Any, ...],
        named: dict[str, Any],
        done: Callable[[Any, Any], None],
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
