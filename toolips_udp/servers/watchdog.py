"""The watchdog: names the handler that holds the loop. Below base.py.

A thread that looks 20 times a second whether a handler runs right now. Only then
it asks the loop for a sign of life; when none comes in time, it says which handler
stands where. The loop pays nothing while it is well.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import Server

PERIOD = 0.05


class Watchdog:
    """Watches the loop of one server."""

    def __init__(self, server: Server, limit: float) -> None:
        self._server = server
        self._limit = limit
        self._over = threading.Event()
        self._alive = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="toolips_udp watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for the end."""
        self._over.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    def _watch(self) -> None:
        server = self._server
        named: set[Any] = set()
        while not self._over.wait(PERIOD):
            handler = self._running()
            if handler is None or handler in named:
                continue
            self._alive.clear()
            asked = time.monotonic()
            server.call_soon(self._alive.set)
            if self._alive.wait(self._limit) or self._over.is_set():
                continue
            still = self._running()
            if still is None:
                continue
            named.add(still)
            self._say(still, time.monotonic() - asked)

    def _running(self) -> Any:
        for mode in self._server.modes:
            handler = mode.running_handler
            if handler is not None:
                return handler
        return None

    def _say(self, handler: Any, seconds: float) -> None:
        server = self._server
        name = server.manifest.called(handler)
        where = self._line()
        fix = "await what it waits for" if handler.kind == "async" else "@handler(threaded=True)"
        server.journal.say(
            logging.WARNING,
            f"handler {name} ({handler.place}) has held the loop for over {seconds * 1000:.0f} ms{where}, "
            f"and every client waits for it. Fix: {fix}",
        )

    def _line(self) -> str:
        frame = sys._current_frames().get(self._server._thread_id or 0)
        return f", now at {frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""
