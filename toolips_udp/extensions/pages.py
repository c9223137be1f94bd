"""Pages: Python callbacks for elements of a visitor's page, over a WebSocket.

`on(c, component, "click")` binds a function while the page is made; its answer
gets a script that connects back with a key nobody can guess. The key is tied to
the visitor's cookie and to our own origin, so neither another site nor another
visitor can use it. Needs the extra `http`. Used by `session.py`.
"""

from __future__ import annotations

import asyncio
import html
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload
from urllib.parse import urlsplit

import msgspec

from ..clients import ClientTable
from ..connections.http import Connection
from ..counters import WORDS
from ..handlers import Route, UDPHandler

if TYPE_CHECKING:
    from ..connections.websocket import WebSocketConnection
    from .session import Session

F = TypeVar("F", bound=Callable[..., Any])
PATH = "/_toolips_udp"
OPENING = 30.0
"""Seconds in which a page that was sent must connect, and in which one that was cut may come back."""
HELLO = 5.0
"""Seconds in which a WebSocket must show its key."""
MAX_CALLBACKS = 1000
"""Callbacks of one page."""

_SCRIPT = Path(__file__).with_name("page.js")
_PROPERTY = re.compile(r"-{0,2}[A-Za-z][A-Za-z0-9-]*")
_ATTRIBUTE = re.compile(r"[A-Za-z_:][A-Za-z0-9_.:-]*")
_WITH_CODE = ("href", "src", "action", "formaction", "xlink:href")


class Hello(msgspec.Struct):
    """The first message of a page."""

    key: str


class Fired(msgspec.Struct):
    """An event of a page: which callback, and what the element held."""

    number: int
    value: str = ""
    key: str = ""


class Changes:
    """What a callback changes: collected, and sent together at its end."""

    def __init__(self) -> None:
        self._changes: list[list[Any]] = []

    def text(self, element: Any, text: Any) -> None:
        """Replace what the element holds by text."""
        self._changes.append(["text", id_of(element), str(text)])

    def style(self, element: Any, **properties: Any) -> None:
        """Set CSS properties: `page.style("mainbod", background_color="red")`."""
        for name, value in properties.items():
            name = name.replace("_", "-")
            if not _PROPERTY.fullmatch(name):
                raise ValueError(f"{name!r} is not the name of a CSS property")
            self._changes.append(["style", id_of(element), name, str(value)])

    def attribute(self, element: Any, name: str, value: Any) -> None:
        """Set an attribute; None removes it. Those that would run code are a `ValueError`."""
        if not _ATTRIBUTE.fullmatch(name) or name.lower().startswith("on") or name.lower() == "srcdoc":
            raise ValueError(f"the attribute {name!r} cannot be set: it is no name, or it would run code")
        if value is not None and name.lower() in _WITH_CODE:
            check_url(str(value))
        self._changes.append(["attribute", id_of(element), name, None if value is None else str(value)])

    def append(self, element: Any, component: Any) -> None:
        """Add a component (or text, which is escaped) at the end of the element."""
        markup = str(component.__html__()) if hasattr(component, "__html__") else html.escape(str(component))
        self._changes.append(["append", id_of(element), markup])

    def remove(self, element: Any) -> None:
        """Take the element out of the page."""
        self._changes.append(["remove", id_of(element)])

    def alert(self, text: Any) -> None:
        """Show a message box."""
        self._changes.append(["alert", str(text)])

    def redirect(self, url: str) -> None:
        """Go to another address: a path, `http:` or `https:`."""
        self._changes.append(["redirect", check_url(url)])

    def taken(self) -> list[list[Any]]:
        """The changes so far, which are then forgotten."""
        changes, self._changes = self._changes, []
        return changes


