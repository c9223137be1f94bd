"""The clock of jobs that have a deadline: one thread per manager, made when the first such job comes.

Imports its own room. Owned by the manager, told by its workers.
"""

from __future__ import annotations

import heapq
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .job import JobFuture
    from .worker import Worker

TIDY = 1024
"""Entries after which those of jobs that have ended are thrown out."""


class Deadlines:
    """Calls `worker.expire(future)` when a future is late. Safe to use from any thread."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Worker, JobFuture[Any]]] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._tidy_at = TIDY

    def watch(self, worker: Worker, future: JobFuture[Any], seconds: float) -> None:
        """Have `future` end in `seconds` at the latest."""
        with self._changed:
            if self._closed:
                return
            if len(self._heap) >= self._tidy_at:
                self._heap = [entry for entry in self._heap if not entry[3].done()]
                heapq.heapify(self._heap)
                self._tidy_at = max(TIDY, 2 * len(self._heap))
            heapq.heappush(self._heap, (time.monotonic() + seconds, future.id, worker, future))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="toolips_udp-deadlines", daemon=True)
                self._thread.start()
            elif self._heap[0][3] is future:
                self._changed.notify()

    def close(self) -> None:
        """End the thread; deadlines that have not passed are forgotten."""
        with self._changed:
            self._closed = True
            self._heap.clear()
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed:
                    left = self._heap[0][0] - time.monotonic() if self._heap else None
                    if left is not None and left <= 0:
                        break
                    self._changed.wait(left)
                if self._closed:
                    return
                _when, _number, worker, future = heapq.heappop(self._heap)
            if not future.done():
                worker.expire(future)
            del worker, future
