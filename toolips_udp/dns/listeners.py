"""More addresses of one service: UDP and TCP, DoT, DoH (spec T1 to T4, T6).

`brought` says which sockets the service wants; the server, or the supervisor of several workers, opens and
keeps them. Here is what serves them. Imports the servers' modes, listen and errors; `https` when it is asked for.
"""

from __future__ import annotations

import importlib
import logging
import ssl
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from ..address import Address
from ..errors import StartError
from ..modes import TCP, UDP
from ..servers.further import Listen
from ..servers.listening import StreamMode
from ..servers.tcp import TCPMode
from .listen import split

if TYPE_CHECKING:
    from .service import Service

log = logging.getLogger("toolips_udp.dns")

FRESH_TICKETS = 6 * 3600.0
"""Seconds until session tickets are made with other keys."""


def tls_context(paths: tuple[str, str] | None, protocols: Iterable[str]) -> ssl.SSLContext:
    """A server's context: TLS 1.2 or later, these application protocols. `StartError` when the paths are no use."""
    if paths is None:
        raise StartError(
            "tls:// and https:// need a certificate: Service(tls=('cert.pem', 'key.pem')).", code="bad-tls"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(protocols))
    try:
        context.load_cert_chain(*paths)
    except (OSError, ssl.SSLError) as error:
        raise StartError(
            f"TLS needs a certificate and its key: {', '.join(paths)} cannot be used ({error}).",
            code="bad-tls",
        ) from None
    return context


class Encrypted(StreamMode):
    """What has a certificate: its context is made anew, never changed, so that a bad file changes nothing.

    A fresh context has fresh ticket keys. A client that comes with an older ticket, or one of another worker,
    makes a whole handshake: Python's `ssl` gives no way to set the keys.
    """

    protocols: ClassVar[tuple[str, ...]]

    def __init__(self, server: Any, service: Service) -> None:
        super().__init__(server)
        self.extension = service
        self.renew()

    def renew(self) -> None:
        """Read certificate and key again; connections from now on use them. `StartError`, and the old ones stay."""
        self._tls = tls_context(self.extension.tls, self.protocols)
        if self.listener is not None:
            self.listener.tls = self._tls

    async def open(self) -> None:
        await super().open()
        self.server.every(FRESH_TICKETS, self._renewed)

    def swap(self) -> None:
        super().swap()
        self._renewed()

    def _renewed(self) -> None:
        try:
            self.renew()
        except StartError as wrong:
            log.error("%s keeps its certificate: %s", self.name, wrong)


class DoT(Encrypted, TCPMode):
    """DNS over TLS: what TCP mode serves, encrypted (RFC 7858)."""

    protocols = ("dot",)


def brought(service: Service) -> list[Listen]:
    """The sockets that a service wants beside those of `start`, in the order of its `listen`."""
    found = []
    for text in service.listen:
        kinds, address, path = split(text)
        for kind in kinds:
            name = text if "://" in text else f"{kind}://{text}"
            make = _MAKERS[kind](service, path)
            found.append(Listen(name, UDP if kind == "udp" else TCP, address, make, service))
    return found


def _plain(room: str, name: str) -> Any:
    return lambda service, path: lambda server: getattr(importlib.import_module(room), name)(server)


def _doh(service: Service, path: str) -> Any:
    def make(server: Any) -> StreamMode:
        from .https import DoH

        return DoH(server, service, path)

    return make


_MAKERS: dict[str, Any] = {
    "udp": _plain("toolips_udp.servers.udp", "UDPMode"),
    "tcp": _plain("toolips_udp.servers.tcp", "TCPMode"),
    "tls": lambda service, path: partial(DoT, service=service),
    "https": _doh,
}


class Listeners:
    """What serves the further addresses of a service, in this process."""

    def __init__(self, service: Service, server: Any) -> None:
        self._service = service
        self._server = server
        encrypted = any(text.startswith(("tls://", "https://")) for text in service.listen)
        if encrypted and not self.modes:  # a reload in place: what is wrong is said before the swap
            tls_context(service.tls, ())

    @property
    def modes(self) -> list[Any]:
        return [mode for mode in self._server.modes if mode.extension is self._service]

    @property
    def addresses(self) -> dict[str, Address]:
        """The real address of each, by its name."""
        return {mode.name: mode.address for mode in self.modes}

    def reload_certificates(self) -> None:
        """Read certificates and keys again; new connections use them. Raises `StartError`; the old ones stay then."""
        for mode in self.modes:
            if isinstance(mode, Encrypted):
                mode.renew()
