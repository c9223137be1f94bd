"""A job, and the future of a job that was assigned.

Imports errors only. `Job` is what users make; `JobFuture` is what assigning one
gives back. Pickling lives here too: jobs go to our own child processes over a
private inherited socket, nowhere else.
"""

from __future__ import annotations

import importlib
import itertools
import pickle
import sys
import traceback
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future, InvalidStateError
from types import CoroutineType, FunctionType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..errors import JobError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from .worker import Worker

T = TypeVar("T")
ENDED = ("FINISHED", "CANCELLED", "CANCELLED_AND_NOTIFIED")
"""States of a future that will not change any more, as `concurrent.futures` calls them."""
_numbers = itertools.count(1)


class Job(Generic[T]):
    """A function with its arguments. Can be assigned many times; calling it runs it here."""

    __slots__ = ("args", "attempts", "fn", "kwargs", "timeout")

    def __init__(
        self, fn: Callable[..., T], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> None:
        if not callable(fn):
            raise TypeError(f"a job needs a function, found {type(fn).__name__}: new_job(fn, *arguments)")
        self.fn = fn
        self.args = args
        self.kwargs = kwargs or {}
        self.timeout: float | None = None
        """Seconds from assign to the end, or None."""
        self.attempts = 1
        """How often it may begin, when workers die of it or under it."""

    def __call__(self) -> T:
        return self.fn(*self.args, **self.kwargs)

    def limited(self, timeout: float | None = None, attempts: int = 1) -> Job[T]:
        """The same job with a deadline, in seconds from the moment it is assigned, and with more attempts.

        A job past its deadline fails with `JobError` (code "deadline"). If it waited, it never begins. If it
        ran: a process worker is killed and replaced, a task is cancelled; a thread cannot be stopped, so
        it goes on, what it returns is dropped and counted (`worker.late`), and another thread takes
        over the queue, unless four of that worker are held up like this. `attempts` above 1 says that running
        it twice does no harm: when its worker dies, it begins again on the new one.

        >>> assign(manager, 1, new_job(fetch, url).limited(timeout=2.0, attempts=3))
        """
        if timeout is not None and not timeout > 0:
            raise ValueError(f"the timeout of {self!r} is {timeout!r}. Expected seconds above 0, or None")
        if attempts < 1:
            raise ValueError(f"the attempts of {self!r} are {attempts!r}. Expected 1 or more")
        job: Job[T] = Job(self.fn, self.args, self.kwargs)
        job.timeout, job.attempts = timeout, attempts
        return job

    @property
    def name(self) -> str:
        return str(getattr(self.fn, "__qualname__", None) or type(self.fn).__qualname__)

    def __repr__(self) -> str:
        parts = [repr(a)[:40] for a in self.args]
        parts += [f"{k}={v!r}"[:60] for k, v in self.kwargs.items()]
        return f"{self.name}({', '.join(parts)})"[:200]


def new_job(fn: Callable[..., T] | None = None, /, *args: Any, **kwargs: Any) -> Any:
    """A job out of a function and its arguments; also a decorator.

    For process and cluster workers function and arguments must be importable or
    picklable: a lambda or a closure is a `JobError` when it is assigned to one.
    A coroutine function runs on every kind; on "async" workers as a task of the loop.

    >>> assign(manager, 1, new_job(add, 2000, by=5))
    >>> @new_job
    ... def cleanup(): ...
    >>> assign(manager, 1, cleanup)
    """
    if fn is None:
        return new_job
    return Job(fn, args, kwargs)


def run_here(job: Callable[[], T]) -> T:
    """Run a job in this thread; a coroutine is run to its end in a loop of its own."""
    value = job()
    if isinstance(value, CoroutineType):
        import asyncio

        return asyncio.run(value)  # type: ignore[no-any-return]
    return value


class JobFuture(Future[T]):
    """The result of one assigned job, later: a `concurrent.futures.Future` that can be awaited.

    `.result(timeout)`, `.exception()`, `.done()`, `.add_done_callback(f)` are those of the
    standard library; `await future` works in a coroutine. `.cancel()` takes a job back that
    has not begun (on "async" workers also one that has). A job that raised gives `JobError`,
    with the original as its cause; a lost worker gives `WorkerError`.

    When the job came through a server or a connection, callbacks run on its main loop.
    """

    def __init__(self, job: Job[T], owner: Worker, loop: AbstractEventLoop | None = None) -> None:
        super().__init__()
        self.job = job
        self.id = next(_numbers)
        """Its number among all jobs that this process assigned."""
        self.worker: int = owner.id
        """Id of the worker that runs it."""
        self.attempts = 0
        """How often it has begun."""
        self.payload: Any = None
        self._owner = owner
        self._loop = loop

    def result(self, timeout: float | None = None) -> T:
        try:
            return super().result(timeout)
        finally:
            if self._state in ENDED:
                self._owner.claim(self)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        try:
            return super().exception(timeout)
        finally:
            if self._state in ENDED:
                self._owner.claim(self)

    def exception_or_cancel(self, timeout: float | None) -> None:
        """Sleep until done, without claiming; `TimeoutError` after `timeout` seconds."""
        try:
            super().exception(timeout)
        except CancelledError:
            pass

    def begin(self) -> bool:
        """The worker is about to run it. False: it was cancelled, or its deadline has passed."""
        with self._condition:
            if self._state == "PENDING":
                self._state = "RUNNING"
                self.attempts = 1
                return True
            return self._state != "FINISHED" and self.set_running_or_notify_cancel()

    def expire(self, error: BaseException) -> bool:
        """Fail now, whether it waits or runs. False when it had ended."""
        try:
            self.set_exception(error)
        except InvalidStateError:
            return False
        return True

    def cancel(self) -> bool:
        return super().cancel() or self._owner.cancel_running(self)

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        loop = self._loop
        if loop is None:
            super().add_done_callback(fn)
        else:
            super().add_done_callback(lambda done: _on_loop(loop, fn, done))

    def __await__(self) -> Generator[Any, None, T]:
        import asyncio

        return asyncio.wrap_future(self).__await__()

    def __repr__(self) -> str:
        return f"<{self.job!r} on worker {self.worker}: {self._state.lower()}>"


def _on_loop(loop: AbstractEventLoop, fn: Callable[[Any], object], future: Future[Any]) -> None:
    try:
        loop.call_soon_threadsafe(fn, future)
    except RuntimeError:
        if not loop.is_closed():  # a closed loop has nobody left to tell
            raise


# Pickling ------------------------------------------------------------------------------------


class ByName:
    """A function that pickle refuses because its name now holds something else, such as a Job."""

    __slots__ = ("module", "qualname")

    def __init__(self, module: str, qualname: str) -> None:
        self.module = module
        self.qualname = qualname

    def find(self) -> Callable[..., Any]:
        value: Any = sys.modules.get(self.module) or importlib.import_module(self.module)
        for part in self.qualname.split("."):
            value = getattr(value, part)
        return value.fn if isinstance(value, Job) else value


def _reference(fn: Callable[..., Any]) -> Any:
    """`fn`, or its name where `@new_job` put a Job in its place."""
    if type(fn) is FunctionType and "<" not in fn.__qualname__ and fn.__module__ in sys.modules:
        named = ByName(fn.__module__, fn.__qualname__)
        value: Any = sys.modules[fn.__module__]
        for part in fn.__qualname__.split("."):
            value = getattr(value, part, None)
        if isinstance(value, Job) and value.fn is fn:
            return named
    return fn


def pack(job: Job[Any]) -> bytes:
    """The bytes of a job for a process worker.

    Raises `JobError` for what cannot be sent, with the fix.
    """
    try:
        data = pickle.dumps((_reference(job.fn), job.args, job.kwargs), 5)
    except Exception as error:
        raise JobError(
            f"{job!r} cannot be sent to a process worker: {error}. A process worker imports the function "
            "by name: define it at the top level of a module (no lambda, no nested function) and pass "
            "everything it needs as picklable arguments; or use a worker of kind 'thread'.",
            code="not-sendable",
        ) from error
    if b"__main__" in data and not _main_is_a_file():
        raise JobError(
            f"{job!r} is defined in an interactive session, which a process worker cannot import. "
            "Put the function into a file, or use a worker of kind 'thread'.",
            code="not-sendable",
        )
    return data


def _main_is_a_file() -> bool:
    main = sys.modules.get("__main__")
    return getattr(main, "__spec__", None) is not None or getattr(main, "__file__", None) is not None


def failed(job: object, worker: str, error: BaseException, text: str = "") -> JobError:
    """The JobError that tells of an error inside a job, cause chained, traceback as a note."""
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    wrapped = JobError(f"{job!r} on worker {worker} raised {what}", code="job-failed")
    wrapped.__cause__ = error
    wrapped.remote_traceback = text or "".join(traceback.format_exception(error))
    if text:
        wrapped.add_note(f"Traceback in the worker:\n{text}")
    return wrapped
