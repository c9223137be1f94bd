"""The manager: a collection of workers and the verbs that give them jobs.

Imports errors and its own room. Users make one with `processes`; each server has
one as `server.processes`.
"""

from __future__ import annotations

import asyncio
import math
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import wait as wait_for_futures
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import WorkerError
from .closing import close_all, stop_workers
from .deadlines import Deadlines
from .job import Job, JobFuture
from .kinds import ASYNC, check_kind
from .setups import Setups, set_up
from .sharing import import_once, keep_value, run_once
from .worker import MAX_QUEUE, Worker

if TYPE_CHECKING:
    from .tasks import LoopThread

_Name = int | str
_Loop = asyncio.AbstractEventLoop


def refuse_to_block(what: str) -> None:
    """Waiting on a loop's own thread would stop everything that the loop serves, perhaps for ever."""
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(
            f"{what} would block the event loop of this thread, and with it all it serves. "
            "Use  await future  (in an async def), or call it from another thread."
        )


class ProcessManager:
    """Workers, found by id or name, and the verbs that give them jobs.

    Ids count from 1 and are not used twice; names are unique and default to the id as
    text. `pm[1]`, `pm["name"]`, `len(pm)`, iteration and `with pm` work; an unknown worker is a
    `KeyError`. Safe to use from any thread. `loop` is where "async" workers run: the running
    loop, or one in a thread of its own, when none is given.

    >>> with ProcessManager(Worker("parser", "process"), Worker("writer")) as pm:
    ...     pm.assign("parser", new_job(parse, text), sync=True)
    """

    def __init__(self, *workers: Worker, loop: _Loop | None = None) -> None:
        self._workers: dict[int, Worker] = {}
        self._setups = Setups()
        self._next_id = 1
        self._lock = threading.RLock()
        self._loop = loop
        self._loop_threads: list[LoopThread] = []
        self._closed = False
        self._deadlines = Deadlines()
        self._finalizer = weakref.finalize(
            self, close_all, self._workers, self._loop_threads, self._deadlines
        )
        for worker in workers:
            self.push(worker)

    # A collection -----------------------------------------------------------------------

    def __getitem__(self, worker: _Name) -> Worker:
        with self._lock:
            if isinstance(worker, str):
                for each in self._workers.values():
                    if each.name == worker:
                        return each
            elif worker in self._workers:
                return self._workers[worker]
            there = ", ".join(f"{w.id} ({w.name})" for w in self._workers.values()) or "none"
        raise KeyError(f"no worker {worker!r}; workers are: {there}")

    def __contains__(self, worker: object) -> bool:
        return any(worker in (w.id, w.name) or worker is w for w in self)

    def __iter__(self) -> Iterator[Worker]:
        with self._lock:
            return iter(list(self._workers.values()))

    def __len__(self) -> int:
        return len(self._workers)

    def __enter__(self) -> ProcessManager:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        rows = [("id", "kind", "name", "state")]
        for w in self:
            state = f"active ({w.waiting})" if w.active else "closed" if w.closed else "idle"
            rows.append((str(w.id), w.kind, w.name, state))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        count = len(rows) - 1
        lines = [f"ProcessManager of {count} worker{'s' * (count != 1)}"]
        for row in rows:
            line = "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True))
            lines.append(line.rstrip())
        return "\n".join(lines)

    def ids(self, kind: str | None = None) -> list[int]:
        """Ids of all workers, or of one kind."""
        return [w.id for w in self if kind is None or w.kind == kind]

    def push(self, worker: Worker) -> Worker:
        """Take a worker in: it gets the next id and all that was `put` or run `everywhere`."""
        with self._lock:
            if self._closed:
                raise WorkerError(
                    "this manager is closed; make another one with processes(...)", code="manager-closed"
                )
            id = self._next_id
            if (worker.name or str(id)) in (w.name for w in self._workers.values()):
                raise ValueError(f"a worker is called {worker.name or str(id)!r} already; names are unique")
            worker.setups = partial(self._setups.of, id)
            worker.deadlines = self._deadlines
            worker.open(id, self._loop_for_async)
            self._next_id += 1
            self._workers[id] = worker
            set_up(worker)
        return worker

    def add_workers(
        self,
        n: int,
        kind: str = "thread",
        names: Sequence[str] = (),
        *,
        max_queue: int = MAX_QUEUE,
        **options: Any,
    ) -> list[Worker]:
        """`n` more workers of one kind, with as many names or none (else `ValueError`)."""
        if n < 0:
            raise ValueError(f"add_workers: cannot add {n} workers")
        if names and len(names) != n:
            raise ValueError(f"{n} workers need {n} names or none, found {len(names)}: {', '.join(names)}")
        if len(set(names)) != len(names):
            raise ValueError(f"names of workers must differ: {', '.join(names)}")
        check_kind(kind)
        added: list[Worker] = []
        try:
            for i in range(n):
                name = names[i] if names else ""
                added.append(self.push(Worker(name, kind, max_queue=max_queue, **options)))
        except BaseException:
            self._stop(added, 1.0)
            raise
        return added

    def _loop_for_async(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio._get_running_loop()
        if self._loop is None:
            from .tasks import LoopThread

            thread = LoopThread()
            self._loop_threads.append(thread)
            self._loop = thread.loop
        return self._loop

    # Giving jobs ------------------------------------------------------------------------

    def assign(self, worker: _Name, *jobs: Any, sync: bool = False, loop: _Loop | None = None) -> list[Any]:
        """Queue jobs on one worker, in order; one future per job, or the results with `sync=True`.

        A full queue is a `WorkerError` and none of the jobs is queued. What a process worker cannot
        be sent is a `JobError`, here.
        """
        found = self._workers.get(worker) or self[worker]  # type: ignore[arg-type]
        if len(jobs) == 1 and not sync:  # the usual case, and the one that a round trip pays for
            job = jobs[0]
            return [found.submit(job if isinstance(job, Job) else Job(job), loop=loop)]
        return self._spread([found], jobs, sync, loop)

    def assign_open(
        self, *jobs: Any, kind: str | None = None, sync: bool = False, loop: _Loop | None = None
    ) -> list[Any]:
        """Give the jobs to the first idle worker; none idle: distribute them.

        "async" workers are passed over unless `kind` asks for them or there is no other kind.
        """
        workers = self._candidates(kind)
        idle = next((w for w in workers if not w.active), None)
        return self._spread([idle] if idle else _least_busy(workers), jobs, sync, loop)

    def distribute(
        self,
        *jobs: Any,
        workers: Iterable[_Name] | None = None,
        share: float | None = None,
        progress: bool | None = None,
        sync: bool = False,
        loop: _Loop | None = None,
    ) -> list[Any]:
        """Spread jobs round robin over all workers, the given ones, or a share of them (0 < share <= 1).

        Begins with the least busy. Futures (or results) come in job order. `progress`: True shows a
        bar on stderr, False never; by default it shows for 100 jobs or more on a terminal.
        """
        chosen = [self[w] for w in workers] if workers is not None else _least_busy(self._willing())
        if share is not None:
            if not 0 < share <= 1:
                raise ValueError(f"distribute: share is {share}, expected more than 0 and at most 1")
            chosen = chosen[: max(1, math.floor(share * len(chosen) + 0.5))]
        return self._spread(chosen, jobs, sync, loop, progress)

    def distribute_open(self, *jobs: Any, sync: bool = False, loop: _Loop | None = None) -> list[Any]:
        """Spread jobs round robin over the idle workers; none idle: over all."""
        workers = self._willing()
        return self._spread([w for w in workers if not w.active] or _least_busy(workers), jobs, sync, loop)

    def _willing(self) -> list[Worker]:
        """All open workers but a server's main loop, unless that is all there is."""
        open_ones = [w for w in self if not w.closed]
        return [w for w in open_ones if not w.main] or open_ones

    def _candidates(self, kind: str | None) -> list[Worker]:
        workers = [w for w in self if not w.closed]
        if kind is not None:
            workers = [w for w in workers if w.kind == check_kind(kind)]
        else:
            workers = [w for w in workers if w.kind != ASYNC] or workers
        if not workers:
            raise WorkerError(
                f"no worker of kind {kind!r}; kinds here: {sorted({w.kind for w in self})}"
                if kind
                else "this manager has no workers; add some with add_workers(n)",
                code="no-worker",
            )
        return workers

    def _spread(
        self,
        workers: Sequence[Worker],
        jobs: Sequence[Any],
        sync: bool,
        loop: _Loop | None,
        progress: bool | None = False,
    ) -> list[Any]:
        if sync:
            refuse_to_block("sync=True")
        if not workers:
            raise WorkerError("this manager has no workers; add some with add_workers(n)", code="no-worker")
        futures: list[JobFuture[Any]] = []
        for i, job in enumerate(jobs):
            if not isinstance(job, Job):
                job = Job(job)
            worker = workers[i % len(workers)]
            future: JobFuture[Any] = JobFuture(job, worker, loop)
            future.payload = worker.accept(job)
            futures.append(future)
        for i, worker in enumerate(workers):
            worker.room(len(range(i, len(futures), len(workers))))
        for i, future in enumerate(futures):
            workers[i % len(workers)].enqueue(future)
        if progress is not False:
            from .progress import show

            show(futures, progress)
        return [future.result() for future in futures] if sync else list(futures)

    # Taking results ---------------------------------------------------------------------

    def waitfor(
        self,
        *ids: _Name | JobFuture[Any],
        timeout: float | None = None,
        return_exceptions: bool = False,
        then: Callable[[list[Any]], object] | None = None,
    ) -> list[Any]:
        """Sleep until workers (or futures) are done; their unclaimed results, by worker, then job order.

        Without ids: all workers. The first error is raised, as `JobError` with the remote traceback, and
        what came after it stays unclaimed; `return_exceptions=True` puts errors into the list.
        `TimeoutError` after `timeout` seconds: the jobs go on and nothing is claimed. `then(results)` is
        called before returning. On an event loop's own thread: `RuntimeError`; there, await the futures.
        """
        refuse_to_block("waitfor")
        futures: list[JobFuture[Any]] = []
        for each in ids or self.ids():
            futures += [each] if isinstance(each, JobFuture) else self[each].unclaimed()
        if len(futures) == 1:
            futures[0].exception_or_cancel(timeout)
        elif pending := wait_for_futures(futures, timeout).not_done:
            raise TimeoutError(f"waitfor: {len(pending)} of {len(futures)} jobs not done after {timeout:g} s")
        results = []
        for future in futures:
            try:
                results.append(future.result(0))
            except (Exception, CancelledError) as error:
                if not return_exceptions:
                    raise
                results.append(error)
        if then is not None:
            then(results)
        return results

    def get_return(self, *ids: _Name) -> list[Any]:
        """The last result of each worker (all, without ids), without waiting; `None` when there is none."""
        return [self[i].result for i in ids or self.ids()]

    # State of workers -------------------------------------------------------------------

    def put(self, workers: Iterable[_Name] | None = None, **values: Any) -> list[JobFuture[None]]:
        """Give workers named values; jobs assigned afterwards read them as `shared["name"]`.

        To all workers and to those that come later, or to the given ones. Returns a future per worker
        and value, for those who want to know that it arrived.
        """
        made = [(("put", name), Job(keep_value, (name, value))) for name, value in values.items()]
        with self._lock:
            chosen = list(self) if workers is None else [self[w] for w in workers]
            return self._setups.run(chosen, made, for_all=workers is None)

    def everywhere(self, what: Callable[[], object] | str) -> list[JobFuture[None]]:
        """Run a function, or import a module by name, in each worker, now and in later ones."""
        job: Job[None] = Job(import_once, (what,)) if isinstance(what, str) else Job(run_once, (what,))
        with self._lock:
            return self._setups.run(list(self), [(("everywhere", what), job)], for_all=True)

    # The end ----------------------------------------------------------------------------

    def close_workers(self, *ids: _Name, timeout: float = 5.0) -> None:
        """Stop exactly these and take them out; a running job has `timeout` seconds to end."""
        self._stop([self[i] for i in ids], timeout)

    def remove(self, worker: _Name, timeout: float = 5.0) -> Worker:
        """Stop one worker, take it out and return it."""
        found = self[worker]
        self._stop([found], timeout)
        return found

    def close(self, timeout: float = 5.0) -> None:
        """Stop all: waiting jobs are cancelled, running ones have `timeout` seconds. Twice is harmless.

        After that a process is killed (its job fails with `WorkerError`); a thread cannot be stopped
        from outside and ends with its job, which is logged.
        """
        self._closed = True
        self._stop(list(self), timeout)
        self._deadlines.close()
        while self._loop_threads:
            self._loop_threads.pop().close(1.0)
        self._finalizer.detach()

    def close_soon(self) -> None:
        """`close` for a loop's own thread, at the end of a drain: running jobs get half a second."""
        self.close(0.5)

    def _stop(self, workers: Sequence[Worker], timeout: float) -> None:
        stop_workers(workers, timeout)
        with self._lock:
            for worker in workers:
                self._workers.pop(worker.id, None)


def _least_busy(workers: list[Worker]) -> list[Worker]:
    return sorted(workers, key=lambda w: w.waiting)


def processes(
    n: int = 1, kind: str = "thread", names: Sequence[str] = (), *, max_queue: int = MAX_QUEUE, **options: Any
) -> ProcessManager:
    """A manager of `n` workers of one kind: "thread", "process", "async", "cluster", or a registered one.

    Threads share one interpreter lock: for work that computes use "process". "cluster" takes the
    address of a Dask scheduler: `processes(4, "cluster", address="tcp://10.0.0.1:8786")`.

    >>> with processes(2, "process", ["left", "right"]) as manager:
    ...     manager.assign("left", new_job(sum, [1, 2]), sync=True)
    [3]
    """
    manager = ProcessManager()
    try:
        manager.add_workers(n, kind, names, max_queue=max_queue, **options)
    except BaseException:
        manager.close()
        raise
    return manager
