"""The verbs of jobs as functions: they take a manager, a server or a connection first.

Imports its own room only; servers and connections are known by their shape:
a server has `.processes` (and `.loop`), a connection has `.server`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .job import JobFuture
from .manager import ProcessManager

_Name = int | str


def _manager(target: Any) -> tuple[ProcessManager, Any]:
    """The manager behind a target, and the loop on which its callbacks run."""
    if isinstance(target, ProcessManager):
        return target, None
    server = target if hasattr(target, "processes") else getattr(target, "server", None)
    manager = getattr(server, "processes", None)
    if isinstance(manager, ProcessManager):
        return manager, getattr(server, "loop", None)
    raise TypeError(
        "expected a ProcessManager, a Server or a connection as first argument, "
        f"found {type(target).__name__}"
    )


def assign(target: Any, worker: _Name, *jobs: Any, sync: bool = False) -> list[Any]:
    """Queue jobs on one worker, in order: see `ProcessManager.assign`.

    >>> [future] = assign(manager, 1, new_job(add, 2000))
    """
    manager, loop = _manager(target)
    return manager.assign(worker, *jobs, sync=sync, loop=loop)


def assign_open(target: Any, *jobs: Any, kind: str | None = None, sync: bool = False) -> list[Any]:
    """Give jobs to the first idle worker: see `ProcessManager.assign_open`.

    >>> [future] = assign_open(c, new_job(add, 2000))  # in a handler
    >>> c.respond(str(await future))
    """
    manager, loop = _manager(target)
    return manager.assign_open(*jobs, kind=kind, sync=sync, loop=loop)


def distribute(
    target: Any,
    *jobs: Any,
    workers: Iterable[_Name] | None = None,
    share: float | None = None,
    progress: bool | None = None,
    sync: bool = False,
) -> list[Any]:
    """Spread jobs over workers, round robin: see `ProcessManager.distribute`.

    >>> futures = distribute(manager, *[new_job(parse, text) for text in texts], share=0.5)
    """
    manager, loop = _manager(target)
    if progress is None and manager is not target:
        progress = False  # a server draws nothing unasked
    return manager.distribute(*jobs, workers=workers, share=share, progress=progress, sync=sync, loop=loop)


def distribute_open(target: Any, *jobs: Any, sync: bool = False) -> list[Any]:
    """Spread jobs over the idle workers, or all when none is: see `ProcessManager.distribute_open`."""
    manager, loop = _manager(target)
    return manager.distribute_open(*jobs, sync=sync, loop=loop)


def waitfor(
    target: Any,
    *ids: _Name | JobFuture[Any],
    timeout: float | None = None,
    return_exceptions: bool = False,
    then: Callable[[list[Any]], object] | None = None,
) -> list[Any]:
    """Sleep until workers or futures are done and return their results: see `ProcessManager.waitfor`.

    >>> assign(manager, 1, new_job(add, 2000))
    >>> waitfor(manager, 1)
    [2005]
    """
    manager, _ = _manager(target)
    return manager.waitfor(*ids, timeout=timeout, return_exceptions=return_exceptions, then=then)


def get_return(target: Any, *ids: _Name) -> list[Any]:
    """The last result of each worker, without waiting: see `ProcessManager.get_return`."""
    return _manager(target)[0].get_return(*ids)


def put(target: Any, workers: Iterable[_Name] | None = None, **values: Any) -> list[JobFuture[None]]:
    """Give workers named values, read as `shared["name"]`: see `ProcessManager.put`."""
    return _manager(target)[0].put(workers, **values)


def everywhere(target: Any, what: Callable[[], object] | str) -> list[JobFuture[None]]:
    """Run a function or import a module in each worker, now and later: see `ProcessManager.everywhere`."""
    return _manager(target)[0].everywhere(what)


def close_workers(target: Any, *ids: _Name, timeout: float = 5.0) -> None:
    """Stop exactly these workers: see `ProcessManager.close_workers`."""
    _manager(target)[0].close_workers(*ids, timeout=timeout)
