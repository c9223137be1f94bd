"""Threaded handlers: a bounded pool, and effects that happen on the loop in the order called.

Above connections and handlers. Packets run in the workers of the server's
ProcessManager (`servers/pool.py`), which is handed in; `Pool` is for stream handlers.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..connections.udp import UDPIOConnection
from ..errors import WorkerError
from ..typed import Malformed

if TYPE_CHECKING:
    from ..handlers import UDPHandler
    from ..jobs import JobFuture
    from ..pipeline import Pipeline
    from .schedule import Schedule

MOST = 1024
"""Jobs that may be queued; one more packet is counted `queue_full`."""
GRAIN = 0.002
"""Seconds that a loop's clock may run behind its timers."""

Work = Callable[[int], None]


def default_size() -> int:
    """One thread per CPU core, at most 8."""
    return min(8, os.cpu_count() or 1)


class Pool:
    """Threads that run jobs, first in first out. A job is called with the number of its worker, from 2 on.

    Threads are made as they are needed and go on after the main script has ended.
    """

    def __init__(self, size: int, name: str = "toolips_udp pool") -> None:
        self.size = size
        self._name = name
        self._jobs: deque[Work] = deque()
        self._ready = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._closed = False

    def submit(self, job: Work) -> None:
        """Queue a job. Never blocks."""
        with self._ready:
            self._jobs.append(job)
            if self._idle >= len(self._jobs):
                self._ready.notify()
            elif len(self._threads) < self.size:
                number = len(self._threads) + 2
                thread = threading.Thread(
                    target=self._run, args=(number,), name=f"{self._name} {number}", daemon=True
                )
                self._threads.append(thread)
                thread.start()

    def close(self, wait: float = 5.0) -> bool:
        """End the threads when their jobs are done; False when one of them still runs after `wait` seconds."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
        for thread in self._threads:
            thread.join(wait)
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, number: int) -> None:
        while True:
            with self._ready:
                while not self._jobs:
                    if self._closed:
                        return
                    self._idle += 1
                    self._ready.wait()
                    self._idle -= 1
                job = self._jobs.popleft()
            job(number)
            del job


class ThreadRunner:
    """Runs handlers in a pool and brings what they do back to the loop.

    With `ordered`, the packets of one client run one after the other. A packet whose handler has not begun
    `timeout` seconds after it came is counted `stale`; one whose handler still runs then is counted
    `handler_failed`, and what that handler does from then on has no effect and is counted `stale_effects`.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        loop: asyncio.AbstractEventLoop,
        pool: Any,
        *,
        most: int = MOST,
        ordered: bool = False,
    ) -> None:
        self.pipeline = pipeline
        self.loop = loop
        self.pool = pool
        self.most = most
        self.ordered = ordered
        self.schedule: Schedule | None = None
        self._open: dict[int, PacketJob] = {}  # on the loop's thread only
        self._effects: deque[tuple[Any, ...]] = deque()
        self._rung = False
        self._queues: dict[Any, deque[PacketJob]] = {}
        self._due = math.inf  # when the clock rings next; never after the earliest deadline of what is open
        self._clock: asyncio.TimerHandle | None = None
        self._over = False

    def submit(self, c: Any, handler: UDPHandler) -> bool:
        """Queue this packet for its handler. False when too many are. Loop thread only."""
        if len(self._open) >= self.most:
            return False
        job = PacketJob(self, c, handler)
        if handler.kind == "inline" and self.schedule is not None:
            job.worker = self.schedule.last
        queue = self._queues.get(c.address) if self.ordered else None
        if queue is not None:
            queue.append(job)
        else:
            try:
                self.pool.submit(job, job.worker)
            except WorkerError:  # its own queue is full, or it closes
                return False
            if self.ordered:
                self._queues[c.address] = deque()
        self._open[id(job)] = job
        if handler.timeout is not None:
            job.due = self.loop.time() + handler.timeout
            if job.due < self._due:
                self._set_clock(job.due)
        return True

    @property
    def running(self) -> list[str]:
        """The handlers that have not ended, for messages."""
        return [job.pipeline.names[job.handler] for job in self._open.values()]

    def effect(self, job: PacketJob | None, fn: Callable[..., Any], *args: Any) -> None:
        """Call `fn(*args)` on the loop, after all effects before it, unless `job` is late by then. From any thread."""
        self._effects.append((job, fn, *args))
        if not self._rung:
            self._rung = True
            try:
                self.loop.call_soon_threadsafe(self.apply)
            except RuntimeError:
                pass  # the loop has ended; the server has counted this packet as `stopping`

    def apply(self) -> None:
        """Let everything happen that workers have asked for. Loop thread only."""
        self._rung = False
        for _ in range(len(self._effects)):
            job, fn, *args = self._effects.popleft()
            if job is not None and job.late:
                self._refuse()
                continue
            try:
                fn(*args)
            except Exception as error:
                self.pipeline.server.journal.event(
                    "effect", 40, f"an effect of a worker failed: {error}", None, error
                )

    def refuse(self) -> None:
        """Count an effect that a late handler asked for. From any thread."""
        self.effect(None, self._refuse)

    def _refuse(self) -> None:
        if not self._over:
            self.pipeline.endpoint.count("stale_effects")

    def ended(self, job: PacketJob, word: str, error: BaseException | None) -> None:
        """A handler has ended, and all its effects have happened. Loop thread only."""
        if self._open.pop(id(job), None) is None:
            return  # it was late, and is counted already
        if self.ordered:
            self._next(job.c.address)
        self.pipeline.endpoint.finished(job.c, word, False)
        if error is not None:
            job.pipeline.failed(job.c, error, job.handler)

    def _next(self, client: Any) -> None:
        """The packet of this client that waits longest, with `ordered`."""
        queue = self._queues[client]
        while queue:
            job = queue.popleft()
            if job.late:
                continue
            try:
                self.pool.submit(job, job.worker)
                return
            except WorkerError:
                self._open.pop(id(job), None)
                self.pipeline.endpoint.finished(job.c, "queue_full", False)
        del self._queues[client]

    # ---- deadlines ----

    def _set_clock(self, due: float) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        self._due = due
        if due < math.inf:
            self._clock = self.loop.call_at(due, self._ring)

    def _ring(self) -> None:
        """End what is late, and set the clock for the next. One look over what is open, once per deadline at most."""
        self.apply()  # what was done in time counts
        now = self.loop.time() + GRAIN
        for job in [job for job in self._open.values() if job.due <= now]:
            self._expire(job)
        self._set_clock(min((job.due for job in self._open.values()), default=math.inf))

    def _expire(self, job: PacketJob) -> None:
        doing = self.pool.expire(job) if job.future is not None else "waiting"
        if doing == "done" or self._open.pop(id(job), None) is None:
            return  # it ended in this moment: its effects are on their way
        job.late = True
        running = doing == "running"
        if self.ordered and job.future is not None:
            self._next(job.c.address)
        self.pipeline.endpoint.finished(job.c, "handler_failed" if running else "stale", False)
        if running:
            job.pipeline.failed(job.c, TimeoutError(), job.handler)

    def abandon(self) -> None:
        """The drain time is over: what has not ended counts as `stopping`, and has no effect any more."""
        for job in self._open.values():
            job.late = True
            self.pipeline.endpoint.finished(job.c, "stopping", False)
        self._open.clear()

    def close(self) -> None:
        """The drain is over: nothing is counted any more."""
        self.apply()
        self._over = True
        self._set_clock(math.inf)


