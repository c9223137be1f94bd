"""Connection: one HTTP request and the answer that is being written to it.

The same object in an `async def` route on the loop and in a `def` route in a
thread: nothing leaves before the route has ended. Needs the extra `http`.
Imports the ground floor; `servers/http.py` makes it.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ..address import Address
from .verbs import StreamVerbs

if TYPE_CHECKING:
    from starlette.datastructures import Headers, QueryParams
    from starlette.requests import Request

TEXT = b"text/plain; charset=utf-8"
HTML = b"text/html; charset=utf-8"
JSON = b"application/json"
BYTES = b"application/octet-stream"

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_NOT_IN_HEADERS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

RawHeaders = list[tuple[bytes, bytes]]


class Connection(StreamVerbs):
    """One request of HTTP mode.

    >>> @route("/hello/{name}")
    ... def hello(c):
    ...     c.write("hello ", c.params["name"])

    What is written is sent when the route has ended. Text is `text/plain`, an
    HTML component (anything with `__html__`, as of `htpy`) makes a page, in
    which plain text is escaped; a dict, list or Struct is JSON.
    """

    __slots__ = (
        "_address",
        "_cookies_out",
        "_headers",
        "_headers_out",
        "_parts",
        "packet",
        "page",
        "params",
        "response",
        "scope",
        "site",
        "status",
        "visitor",
    )

    def __init__(self, site: Any, scope: dict[str, Any], packet: bytes = b"") -> None:
        self.site = site
        """What answers: the module's routes as an ASGI callable."""
        self.scope = scope
        """The ASGI scope, as it came."""
        self.packet = packet
        """The body, whole."""
        self.params: Mapping[str, Any] = {}
        """What stood in the path for `{name}`."""
        self.status = 200
        self.response: Any = None  # a Starlette response that takes the place of what was written
        self.page: Any = None  # made by Session when a callback is bound to this page
        self._address: Address | None = None
        self._headers: Headers | None = None
        self._headers_out: RawHeaders = []
        self._cookies_out: list[bytes] = []
        self._parts: list[Any] = []
        self.visitor: Any = None  # set when it is first asked for

    def __repr__(self) -> str:
        return f"<Connection {self.address} {self.method} {self.path}>"

    # -- the request -------------------------------------------------------

    @property
    def server(self) -> Any:
        """The server that serves this client; its data, peers and counters are within reach."""
        return self.site.server

    @property
    def address(self) -> Address:
        """The client's address; of the proxy's client, when the proxy is listed in `proxies`."""
        if self._address is None:
            self._address = Address.of(self.scope.get("client") or ("0.0.0.0", 0))
        return self._address

    @property
    def method(self) -> str:
        """`GET`, `POST` ...; `WEBSOCKET` for a WebSocket."""
        return str(self.scope.get("method", "WEBSOCKET"))

    @property
    def path(self) -> str:
        """The path, decoded, without the query."""
        return str(self.scope["path"])

    @property
    def headers(self) -> Headers:
        """The request's headers: a mapping, case does not matter."""
        if self._headers is None:
            from starlette.datastructures import Headers

            self._headers = Headers(raw=self.scope["headers"])
        return self._headers

    @property
    def host(self) -> str:
        """The host that was asked for: the `Host` header without its port."""
        name = self.headers.get("host", "")
        return name[: name.find("]") + 1] if name.startswith("[") else name.partition(":")[0]

    @property
    def args(self) -> QueryParams:
        """The query, decoded: a mapping; `getlist(name)` for names that stand there more than once."""
        from starlette.datastructures import QueryParams

        return QueryParams(self.scope.get("query_string", b"").decode("latin-1"))

    @property
    def post(self) -> dict[str, str]:
        """The fields of a form that was sent (`application/x-www-form-urlencoded`); else empty."""
        if not self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return {}
        return dict(urllib.parse.parse_qsl(self.text, keep_blank_values=True, max_num_fields=1000))

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that the client sent."""
        from starlette.requests import cookie_parser

        return cookie_parser(self.headers.get("cookie", ""))

    @property
    def starlette(self) -> Request:
        """The same request as Starlette's `Request`."""
        from starlette.requests import Request

        return Request(self.scope, _body_again(self.packet))

    @property
    def session(self) -> dict[str, Any]:
        """This visitor's own mapping. The first use sets a cookie; it expires as sessions on UDP do."""
        visitor: dict[str, Any] = self.site.visitors.of(self).values
        return visitor

    @property
    def now(self) -> float:
        """Monotonic seconds."""
        return float(self.site.clock())

    # -- the answer --------------------------------------------------------

    @property
    def answered(self) -> bool:
        """Whether anything has been written."""
        return bool(self._parts) or self.response is not None or self.status != 200

    @property
    def answered_with_body(self) -> bool:
        """Whether anything but a status has been written."""
        return bool(self._parts) or self.response is not None

    @property
    def cookies_out(self) -> list[bytes]:
        """The cookies that the answer will set."""
        return self._cookies_out

    def forget(self) -> None:
        """Throw away what was written, but for its cookies."""
        self._parts.clear()
        self._headers_out = []
        self.response = self.page = None
        self.status = 200

    def write(self, *parts: Any) -> None:
        """Append to the answer: text, bytes, HTML components; other values as `str()`."""
        self._parts.extend(parts)

    def respond(
        self, data: Any = "", status: int | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """Append `data` to the answer; set its status and headers.

        Called twice, the bodies are joined and the later status counts. A
        Starlette response takes the place of all that was written.
        """
        if callable(data) and hasattr(data, "raw_headers"):
            self.response = data
        elif data is not None:
            self._parts.append(data)
        if status is not None:
            if not 200 <= status <= 599:
                raise ValueError(f"{status} is not the status of an answer. Expected 200 to 599")
            self.status = status
        for name, value in (headers or {}).items():
            if not _HEADER_NAME.fullmatch(name) or _NOT_IN_HEADERS.search(value):
                raise ValueError(f"{name!r}: {value!r} is no header. Expected a name and one line of text")
            raw = (name.lower().encode("latin-1"), value.encode("latin-1"))
            if raw[0] not in (b"set-cookie", b"link"):
                self._headers_out = [each for each in self._headers_out if each[0] != raw[0]]
            self._headers_out.append(raw)

    def set_cookie(self, name: str, value: str, *, seconds: int | None = None) -> None:
        """Give the client a cookie: not readable by scripts, not sent by other sites, only over TLS on TLS."""
        from http.cookies import SimpleCookie

        cookie: SimpleCookie = SimpleCookie()
        cookie[name] = value
        cookie[name].update({"path": "/", "httponly": "1", "samesite": "Lax"})
        if seconds is not None:
            cookie[name]["max-age"] = str(seconds)
        if self.scope.get("scheme") in ("https", "wss"):
            cookie[name]["secure"] = "1"
        self._cookies_out.append(cookie.output(header="").strip().encode("latin-1"))

    def set_handler(self, name: str, client: Any = None) -> None:
        """The next request of this, or another, client goes to the handler called `name`."""
        self.site.choosing.set(self, name, client)

    def remove_handler(self, client: Any = None) -> None:
        """Back to the main handler."""
        self.site.choosing.remove(self, client)

    def rendered(self) -> tuple[int, RawHeaders, bytes]:
        """Status, headers and body of what was written."""
        kind, body = _joined(self._parts)
        if self.page is not None and kind is HTML:
            body = self.page.added_to(body)
        headers = self._headers_out
        names = {name for name, _ in headers}
        own: RawHeaders = [(b"content-length", b"%d" % len(body))]
        if b"content-type" not in names and body:
            own.append((b"content-type", kind))
        if b"x-content-type-options" not in names:
            own.append((b"x-content-type-options", b"nosniff"))
        own += [each for each in headers if each[0] != b"content-length"]
        own += [(b"set-cookie", cookie) for cookie in self._cookies_out]
        return self.status, own, body


def _joined(parts: list[Any]) -> tuple[bytes, bytes]:
    """The content type and the bytes of what was written."""
    if len(parts) == 1:
        part = parts[0]
        if isinstance(part, str) and not hasattr(part, "__html__"):
            return TEXT, part.encode()
        if isinstance(part, bytes | bytearray | memoryview):
            return BYTES, bytes(part)
        if isinstance(part, msgspec.Struct | dict | list):
            return JSON, msgspec.json.encode(part)
    if any(hasattr(part, "__html__") for part in parts):
        return HTML, "".join(map(_as_html, parts)).encode()
    if any(isinstance(part, bytes | bytearray | memoryview) for part in parts):
        return BYTES, b"".join(map(_as_bytes, parts))
    return TEXT, "".join(map(str, parts)).encode()


def _as_bytes(part: Any) -> bytes:
    return bytes(part) if isinstance(part, bytes | bytearray | memoryview) else str(part).encode()


def _as_html(part: Any) -> str:
    """A component as its HTML, anything else as escaped text."""
    from html import escape

    if hasattr(part, "__html__"):
        return str(part.__html__())
    if isinstance(part, bytes | bytearray | memoryview):
        return escape(bytes(part).decode("utf-8", "replace"))
    return escape(str(part))


def _body_again(body: bytes) -> Any:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
