"""The end of a server: drain, `on_stop`, freeing everything, and waiting for it. Below base.py."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
from typing import TYPE_CHECKING, Any, cast

from ..asking import LOOPS
from ..extensions.base import hook, title
from . import systemd

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..journal import Journal
    from ..manifest import Manifest
    from .base import Server
    from .mode import ModeServer
    from .options import Options
    from .timers import Timers
    from .watchdog import Watchdog

PATIENCE = 5.0
"""Seconds that `stop` waits after the drain time for a loop that somebody holds."""


class Stopping:
    """The part of `Server` that ends it."""

    if TYPE_CHECKING:
        loop: asyncio.AbstractEventLoop | None
        journal: Journal
        manifest: Manifest
        settings: Options
        ready: bool
        exit_code: int
        ended: threading.Event
        _after: list[Any]
        _closers: list[Callable[[], Any]]
        _modes: list[ModeServer]
        _stop: asyncio.Event | None
        _stop_asked: bool
        _task: asyncio.Task[None] | None
        _thread: threading.Thread | None
        _thread_id: int | None
        _timers: Timers
        _watchdog: Watchdog | None

        def call_soon(self, fn: Callable[..., Any], *args: Any) -> None: ...

    async def _close(self) -> None:
        """The drain, then everything in reverse order."""
        assert self.loop is not None
        self.ready = False
        systemd.notify("STOPPING=1")
        self._timers.end()
        until = self.loop.time() + self.settings.drain
        await asyncio.gather(*(self._drain_mode(mode, until) for mode in self._modes))
        names = [name for mode in self._modes for name in mode.unfinished]
        if names:
            self.exit_code = 1
            late = ", ".join(names[:10])
            text = f"the drain time of {self.settings.drain} s is over and these have not ended: {late}"
            self.journal.say(logging.ERROR, text, None, None, "stopping")
        await self._finish()

    async def _drain_mode(self, mode: ModeServer, until: float) -> None:
        try:
            await mode.drain(until)
        except Exception as error:
            self.exit_code = 1
            self.journal.say(logging.ERROR, f"the drain of {mode.mode} failed", None, error)

    async def _finish(self) -> None:
        self._timers.end()
        if self._watchdog is not None:
            self._watchdog.stop()
        while self._after:
            extension = self._after.pop()
            end = hook(extension, "on_stop")
            if end is None:
                continue
            try:
                await maybe(end(self))
            except Exception as error:
                who = f"{self.manifest.called(extension)} ({title(extension)})"
                text = f"on_stop of {who} raised {type(error).__name__}"
                self.journal.say(logging.ERROR, text, None, error)
        for closer in reversed(self._closers):
            with contextlib.suppress(Exception):
                await maybe(closer())
        self._closers.clear()
        for mode in self._modes:
            mode.close()
        self.journal.summary()
        if self.loop is not None:
            LOOPS.discard(self.loop)

    def stop(self, wait: bool = True) -> None:
        """Stop receiving, answer what is in flight (bounded), run `on_stop`, free the port.

        From another thread it returns when that is done; from a handler, or from a
        coroutine on the server's own loop, it returns at once and the stop follows.
        Calling it again does nothing.
        """
        if self._thread is None and self._task is None:  # it never began
            self.ended.set()
            self._unbind_now()
            return
        if not self._stop_asked:
            self._stop_asked = True
            if self.loop is not None:
                self.call_soon(self._set_stop)
        if wait and threading.get_ident() != self._thread_id:
            if not self.ended.wait(self.settings.drain + PATIENCE):
                self.exit_code = 1
                self.journal.say(
                    logging.ERROR, f"{self!r} does not stop: {self._stuck()} still holds the loop"
                )
                return
            if self._thread is not None:
                self._thread.join()

    close = stop

    def _unbind_now(self) -> None:
        for mode in self._modes:
            mode.close()

    def _set_stop(self) -> None:
        assert self._stop is not None
        self._stop.set()

    def _stuck(self) -> str:
        for mode in self._modes:
            handler = mode.running_handler
            if handler is not None:
                return f"handler {self.manifest.called(handler)} ({handler.place})"
        return "something"

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the server has stopped; False when `timeout` seconds were over first.

        In the main thread, without a timeout, SIGINT and SIGTERM drain the server
        meanwhile, and a second one ends the process.
        """
        if threading.get_ident() == self._thread_id:
            raise RuntimeError(
                "server.wait() on the server's own loop would never return. Fix: await server.wait_stopped()"
            )
        if timeout is not None:
            return self.ended.wait(timeout)
        from .signals import Answering

        server = cast("Server", self)
        with Answering(server) as signals:
            signals.wait_for(server)
        return True

    async def wait_stopped(self) -> None:
        """Wait, in a coroutine, until the server has stopped."""
        if self._task is not None:
            await asyncio.shield(self._task)
        while not self.ended.is_set():
            await asyncio.sleep(0.005)


async def maybe(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result
