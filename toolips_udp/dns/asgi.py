"""DNS over HTTPS as an ASGI app (RFC 8484; spec T4). Mount it in any web app, or let `listen` serve it.

Imports message and errors.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ..address import Address
from ..errors import FormatError
from . import rrtypes
from .message import Message

if TYPE_CHECKING:
    from .service import Service

MOST_BODY = 65_535
PATIENCE = 5.0
"""Seconds for the body of one request."""
CONTENT = b"application/dns-message"
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def asgi(service: Service, *, path: str | None = None) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """An ASGI app that answers DNS questions; every DNS reply is a 200.

    With `path`, other paths are 404. Transfers and updates are refused here.

    >>> app.mount("/dns-query", dns.asgi(service))
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            status, headers, body = await _answer(service, path, scope, receive)
            headers.append((b"content-length", str(len(body)).encode()))
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    return app


class Mounted:
    """What a question over HTTPS knows of its connection."""

    def __init__(self, scope: Scope) -> None:
        server = scope.get("server")
        self.listener = Address(server[0], server[1] or 0) if server else None


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _refused(status: int, text: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    extra = [(b"allow", b"GET, POST")] if status == 405 else []
    return status, [(b"content-type", b"text/plain"), *extra], text.encode()


async def _answer(
    service: Service, path: str | None, scope: Scope, receive: Receive
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    if path is not None and scope["path"] != path:
        return _refused(404, f"DNS is at {path}\n")
    headers = dict(scope["headers"])
    if scope["method"] == "POST":
        if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != CONTENT:
            return _refused(415, "expected content-type application/dns-message\n")
        try:
            async with asyncio.timeout(PATIENCE):
                packet = await _body(receive)
        except TimeoutError:
            return _refused(408, f"the body did not come within {PATIENCE:g} seconds\n")
        if len(packet) > MOST_BODY:
            return _refused(413, "a DNS message has at most 65535 octets\n")
    elif scope["method"] in ("GET", "HEAD"):
        pairs = [pair.partition(b"=") for pair in scope["query_string"].split(b"&")]
        text = next((value for key, _, value in pairs if key == b"dns"), b"")
        try:
            packet = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            packet = b""
    else:
        return _refused(405, "use GET or POST\n")
    if len(packet) < 12:
        return _refused(400, "no DNS message\n")
    host, port = (scope.get("client") or ("127.0.0.1", 0))[:2]
    reply = await service.reply(packet, Address(host, port), "https", Mounted(scope))
    if reply is None:
        return _refused(400, "not a DNS query\n")
    return (
        200,
        [(b"content-type", CONTENT), (b"cache-control", f"max-age={_lifetime(reply)}".encode())],
        reply,
    )


async def _body(receive: Receive) -> bytes:
    """All of it, or as much as shows that it is too much."""
    body, more = b"", True
    while more and len(body) <= MOST_BODY:
        part = await receive()
        body += part.get("body", b"")
        more = part.get("more_body", False) and part["type"] == "http.request"
    return body


def _lifetime(reply: bytes) -> int:
    """The lowest TTL of the answer, or what a negative answer may be kept."""
    try:
        message = Message.parse(reply)
    except FormatError:
        return 0
    if message.answer:
        return min(record.ttl for record in message.answer)
    soas = [
        min(r.ttl, int.from_bytes(r.data[-4:], "big")) for r in message.authority if r.type == rrtypes.SOA
    ]
    return min(soas, default=0)
