"""The ASGI callable of HTTP mode: a request in, a route's answer out, one word counted.

It would run under any ASGI server; `servers/http.py` runs it under uvicorn on our
listener. Needs the extra `http`. Above pipeline and routing.
"""

from __future__ import annotations

import asyncio
import http
import time
from collections.abc import Callable, MutableSequence
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

from ..connections.http import Connection
from ..connections.websocket import WebSocketConnection
from ..counters import DROPS, WORDS
from ..handlers import DEADLINE, Route, UDPHandler
from ..runners.deadline import within
from ..transports.stream import (
    BYTES_IN,
    BYTES_OUT,
    ENDED,
    HANDLED,
    HANDLER_FAILED,
    MALFORMED,
    NO_HANDLER,
    QUEUE_FULL,
    RECEIVED,
    SEND_QUEUED,
    SENT,
)
from ..typed import Malformed
from .http_stream import ABORT, WORD
from .routing import Router

if TYPE_CHECKING:
    from ..pipeline import Pipeline
    from .choosing import Choosing

DENIED = WORDS.index("denied")
Runner = Callable[[Callable[[Any], Any], Any], Any]


class Site:
    """A module's routes, handlers and extensions as an ASGI callable.

    `run(fn, c)` runs a blocking function in a thread and is awaited; it raises
    `QueueFull` when too many wait. `origins` may open WebSockets besides our own.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        routes: list[Route],
        choosing: Choosing,
        visitors: Any,
        run: Runner,
        counters: MutableSequence[int],
        *,
        max_body: int,
        max_unsent: int,
        origins: tuple[str, ...] = (),
    ) -> None:
        self.server = pipeline.server
        self.fold(pipeline, routes, choosing)
        self.visitors = visitors
        self.clock = time.monotonic
        self.counters = counters
        self.in_flight = 0
        self.in_thread = run
        self._max_body = max_body
        self._max_unsent = max_unsent
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    def fold(self, pipeline: Pipeline, routes: list[Route], choosing: Choosing) -> None:
        """Answer by these from the next request on; also at a reload."""
        self.pipeline = pipeline
        self.router = Router(routes)
        self.has_routes = bool(routes)
        self._own = Router(
            r for extension in pipeline.server.extensions for r in getattr(extension, "page_routes", ())
        )
        self.choosing = choosing

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """One request or WebSocket, from beginning to end."""
        counters = self.counters
        counters[RECEIVED] += 1
        self.in_flight += 1
        word = HANDLER_FAILED
        try:
            if scope["type"] == "websocket":
                word = await self._socket(scope, receive, send)
            else:
                word = await self._request(scope, receive, send)
        except asyncio.CancelledError:
            word = WORDS.index("stopping")
            raise
        finally:
            counters[scope.get(WORD, word)] += 1
            self.in_flight -= 1

    def count(self, word: str) -> None:
        """Something a visitor sent apart from requests has ended under `word`."""
        self.counters[RECEIVED] += 1
        self.counters[WORDS.index(word)] += 1

    def _refused(self, c: Connection) -> tuple[int, int] | None:
        """Status and word for a source that may not ask, or not so often."""
        for guard in self.pipeline.guards:
            word = guard(c.address, self.clock())
            if word is not None:
                return (429 if word == "limited" else 403), WORDS.index(word)
        return None

    # -- a request -----------------------------------------------------------

    async def _request(self, scope: dict[str, Any], receive: Any, send: Any) -> int:
        body, status = await self._body(scope, receive)
        c = Connection(self, scope, body)
        if status == 413:
            word = MALFORMED
            await self._error(c, 413, "")
        elif status:
            return MALFORMED  # the client left before its request was complete
        else:
            word = await self._answer(c)
        await self._send(c, receive, send)
        return word

    async def _body(self, scope: dict[str, Any], receive: Any) -> tuple[bytes, int]:
        length = None
        for name, value in scope["headers"]:
            if name == b"content-length":
                length = int(value) if value.isdigit() else -1
            elif name == b"transfer-encoding":
                length = -1
        if not length:
            return b"", 0
        if length > self._max_body:
            return b"", 413
        parts, size = [], 0
        while True:
            event = await receive()
            if event["type"] != "http.request":
                return b"", 400
            parts.append(event.get("body", b""))
            size += len(parts[-1])
            if size > self._max_body:
                return b"", 413
            if not event.get("more_body"):
                self.counters[BYTES_IN] += size
                return b"".join(parts), 0

    async def _answer(self, c: Connection) -> int:
        who: Any = None
        try:
            refused = self._refused(c)
            if refused is not None:
                await self._error(c, refused[0], "")
                return refused[1]
            for step in self.pipeline.steps:
                said = step(c)
                if said is False and c.answered:
                    return HANDLED
                if said is False or said in DROPS:
                    await self._error(c, 403, "")
                    return ENDED if said is False else WORDS.index(said)
            who = self._own.choose(c)[0]
            if who is None and not self.has_routes:
                who = self.choosing.pick(c)
                if who is not None:
                    await self._handle(c, who)
                    return HANDLED
            allowed: list[str] = []
            if who is None:
                who, allowed = self.router.choose(c)
            if who is None:
                headers = {"allow": ", ".join(allowed)} if allowed else {}
                await self._error(c, 405 if allowed else 404, "", headers)
                return NO_HANDLER
            await self._call(c, who)
            return HANDLED
        except HTTPException as error:
            await self._error(c, error.status_code, error.detail, dict(error.headers or {}))
            return NO_HANDLER if error.status_code == 404 else HANDLED
        except Malformed:
            await self._error(c, 400, "")
            return MALFORMED
        except QueueFull:
            await self._error(c, 503, "")
            return QUEUE_FULL
        except Exception as error:
            self.pipeline.failed(c, error, repr(who) if isinstance(who, Route) else who)
            await self._error(c, 500, "")
            return HANDLER_FAILED

    async def _call(self, c: Connection, route: Route) -> None:
        if route.is_async:
            result = await within(DEADLINE, route.fn(c))
        else:
            result = await self.in_thread(route.fn, c)
        if result is not None and not c.answered:
            c.respond(result)

    async def _handle(self, c: Connection, handler: UDPHandler) -> None:
        call = self.pipeline.calls[handler]
        if handler.kind == "async":
            await within(handler.timeout, call(c))
        else:
            await self.in_thread(call, c)

    async def _error(
        self, c: Connection, status: int, text: str, headers: dict[str, str] | None = None
    ) -> None:
        """Let the page of this status answer: a route called "404", "500" ..., else one line of text."""
        c.forget()
        c.status = status
        page = self.router.pages.get(status)
        if page is not None:
            try:
                await self._call(c, page)
            except Exception as error:
                self.pipeline.failed(c, error, repr(page))
                c.forget()
                c.status = status
        if not c.answered_with_body:
            c.respond(text or f"{status}: {http.HTTPStatus(status).phrase.lower()}")
        c.respond(None, status if c.status == 200 else c.status, headers)

    async def _send(self, c: Connection, receive: Any, send: Any) -> None:
        counters = self.counters
        counters[SEND_QUEUED] += 1
        if c.response is not None:
            for cookie in c.cookies_out:
                c.response.raw_headers.append((b"set-cookie", cookie))
            await c.response(c.scope, receive, send)
        else:
            status, headers, body = c.rendered()
            counters[BYTES_OUT] += len(body)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        counters[SENT] += 1

    # -- a WebSocket -----------------------------------------------------------

    async def _socket(self, scope: dict[str, Any], receive: Any, send: Any) -> int:
        c = WebSocketConnection(self, scope, receive, send, self._max_unsent, scope["state"].get(ABORT))
        if not self.is_own_origin(c):
            await c.refuse(403)
            return DENIED
        refused = self._refused(c)
        if refused is not None:
            await c.refuse(refused[0])
            return refused[1]
        route: Any = None
        try:
            for step in self.pipeline.steps:
                said = step(c)
                if said is False or said in DROPS:
                    await c.refuse(403)
                    return ENDED if said is False else WORDS.index(said)
            route = self._own.choose(c)[0] or self.router.choose(c)[0]
            if route is None:
                await c.refuse(404)
                return NO_HANDLER
        except Exception as error:
            self.pipeline.failed(c, error, route)
            await c.refuse(500)
            return HANDLER_FAILED
        if not await c.accept():
            return MALFORMED
        word = HANDLED
        try:
            await route.fn(c)
        except Exception as error:
            word = HANDLER_FAILED
            self.pipeline.failed(c, error, repr(route))
            c.close(1011)
        finally:
            await c.finish()
        return QUEUE_FULL if c.overrun else c.word or word

    def is_own_origin(self, c: Connection) -> bool:
        """Whether a browser opened this from our own pages, or it is no browser: then it sends no `Origin`."""
        origin = c.headers.get("origin")
        if origin is None:
            return True
        origin = origin.rstrip("/").lower()
        scheme = "https" if c.scope.get("scheme") in ("wss", "https") else "http"
        return origin == f"{scheme}://{c.headers.get('host', '').lower()}" or origin in self._origins


class QueueFull(Exception):
    """Too many requests wait for a thread."""
