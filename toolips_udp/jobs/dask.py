"""Workers of kind "cluster": the same jobs on a Dask cluster (extra `dask`).

Dask pickles by itself and trusts everybody who reaches its scheduler: only for
networks that you trust. Each of our workers is tied to one worker of the cluster
and moves on when that one is gone, so that a job never runs twice unasked.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, ClassVar

from ..errors import WorkerError, missing_extra
from .job import Job, JobFuture, run_here
from .kinds import Broken, Engine
from .sharing import import_once, keep_value, run_once, values_here

LOOK = 0.5
"""Seconds between looks at whether the worker of a running job still lives."""
AWAY = 10.0
"""Seconds to wait for any worker at all."""

_kept: dict[str, dict[str, Any]] = {}
_seen: dict[str, int] = {}
"""In a process of the cluster: shared values, and the newest setup that ran, by lane."""


def run_there(lane: str, setups: list[tuple[int, Job[Any]]], job: Job[Any]) -> Any:
    """Runs on the cluster: replay what the lane has missed here, then the job."""
    values = _kept.setdefault(lane, {})
    values_here.set(values)
    for number, setup in setups:
        if number > _seen.get(lane, 0):
            run_here(setup)
            _seen[lane] = number
    return run_here(job)


class _Link:
    """One Dask client per scheduler address, shared by the engines that use it."""

    _links: ClassVar[dict[str, _Link]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, address: str) -> None:
        try:
            import distributed
        except ImportError as error:
            raise missing_extra("workers of kind 'cluster'", "dask") from error
        self.address = address
        self.users = 0
        try:
            client_class: Any = distributed.Client
            self.client = client_class(address, timeout=AWAY, set_as_default=False, heartbeat_interval=1000)
        except (OSError, TimeoutError) as error:
            raise WorkerError(
                f"no Dask scheduler answers at {address}: {error}. Start one with  dask scheduler  "
                f"and workers with  dask worker {address}",
                code="no-scheduler",
            ) from error

    @classmethod
    def take(cls, address: str) -> _Link:
        with cls._lock:
            link = cls._links.get(address)
            if link is None:
                link = cls._links[address] = cls(address)
            link.users += 1
            return link

    def give_back(self) -> None:
        with self._lock:
            self.users -= 1
            if self.users == 0:
                del self._links[self.address]
                self.client.close()

    def workers(self) -> list[str]:
        """Addresses of the cluster's workers as the scheduler knows them now."""
        found: dict[str, Any] = self.client.run_on_scheduler(_workers_of)
        return sorted(found)


def _workers_of(dask_scheduler: Any) -> dict[str, None]:
    return dict.fromkeys(dask_scheduler.workers)


class ClusterEngine(Engine):
    """One lane to a Dask cluster."""

    _count: ClassVar[int] = 0

    def __init__(self, address: str | None = None) -> None:
        self._address = address or os.environ.get("DASK_SCHEDULER_ADDRESS", "")
        if not self._address:
            raise WorkerError(
                "workers of kind 'cluster' need the address of a Dask scheduler: "
                'processes(n, "cluster", address="tcp://host:8786"), '
                "or DASK_SCHEDULER_ADDRESS in the environment",
                code="no-scheduler",
            )
        ClusterEngine._count += 1
        self._number = ClusterEngine._count
        self._lane = f"{os.getpid()}-{time.time_ns()}-{self._number}"
        self._there: str | None = None
        self._running: Any = None
        self._closed = False

    def start(self, setups: Callable[[], list[Job[Any]]]) -> None:
        self._setups: dict[Any, tuple[int, Job[Any]]] = {}
        self._numbers = itertools.count(1)
        self._link = _Link.take(self._address)

    def accept(self, job: Job[Any]) -> Any:
        return None

    def _place(self) -> str:
        """The cluster worker this lane is tied to; another one when that is gone."""
        until = time.monotonic() + AWAY
        while not self._closed:
            there = self._link.workers()
            if self._there in there:
                return self._there
            if there:
                self._there = there[self._number % len(there)]
                return self._there
            if time.monotonic() > until:
                raise Broken(f"the Dask cluster at {self._address} has no worker; start  dask worker")
            time.sleep(LOOK)
        raise Broken("closed while it waited for a worker of the cluster")

    def run(self, future: JobFuture[Any]) -> Any:
        job = future.job
        if job.fn in SETUPS:  # remembered, and replayed wherever the lane's next job runs
            key = (job.fn, job.args[0])  # a value put again replaces the old one
            self._setups.pop(key, None)
            self._setups[key] = (next(self._numbers), job)
            job = Job(_nothing)
        there = self._place()
        self._running = remote = self._link.client.submit(
            run_there,
            self._lane,
            list(self._setups.values()),
            job,
            workers=[there],
            allow_other_workers=False,
            pure=False,
            retries=0,
        )
        try:
            return self._result(remote, there)
        finally:
            self._running = None
            remote.release()

    def _result(self, remote: Any, there: str) -> Any:
        while True:
            try:
                return remote.result(timeout=LOOK)
            except TimeoutError:
                if remote.done():  # the job's own TimeoutError
                    raise
            except CancelledError as error:
                raise Broken("cancelled on the cluster, or closed") from error
            except Exception as error:
                if type(error).__name__ == "KilledWorker":
                    raise Broken(f"the cluster's worker {there} died while it ran the job") from error
                raise
            if there not in self._link.workers():
                remote.cancel(force=True)
                raise Broken(
                    f"the cluster's worker {there} is gone while it ran the job; the next jobs use another "
                    "one. The job may have run in part and is not repeated: assign it again if that is safe."
                )

    def abandon(self, future: JobFuture[Any]) -> bool:
        if (running := self._running) is not None:
            running.cancel(force=True)
        return False

    def interrupt(self) -> None:
        self._closed = True
        if (running := self._running) is not None:
            running.cancel(force=True)

    def close(self, timeout: float) -> None:
        self._closed = True
        self._link.give_back()


def _nothing() -> None:
    pass


SETUPS = (keep_value, run_once, import_once)
