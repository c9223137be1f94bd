"""Messages: the server's side, as an extension of a module. `hosting.py` makes a server of its own of it.

Above the reception, operations, listeners and carriers. Decorators and verbs may be used on any thread; clients live on
the server's loop.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from . import frames, tokens, versions
from .broadcasting import Broadcast, Counts
from .carriers.udp import UdpCarrier
from .carriers.websocket import DEFAULT_PATH, page
from .errors import NotStarted
from .frames import Text
from .listeners import Listeners
from .log import Lines, let_uvicorn_speak
from .message import Message, PendingMessage
from .operations import Operation, Operations
from .protocol import Terms
from .reception import STRANGERS, Reception
from .sealing import need_cryptography

if TYPE_CHECKING:
    from ..servers.base import Server as Host

F = TypeVar("F", bound=Callable[..., Any])
MAX_MESSAGE = 1 << 20
SLICE = 100
"""Clients of a broadcast whose datagrams leave together: the first have theirs while the last are signed."""


class Messages(Reception):
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
        rate: int = 1_000_000,
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
            need_cryptography()  # now, not at the first login
        from .. import __version__

        self.lines = Lines(log_level)
        self.generated = not token
        self.token = token or self._generate(default_token_len, default_token_choices)
        self.hide_token = hide_token
        super().__init__(tokens.key_of(self.token), history, max_message)
        self.login_func = login_func
        self.terms = Terms(__version__, versions.check(minimum_version), secure)
        self.max_message, self.max_clients, self.max_queue = max_message, max_clients, max_queue
        self.slow, self.heartbeat, self.deadline = slow, float(heartbeat), float(deadline)
        self.max_in_flight, self.rate, self.sharded = max_in_flight, rate, sharded
        self.operations = Operations(supported_operations, unsupported_operations)
        self.listeners = Listeners()
        self.page_routes = (page(path, self.accept, max_message),)
        self._carrier = UdpCarrier(self.accept, max_message, max_clients + STRANGERS)
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
        return self.listeners.decorator("server", message, several, parameter, sys._getframe(1).f_locals)

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
        message = Message(content, data, self.history.next_id(), None, None)
        message.listeners = listeners
        body = frames.write(Text(message.id, content, data))
        if len(body) > self.longest:
            raise ValueError(
                f"a broadcast of {len(body):,} bytes is more than max_message ({self.longest:,})"
            )
        self.history.add(message)
        sent = Broadcast()
        self.on_loop(self._send_all, body, sent)
        return sent

    def _send_all(self, body: bytes, sent: Broadcast) -> None:
        counts: Counter[str] = Counter()
        for number, remote in enumerate(list(self.clients.values()), 1):
            counts[remote.deliver(body, True)] += 1
            if not number % SLICE:
                self._carrier.hurry()
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
        self.open_doors(self.deadline)
        self._carrier.begin(server, self._carrier_failed)
        self.longest = self._carrier.longest
        let_uvicorn_speak(any(mode.mode.name == "HTTP" for mode in server.modes), self.lines)

    def stages(self) -> list[Any]:
        """The peers' host, unless the module's Game has one."""
        return self._carrier.stages()

    def route(self, c: Any) -> bool | None:
        """Where no native stage runs, packets come here."""
        return self._carrier.route(c)

    async def settle(self, seconds: float) -> None:
        """Let the operations and listeners that run end, before a reload takes their clients away."""
        if self.work is not None:
            await self.work.finish(seconds)

    async def on_stop(self, server: Host) -> None:
        """Let what runs end, tell every client, and forget them."""
        running, self.work = self.work, None
        if running is not None:
            await running.finish(min(1.0, server.settings.drain))
        loop, self.loop = self.loop, None
        self._carrier.push()
        for remote in [*self._strangers, *self.clients.values()]:
            remote.kill("stopping")
        self._carrier.end()
        self.close_doors()
        if running is not None:
            await running.close()
        assert loop is not None
        self._thread = 0

    # ---- inside ----

    def _carrier_failed(self, peer: Any, error: BaseException) -> None:
        self.counts["handler_failed"] += 1
        self.lines.event(
            "error", "a message could not be taken", logging.ERROR, getattr(peer, "address", None), error
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'running' if self.loop is not None else 'not running'}>"


def _is_server(hint: Any) -> bool:
    if isinstance(hint, str):  # a hint that could not be resolved
        return hint.rpartition(".")[2] in ("Server", "Messages")
    return isinstance(hint, type) and issubclass(hint, Messages)


__all__ = ["MAX_MESSAGE", "Messages"]