class Page(Changes):
    """One page in one visitor's browser: what a callback holds.

    >>> @on(c, button, "click")
    ... def clicked(page):
    ...     page.text("count", int(page.session.get("n", 0)))

    What is changed leaves together when the callback ends. To change it at other
    times, use it as a context manager: `with page: page.text(...)`.
    """

    def __init__(self, pages: Pages, c: Connection, key: str) -> None:
        super().__init__()
        self.server = c.server
        self.address = c.address
        """Where the page was asked from."""
        self.session = c.session
        """The visitor's own mapping, the same as `c.session`."""
        self.value = ""
        """What the element of the current event held."""
        self.key = ""
        """The key of the current event, for keyboard events."""
        self._pages = pages
        self._site = c.site
        self._visitor = c.visitor
        self._secret = key
        self._callbacks: list[tuple[str, str, UDPHandler]] = []
        self._socket: WebSocketConnection | None = None
        self._joined = False

    def __repr__(self) -> str:
        return f"<Page of {self.address}{'' if self.is_open else ' closed'}>"

    @property
    def ip(self) -> str:
        """The visitor's host, as text."""
        return self.address.host

    @property
    def data(self) -> dict[Any, Any]:
        """The server's mapping."""
        mapping: dict[Any, Any] = self.server.data
        return mapping

    @property
    def is_open(self) -> bool:
        """Whether the browser is connected."""
        return self._socket is not None and self._socket.is_connected()

    def log(self, message: str, level: str | int = "info") -> None:
        """Say one line with server and visitor."""
        self.server.log(message, level, peer=self.address)

    @overload
    def on(self, component: Any, event: str, fn: F, /, *, threaded: bool = ...) -> F: ...
    @overload
    def on(self, component: Any, event: str, /, *, threaded: bool = ...) -> Callable[[F], F]: ...

    def on(self, component: Any, event: str, fn: Any = None, /, *, threaded: bool = False) -> Any:
        """Bind a callback to an element that is, or is about to be, on this page."""
        if fn is None:
            return lambda function: self.on(component, event, function, threaded=threaded)
        if not _ATTRIBUTE.fullmatch(event):
            raise ValueError(f"{event!r} is not the name of an event, as 'click'")
        if len(self._callbacks) >= MAX_CALLBACKS:
            raise ValueError(f"a page has at most {MAX_CALLBACKS} callbacks")
        self._callbacks.append((id_of(component), event, UDPHandler(fn, threaded=threaded)))
        if self._joined:
            self._changes.append(["bind", id_of(component), event, len(self._callbacks) - 1])
        return fn

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self.send()

    def send(self) -> None:
        """Send what was changed since the last time. From any thread."""
        changes = self.taken()
        if changes and self._socket is not None:
            self.deliver(msgspec.json.encode(changes).decode())

    def deliver(self, text: str) -> None:
        """Send a message that is encoded already."""
        if self._socket is not None:
            self.server.call_soon(self._socket.respond, text)

    def added_to(self, body: bytes) -> bytes:
        """The page with the script that connects it."""
        tag = f'<script src="{PATH}/page.js" data-key="{self._secret}"></script>'.encode()
        at = body.lower().rfind(b"</body>")
        return body + tag if at < 0 else body[:at] + tag + body[at:]

    # -- the WebSocket ---------------------------------------------------------

    async def live(self, c: WebSocketConnection) -> None:
        """The browser is connected, until it is not."""
        old, self._socket = self._socket, c
        if old is not None:
            old.close(1008)
        binds = [["bind", element, event, n] for n, (element, event, _) in enumerate(self._callbacks)]
        c.respond(msgspec.json.encode(binds).decode())
        if not self._joined:
            self._joined = True
            self._pages.session.joined(self)
            self.send()
        try:
            async for message in c.messages():
                await self._fired(message)
        finally:
            if self._socket is c:
                self._socket = None

    async def _fired(self, message: Any) -> None:
        count = self._site.count
        try:
            fired = _FIRED.decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError):
            count("malformed")
            return
        if not 0 <= fired.number < len(self._callbacks):
            count("no_handler")
            return
        callback = self._callbacks[fired.number][2]
        self.value, self.key = fired.value, fired.key
        try:
            if callback.kind == "async":
                await asyncio.wait_for(callback.fn(self), callback.timeout)
            elif callback.kind == "threaded":
                await self._site.in_thread(callback.fn, self)
            else:
                callback.fn(self)
        except Exception as error:
            self.taken()
            count("handler_failed")
            self._pages.failed(callback, error, self)
            return
        count("handled")
        self.send()


