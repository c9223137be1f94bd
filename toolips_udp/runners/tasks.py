"""Async handlers: stepped in place, and a task only for those that wait. Above connections and handlers.

An async handler runs at once, in the turn, up to its first real wait. Most
never wait, and cost no task. To be a proper citizen meanwhile (`asyncio.timeout`,
`asyncio.current_task`, `TaskGroup`, context variables) it runs *as* a spare
task that exists already and waits for work. When the handler waits, the spare
takes the rest of it over and a new spare is made.

An endpoint calls `enter()`, then `coro.send(None)` for its handlers, then
`leave()`; what a handler yielded goes to `suspended()`. The first steps must run
in `context` (native: `PyContext_Enter`; Python: `step()` does all of it).
"""

from __future__ import annotations

import asyncio
import types
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any

MOST = 10_000
"""Async handlers in flight; one more packet for them is counted `queue_full`."""

Ended = Callable[[BaseException | None], None]


class Suspended:
    """An async handler that waits: its task, and what happens when it ends."""

    __slots__ = ("coro", "ended", "over", "ready", "task", "timer", "yielded")

    def __init__(self, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        self.ready: asyncio.Future[None] = loop.create_future()
        self.coro: Coroutine[Any, Any, Any] | None = None
        self.yielded: Any = None
        self.ended: Ended | None = None
        self.over = False  # its end has been reported: it returned, raised or passed its deadline
        self.timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] = loop.create_task(_drive(self), context=context)

    def report(self, error: BaseException | None) -> None:
        """Tell the end, once."""
        if self.over:
            return
        self.over = True
        if self.timer is not None:
            self.timer.cancel()
        ended, self.ended = self.ended, None
        if ended is not None:
            ended(error)


@types.coroutine
def _drive(spare: Suspended) -> Generator[Any, Any, None]:
    """What the spare task runs: wait for a handler, then be its rest."""
    cancelled = False
    if spare.coro is None:
        try:
            yield from spare.ready
        except asyncio.CancelledError:
            if spare.coro is None:
                raise
            cancelled = True
    coro, yielded = spare.coro, spare.yielded
    spare.yielded = None
    assert coro is not None
    error: BaseException | None = None
    if getattr(yielded, "_asyncio_future_blocking", None) is not None:
        yielded._asyncio_future_blocking = True  # as `await` left it; see suspended()
        if cancelled:
            yielded.cancel()
    elif cancelled:
        error = asyncio.CancelledError()
    first = error is None
    try:
        while True:
            if first:
                first = False
            elif error is None:
                yielded = coro.send(None)
            else:
                yielded, error = coro.throw(error), None
            try:
                yield yielded
            except GeneratorExit:
                coro.close()
                raise
            except BaseException as exc:
                error = exc
    except StopIteration:
        spare.report(None)
    except GeneratorExit:
        raise
    except (KeyboardInterrupt, SystemExit) as exc:
        spare.report(exc)
        raise
    except BaseException as exc:
        spare.report(exc)


class Stopped(Exception):
    """The server stopped before a handler had ended."""


class Stepper:
    """Runs the first steps of async handlers in place, for one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int = MOST) -> None:
        self.loop = loop
        self.most = most
        self.waiting: set[Suspended] = set()
        self._abandoned: list[asyncio.Task[None]] = []
        self._outer: asyncio.Task[Any] | None = None
        self._entered = False
        self.base = copy_context()
        """What `context` equals while no handler has set a variable in it."""
        self.context = self.base.copy()
        """The context in which the next first step must run."""
        self._spare = Suspended(loop, self.context)

    @property
    def full(self) -> bool:
        """Whether no more async handlers may start."""
        return len(self.waiting) >= self.most

    def enter(self) -> None:
        """From here to `leave`, the current task is the spare."""
        task = self._spare.task
        if task.done() or task.cancelling():  # somebody kept it as current_task() and cancelled it
            self._new_spare()
            task = self._spare.task
        outer = asyncio.current_task(self.loop)
        if outer is not None:  # the turn was called by a coroutine, not by the loop
            _leave_task(self.loop, outer)
            self._outer = outer
        _enter_task(self.loop, task)
        self._entered = True

    def leave(self) -> None:
        """The current task is again what it was before `enter`."""
        _leave_task(self.loop, self._spare.task)
        self._entered = False
        if self._outer is not None:
            _enter_task(self.loop, self._outer)
            self._outer = None

    def step(self, coro: Coroutine[Any, Any, Any]) -> Any:
        """The first step of a handler: what it yielded. Raises `StopIteration` when it is already over."""
        self.enter()
        try:
            yielded = self.context.run(coro.send, None)
        except BaseException:
            self.leave()
            self.tidy()
            raise
        self.leave()
        return yielded

    def tidy(self) -> None:
        """After a first step that ended its handler: variables that it set must not reach the next one."""
        if self.context != self.base:  # equal at once when nothing was set
            self._spare.task.cancel()
            self._new_spare()

    def suspended(
        self, coro: Coroutine[Any, Any, Any], yielded: Any, ended: Ended, timeout: float | None = None
    ) -> Suspended:
        """A handler waits after its first step: the spare becomes its task.

        `ended(error)` is called exactly once: with None when it returned, with
        what it raised, or with `TimeoutError` when `timeout` seconds are over (it
        is cancelled then), or with `Stopped`. May be called inside `enter` .. `leave`.
        """
        spare = self._spare
        spare.coro, spare.yielded = coro, yielded
        if getattr(yielded, "_asyncio_future_blocking", None):
            yielded._asyncio_future_blocking = (
                False  # taken, as a task does; another handler may await it too
            )
        self.waiting.add(spare)

        def over(error: BaseException | None) -> None:
            self.waiting.discard(spare)
            ended(error)

        spare.ended = over
        if not spare.ready.done():
            spare.ready.set_result(None)
        if timeout is not None:
            spare.timer = self.loop.call_later(timeout, _expire, spare)
        spare.task.add_done_callback(lambda task: _never_ran(spare, task))
        self._new_spare()
        return spare

    def _new_spare(self) -> None:
        before = self._spare.task if self._entered else None
        self.context = self.base.copy()
        self._spare = Suspended(self.loop, self.context)
        if before is not None:
            _leave_task(self.loop, before)
            _enter_task(self.loop, self._spare.task)

    def abandon(self) -> None:
        """The drain time is over: everything that still waits ends with `Stopped`."""
        for each in tuple(self.waiting):
            each.report(Stopped())
            each.task.cancel()
            self._abandoned.append(each.task)

    def cancel(self) -> None:
        """Cancel the spare, without waiting; `close` waits."""
        self._spare.task.cancel()

    async def close(self) -> None:
        """Cancel the spare and everything that still waits; nothing is left behind."""
        self.abandon()
        tasks = [self._spare.task, *self._abandoned]
        self._spare.task.cancel()
        await asyncio.wait(tasks, timeout=1.0)


def _expire(spare: Suspended) -> None:
    spare.report(TimeoutError())
    spare.task.cancel()


def _never_ran(spare: Suspended, task: asyncio.Task[None]) -> None:
    """A task that was cancelled before its first step has not run the handler's rest: close it."""
    if spare.over or spare.coro is None:
        return
    spare.coro.close()
    spare.report(asyncio.CancelledError() if task.cancelled() else task.exception())
