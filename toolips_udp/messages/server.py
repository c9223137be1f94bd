"""Messages: the server's side, as an extension of a module. `hosting.py` makes a server of its own of it.

Above remotes, operations, listeners and carriers. Decorators and verbs may be used on any thread; clients live on
the server's loop.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import sys
import threading
import time
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ..extensions.base import Extension
from . import frames, tokens, versions
from .broadcasting import Broadcast, Counts
from .carriers.link import Link
from .carriers.udp import UdpCarrier
from .carriers.websocket import DEFAULT_PATH, page
from .errors import NotStarted
from .frames import Text
from .listeners import Listeners
from .log import Lines, let_uvicorn_speak
from .message import Message, PendingMessage
from .operations import Operation, Operations
from .protocol import ServerProtocol, Terms
from .remote import Executions, Remote
from .running import Running
from .throttle import Throttle

if TYPE_CHECKING:
    from ..servers.base import Server as Host

F = TypeVar("F", bound=Callable[..., Any])
MAX_MESSAGE = 1 << 20
STRANGERS = 1024
"""Connections that have not logged in; one more is refused."""
_TICK = 0.02


class Messages(Extension):
    """A message server as an extension: clients with the token run operations, send messages and get broadcasts.

    `token` is generated when it is missing or empty. `login_func(server, sent_token) -> bool` replaces the login;
    then clients send the token. `minimum_version` refuses older clients. `secure` seals everything
    (extra `secure`). `max_message` bytes of one message; `max_queue` bytes that wait for a slow client, then
    `slow="drop"` drops what is sent to it, `"disconnect"` ends it. `history` messages are kept for replies.
    `deadline` seconds for an operation or listener; `heartbeat` seconds of silence before a client is asked.
    `supported_operations`, `unsupported_operations`: see `Operations`. `log_level` is the least this server logs.

    >>> messages = Messages(token="test")
    >>> @messages.operation("add")
    ... def add(a: int, b: int) -> int:
    ...     return a + b
    """

    answers = True

    def __init__(
        self,
        token: str | None = None,
        *,
        login_func: Callable[[Any, str], Any] | None = None,
        minimum_version: str | None = None,
        default_token_len: int = tokens.DEFAULT_LENGTH,
        default_token_choices: str = tokens.DEFAULT_CHOICES,
        hide_token: bool = False,
        log_level: int | None = None,
        supported_operations: Iterable[str] | None = None,
        unsupported_operations: Iterable[str] | None = None,
        extra_operations: Mapping[str, Callable[..., Any]] | None = None,
        secure: bool = False,
        max_message: int = MAX_MESSAGE,
        max_clients: int = 10_000,
        max_queue: int = 1 << 20,
        slow: str = "drop",
        history: int = 1024,
        heartbeat: float = 5.0,
        deadline: float = 30.0,
        max_in_flight: int = 1024,
        rate: int = 200_000,
        path: str = DEFAULT_PATH,
        sharded: bool = False,
    ) -> None:
        numbers = {
            "max_message": max_message, "max_clients": max_clients, "max_queue": max_queue, "history": history,
            "heartbeat": heartbeat, "deadline": deadline, "max_in_flight": max_in_flight, "rate": rate,
        }  # fmt: skip
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise ValueError(f"{name} is {value!r}, expected a number above 0")
        if slow not in ("drop", "disconnect"):
            raise ValueError(f"slow is {slow!r}, expected 'drop' or 'disconnect'")
        if secure:
            import cryptography  # noqa: F401  # now, not at the first login
        from .. import __version__

        self.lines = Lines(log_level)
        self.generated = not token
        self.token = token or self._generate(default_token_len, default_token_choices)
        self.hide_token = hide_token
        self.login_func = login_func
        self.terms = Terms(__version__, versions.check(minimum_version), secure)
        self.max_message, self.max_clients, self.max_queue = max_message, max_clients, max_queue
        self.slow, self.heartbeat, self.deadline = slow, float(heartbeat), float(deadline)
        self.max_in_flight, self.rate, self.sharded = max_in_flight, rate, sharded
        self.clock: Callable[[], float] = time.monotonic
        self.counts: Counter[str] = Counter()
        self.operations = Operations(supported_operations, unsupported_operations)
        self.listeners = Listeners()
        self.executions = Executions()
        self.clients: dict[int, Remote] = {}
        """Those that are logged in, by id."""
        self.waiting: set[Remote] = set()
        self.paused = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self.page_routes = (page(path, self.accept, max_message),)
        self._history: OrderedDict[int, tuple[Message, weakref.ref[Remote] | None]] = OrderedDict()
        self._most_history = history
        self._strangers: set[Remote] = set()
        self._throttle = Throttle()
        self._carrier = UdpCarrier(self.accept, max_message, max_clients + STRANGERS)
        self._running: Running | None = None
        self._key = tokens.key_of(self.token)
        self._ids = 0
        self._remotes = 0
        self._lock = threading.Lock()
        self._thread = 0
        self._hooks: dict[str, Callable[..., Any]] = {}
        self._ticker: asyncio.TimerHandle | None = None
        self._next_beat = 0.0
        for name, fn in (extra_operations or {}).items():
            self._add(name, fn, None)

    def _generate(self, length: int, choices: str) -> str:
        made = tokens.generate(length, choices)
        bits = tokens.bits(length, choices)
        if bits < tokens.LEAST_BITS:
            text = f"a generated token of {length} characters has {bits:.0f} bits of randomness; 64 or more are safe"
            self.lines.say("token", text, logging.WARNING)
        return made

    # ---- decorators ----

    def operation(self, name: str | None = None) -> Callable[[F], F]:
        """Add an operation; the function's name is its name unless one is given. `def` runs in a thread.

        See `Operation` for what its parameters get. The function comes back unchanged.
        """
        if callable(name):
            raise TypeError("@server.operation is written with its parentheses: @server.operation('name')")
        names = sys._getframe(1).f_locals

        def add(fn: F) -> F:
            self._add(name or fn.__name__, fn, names)
            return fn

        return add

    def _add(self, name: str, fn: Callable[..., Any], names: Mapping[str, Any] | None) -> None:
        self.operations.add(Operation(name, fn, _is_server, names))

    def receive(
        self, message: str | Iterable[str] | None = None, several: Any = None, *, parameter: Any = None
    ) -> Callable[[F], F]:
        """Add a listener for a text, several texts, or (nothing) every message.

        It takes nothing, the message, or the message and its data, by position. `parameter` says what the data must
        be; a message that does not fit passes it over, with a warning. A `def` runs in a thread.
        """
        if callable(message):
            raise TypeError("@server.receive is written with its parentheses: @server.receive('hello')")
        if several is not None:
            texts = [message] if isinstance(message, str) else list(message or ())
            message = [*texts, *([several] if isinstance(several, str) else several)]
        names = sys._getframe(1).f_locals

        def add(fn: F) -> F:
            self.listeners.add(message, fn, parameter, names)
            return fn

        return add

    def on_join(self, fn: F) -> F:
        """`f(client)` when a client has logged in."""
        self._hooks["on_join"] = fn
        return fn

    def on_leave(self, fn: F) -> F:
        """`f(client, word)` when a client that had logged in has gone."""
        self._hooks["on_leave"] = fn
        return fn

    # ---- verbs ----

    def broadcast(self, content: str, data: Any = None) -> Broadcast:
        """Send a message to every client that is logged in, from any thread. It is queued when this returns.

        `await` what comes back, on any loop, or call its `result()`: how many delivered, queued, failed.
        Raises `NotStarted`, and what encoding the data raises.
        """
        return self._broadcast(content, data, None)

    def _broadcast(self, content: str, data: Any, listeners: Listeners | None) -> Broadcast:
        if self.loop is None:
            raise NotStarted("this server does not run, so there is nobody to send to. Fix: start it first")
        message = Message(content, data, self.next_id(), None, None)
        message.listeners = listeners
        body = frames.write(Text(message.id, content, data))
        if len(body) > self._carrier.longest:
            raise ValueError(
                f"a broadcast of {len(body):,} bytes is more than max_message ({self._carrier.longest:,})"
            )
        self.remember(message, None)
        sent = Broadcast()
        self.on_loop(self._send_all, body, sent)
        return sent

    def _send_all(self, body: bytes, sent: Broadcast) -> None:
        counts = Counter(remote.deliver(body, True) for remote in list(self.clients.values()))
        sent.future.set_result(Counts(counts["delivered"], counts["queued"], counts["failed"]))

    def message_later(self, content: str = "", data: Any = None) -> PendingMessage:
        """Prepare a broadcast with listeners for the replies; see `PendingMessage`."""

        async def send(pending: PendingMessage) -> Counts:
            return await self._broadcast(pending.content, pending.data, pending.listeners)

        return PendingMessage(content, data, send)

    pend_message = message_later

    def pause(self) -> None:
        """Refuse operations and messages until `resume`; clients stay connected."""
        self.paused = True

    def resume(self) -> None:
        """Take operations and messages again."""
        self.paused = False

    def status(self) -> list[dict[str, Any]]:
        """A snapshot of clients: id, address, state, version, seconds, in_flight, queued bytes."""
        now = self.clock()
        found = [*list(self._strangers), *list(self.clients.values())]
        return [
            {
                "id": each.id,
                "address": str(each.address),
                "state": each.state,
                "version": each.version,
                "seconds": max(0.0, now - each.joined_at) if each.joined_at else 0.0,
                "in_flight": each.in_flight,
                "queued": each.queued,
            }
            for each in sorted(found, key=lambda remote: remote.id)
        ]

    @property
    def counters(self) -> Mapping[str, int]:
        """What was counted: `login_failed`, `throttled`, `denied`, `replayed`, `malformed`, and so on."""
        return dict(self.counts)

    # ---- the extension ----

    def on_start(self, server: Host) -> None:
        """Take clients from now on, on this loop."""
        self.loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._running = Running(self.loop, self.deadline)
        self._carrier.begin(server, self._carrier_failed)
        self._next_beat = self.clock() + self.heartbeat / 4
        self._ticker = self.loop.call_later(_TICK, self._tick)
        let_uvicorn_speak(any(mode.mode.name == "HTTP" for mode in server.modes), self.lines)

    def stages(self) -> list[Any]:
        """The peers' host, unless the module's Game has one."""
        return self._carrier.stages()

    def route(self, c: Any) -> bool | None:
        """Where no native stage runs, packets come here."""
        return self._carrier.route(c)

    async def settle(self, seconds: float) -> None:
        """Let the operations and listeners that run end, before a reload takes their clients away."""
        if self._running is not None:
            await self._running.finish(seconds)

    async def on_stop(self, server: Host) -> None:
        """Let what runs end, tell every client, and forget them."""
        running, self._running = self._running, None
        if running is not None:
            await running.finish(min(1.0, server.settings.drain))
        loop, self.loop = self.loop, None
        self._carrier.push()
        for remote in [*self._strangers, *self.clients.values()]:
            remote.kill("stopping")
        self._carrier.end()
        if self._ticker is not None:
            self._ticker.cancel()
        if running is not None:
            await running.close()
        assert loop is not None
        self._thread = 0

    def accept(self, link: Link) -> None:
        """A carrier has a new link. Nothing is sent until it says something."""
        if len(self._strangers) >= STRANGERS or len(self.clients) >= self.max_clients or self.loop is None:
            self.counts["full"] += 1
            link.abort()
            return
        self._remotes += 1
        protocol = ServerProtocol(
            self.terms, self.clock(), self._carrier.longest, self.counts, token=self._key,
            custom=self.login_func is not None, address=str(link.address), source=link.host,
            throttle=self._throttle, random=os.urandom,
        )  # fmt: skip
        self._strangers.add(Remote(self, link, protocol, self._remotes))

    # ---- what remotes call ----

    def next_id(self) -> int:
        """An id for a message of this server."""
        with self._lock:
            self._ids += 1
            return self._ids

    def remember(self, message: Message, remote: Remote | None) -> None:
        """Keep a message that may be replied to. Of the one that it replies to, only the id was sent."""
        with self._lock:
            self._history[message.id] = (message, None if remote is None else weakref.ref(remote))
            while len(self._history) > self._most_history:
                self._history.popitem(last=False)

    def remembered(self, id: int, remote: Remote) -> Message | None:
        """A message that was sent to this client, or to all."""
        with self._lock:
            found = self._history.get(id)
        if found is None:
            return None
        message, to = found
        return message if to is None or to() is remote else None

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

    def run(self, coro: Any, ended: Callable[[BaseException | None], None]) -> None:
        """Run a coroutine, its first steps at once."""
        if self._running is None:
            coro.close()
            return
        self._running.run(coro, ended)

    def in_thread(
        self,
        fn: Callable[..., Any],
        given: tuple[Any, ...],
        named: dict[str, Any],
        done: Callable[[Any, Any], None],
    ) -> None:
        """Run a function in a thread; `done(value, error)` comes on the loop."""
        if self._running is not None:
            self._running.in_thread(fn, given, named, done)

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

    def judge(self, remote: Remote, token: str) -> None:
        """Ask the custom login."""
        verdict: list[bool] = [False]

        async def ask() -> None:
            assert self.login_func is not None
            if inspect.iscoroutinefunction(self.login_func):
                said = await self.login_func(self, token)
            else:
                said = await self.await_thread(self.login_func, (self, token))
                if inspect.isawaitable(said):
                    said = await said
            verdict[0] = bool(said)

        def ended(error: BaseException | None) -> None:
            if error is not None:
                text = f"the login function raised {type(error).__name__}, so the login failed"
                self.lines.event("login", text, logging.ERROR, remote.address, error)
            event = remote.protocol.decide(verdict[0] and error is None, self.clock())
            if event is not None:
                remote.happened(event)
            remote.flush()

        self.run(ask(), ended)

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
            self.lines.event("login", f"a client was not let in: {word}", level, remote.address)
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

        def ended(error: BaseException | None) -> None:
            if error is not None:
                self.counts["handler_failed"] += 1
                self.lines.event("error", f"{name} raised {type(error).__name__}", logging.ERROR, None, error)

        async def call() -> None:
            said = hook(*args)
            if inspect.isawaitable(said):
                await said

        self.run(call(), ended)

    def _carrier_failed(self, peer: Any, error: BaseException) -> None:
        self.counts["handler_failed"] += 1
        self.lines.event(
            "error", "a message could not be taken", logging.ERROR, getattr(peer, "address", None), error
        )

    def _tick(self) -> None:
        if self.loop is None:
            return
        self._ticker = self.loop.call_later(_TICK, self._tick)
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
        if now >= self._next_beat:
            self._next_beat = now + self.heartbeat / 4
            for remote in list(self.clients.values()):
                event = remote.protocol.keep_alive(now, self.heartbeat, 3 * self.heartbeat)
                if event is not None:
                    remote.happened(event)
                if remote.protocol.out:
                    remote.flush()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'running' if self.loop is not None else 'not running'}>"


def _is_server(hint: Any) -> bool:
    if isinstance(hint, str):  # a hint that could not be resolved
        return hint.rpartition(".")[2] in ("Server", "Messages")
    return isinstance(hint, type) and issubclass(hint, Messages)


__all__ = ["MAX_MESSAGE", "Messages"]
