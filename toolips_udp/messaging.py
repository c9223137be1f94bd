"""The verbs as functions: respond, send, request, broadcast and what they need. Above connections, below servers."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

from .address import Address
from .asking import raw_bytes, request
from .connections.verbs import Verbs
from .errors import StartError, TooLong

__all__ = [
    "broadcast",
    "continue_connection",
    "get_args",
    "get_cookies",
    "get_headers",
    "get_ip",
    "get_ip4",
    "get_method",
    "get_post",
    "is_closed",
    "is_connected",
    "read",
    "read_all",
    "remove_handler",
    "request",
    "respond",
    "send",
    "set_handler",
]

LARGEST = 65_507
"""Bytes of the longest datagram over IPv4."""


def respond(c: Any, data: Any, *args: Any, **kwargs: Any) -> None:
    """Answer the client that sent the current packet.

    The answer is queued and leaves at the end of this turn, together with the
    other answers. Calling twice sends two datagrams, in order. Text is sent as
    UTF-8, a msgspec Struct in the kind of the packet. More than `c.max_reply`
    bytes raises `TooLong` here, in your handler.

    >>> @handler
    ... def main(c):
    ...     respond(c, b"pong")
    """
    c.respond(data, *args, **kwargs)


def send(*args: Any, keep_open: bool = False) -> Any:
    """Send one datagram.

    - `send(data, to)`: from a fresh socket with a free source port. With
      `keep_open=True` it returns the connected standard socket, with a timeout of
      1 s, for several exchanges; close it, or use it in a `with` block.
    - `send(c, data, to)`, `send(server, data, to)`, `send(module, data, to)`: out
      of a server's own socket, from any thread; a stopped one is a `StartError`.

    >>> send("hello friend", "127.0.0.1:3001")
    """
    if len(args) == 3:
        target, data, to = args
        return _speaker(target).send(data, to)
    if len(args) != 2:
        raise TypeError(f"send takes (data, to) or (c, data, to), found {len(args)} arguments")
    data, address = raw_bytes(args[0]), Address.resolve(args[1])
    sock = socket.socket(address.family, socket.SOCK_DGRAM)
    try:
        if keep_open:
            sock.settimeout(1.0)
            sock.connect(address.sockaddr())
            sock.send(data)
            return sock
        sock.sendto(data, address.sockaddr())
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError) and error.errno == errno.EMSGSIZE:
            raise TooLong(
                f"a datagram of {len(data):,} bytes to {address} is too long. Expected at most {LARGEST:,} bytes. "
                "Fix: send it in parts, or over TCP"
            ) from None
        raise
    sock.close()
    return None


def broadcast(target: Any, data: Any, to: Any = None, exclude: Any = ()) -> int:
    """One datagram to each of `to`, or to each client with a live session; the number queued. From any thread."""
    number: int = _speaker(target).broadcast(data, to, exclude)
    return number


def set_handler(c: Any, name: str, client: Any = None) -> None:
    """The next packet of this, or another, client goes to the handler called `name`. Raises `UnknownHandler`."""
    c.set_handler(name, client)


def remove_handler(c: Any, client: Any = None) -> None:
    """Back to the main handler. Harmless when none is set."""
    c.remove_handler(client)


def get_ip(c: Any) -> str:
    """The peer's host as text."""
    host: str = c.ip
    return host


def get_ip4(c: Any) -> Address:
    """The peer's `Address`: its host and the port that it sends from."""
    address: Address = c.address
    return address


def _reader(name: str, verb: bool) -> Callable[..., Any]:
    """The function form of a member of TCP and HTTP connections."""

    def call(c: Any, *args: Any, **kwargs: Any) -> Any:
        member = getattr(c, name)
        return member(*args, **kwargs) if verb else member

    call.__name__ = call.__qualname__ = name if verb else f"get_{name}"
    call.__doc__ = f"The same as `c.{name}{'(...)' if verb else ''}` of a TCP or HTTP connection."
    return call


get_args = _reader("args", False)
get_method = _reader("method", False)
get_headers = _reader("headers", False)
get_cookies = _reader("cookies", False)
read = _reader("read", True)
read_all = _reader("read_all", True)
is_connected = _reader("is_connected", True)
is_closed = _reader("is_closed", True)
continue_connection = _reader("continue_connection", True)


def get_post(c: Any) -> bytes:
    """The body of an HTTP request: `c.packet`."""
    body: bytes = c.packet
    return body


def _speaker(target: Any) -> Any:
    """What sends for `target`: a connection, a server, or the running server of a module.

    A module is told by what it is, not by what it has: it may have imported `respond`.
    """
    from .servers.base import Server
    from .starting import server_of

    if isinstance(target, Verbs | Server):
        return target
    module = target
    server = server_of(module)
    if server is None:
        raise StartError(
            f"{getattr(module, '__name__', module)!r} is not being served. Fix: start it, or use send(data, to)",
            code="not-running",
        )
    return server
