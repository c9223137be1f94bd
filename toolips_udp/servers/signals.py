"""SIGINT and SIGTERM: the first drains, the second ends at once. Below starting.

Handlers are installed only from the main thread, and the previous ones come back.
A script that ends after `start` keeps serving: the interpreter waits for its
threads first, and there a hook of ours waits for a signal.
"""

from __future__ import annotations

import _thread
import contextlib
import logging
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import Server

LOOK = 1.0
"""Seconds after which a signal that did not interrupt the wait is seen."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)

_kept: weakref.WeakSet[Server] = weakref.WeakSet()
_hooked = False
_terminated = False


class Answering:
    """While this block lasts, the first signal drains these servers, the second ends the process."""

    def __init__(self, *servers: Server) -> None:
        self._servers = servers
        self._before: dict[int, Any] = {}
        self.asked = False

    def __enter__(self) -> Answering:
        if threading.current_thread() is threading.main_thread():
            if hasattr(signal, "SIGHUP"):
                self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._reload)
            for number in SIGNALS:
                with contextlib.suppress(ValueError, OSError):
                    self._before[number] = signal.signal(number, self._answer)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            if before is not None:
                signal.signal(number, before)

    def wait_for(self, server: Server) -> None:
        """Until the server has stopped.

        Looks up now and then: a signal that comes between Python's last look at its
        flags and the wait itself, or that the kernel gives to another thread, does
        not interrupt a wait without an end, and would be answered never.
        """
        while not server.ended.wait(LOOK):
            pass

    def _reload(self, number: int, frame: FrameType | None) -> None:
        for server in self._servers:
            _thread.start_new_thread(_reload_and_tell, (server,))

    def _answer(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            _end_now(128 + number)
        self.asked = True
        for server in self._servers:
            if server.loop is None:
                continue  # not started yet: who starts it looks at `asked`
            # In a thread: the signal may have come while this one held a lock that a stop needs. A bare one, for
            # threading.Thread takes a lock of its own, which a second signal would wait for for ever.
            _thread.start_new_thread(server.stop, (False,))


def _reload_and_tell(server: Server) -> None:
    """SIGHUP: the new module, or the old one and a line that says why."""
    with contextlib.suppress(Exception):  # said by the server itself
        server.reload()


def keep_serving_after_main(server: Server) -> None:
    """The process goes on after the main script's last line, until a signal or the server's own stop."""
    global _hooked
    _kept.add(server)
    if not _hooked:
        _hooked = True
        # Imported first, so that its own hook, which refuses new work, runs after ours.
        import concurrent.futures.thread  # noqa: F401

        register: Callable[..., Any] | None = getattr(threading, "_register_atexit", None)
        if register is not None:
            register(_after_main)
    if threading.current_thread() is not threading.main_thread():
        return
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, _reload_kept)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)


def _reload_kept(number: int, frame: FrameType | None) -> None:
    """SIGHUP while the main script still runs."""
    for server in _kept:
        if server.running:
            _thread.start_new_thread(_reload_and_tell, (server,))


def _terminate(number: int, frame: FrameType | None) -> None:
    """SIGTERM while the main script still runs: unwind it, then drain in `_after_main`."""
    global _terminated
    if _terminated:
        _end_now(128 + number)
    if not any(
        server.running for server in _kept
    ):  # nothing is served any more: as if we had never been here
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    _terminated = True
    raise SystemExit(0)


def _after_main() -> None:
    servers = [server for server in _kept if server.running]
    if not servers:
        return
    failed = (
        getattr(sys, "last_type", None) is not None
    )  # the script ended with an uncaught error, or by Ctrl-C
    interactive = bool(sys.flags.interactive or hasattr(sys, "ps1"))
    with Answering(*servers) as signals:
        if failed or interactive or _terminated:
            for server in servers:
                server.stop(wait=False)
        for server in servers:
            signals.wait_for(server)
            server.stop()
    code = max(server.exit_code for server in servers)
    if code:
        _end_now(code)


def _end_now(code: int) -> None:
    """End without waiting for anybody: handlers that hang would hold a clean exit for ever."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)
