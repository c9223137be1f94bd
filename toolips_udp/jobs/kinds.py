"""The kinds of workers, and how a user adds one.

An engine is the place where the jobs of one worker run. The worker itself keeps
the queue, the results and the thread that feeds the engine.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any, Protocol

from ..errors import WorkerError, suggestion
from .job import Job, JobFuture, run_here


class Inbox(Protocol):
    """What a worker's thread takes its jobs from. `None` ends it."""

    def put(self, item: Any, /) -> None: ...
    def get(self) -> Any: ...
    def get_nowait(self) -> Any: ...


class Broken(WorkerError):
    """The engine failed, not the job: the future gets this error as it is."""


class Engine:
    """Where the jobs of one worker run. This one: in the worker's own thread.

    For a kind of your own, override what differs. `run` is called in the worker's thread,
    one job at a time, and its value is the job's result; what it raises becomes a `JobError`.

    >>> class Loud(Engine):
    ...     def run(self, future):
    ...         print("running", future.job)
    ...         return future.job()
    >>> register_kind("loud", Loud)
    >>> processes(2, "loud")
    """

    pid: int | None = None
    """The process that runs the jobs, when it is another one than ours."""

    def start(self, setups: Callable[[], list[Job[Any]]]) -> None:
        """Make ready, in the caller's thread. `setups()`: the jobs to replay when the place is replaced."""

    def inbox(self) -> Inbox:
        return queue.SimpleQueue()

    def accept(self, job: Job[Any]) -> Any:
        """At assign, in the caller's thread: what to remember as `future.payload`. Refuse with `JobError`."""
        return None

    def run(self, future: JobFuture[Any]) -> Any:
        return run_here(future.job)

    def idle(self) -> None:
        """The inbox saw something else than a job (see `process.py`)."""

    def abandon(self, future: JobFuture[Any]) -> bool:
        """The deadline of the job that runs has passed: end it if that can be done. Another thread calls this.

        True: another thread may call `run` at once, while this one still hangs in it. False: the worker
        takes its next job when this one's `run` returns.
        """
        return False

    def interrupt(self) -> None:
        """The time to close ran out on a job: end it if that can be done. Another thread calls this."""

    def close(self, timeout: float) -> None:
        """Free everything, within `timeout` seconds. Called once, after the last job if that has ended."""


class ThreadEngine(Engine):
    """Kind "thread": a job that hangs leaves its thread, and another thread goes on."""

    def abandon(self, future: JobFuture[Any]) -> bool:
        return True


def _process(**options: Any) -> Engine:
    from .process import ProcessEngine

    return ProcessEngine(**options)


def _cluster(**options: Any) -> Engine:
    from .dask import ClusterEngine

    return ClusterEngine(**options)


ASYNC = "async"
_KINDS: dict[str, Callable[..., Engine]] = {"thread": ThreadEngine, "process": _process, "cluster": _cluster}


def register_kind(name: str, factory: Callable[..., Engine]) -> None:
    """Add a kind of worker: `factory(**options)` makes the `Engine` of one worker.

    The options are those given to `processes` or `add_workers`. A kind that exists
    already is a `ValueError`.
    """
    if name in _KINDS or name == ASYNC:
        raise ValueError(f"register_kind: {name!r} exists already; choose another name")
    if not callable(factory):
        found = type(factory).__name__
        raise TypeError(f"register_kind: the factory of {name!r} must be callable, found {found}")
    _KINDS[name] = factory


def check_kind(name: str) -> str:
    if name != ASYNC and name not in _KINDS:
        known = sorted([*_KINDS, ASYNC])
        near = suggestion(name, known)
        raise ValueError(f"no kind of worker is called {name!r}; known: {', '.join(known)}.{near}")
    return name


def make_engine(name: str, options: dict[str, Any]) -> Engine:
    return _KINDS[name](**options)
