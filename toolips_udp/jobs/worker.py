"""One worker: a queue, the results, and a thread that feeds an engine.

Imports errors and its own room. Made by the manager and by users
(`manager.push(Worker("name"))`).
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, InvalidStateError
from typing import TYPE_CHECKING, Any

from ..errors import JobError, WorkerError
from .job import Job, JobFuture, failed
from .kinds import ASYNC, Broken, Engine, check_kind, make_engine
from .sharing import values_here

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from .deadlines import Deadlines
    from .tasks import Lane

KEPT = 1000
"""Results that nobody asked for yet, per worker; the oldest go first."""
MAX_QUEUE = 10_000
HELD_UP = 4
"""Threads of one worker that may hang in jobs past their deadline, before the worker waits for one of them."""
logger = logging.getLogger("toolips_udp.jobs")


class Worker:
    """One place that runs jobs, first in, first out.

    `kind` is "thread", "process", "async", "cluster" or one made with `register_kind`; it
    begins to work when a manager takes it (`push`, `processes`, `add_workers`). More than
    `max_queue` waiting jobs are refused with `WorkerError`. Keeps the newest 1,000 results
    that nobody claimed.

    >>> manager.push(Worker("parser", "process"))
    >>> manager["parser"].active
    False
    """

    def __init__(
        self, name: str = "", kind: str = "thread", *, max_queue: int = MAX_QUEUE, **options: Any
    ) -> None:
        if max_queue < 1:
            raise ValueError(f"Worker: max_queue is {max_queue}, expected at least 1")
        self.name = name
        self.kind = check_kind(kind)
        self.id = 0
        self.main = False
        """The main loop of a server: used when named, not when any worker will do."""
        self.result: Any = None
        """What the last finished job returned."""
        self.error: BaseException | None = None
        """The error of the last finished job, `None` when it went well."""
        self.late = 0
        """Results that came after the deadline of their job, and were dropped."""
        self.closed = False
        self.max_queue = max_queue
        self.setups: Callable[[], list[Job[Any]]] = list
        self.deadlines: Deadlines | None = None
        """The clock of the manager that took this worker."""
        self._options = options
        self._submitted = 0
        self._finished = 0
        self._lock = threading.Lock()
        self._unclaimed: dict[JobFuture[Any], None] = {}
        self._lane: _ThreadLane | Lane | None = None

    # State ------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Jobs assigned and not finished, the running one included."""
        return self._submitted - self._finished

    @property
    def active(self) -> bool:
        """Whether a job runs or waits here."""
        return self._submitted != self._finished

    @property
    def pid(self) -> int | None:
        """The process id of a process worker, else `None`."""
        return self._lane.pid if self._lane is not None else None

    def __repr__(self) -> str:
        state = "closed" if self.closed else "active" if self.active else "idle"
        return f"<Worker {self.id} {self.name!r} {self.kind} {state}>"

    # Life -------------------------------------------------------------------------------

    def open(self, id: int, loop: Callable[[], AbstractEventLoop]) -> None:
        """Begin to work under this id. Called by the manager, once."""
        if self._lane is not None:
            raise WorkerError(
                f"{self!r} belongs to a manager already; make a new Worker", code="worker-taken"
            )
        self.id = id
        self.name = self.name or str(id)
        if self.kind == ASYNC:
            from .tasks import Lane

            self._lane = Lane(self, loop())
        else:
            self._lane = _ThreadLane(self, make_engine(self.kind, self._options))

    def close(self, timeout: float = 5.0) -> None:
        """Cancel what waits, let the running job end for `timeout` seconds, stop. Twice is harmless."""
        self.begin_close()
        self.end_close(timeout)

    def begin_close(self) -> None:
        with self._lock:
            self.closed = True
        if self._lane is not None:
            self._lane.begin_close()

    def end_close(self, timeout: float) -> None:
        if self._lane is not None:
            self._lane.end_close(timeout)

    # Work -------------------------------------------------------------------------------

    def submit(
        self, job: Job[Any], *, keep: bool = True, loop: AbstractEventLoop | None = None, payload: Any = None
    ) -> JobFuture[Any]:
        """Queue one job. `keep=False`: its result is not kept for `waitfor`."""
        future: JobFuture[Any] = JobFuture(job, self, loop)
        future.payload = self.accept(job) if payload is None else payload
        self.enqueue(future, keep)
        return future

    def accept(self, job: Job[Any]) -> Any:
        """What the engine makes of the job before it is queued; `JobError` when it cannot take it."""
        return self._lane.accept(job) if self._lane is not None else None

    def room(self, jobs: int) -> None:
        """Raise `WorkerError` unless this worker takes so many more jobs."""
        if self.closed or self._lane is None:
            raise WorkerError(
                f"worker {self.id} ({self.name}) is closed; add_workers makes a new one",
                code="manager-closed",
            )
        if self.waiting + jobs > self.max_queue:
            raise WorkerError(
                f"worker {self.id} ({self.name}) has {self.waiting} jobs waiting and takes at most "
                f"{self.max_queue}; {jobs} more refused. Wait for some (waitfor), or raise max_queue.",
                code="queue-full",
            )

    def enqueue(self, future: JobFuture[Any], keep: bool = True) -> None:
        with self._lock:
            if self.closed or self._submitted - self._finished >= self.max_queue:
                self.room(1)
            self._submitted += 1
            if keep:
                self._unclaimed[future] = None
            try:
                # inside the lock, so that a close that comes now finds it in the queue
                self._lane.put(future)  # type: ignore[union-attr]
            except BaseException:
                self._submitted -= 1
                self._unclaimed.pop(future, None)
                raise
        if (timeout := future.job.timeout) is not None and self.deadlines is not None:
            self.deadlines.watch(self, future, timeout)

    def expire(self, future: JobFuture[Any]) -> str:
        """The deadline of a job has passed: it fails now. What it was doing: "waiting", "running" or "done"."""
        lane = self._lane
        assert lane is not None
        seconds = f" of {future.job.timeout:g} s" if future.job.timeout is not None else ""
        error = JobError(
            f"{future.job!r} on worker {self.id} ({self.name}) passed its deadline{seconds}. It "
            + (
                "ran, and what it still returns is dropped" if future.attempts else "waited and was not begun"
            ),
            code="deadline",
        )
        if not future.expire(error):
            return "done"
        if future.attempts:
            lane.let_go(future)
        return "running" if future.attempts else "waiting"

    def _forget_oldest(self) -> None:
        with self._lock:
            oldest = next(iter(self._unclaimed), None)
            if oldest is not None and len(self._unclaimed) - self.waiting > KEPT and oldest.done():
                del self._unclaimed[oldest]

    def unclaimed(self) -> list[JobFuture[Any]]:
        return list(self._unclaimed)

    def claim(self, future: JobFuture[Any]) -> None:
        self._unclaimed.pop(future, None)

    def cancel_running(self, future: JobFuture[Any]) -> bool:
        return self._lane is not None and self._lane.cancel_running(future)

    # Called by the lane, in its thread ---------------------------------------------------

    def succeeded(self, future: JobFuture[Any], value: Any) -> None:
        self.result, self.error = value, None
        self._finished += 1  # before the waiter wakes: it must find the worker idle
        try:
            future.set_result(value)
        except InvalidStateError:
            self.late += 1
        if len(self._unclaimed) > KEPT:
            self._forget_oldest()

    def failed(self, future: JobFuture[Any], error: BaseException, text: str = "") -> None:
        if isinstance(error, Broken):
            told = WorkerError(f"{future.job!r} on worker {self.id} ({self.name}): {error}", code=error.code)
            told.__cause__ = error.__cause__
            error = told
        elif not isinstance(error, CancelledError):
            error = failed(future.job, f"{self.id} ({self.name}, {self.kind})", error, text)
        self.result, self.error = None, error
        self._finished += 1
        if not future.expire(error) and not isinstance(error, WorkerError | CancelledError):
            self.late += 1
        if len(self._unclaimed) > KEPT:
            self._forget_oldest()

    def passed_over(self) -> None:
        """A queued job was cancelled, or its deadline passed; or the one that ran was let go."""
        self._finished += 1

    def drop(self, future: JobFuture[Any]) -> None:
        """Cancel a queued job of a worker that closes."""
        if future.cancel() or future.cancelled():
            future.set_running_or_notify_cancel()
        self._finished += 1


