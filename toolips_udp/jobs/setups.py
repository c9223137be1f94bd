"""What workers were given before their jobs, so that later ones get it too: values of `put`, `everywhere`.

Imports its own room only. One for each manager, which holds its lock around every call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .job import Job, JobFuture
from .worker import Worker, logger

Key = tuple[str, Any]
"""What a setup is about: a later one of the same key and workers takes its place."""


class Setups:
    """The setups of a manager's workers, in order."""

    def __init__(self) -> None:
        self._kept: list[tuple[Key, frozenset[int] | None, Job[Any]]] = []

    def of(self, id: int) -> list[Job[Any]]:
        """Those of one worker."""
        return [job for _key, scope, job in self._kept if scope is None or id in scope]

    def run(
        self, workers: Sequence[Worker], made: list[tuple[Key, Job[None]]], *, for_all: bool
    ) -> list[JobFuture[None]]:
        """Run them in these workers, and `for_all` in each later one; a future per worker and setup.

        What a process cannot be sent is a `JobError`, and nothing was run.
        """
        scope = None if for_all else frozenset(worker.id for worker in workers)
        futures = []
        for worker in workers:
            for _key, job in made:
                future: JobFuture[None] = JobFuture(job, worker)
                future.payload = worker.accept(job)
                futures.append((worker, future))
        for key, job in made:
            self._kept[:] = [old for old in self._kept if (old[0], old[1]) != (key, scope)]
            self._kept.append((key, scope, job))
        for worker, future in futures:
            worker.enqueue(future, keep=False)
        return [future for _worker, future in futures]


def set_up(worker: Worker) -> None:
    """Give a new worker what the others were given."""
    for job in worker.setups():
        worker.submit(job, keep=False).add_done_callback(_tell_failed)


def _tell_failed(future: Any) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        logger.error("a new worker could not be set up like the others: %s", error)
