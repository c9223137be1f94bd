"""Workers of kind "async": jobs run as tasks of an event loop, one after the other.

Imports its own room. The loop is the server's, the running one, or one in a
thread of its own that the manager keeps (`LoopThread`).
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from concurrent.futures import CancelledError
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from ..errors import WorkerError
from .job import Job, JobFuture
from .sharing import values_here

if TYPE_CHECKING:
    from .worker import Worker


class LoopThread:
    """An event loop in a thread, for async workers of a manager that has no loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        name = "toolips_udp-jobs-loop"
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def close(self, timeout: float) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout)
        if not self._thread.is_alive():
            self.loop.close()


class Lane:
    """The queue of one async worker; its jobs follow one another on the loop."""

    pid = None

    def __init__(self, worker: Worker, loop: asyncio.AbstractEventLoop) -> None:
        self.worker = worker
        self.loop = loop
        self._queue: deque[JobFuture[Any]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._current: JobFuture[Any] | None = None
        self._ended = threading.Event()
        self._context = copy_context()
        self._context.run(values_here.set, {})

    def accept(self, job: Job[Any]) -> Any:
        return None

    def put(self, future: JobFuture[Any]) -> None:
        self._queue.append(future)
        self._call(self._next)

    def _call(self, fn: Any) -> None:
        try:
            self.loop.call_soon_threadsafe(fn)
        except RuntimeError as error:
            raise WorkerError(
                f"worker {self.worker.id} ({self.worker.name}) cannot run jobs: its event loop is closed",
                code="worker-lost",
            ) from error

    def _next(self) -> None:
        if self._task is None and self._queue:
            self._task = self.loop.create_task(self._work(), context=self._context)
            self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self.loop.call_exception_handler({"message": "an async worker failed", "exception": error})
        if self.worker.closed:
            self._ended.set()
        self._next()

    async def _work(self) -> None:
        while self._queue:
            future = self._queue.popleft()
            if not future.begin():
                self.worker.passed_over()
                continue
            self._current = future
            try:
                value = future.job()
                if inspect.isawaitable(value):
                    value = await value
            except asyncio.CancelledError:
                self.worker.failed(future, CancelledError())
                if self.worker.closed:
                    raise
                if (task := asyncio.current_task()) is not None:
                    task.uncancel()  # it was this job that was cancelled, the next one runs
            except BaseException as error:  # SystemExit too: a job does not end a server
                self.worker.failed(future, error)
            else:
                self.worker.succeeded(future, value)
            finally:
                self._current = None

    def cancel_running(self, future: JobFuture[Any]) -> bool:
        if future is not self._current:
            return False
        self._call(lambda: self._task.cancel() if self._current is future and self._task else None)
        return True

    def let_go(self, future: JobFuture[Any]) -> bool:
        """The deadline of a job has passed: its task is cancelled, and the next one runs when it has ended."""
        self.cancel_running(future)
        return False

    def begin_close(self) -> None:
        while self._queue:
            try:
                self.worker.drop(self._queue.popleft())
            except IndexError:
                break
        if self.loop.is_closed() or self._task is None:
            self._ended.set()

    def end_close(self, timeout: float) -> None:
        """Give the running job its time, then cancel it. On the loop's own thread: cancel at once."""
        if self.loop.is_closed() or not self.loop.is_running():
            return
        try:
            on_loop = asyncio.get_running_loop() is self.loop
        except RuntimeError:
            on_loop = False
        if on_loop:
            if self._task is not None and self._task is not asyncio.current_task():
                self._task.cancel()
            return
        if not self._ended.wait(timeout):
            self._call(lambda: self._task.cancel() if self._task else None)
            self._ended.wait(1.0)
