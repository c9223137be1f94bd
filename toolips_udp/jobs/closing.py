"""How workers end: all are told, then each is waited for. Imports its own room only; for the manager."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .deadlines import Deadlines
    from .tasks import LoopThread
    from .worker import Worker


def stop_workers(workers: Iterable[Worker], timeout: float) -> None:
    """Close them side by side; all together have `timeout` seconds."""
    until = time.monotonic() + timeout
    for worker in workers:
        worker.begin_close()
    for worker in workers:
        worker.end_close(max(0.0, until - time.monotonic()))


def close_all(workers: dict[int, Worker], loop_threads: list[LoopThread], deadlines: Deadlines) -> None:
    """What is left of a manager that nobody closed, when it is forgotten or the program ends."""
    stop_workers(list(workers.values()), 5.0)
    deadlines.close()
    workers.clear()
    while loop_threads:
        loop_threads.pop().close(1.0)
