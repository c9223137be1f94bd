"""The query log: one line of JSON for each answer, sampled, escaped, bounded (spec O5).

A thread writes; answering never waits for the disk. Imports question and result.
"""

from __future__ import annotations

import atexit
import json
import queue
import random
import threading
import time
from pathlib import Path

from . import rrtypes
from .question import Question
from .result import Result

MOST_WAITING = 10_000
LONGEST = 1024


class QueryLog:
    """Appends to a file. `sample` is the share of answers that are written; `lost` counts those dropped.

    >>> service.watchers.append(QueryLog(Path("queries.jsonl"), sample=0.01).note)
    """

    def __init__(self, path: Path, sample: float = 1.0) -> None:
        self.path = path
        self.sample = sample
        self.lost = 0
        self._queue: queue.Queue[str | None] = queue.Queue(MOST_WAITING)
        self._file = path.open("a", encoding="ascii")
        self._thread = threading.Thread(target=self._write, name="toolips_udp dns query log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def note(self, q: Question, result: Result) -> None:
        """One answer goes out."""
        if self.sample < 1.0 and random.random() >= self.sample:
            return
        line = json.dumps(
            {
                "time": round(time.time(), 6),
                "client": q.client.host,
                "transport": q.transport,
                "name": q.name[:300],
                "type": q.type,
                "rcode": rrtypes.rcode_name(result.rcode),
                "source": result.source,
                "microseconds": round((q.service.clock() - q.now) * 1e6),
                **({"rule": str(q.log["blocked"])[:200]} if "blocked" in q.log else {}),
                **({"ede": result.ede[0][0]} if result.ede else {}),
            }
        )
        try:
            self._queue.put_nowait(line[:LONGEST])
        except queue.Full:
            self.lost += 1

    def _write(self) -> None:
        while True:
            line = self._queue.get()
            if line is None:
                return
            self._file.write(line + "\n")
            if self._queue.empty():
                self._file.flush()

    def close(self) -> None:
        """Write what waits and close the file."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join(2.0)
        self._file.close()
        atexit.unregister(self.close)