class Pages:
    """All pages of one Session."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.routes = [
            Route(f"{PATH}/page.js", self._script, methods=("GET", "HEAD")),
            Route(f"{PATH}/page", self._socket, methods=("WEBSOCKET",)),
        ]
        self._waiting = ClientTable(OPENING, session.max_clients, self._gone)  # not connected
        self._open: dict[bytes, Page] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Page]:
        return iter(tuple(self._open.values()))

    def bind(self, c: Any, component: Any, event: str, fn: Any = None, *, threaded: bool = False) -> Any:
        """See `toolips_udp.on`."""
        if isinstance(c, Page):
            return c.on(component, event, fn, threaded=threaded)
        if not isinstance(c, Connection):
            raise TypeError(f"on(c, component, event) needs a connection of HTTP mode or a page, found {c!r}")
        if c.page is None:
            c.page = self._made(c)
        return c.page.on(component, event, fn, threaded=threaded)

    def _made(self, c: Connection) -> Page:
        key = secrets.token_urlsafe(32)
        page = Page(self, c, key)
        c.server.on_loop(lambda: self._waiting.place(_digest(key), page, time.monotonic()))
        return page

    @contextmanager
    def everyone(self) -> Iterator[Changes]:
        """Changes for all open pages: encoded once, sent to each."""
        changes = Changes()
        yield changes
        listed = changes.taken()
        if listed:
            text = msgspec.json.encode(listed).decode()
            for page in self:
                page.deliver(text)

    def close(self) -> None:
        """The server stops: nobody comes back."""
        for digest in list(self._waiting):
            page = self._waiting.remove(digest)
            if page is not None:
                self._gone(digest, page)
        for page in self:
            self._gone(b"", page)
        self._open.clear()

    def expire(self, now: float) -> None:
        """Forget pages that did not connect, or did not come back."""
        self._waiting.expire(now)

    def _gone(self, _digest: Any, page: Page) -> None:
        if page._joined:
            page._joined = False
            self.session.left(page)

    # -- routes ------------------------------------------------------------------

    def _script(self, c: Connection) -> None:
        headers = {"content-type": "text/javascript; charset=utf-8", "cache-control": "max-age=3600"}
        c.respond(_SCRIPT.read_bytes(), headers=headers)

    async def _socket(self, c: Any) -> None:
        try:
            hello = _HELLO.decode(await asyncio.wait_for(c.read(), HELLO) or b"")
        except (TimeoutError, msgspec.DecodeError, UnicodeDecodeError) as error:
            c.word = WORDS.index("stale" if isinstance(error, TimeoutError) else "malformed")
            c.close(1008)
            return
        digest = _digest(hello.key)
        page = self._waiting.lookup(digest, time.monotonic()) or self._open.get(digest)
        known = c.site.visitors.known(c)
        if page is None or known is None or known is not page._visitor:
            c.word = WORDS.index("denied")
            c.close(1008)
            return
        self._waiting.remove(digest)
        self._open[digest] = page
        try:
            await page.live(c)
        finally:
            if not page.is_open and self._open.pop(digest, None) is not None:
                self._waiting.place(digest, page, time.monotonic())

    def failed(self, callback: UDPHandler, error: Exception, page: Page) -> None:
        """A callback raised: say it with the visitor."""
        name = f"callback {getattr(callback.fn, '__qualname__', callback.fn)} ({callback.place})"
        text = f"{name} raised {type(error).__name__}"
        page.server.journal.event(text, 40, text, page.address, error, "handler_failed")


_HELLO = msgspec.json.Decoder(Hello)
_FIRED = msgspec.json.Decoder(Fired)


class _FirstTag(HTMLParser):
    id: str | None = None
    done = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if not self.done:
            self.done = True
            self.id = dict(attrs).get("id")


def id_of(component: Any) -> str:
    """The id of an element: text as it is, or the `id` of a component's own tag.

    >>> id_of("mainbod")
    'mainbod'
    """
    if isinstance(component, str) and not hasattr(component, "__html__"):
        found: str | None = component
    else:
        chunks = component.iter_chunks() if hasattr(component, "iter_chunks") else [component.__html__()]
        parser = _FirstTag()
        for chunk in chunks:
            parser.feed(str(chunk))
            if parser.done:
                break
        found = parser.id
    if not found:
        raise ValueError(f"{component!r:.100} has no id. Fix: give it one, as in button(id='go')")
    return found


def check_url(url: str) -> str:
    """`url`, if a browser may be sent there: a path, `http:` or `https:`. `ValueError`."""
    clean = "".join(ch for ch in url if ch > " ")  # browsers drop line breaks and tabs inside a scheme
    if urlsplit(clean).scheme not in ("", "http", "https") or clean != url.strip():
        raise ValueError(f"{url!r} is no address to go to. Expected a path, http: or https:")
    return url.strip()


def _digest(key: str) -> bytes:
    import hashlib

    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