class RemoteError(Exception):
    """Carries an error out of a child process, with its traceback as text."""

    def __init__(self, error: BaseException, text: str) -> None:
        super().__init__(str(error))
        self.error = error
        self.text = text


IDLE = object()
"""In an inbox: no job, but the engine should look after itself."""


class _ThreadLane:
    """The thread of a worker whose engine blocks while it runs a job."""

    def __init__(self, worker: Worker, engine: Engine) -> None:
        self.worker = worker
        self.engine = engine
        engine.start(lambda: worker.setups())
        self.inbox = engine.inbox()
        self.put = self.inbox.put
        self.accept = engine.accept
        self._ended = False
        self._values: dict[str, Any] = {}
        self._lock = threading.Lock()
        """Held while a job ends, and while its deadline takes it from its thread: one of them comes first."""
        self._current: JobFuture[Any] | None = None
        self._held_up: list[threading.Thread] = []
        self._new_thread()

    def _new_thread(self) -> None:
        name = f"toolips_udp-worker-{self.worker.id}"
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        return self.engine.pid

    def _work(self) -> None:
        values_here.set(self._values)
        worker, get, idle = self.worker, self.inbox.get, self.engine.idle
        while (future := get()) is not None:
            if future is IDLE:
                idle()
                continue
            self._current = future
            begun = future.begin()
            value, error, text = self._run(future) if begun else (None, None, "")
            with self._lock:
                if self._current is not future:  # its deadline gave the queue to another thread
                    worker.late += begun
                    return
                self._current = None
            if not begun:
                worker.passed_over()
            elif error is None:
                worker.succeeded(future, value)
            else:
                worker.failed(future, error, text)
            future = value = error = None  # an idle worker keeps nothing of its last job alive

    def _run(self, future: JobFuture[Any]) -> tuple[Any, BaseException | None, str]:
        """The job's value, or its error with the remote traceback; again, where that was allowed."""
        while True:
            try:
                return self.engine.run(future), None, ""
            except RemoteError as error:
                return None, error.error, error.text
            except Broken as error:
                if future.attempts >= future.job.attempts or future.done() or self.worker.closed:
                    return None, error, ""
                future.attempts += 1
            except BaseException as error:
                return None, error, ""

    def let_go(self, future: JobFuture[Any]) -> bool:
        """The deadline of a job has passed. True when another thread goes on with the queue in its stead."""
        with self._lock:
            if self._current is not future or not self.engine.abandon(future):
                return False
            self._held_up = [each for each in self._held_up if each.is_alive()]
            if len(self._held_up) >= HELD_UP:
                return False
            self._held_up.append(self._thread)
            self._current = None
            self.worker.passed_over()
            self._new_thread()
            return True

    def cancel_running(self, future: JobFuture[Any]) -> bool:
        return False

    def begin_close(self) -> None:
        try:
            while True:
                future = self.inbox.get_nowait()
                if future is not None and future is not IDLE:
                    self.worker.drop(future)
        except queue.Empty:
            self.put(None)

    def end_close(self, timeout: float) -> None:
        if self._ended:
            return
        self._ended = True
        if self._thread is threading.current_thread():  # a job closes its own manager
            self.engine.close(timeout)
            return
        until = time.monotonic() + timeout
        self._thread.join(timeout)
        if self._thread.is_alive():
            self.engine.interrupt()
            self._thread.join(1.0)
        self.engine.close(max(0.0, until - time.monotonic()))
        if self._thread.is_alive():
            logger.warning(
                "worker %d (%s): its job still runs after %g s and a thread cannot be stopped from outside; "
                "it ends with the job",
                self.worker.id,
                self.worker.name,
                timeout,
            )
