"""The thread that starts the workers of a hardened server, for the loop's own thread has given up that right.

Imports nothing of ours. It lives as long as the server: the kernel tells a worker of the end
of the thread that started it (`PR_SET_PDEATHSIG`), not of the process.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Spawner:
    """Runs functions in a thread that was made before any right was given up."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="toolips_udp spawner", daemon=True)
        self._thread.start()

    def call(self, fn: Callable[[], T]) -> T:
        """What `fn()` returns or raises there; the caller waits."""
        future: Future[T] = Future()
        self._asked.put((future, fn))
        return future.result()

    def close(self) -> None:
        """End the thread. The workers that it started must be gone."""
        self._asked.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None:
            future, fn = asked
            try:
                future.set_result(fn())
            except BaseException as error:
                future.set_exception(error)
            del future, fn, asked
