"""Server: one module, served in one or more modes, on one event loop.

Above pipeline and runners, below starting and serving. Owns the loop (a thread
of its own with uvloop, or the running one), the life cycle, drain, data, timers
and extensions.

Modes join through `ModeServer`; mode.py says how.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from ..address import Address
from ..asking import LOOPS
from ..counters import AGE_BOUNDS
from ..errors import StartError
from ..extensions.base import hook
from ..journal import Journal
from ..modes import Mode
from ..runners.threads import default_size
from . import doors, further, pressure
from .announcing import Announcing
from .binding import Binding
from .calls import Calls
from .duty import Duty
from .mode import MODE_CLASSES, Counts, ModeServer
from .reloading import Reloading
from .stopping import Stopping, maybe
from .timers import Timer, Timers
from .watchdog import Watchdog

if TYPE_CHECKING:
    from ..jobs import ProcessManager
    from ..manifest import Manifest
    from .admin import Admin
    from .control import Control
    from .options import Options

__all__ = ["MODE_CLASSES", "Counts", "ModeServer", "Server", "Timer"]


class Server(Announcing, Binding, Calls, Reloading, Stopping):
    """A module that is being served. Made by `start` and `serve`.

    `address` is the real address of the first mode, `addresses` maps each mode to
    its own. `data` is one mapping for all handlers; each operation on it is
    atomic. `counters` maps each word to a number. A context manager: leaving the
    block stops the server.
    """

    hands_over = False
    """Whether what extensions `export` at a reload goes to another process."""

    def __init__(
        self,
        modes: tuple[Mode, ...],
        manifest: Manifest,
        addresses: tuple[Address, ...],
        settings: Options,
        threads: int | None,
    ) -> None:
        self.manifest = manifest
        self.module = manifest.module
        self.settings = settings
        self.threads = threads
        self.journal = Journal(manifest.name)
        self.data: dict[Any, Any] = {}
        self.secret = os.urandom(32)
        """Random octets of this start, the same in all its workers; for keys that they must agree on."""
        self.duty = Duty(True)
        """Whether this process does what only one of them does; see duty.py."""
        self.extensions = tuple(manifest.extensions)
        self.handlers = ({} if manifest.main is None else {None: manifest.main}) | manifest.handlers
        self.loop: asyncio.AbstractEventLoop | None = None
        self.exit_code = 0
        self.ready = False
        """Whether it takes work: false before the start, from the first moment of a drain on, and after."""
        self.first_stages: list[Any] = []
        """Native stages before those of the extensions."""
        self.pressure: pressure.Pressure | None = None
        """Watches the memory, where its control group has a limit."""
        self.admin: Admin | None = None
        self.control: Control | None = None
        self._modes: list[ModeServer] = []
        self._counts = Counts(self._modes)
        self._timers = Timers(self)
        self._watchdog: Watchdog | None = None
        self._processes: ProcessManager | None = None
        self.client_timer: Callable[[Any, Timer], None] | None = None
        """Told of each `c.after`; set by a Session, which ends a client's timers with it."""
        self._making_manager = threading.Lock()
        self.pool: Any = None
        """The workers that handlers run in, or None; see pool.py."""
        self._thread: threading.Thread | None = None
        self._thread_id: int | None = None
        self._stop: asyncio.Event | None = None
        self._stop_asked = False
        self.ended = threading.Event()
        self._after: list[Any] = []  # extensions that have started, in order
        self._closers: list[Callable[[], Any]] = []
        self._task: asyncio.Task[None] | None = None
        self._reloading = asyncio.Lock()
        self._bind(modes, addresses)

    # ---- what users read ----

    @property
    def address(self) -> Address:
        """The real address of the first mode."""
        return self._modes[0].address

    @property
    def addresses(self) -> dict[Mode, Address]:
        """The real address of each mode; of several listeners of one mode, the first."""
        return {mode.mode: mode.address for mode in reversed(self._modes)}

    @property
    def modes(self) -> tuple[ModeServer, ...]:
        """What serves each mode."""
        return tuple(self._modes)

    @property
    def _further(self) -> list[ModeServer]:
        """What serves the addresses that extensions brought, in their order."""
        return [mode for mode in self._modes if mode.name]

    @property
    def counters(self) -> Mapping[str, int]:
        """Word to number, over all modes; always of this moment."""
        return self._counts

    @property
    def queue_ages(self) -> tuple[int, ...]:
        """How many datagrams had waited how long while the age drop was armed, by bucket of `AGE_BOUNDS`."""
        none = [0] * (len(AGE_BOUNDS) + 1)
        return tuple(map(sum, zip(none, *(mode.queue_ages or none for mode in self._modes), strict=True)))

    @property
    def in_flight(self) -> int:
        """Packets whose handler has not ended."""
        return sum(mode.in_flight for mode in self._modes)

    @property
    def running(self) -> bool:
        """Whether it serves, or still drains."""
        return self.loop is not None and not self.ended.is_set()

    @property
    def processes(self) -> ProcessManager:
        """The ProcessManager of this server: worker 1 is the main loop, the pool is 2, 3, ...

        It lives as long as the server: before the start and after the stop this is a `StartError`.
        """
        if self._processes is None:
            with self._making_manager:  # without a pool it is made when it is first asked for
                if self._processes is None:
                    if self.loop is None or self.ended.is_set():
                        raise StartError(
                            f"{self!r} does not run, so it has no workers. Fix: start it first",
                            code="not-running",
                        )
                    from .pool import bare_manager

                    self._processes = bare_manager(self.loop)
                    self._closers.append(self._processes.close_soon)
        return self._processes

    def __repr__(self) -> str:
        state = "serving" if self.ready else "draining" if self.running else "stopped"
        where = ", ".join(f"{mode.mode} {mode.address}" for mode in self._modes)
        return f"<Server {self.manifest.name} on {where}: {state}>"

    async def ask_others(
        self,
        name: str,
        arguments: Mapping[str, Any],
        content: bytes | None = None,
        *,
        timeout: float = 5.0,
        order: str = "",
    ) -> list[Any]:
        """What each other process of this server answers to a control command; of one process, nothing.

        `content` is given to the command as an argument of that name. With `order`, those that begin to
        serve later are told it too, before they do, in place of the last one of that kind. Who fails or does
        not answer in `timeout` seconds is left out.
        """
        return []

    # ---- life ----

    def run_in_thread(self) -> Server:
        """Serve on a loop in a thread of its own; returns when it serves. What the start raises is raised here."""
        started: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run,
            args=(started,),
            name=f"toolips_udp {self.manifest.name} {self.address}",
            daemon=True,
        )
        try:
            self._thread.start()
            started.result()
        except BaseException:
            if not (
                started.done() and started.exception()
            ):  # a signal: during the start, or just after its end
                self.stop()
            if self._thread.ident is not None:
                self._thread.join()
            raise
        return self

    def _run(self, started: Future[None]) -> None:
        try:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(self._life(started))
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
            else:
                self.exit_code = 1
                self.journal.say(logging.CRITICAL, "the server's loop ended with an error", None, error)
        finally:
            self.ended.set()

    async def _life(self, started: Future[None]) -> None:
        try:
            await self._open()
        except BaseException as error:
            self.ended.set()
            if started.set_running_or_notify_cancel():
                started.set_exception(error)
            return
        started.set_result(None)
        assert self._stop is not None
        await self._stop.wait()
        await self._close()

    async def _open(self) -> None:
        """Extensions in order, then the modes. When one fails, everything that had started is stopped."""
        self._stop = asyncio.Event()
        self._thread_id = threading.get_ident()
        self.loop = asyncio.get_running_loop()
        LOOPS.add(self.loop)
        try:
            await self._open_parts()
            await self._open_doors()
        except BaseException:
            await self._finish()
            raise
        self.ready = True
        self._timers.begin(self.loop)
        if self.settings.watchdog:
            self._watchdog = Watchdog(self, self.settings.watchdog)
            self._watchdog.start()
        self.pressure = pressure.watch(self)
        self._announce()
        self._tell_systemd()
        if self._stop_asked:
            self._stop.set()

    @property
    def takes_work(self) -> bool:
        """Whether it is ready, and not so short of memory that it refuses nearly all."""
        return self.ready and (self.pressure is None or self.pressure.level < 2)

    async def _open_parts(self) -> None:
        """The workers of the pool, the extensions in order, then the modes."""
        assert self.loop is not None
        if self.settings.kind not in ("thread", "process"):
            raise StartError(
                f"kind={self.settings.kind!r}: the pool of a server is made of 'thread' or 'process'",
                code="bad-setting",
            )
        size = self._pool_size()
        if size:
            from .pool import make_manager

            self._processes, self.pool = await make_manager(self, self.loop, size)
            self._closers.append(self._processes.close_soon)
        self._pin()
        for extension in self.extensions:
            begin = hook(extension, "on_start")
            self._after.append(extension)
            if begin is not None:
                try:
                    await maybe(begin(self))
                except BaseException:
                    self._after.pop()
                    raise
        await self._open_modes()

    def _pool_size(self) -> int:
        """Workers for handlers: what `threads` says, or as many as threaded handlers want."""
        if self.threads is not None:
            return self.threads - 1
        handlers = [self.manifest.main, *self.manifest.handlers.values()]
        threaded = any(h is not None and h.kind == "threaded" for h in handlers)
        threaded = threaded or any(getattr(each, "threaded_callbacks", False) for each in self.extensions)
        return default_size() if threaded else 0

    async def _open_modes(self) -> None:
        for mode in self._modes:
            await mode.open()

    async def _open_doors(self) -> None:
        """The admin listener and the control socket."""
        await doors.open_admin(self)
        await doors.open_control(self)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Server:
        if self.loop is None and not self.ended.is_set():
            await self._open_here()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is None:
            self._stop_asked = True
            self.call_soon(self._set_stop)
        else:
            self.stop(wait=False)
        await self.wait_stopped()
        if self._thread is not None:
            self._thread.join()

    async def _open_here(self) -> None:
        """Serve on the running loop."""
        started: Future[None] = Future()
        loop = asyncio.get_running_loop()

        async def life() -> None:
            try:
                await self._life(started)
            finally:
                self.ended.set()

        self._task = loop.create_task(life(), name=f"toolips_udp {self.manifest.name}")
        try:
            await asyncio.wrap_future(started)
        except BaseException:
            await asyncio.wait([self._task])
            raise

    def become(self, manifest: Manifest) -> None:
        """Serve another reading of the module; its extensions have started. On the loop's thread."""
        self.manifest = manifest
        self.extensions = tuple(manifest.extensions)
        self.handlers = ({} if manifest.main is None else {None: manifest.main}) | manifest.handlers
        self._after = list(manifest.extensions)
        for mode, listen in zip(self._further, further.brought(manifest), strict=True):
            mode.extension = listen.extension
        for mode in self._modes:
            mode.swap()

    def _pin(self) -> None:
        if self.settings.pin:
            pin_to(self.settings.pin[0])


def pin_to(core: int) -> None:
    """Keep this thread, and those it starts, on one core. `StartError` when that cannot be."""
    try:
        os.sched_setaffinity(0, {core})
    except (AttributeError, OSError, ValueError, OverflowError) as error:
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "none here"
        raise StartError(
            f"pin={core}: this thread cannot be kept on that core: {error}. Expected one of {cores}",
            code="bad-setting",
        ) from None


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.SelectorEventLoop()
    return uvloop.new_event_loop()
