"""One datagram of the portable transport, as a handler holds it. Imports connections and the ground floor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..address import Address, AnyAddress
from ..connections.udp import LARGEST, PlainUDPConnection, too_long

if TYPE_CHECKING:
    from .portable import Endpoint


class PortableUDPConnection(PlainUDPConnection):
    """One datagram in, in plain Python."""

    __slots__ = (
        "_bytes_out",
        "_view",
        "address",
        "answered",
        "endpoint",
        "local",
        "now",
        "packet",
        "worker_id",
    )

    def __init__(
        self, endpoint: Endpoint, packet: bytes, address: Address, now: float, local: Any = None
    ) -> None:
        self.endpoint = endpoint
        self.packet = packet
        self.address = address
        self.now = now
        self.local = local
        self.answered = False
        self._bytes_out = 0
        self.worker_id: int | None = None

    @property
    def listener(self) -> Address:
        """The `Address` of the socket that received the datagram."""
        return self.endpoint.address

    @property
    def server(self) -> Any:  # type: ignore[override]
        """The `Server` that received the datagram."""
        return self.endpoint.server

    @property
    def data(self) -> dict[Any, Any]:  # type: ignore[override]
        """The server's shared mapping."""
        found: dict[Any, Any] = self.endpoint.server.data
        return found

    @property
    def session(self) -> dict[Any, Any]:  # type: ignore[override]
        """This client's own dict; it ends after `session_timeout` seconds of silence."""
        return self.endpoint.session(self.address)

    @property
    def max_reply(self) -> int:  # type: ignore[override]
        """The most bytes that one `respond` takes."""
        ratio = self.endpoint.max_ratio
        return (
            LARGEST
            if ratio is None
            else max(0, min(LARGEST, int(ratio * len(self.packet)) - self._bytes_out))
        )

    def respond(self, data: Any) -> None:
        """Answer the client that sent this packet; see `toolips_udp.respond`."""
        if self.endpoint.max_ratio is not None:
            data = self._bytes(data)
            if len(data) > self.max_reply:
                raise too_long(len(data), self.address, self.max_reply)
            self._bytes_out += len(data)
        self.answered = True
        self.endpoint.push(data, self.address, self, self.local)

    def send(self, data: Any, to: AnyAddress) -> None:
        """Send one datagram to any address, out of the server's own socket."""
        self.answered = True
        self.endpoint.push(data, Address.parse(to), self, None)

    def set_handler(self, name: str, client: Any = None) -> None:
        """The next packet of this client, or of `client`, goes to the handler `name`."""
        self.endpoint.choose(self, name, client)

    def remove_handler(self, client: Any = None) -> None:
        """The next packet of this client, or of `client`, goes to the main handler again."""
        self.endpoint.choose(self, None, client)
