"""What TCP and HTTP have in common: a listening socket, its limits, its TLS, its counters.

Above transports; `tcp.py` and `http.py` build on it.
"""

from __future__ import annotations

import socket
import ssl
import sys
from array import array
from collections.abc import Mapping, MutableSequence
from typing import TYPE_CHECKING, Any

from ..address import Address
from ..counters import SIZE, WORDS
from ..errors import StartError
from ..pipeline import Pipeline
from ..transports.stream import Listener
from ..transports.stream_limits import StreamLimits
from .choosing import Choosing
from .mode import ModeServer

if TYPE_CHECKING:
    from .base import Server

BACKLOG = 1024
THREADS = 32
"""Most threads for `def` handlers, when `threads` does not say."""


class StreamMode(ModeServer):
    """A mode with one listening socket. See `ModeServer` for what is called when."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.sock: socket.socket | None = None
        self.listener: Listener | None = None
        self._totals: MutableSequence[int] = array("Q", bytes(8 * SIZE))
        self._tls = tls_context(server.settings.tls)

    def bind(self, address: Address) -> None:
        """Make and bind the socket, and listen."""
        self.adopt(listening_socket(address))

    def adopt(self, sock: socket.socket) -> None:
        """Serve a listening socket that was made elsewhere."""
        self.sock = sock
        self.address = Address.of(sock.getsockname())

    def count_in(self, counters: MutableSequence[int]) -> None:
        """Count in these from now on: memory that a supervisor reads."""
        self._totals = counters

    def press(self, level: int) -> None:
        """Refuse new connections; those that are open go on."""
        if self.listener is not None:
            self.listener.pressed = level > 0

    def halt(self) -> None:
        """Accept nothing more: another process does. Connections that are open go on until `drain`."""
        if self.listener is not None:
            self.listener.detach()

    def close(self) -> None:
        """Let go of the connections and the socket. The counters stay."""
        if self.listener is not None:
            self.listener.close()
        elif self.sock is not None:
            self.sock.close()

    @property
    def counters(self) -> Mapping[str, int]:
        """What was counted: connections on TCP, requests on HTTP."""
        return dict(zip(WORDS, self._totals, strict=False))

    def _folded(self) -> tuple[Pipeline, Choosing]:
        """The pipeline of the server's manifest, and who chooses among its handlers."""
        server = self.server
        pipeline = Pipeline(server.manifest, server)
        pipeline.on_error, pipeline.on_drop = server.settings.on_error, server.settings.on_drop
        return pipeline, Choosing(pipeline.main, pipeline.handlers, pipeline.chooser)


def listening_socket(address: Address) -> socket.socket:
    """A bound, listening TCP socket. Raises `OSError`."""
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # restart over connections that linger
        if address.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address.host == "::" else 1)
        sock.bind(address.sockaddr())
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def stream_limits(settings: Any, **changed: Any) -> StreamLimits:
    """The one limits object of a server's streams, from its settings."""
    names = ("max_connections", "max_per_address", "idle_timeout", "message_timeout", "max_unsent")
    given = {name: value for name in names if (value := getattr(settings, name)) is not None}
    try:
        return StreamLimits(**{**changed, **given})
    except ValueError as error:
        raise StartError(str(error), code="bad-setting") from None


def tls_context(tls: Any) -> ssl.SSLContext | None:
    """`tls` of `start`: an `ssl.SSLContext`, or the paths of certificate chain and key."""
    if tls is None or isinstance(tls, ssl.SSLContext):
        return tls
    try:
        certificate, key = tls if len(tls) == 2 else ("", "")
        for path in (certificate, key):
            open(path, "rb").close()  # its own errors name no file
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate, key)
    except (TypeError, ValueError, OSError) as error:
        raise StartError(
            f"tls={tls!r} cannot be used: {error}. "
            "Expected (certificate, key), two paths of PEM files, or an SSLContext",
            code="bad-tls",
        ) from None
    return context
