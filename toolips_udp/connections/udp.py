"""UDPConnection and UDPIOConnection: one packet and everything a handler may do with it.

Above the ground floor and transports. `UDPConnection` has no state of its own:
the transports give the hot members (packet, respond, ...), this class the cold
ones. `UDPIOConnection` is the same interface in a worker; its effects happen on
the server's loop in the order called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from ..address import Address, AnyAddress
from ..asking import ask, request
from ..errors import TooLong, UnknownHandler, suggestion
from ..typed import encode, is_json
from .verbs import Verbs

if TYPE_CHECKING:
    from ..servers.base import Server

LARGEST = 65_507
"""Bytes of the largest datagram."""

Sendable = Any
"""`bytes`, `bytearray`, `memoryview`, text (sent as UTF-8) or a msgspec Struct."""


class UDPConnection(Verbs):
    """One datagram that came in, and what may be done with it.

    Hot members come from the transport: `packet` (the user's own `bytes`), `text`
    (UTF-8 with replacement, never raises), `view` (borrows the receive buffer,
    stays what it was), `ip`, `port`, `address`, `now` (monotonic seconds), `data`
    and `c["key"]` (the server's mapping), `session` (this client's, expires),
    `max_reply`, `server`, `respond`, `send`, `set_handler`, `remove_handler`.

    A connection may be kept after its handler: it stays what it is, and answers
    through it leave at once.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        server: Server
        packet: bytes
        text: str
        view: memoryview
        ip: str
        port: int
        address: Address
        now: float
        data: dict[Any, Any]
        session: dict[Any, Any]
        max_reply: int

        def respond(self, data: Sendable) -> None:
            """Answer the sender of this packet. Each call is one datagram, in order."""

        def send(self, data: Sendable, to: AnyAddress) -> None:
            """One datagram to any address, out of the server's own socket."""

        def set_handler(self, name: str, client: AnyAddress | None = None) -> None:
            """The next packet of this, or another, client goes to the handler called `name`."""

        def remove_handler(self, client: AnyAddress | None = None) -> None:
            """Back to the main handler. Harmless when none is set."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address} {len(self.packet)} bytes>"

    def write(self, *parts: Any) -> NoReturn:
        """Not on UDP: a datagram is one answer, not a stream. Raises `TypeError`."""
        raise TypeError("a UDP connection has no write, for a datagram is not a stream. Fix: c.respond(data)")

    def request(self, data: Sendable, to: AnyAddress, timeout: float = 1.0, retries: int = 0) -> Any:
        """Ask another server and wait for its answer: `await c.request(...)`.

        In an `async def` handler it is awaited, in a worker it blocks; in an inline
        `def` handler it raises `RuntimeError`, for it would hold every client.
        Raises `TimeoutError` after `timeout` seconds, tried 1 + `retries` times.
        """
        if asyncio.current_task() is None:
            raise RuntimeError(
                "c.request waits for an answer, and a def handler would hold every client meanwhile. "
                "Fix: make the handler async def and await it, or use @handler(threaded=True)"
            )
        return ask(self._bytes(data), Address.parse(to), timeout, retries)

    def _bytes(self, data: Any) -> Any:
        """What is sent for `data`: bytes-like as it is, text as UTF-8, a Struct in the kind of the packet."""
        if isinstance(data, bytes | bytearray | memoryview):
            return data
        if isinstance(data, str):
            return data.encode()
        if isinstance(data, msgspec.Struct):
            return encode(data, is_json(self.packet))
        raise TypeError(
            f"a datagram is bytes, text or a msgspec Struct, found {type(data).__name__}. "
            "Fix: str(value) or msgspec.msgpack.encode(value)"
        )


def unknown_handler(name: object, known: Iterable[str]) -> UnknownHandler:
    """The error for a handler name that the module does not have."""
    names = sorted(known)
    return UnknownHandler(
        f"no handler is called {name!r}. Found: {', '.join(map(repr, names)) or 'none'}."
        f"{suggestion(str(name), names)} Fix: @handler({name!r})"
    )


class PlainUDPConnection(UDPConnection):
    """What every connection in plain Python has of its `packet`, `address` and `data`."""

    __slots__ = ()

    @property
    def text(self) -> str:  # type: ignore[override]
        """The packet as UTF-8, with replacement."""
        return self.packet.decode("utf-8", "replace")

    @property
    def view(self) -> memoryview:  # type: ignore[override]
        """The packet without a copy."""
        return memoryview(self.packet)

    @property
    def ip(self) -> str:  # type: ignore[override]
        """The peer's host."""
        return self.address.host

    @property
    def port(self) -> int:  # type: ignore[override]
        """The peer's port."""
        return self.address.port

    def __getitem__(self, key: Any) -> Any:
        return self.data[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.data[key] = value

    def __delitem__(self, key: Any) -> None:
        del self.data[key]


class UDPIOConnection(PlainUDPConnection):
    """What a handler holds in a worker: the same interface, replayed on the server's loop.

    Made by the server from the connection of the main loop. Effects (`respond`,
    `send`, `set_handler`, `remove_handler`) happen on the loop in the order called.
    `data` and `session` are the server's own mappings in a thread. What raises on
    the main loop (`TooLong`, `UnknownHandler`, `TypeError`) raises here too, at
    the call. Once the handler's deadline has passed, each of these raises `WorkerError`
    (code "late") and has no effect.
    """

    __slots__ = (
        "_apply",
        "_c",
        "_check",
        "_known",
        "_session",
        "_worker",
        "address",
        "max_reply",
        "now",
        "packet",
        "server",
    )

    def __init__(
        self,
        c: UDPConnection,
        worker: int,
        apply: Callable[..., None],
        check: Callable[[], None],
        known: Iterable[str],
    ) -> None:
        self.server = c.server
        self.packet = c.packet
        self.address = c.address
        self.now = c.now
        self.max_reply = c.max_reply
        self._c = c
        self._worker = worker
        self._apply = apply
        self._check = check
        self._known = known
        self._session: dict[Any, Any] | None = None

    @property
    def data(self) -> dict[Any, Any]:  # type: ignore[override]
        """The server's mapping."""
        self._check()
        return self.server.data

    @property
    def session(self) -> dict[Any, Any]:  # type: ignore[override]
        """This client's mapping."""
        self._check()
        if self._session is None:
            self._session = self.server.on_loop(lambda: self._c.session)
        return self._session

    @property
    def worker(self) -> int:
        """The id of the worker that runs this."""
        return self._worker

    def respond(self, data: Sendable) -> None:
        """Answer the sender of this packet, from the server's loop."""
        self._apply(self._c.respond, self._whole(data, self.max_reply))

    def send(self, data: Sendable, to: AnyAddress) -> None:
        """One datagram to any address, from the server's loop."""
        self._apply(self._c.send, self._whole(data, LARGEST), Address.parse(to))

    def set_handler(self, name: str, client: AnyAddress | None = None) -> None:
        """The next packet of this, or another, client goes to the handler called `name`."""
        if name not in self._known:
            raise unknown_handler(name, self._known)
        self._apply(self._c.set_handler, name, client)

    def remove_handler(self, client: AnyAddress | None = None) -> None:
        """Back to the main handler."""
        self._apply(self._c.remove_handler, client)

    def request(self, data: Sendable, to: AnyAddress, timeout: float = 1.0, retries: int = 0) -> bytes:
        """Ask another server and block this worker until it answers. Raises `TimeoutError`."""
        return request(bytes(self._bytes(data)), to, timeout, retries)

    def _whole(self, data: Sendable, most: int) -> bytes:
        raw = bytes(self._bytes(data))  # the handler may go on to change its buffer
        if len(raw) > most:
            raise too_long(len(raw), self.address, most)
        return raw


def too_long(size: int, to: Address, most: int) -> TooLong:
    """The error for more bytes than one datagram holds."""
    return TooLong(f"a datagram of {size:,} bytes to {to} is too long. Expected at most {most:,} bytes")