class PacketJob:
    """One packet on its way through a worker."""

    __slots__ = ("c", "due", "future", "handler", "late", "pipeline", "runner", "worker")

    def __init__(self, runner: ThreadRunner, c: Any, handler: UDPHandler) -> None:
        self.runner = runner
        self.pipeline = runner.pipeline  # a reload may give the runner another one meanwhile
        self.c = c
        self.handler = handler
        self.due = math.inf
        """Loop time after which it is late."""
        self.late = False
        """Its end has been counted while it had not ended: what it does has no effect."""
        self.worker: int | None = None
        """The worker that the schedule chose; None: any."""
        self.future: JobFuture[Any] | None = None
        """Set by the pool; None while an earlier packet of an `ordered` client runs."""

    def run(self, worker: int) -> None:
        """Run the handler, in the thread of `worker`."""
        runner = self.runner
        pipeline = self.pipeline
        io = UDPIOConnection(self.c, worker, self._effect, self._check, pipeline.handlers)
        word, failure = "handled", None
        try:
            pipeline.calls[self.handler](io)
        except Malformed:
            word = "malformed"
        except BaseException as error:
            word, failure = "handler_failed", error
        runner.effect(None, runner.ended, self, word, failure)

    def _effect(self, fn: Callable[..., Any], *args: Any) -> None:
        if self.late:
            self._check()
        self.runner.effect(self, fn, *args)

    def _check(self) -> None:
        """Stop a handler that is late at its next word: nothing it does would have an effect."""
        if self.late:
            self.runner.refuse()
            raise WorkerError(
                f"{self.pipeline.names[self.handler]} goes on after its deadline (or the server's end): "
                "the packet has been counted, and nothing it does with the connection has an effect",
                code="late",
            )
