"""Jobs: functions handed to workers. Useful without any network.

A manager holds workers; a worker runs jobs, first in, first out, in a thread, a
process of its own, a task of an event loop, or on a Dask cluster. The same verbs
serve all of them, as methods of the manager and as functions that also take a
server or a connection.

Imports only the ground floor. Called by users, by `servers/` (each server has a
manager) and by `runners/`.

>>> with processes(4, "process") as manager:
...     futures = distribute(manager, *[new_job(pow, n, 2) for n in range(100)])
...     waitfor(manager, *futures)
"""

from __future__ import annotations

from .assigning import (
    assign,
    assign_open,
    close_workers,
    distribute,
    distribute_open,
    everywhere,
    get_return,
    put,
    waitfor,
)
from .job import Job, JobFuture, new_job
from .kinds import Engine, register_kind
from .manager import ProcessManager, processes
from .sharing import shared
from .worker import Worker

__all__ = [
    "Engine",
    "Job",
    "JobFuture",
    "ProcessManager",
    "Worker",
    "assign",
    "assign_open",
    "close_workers",
    "distribute",
    "distribute_open",
    "everywhere",
    "get_return",
    "new_job",
    "processes",
    "put",
    "register_kind",
    "shared",
    "waitfor",
]
