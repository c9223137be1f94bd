"""Reception: who comes to a server, is let in, and goes. The half of `Messages` that clients see.

Above remotes, protocols and the throttle. Everything runs on the server's loop, but `on_loop`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from ..extensions.base import Extension
from .carriers.link import Link
from .errors import NotStarted
from .history import History
from .listeners import Listeners
from .log import Lines
from .operations import Operations
from .protocol import ServerProtocol, Terms
from .remote import Executions, Remote
from .running import Done, Running
from .throttle import Throttle

STRANGERS = 1024
"""Connections that have not logged in; one more is refused."""
NOT_LET_IN = {
    "login": "its token is wrong, or it did not speak as clients do",
    "late": "it did not log in in time",
    "version": "it is older than minimum_version",
}
"""Why, by the word that the connection ended with."""
_TICK = 0.02


class Reception(Extension):
    """Clients and strangers of one server. `longest` is how many bytes a frame may have, `key` stands for the token."""

    lines: Lines
    terms: Terms
    operations: Operations
    listeners: Listeners
    login_func: Callable[[Any, str], Any] | None
    slow: str
    heartbeat: float
    max_clients: int
    max_queue: int
    max_in_flight: int
    rate: int

    def __init__(self, key: bytes, history: int, longest: int) -> None:
        self.clock: Callable[[], float] = time.monotonic
        self.counts: Counter[str] = Counter()
        self.executions = Executions()
        self.history = History(history)
        self.clients: dict[int, Remote] = {}
        """Those that are logged in, by id."""
        self.waiting: set[Remote] = set()
        """Those for whom messages are queued here."""
        self.paused = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self.work: Running | None = None
        self.longest = longest
        self._key = key
        self._strangers: set[Remote] = set()
        self._throttle = Throttle()
        self._remotes = 0
        self._thread = 0
        self._hooks: dict[str, Callable[..., Any]] = {}
        self._ticker: asyncio.TimerHandle | None = None
        """Rings soon, while somebody logs in or waits; else not at all."""
        self._beat: asyncio.TimerHandle | None = None

    # ---- its loop ----

    def open_doors(self, deadline: float) -> None:
        """Take clients from now on, on the running loop."""
        self.loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.work = Running(self.loop, deadline)
        self._beat = self.loop.call_later(self.heartbeat / 4, self._keep_alive)

    def close_doors(self) -> None:
        """No timer rings any more."""
        for timer in (self._ticker, self._beat):
            if timer is not None:
                timer.cancel()
        self._ticker = self._beat = None

    def look_soon(self) -> None:
        """Somebody waits for a moment that no datagram brings."""
        if self._ticker is None and self.loop is not None:
            self._ticker = self.loop.call_later(_TICK, self._tick)

    def on_loop(self, function: Callable[..., Any], *args: Any) -> None:
        """Call something on the server's loop: now when this is it, else soon. `NotStarted` when it has ended."""
        if threading.get_ident() == self._thread:
            function(*args)
            return
        try:
            if self.loop is None:
                raise RuntimeError
            self.loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            raise NotStarted("this server does not run (any more)") from None

    def run(self, coro: Any, done: Done) -> None:
        """Run a coroutine, its first steps at once; `done(value, error)` comes on the loop."""
        if self.work is None:
            coro.close()
            return
        self.work.run(coro, done)

    def in_thread(
        self,
        fn: Callable[..., Any],
        given: tuple[Any, ...],
        named: dict[str, Any],
        done: Done,
    ) -> None:
        """Run a function in a thread; `done(value, error)` comes on the loop."""
        if self.work is not None:
            self.work.in_thread(fn, given, named, done)

    async def await_thread(self, fn: Callable[..., Any], given: tuple[Any, ...]) -> Any:
        """Run a function in a thread and wait for it."""
        found: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def done(value: Any, error: BaseException | None) -> None:
            if found.done():
                return
            if error is None:
                found.set_result(value)
            else:
                found.set_exception(error)

        self.in_thread(fn, given, {}, done)
        return await found

    # ---- who comes and goes ----

    def accept(self, link: Link) -> None:
        """A carrier has a new link. Nothing is sent until it says something."""
        if len(self._strangers) >= STRANGERS or len(self.clients) >= self.max_clients or self.loop is None:
            self.counts["full"] += 1
            link.abort()
            return
        self._remotes += 1
        protocol = ServerProtocol(
            self.terms, self.clock(), self.longest, self.counts, token=self._key,
            custom=self.login_func is not None, address=str(link.address), source=link.host,
            throttle=self._throttle, random=os.urandom,
        )  # fmt: skip
        self._strangers.add(Remote(self, link, protocol, self._remotes))
        self.look_soon()

    def judge(self, remote: Remote, token: str) -> None:
        """Ask the custom login."""

        async def ask() -> bool:
            assert self.login_func is not None
            if inspect.iscoroutinefunction(self.login_func):
                said = await self.login_func(self, token)
            else:
                said = await self.await_thread(self.login_func, (self, token))
                if inspect.isawaitable(said):
                    said = await said
            return bool(said)

        def done(right: bool | None, error: BaseException | None) -> None:
            if error is not None:
                text = f"the login function raised {type(error).__name__}, so the login failed"
                self.lines.event("login", text, logging.ERROR, remote.address, error)
            event = remote.protocol.decide(right is True and error is None, self.clock())
            if event is not None:
                remote.happened(event)
            remote.flush()

        self.run(ask(), done)

    def entered(self, remote: Remote) -> None:
        """A client has logged in."""
        session = remote.protocol.session
        assert session is not None
        if session.resumes:
            before = self.executions.entered(remote, session.instance)
            if before is not None:
                before.kill("replaced")
        self._strangers.discard(remote)
        remote.state, remote.joined_at = "connected", self.clock()
        self.clients[remote.id] = remote
        self.lines.event("client", "has logged in", logging.DEBUG, remote.address)
        self._hook("on_join", remote)

    def gone(self, remote: Remote, was: str, word: str) -> None:
        """A client's link has ended."""
        self._strangers.discard(remote)
        self.waiting.discard(remote)
        if self.clients.pop(remote.id, None) is None:
            level = logging.WARNING if word == "login" else logging.DEBUG
            why = NOT_LET_IN.get(word, f"it has gone: {word}")
            self.lines.event("login", f"a client was not let in: {why}", level, remote.address)
            return
        session = remote.protocol.session
        if session is not None and session.resumes:
            self.executions.left(remote, session.instance)
        self.lines.event("client", f"has gone: {word}", logging.DEBUG, remote.address)
        self._hook("on_leave", remote, word)

    # ---- inside ----

    def _hook(self, name: str, *args: Any) -> None:
        hook = self._hooks.get(name)
        if hook is None:
            return

        def done(_: Any, error: BaseException | None) -> None:
            if error is not None:
                self.counts["handler_failed"] += 1
                self.lines.event("error", f"{name} raised {type(error).__name__}", logging.ERROR, None, error)

        async def call() -> None:
            said = hook(*args)
            if inspect.isawaitable(said):
                await said

        self.run(call(), done)

    def _tick(self) -> None:
        """Logins that are late or were delayed, and what is queued for slow clients."""
        self._ticker = None
        now = self.clock()
        for remote in list(self._strangers):
            event = remote.protocol.tick(now)
            if event is not None:
                remote.happened(event)
            if remote.protocol.out:
                remote.flush()
        for remote in list(self.waiting):
            if remote.pump():
                self.waiting.discard(remote)
        if self._strangers or self.waiting:
            self.look_soon()

    def _keep_alive(self) -> None:
        """The heartbeat of every client."""
        if self.loop is None:
            return
        self._beat = self.loop.call_later(self.heartbeat / 4, self._keep_alive)
        now = self.clock()
        for remote in list(self.clients.values()):
            event = remote.protocol.keep_alive(now, self.heartbeat, 3 * self.heartbeat)
            if event is not None:
                remote.happened(event)
            if remote.protocol.out:
                remote.flush()
