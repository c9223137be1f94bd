"""Threaded handlers: a bounded pool, and effects that happen on the loop in the order called.

Above connections and handlers. Packets run in the workers of the server's
ProcessManager (`servers/pool.py`), which is handed in; `Pool` is for stream handlers.
"""

from __future__ import annotations

import asyncio
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
    from ..pipeline import Pipeline
    from .schedule import Schedule

MOST = 1024
"""Jobs that may be queued; one more packet is counted `queue_full`."""

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

    With `ordered`, the packets of one client run one after the other.
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

    def submit(self, c: Any, handler: UDPHandler) -> bool:
        """Queue this packet for its handler. False when too many are. Loop thread only."""
        if len(self._open) >= self.most:
            return False
        job = PacketJob(self, c, handler)
        if handler.kind == "inline" and self.schedule is not None:
            job.worker = self.schedule.last
        if self.ordered:
            queue = self._queues.get(c.address)
            if queue is not None:
                self._open[id(job)] = job
                queue.append(job)
                return True
        try:
            self.pool.submit(job, job.worker)
        except WorkerError:  # its own queue is full, or it closes
            return False
        self._open[id(job)] = job
        if self.ordered:
            self._queues[c.address] = deque()
        return True

    @property
    def running(self) -> list[str]:
        """The handlers that have not ended, for messages."""
        return [job.pipeline.names[job.handler] for job in self._open.values()]

    def effect(self, fn: Callable[..., Any], *args: Any) -> None:
        """Call `fn(*args)` on the loop, after all effects before it. From any thread."""
        self._effects.append((fn, *args))
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
            fn, *args = self._effects.popleft()
            try:
                fn(*args)
            except Exception as error:
                self.pipeline.server.journal.event(
                    "effect", 40, f"an effect of a worker failed: {error}", None, error
                )

    def ended(self, job: PacketJob, word: str, error: BaseException | None) -> None:
        """A handler has ended, and all its effects have happened. Loop thread only."""
        if self._open.pop(id(job), None) is None:
            return  # counted as `stopping` already
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
            try:
                self.pool.submit(job, job.worker)
                return
            except WorkerError:
                self._open.pop(id(job), None)
                self.pipeline.endpoint.finished(job.c, "queue_full", False)
        del self._queues[client]

    def abandon(self) -> None:
        """The drain time is over: what has not ended counts as `stopping`."""
        for job in self._open.values():
            self.pipeline.endpoint.finished(job.c, "stopping", False)
        self._open.clear()


class PacketJob:
    """One packet on its way through a worker."""

    __slots__ = ("c", "handler", "pipeline", "runner", "worker")

    def __init__(self, runner: ThreadRunner, c: Any, handler: UDPHandler) -> None:
        self.runner = runner
        self.pipeline = runner.pipeline  # a reload may give the runner another one meanwhile
        self.c = c
        self.handler = handler
        self.worker: int | None = None
        """The worker that the schedule chose; None: any."""

    def run(self, worker: int) -> None:
        """Run the handler, in the thread of `worker`."""
        runner = self.runner
        pipeline = self.pipeline
        io = UDPIOConnection(self.c, worker, runner.effect, pipeline.handlers)
        word, failure = "handled", None
        try:
            pipeline.calls[self.handler](io)
        except Malformed:
            word = "malformed"
        except BaseException as error:
            word, failure = "handler_failed", error
        runner.effect(runner.ended, self, word, failure)
