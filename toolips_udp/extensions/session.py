"""Session: clients with state, events, joins and leaves; for UDP clients and for pages.

A client is here from its first packet until it is silent for `timeout` seconds.
A named event runs its callback instead of the module's handler. Pages of HTTP
mode are in `pages.py`. Imports handlers and the floors below.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ..address import Address, AnyAddress
from ..clients import ClientTable
from ..connections.udp import UDPConnection
from ..errors import StartError
from ..handlers import UDPHandler
from .base import Extension

if TYPE_CHECKING:
    from ..handlers import Route
    from ..servers.base import Server, Timer

F = TypeVar("F", bound=Callable[..., Any])
Event = Callable[[Any], str | None]
NO_CALLBACK = "no_handler"
"""The word for a named event that nobody registered."""


class Member:
    """A UDP client as long as it is here; what `on_leave` gets."""

    __slots__ = ("address", "callbacks", "session", "timers")

    def __init__(self, address: Address, session: dict[Any, Any]) -> None:
        self.address = address
        self.session = session
        """Its state: the same mapping as `c.session`. Emptied after `on_leave`."""
        self.callbacks: dict[str, UDPHandler] = {}
        self.timers: set[Timer] = set()

    def __repr__(self) -> str:
        return f"<Member {self.address}>"


class Session(Extension):
    """Clients with state and events. Export one per module.

    >>> session = Session(timeout=60)
    >>> @session.on("move")
    ... def move(c):
    ...     c.session["x"] = c.text.split()[1]

    A client is here from its first packet until it is silent for `timeout`
    seconds, or until `max_clients` newer ones are; then its state, timers and own
    callbacks go and `on_leave` runs, once. `event(c)` names the event of a packet
    or gives None, for the handler; without it an event is the first word of
    `c.text`, if somebody registered that word. A named event without a callback
    counts as `no_handler`.
    """

    chooses = True  # `route` may name the handler of a packet

    def __init__(self, timeout: float = 600, max_clients: int = 100_000, event: Event | None = None) -> None:
        if not timeout > 0 or max_clients < 1:
            raise ValueError(
                f"a Session needs timeout above 0 and max_clients above 0, found {timeout} and {max_clients}"
            )
        self.timeout = float(timeout)
        self.max_clients = int(max_clients)
        self._event = event
        self._callbacks: dict[str, UDPHandler] = {}
        self._words: dict[str, int] = {}  # how many registered each word, for all or for one client
        self._joins: list[Callable[[Any], Any]] = []
        self._leaves: list[Callable[[Any], Any]] = []
        self._members = self._table()
        self._server: Server | None = None
        self._pages: Any = None

    def _table(self) -> ClientTable:
        return ClientTable(self.timeout, self.max_clients, self._gone)

    # -- what users register -------------------------------------------------

    @overload
    def on(self, name: str, fn: F, /, *, client: Any = ..., threaded: bool = ...) -> F: ...
    @overload
    def on(self, name: str, /, *, client: Any = ..., threaded: bool = ...) -> Callable[[F], F]: ...

    def on(self, name: str, fn: Any = None, /, *, client: Any = None, threaded: bool = False) -> Any:
        """Run `fn(c)` for the event `name`, instead of the handler: `@session.on("move")`.

        For everybody, or with `client` (a connection or an address) for that one,
        whose own callback wins; a client that is not here is a `LookupError`. A
        `def` runs in the turn, with `threaded=True` in the pool; `async def` is
        awaited. The function is returned unchanged.
        """
        if not isinstance(name, str) or not name:
            raise TypeError(f"an event is named by text, found {name!r}")
        if fn is None:
            return lambda function: self.on(name, function, client=client, threaded=threaded)
        callback = UDPHandler(fn, threaded=threaded)
        if threaded and self._server is not None and self._server.pool is None:
            raise StartError(
                f"the callback of {name!r} is threaded, but the server was started without a pool. "
                "Fix: start(..., threads=2), or register it before the start",
                code="no-threads",
            )
        if client is None:
            table = self._callbacks
        else:
            member = self._member(client)
            if member is None:
                raise LookupError(f"{_address(client)} is not here, so nothing can be registered for it")
            table = member.callbacks
        if name not in table:
            self._words[name] = self._words.get(name, 0) + 1
        table[name] = callback
        return fn

    def on_join(self, fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Run `fn(c)` with a client's first packet, or `fn(page)` when a page opens."""
        self._joins.append(fn)
        return fn

    def on_leave(self, fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Run `fn(client)` once when a client has left; it has `.address` and `.session`, its last state."""
        self._leaves.append(fn)
        return fn

    def drop(self, client: Any) -> None:
        """End a client now: state, timers, callbacks, chosen handler. Harmless when it is not here."""
        address = _address(client)
        member = self._members.remove(address)
        if member is not None:
            self._gone(address, member)
        if isinstance(client, UDPConnection):
            client.remove_handler()

    @property
    def clients(self) -> list[Address]:
        """The UDP clients that are here, the longest silent first."""
        return [member.address for _, member in self._members.items()]

    @property
    def threaded_callbacks(self) -> bool:
        """Whether a pool is needed."""
        return any(callback.kind == "threaded" for callback in self._callbacks.values())

    # -- pages -----------------------------------------------------------------

    @property
    def pages(self) -> Any:
        """The pages of HTTP mode, see `extensions/pages.py`."""
        if self._pages is None:
            from .pages import Pages

            self._pages = Pages(self)
        return self._pages

    @property
    def page_routes(self) -> list[Route]:
        """The script of pages and their WebSocket; HTTP mode serves them."""
        routes: list[Route] = self.pages.routes
        return routes

    def everyone(self) -> Any:
        """Change all open pages at once: `with session.everyone() as page: page.text("score", n)`."""
        return self.pages.everyone()

    # -- hooks -----------------------------------------------------------------

    def on_start(self, server: Server) -> None:
        """A restart begins with nobody."""
        if server.settings.kind == "process" and self.threaded_callbacks:
            raise StartError(
                "a Session's callback is threaded, but kind='process' runs handlers in other processes, "
                "where its client's state is not. Fix: kind='thread', or a callback that is not threaded",
                code="wrong-kind",
            )
        self._server = server
        self._members = self._table()
        self._pages = None
        server.client_timer = self._keep_timer
        server.every(min(1.0, self.timeout / 4), self._expire)

    def on_stop(self, server: Server) -> None:
        """Everybody leaves."""
        for address in list(self._members):
            member = self._members.remove(address)
            self._gone(address, member)
        if self._pages is not None:
            self._pages.close()
        self._server = None

    def route(self, c: Any) -> Any:
        """Each packet: its client is here; the callback of its event, if it has one."""
        if not isinstance(c, UDPConnection):
            return None
        address = c.address
        member = self._members.lookup(address, c.now)
        if member is None:
            member = Member(address, c.session)
            self._members.place(address, member, c.now)
            self._each(self._joins, c)
        if self._event is not None:
            name = self._event(c)
            if name is None:
                return None
        else:
            name = c.text.partition(" ")[0].strip()
            if name not in self._words:
                return None
        callback = member.callbacks.get(name) or self._callbacks.get(name)
        if callback is not None:
            return callback
        return None if self._event is None else NO_CALLBACK

    # -- comings and goings ------------------------------------------------------

    def _member(self, client: Any) -> Member | None:
        member: Member | None = self._members.peek(_address(client))
        return member

    def _expire(self) -> None:
        now = time.monotonic()
        self._members.expire(now)
        if self._pages is not None:
            self._pages.expire(now)

    def _gone(self, _address: Hashable, member: Member) -> None:
        for name in member.callbacks:
            self._forget(name)
        member.callbacks.clear()
        for timer in member.timers:
            timer.cancel()
        member.timers.clear()
        self.left(member)
        member.session.clear()

    def _forget(self, name: str) -> None:
        self._words[name] -= 1
        if not self._words[name]:
            del self._words[name]

    def joined(self, page: Any) -> None:
        """A page has opened."""
        self._each(self._joins, page)

    def left(self, client: Any) -> None:
        """A client or page has gone: tell it."""
        self._each(self._leaves, client)

    def _each(self, hooks: list[Callable[[Any], Any]], client: Any) -> None:
        for fn in hooks:
            try:
                fn(client)
            except Exception as error:
                assert self._server is not None
                text = f"{getattr(fn, '__qualname__', fn)} of a Session raised {type(error).__name__}"
                self._server.journal.event(text, 40, text, client.address, error)

    def _keep_timer(self, c: Any, timer: Timer) -> None:
        """Timers for a client end with its session."""
        member = self._member(c)
        if member is not None:
            member.timers = {each for each in member.timers if not (each.cancelled or each.calls)}
            member.timers.add(timer)


@overload
def on(target: Session, name: str, fn: F, /, *, client: Any = ..., threaded: bool = ...) -> F: ...
@overload
def on(target: Session, name: str, /, *, client: Any = ..., threaded: bool = ...) -> Callable[[F], F]: ...
@overload
def on(target: Any, component: Any, event: str, fn: F, /, *, threaded: bool = ...) -> F: ...
@overload
def on(target: Any, component: Any, event: str, /, *, threaded: bool = ...) -> Callable[[F], F]: ...


def on(target: Any, *args: Any, **options: Any) -> Any:
    """Bind a callback: to an element of a client's page, or to an event of a Session.

    - `@on(c, component, "click")`: when this visitor's page fires the event on the
      element (an HTML component with an id, or the id), the function runs here with
      the page in its hand. The module exports a `Session`.
    - `@on(session, "move")`: the same as `@session.on("move")`.

    >>> @route("/")
    ... def home(c):
    ...     button = htpy.button(id="go")["go"]
    ...     @on(c, button, "click")
    ...     def clicked(page):
    ...         page.style("go", color="red")
    ...     c.write(button)
    """
    if isinstance(target, Session):
        return target.on(*args, **options)
    sessions = [each for each in target.server.extensions if isinstance(each, Session)]
    if not sessions:
        raise StartError(
            "on(c, component, event) needs a Session. Fix: export session = Session() in the module",
            code="no-session",
        )
    return sessions[0].pages.bind(target, *args, **options)


def _address(client: Any) -> AnyAddress:
    return client.address if hasattr(client, "address") else Address.parse(client)
