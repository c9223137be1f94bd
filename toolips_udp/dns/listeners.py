"""More addresses of one service: UDP and TCP, DoT, DoH (spec T2 to T4).

`open_all` runs in the service's `on_start`, on the server's loop. Imports the
servers' modes, asgi and errors; hypercorn when an `https://` address is asked for.
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..address import Address
from ..errors import StartError, missing_extra
from ..servers.holder import bind_error
from .asgi import asgi
from .listen import split

if TYPE_CHECKING:
    from .service import Service


def tls_context(certificate: str, key: str, protocols: list[str]) -> ssl.SSLContext:
    """A server's context: TLS 1.2 or later, these application protocols."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(protocols)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise StartError(
            f"TLS needs a certificate and its key: {certificate}, {key} cannot be used ({error}).",
            code="bad-tls",
        ) from None
    return context


class Listeners:
    """What a service opened beside the addresses of its server."""

    def __init__(self, service: Service, server: Any) -> None:
        self.service = service
        self.server = server
        self.addresses: dict[str, Address] = {}
        self.tasks: list[asyncio.Task[Any]] = []
        self.contexts: list[tuple[ssl.SSLContext, str, str]] = []
        self.ending = asyncio.Event()

    async def open_all(self, texts: Iterable[str]) -> None:
        if getattr(self.server, "index", -1) >= 0:  # a worker process: the supervisor holds only the first address
            raise StartError(
                f"a service that listens on further addresses ({', '.join(texts)}) is served by one process: "
                "workers=1, or a server of its own for each address.",
                code="one-process",
            )
        for text in texts:
            kinds, address, path = split(text)
            for kind in kinds:
                if kind == "https":
                    await self._https(address, path)
                else:
                    self._mode(kind, address, text)

    def _certificate(self) -> tuple[str, str]:
        if self.service.tls is None:
            raise StartError(
                "tls:// and https:// need a certificate: Service(tls=('cert.pem', 'key.pem')).",
                code="bad-tls",
            )
        return self.service.tls

    def _mode(self, kind: str, address: Address, text: str) -> None:
        room = importlib.import_module(
            "toolips_udp.servers.udp" if kind == "udp" else "toolips_udp.servers.tcp"
        )
        mode = room.UDPMode(self.server) if kind == "udp" else room.TCPMode(self.server)
        if kind == "tls":
            certificate, key = self._certificate()
            mode._tls = tls_context(certificate, key, ["dot"])
            self.contexts.append((mode._tls, certificate, key))
        try:
            mode.bind(address)
        except OSError as error:
            raise bind_error(mode.mode, address, error) from error
        self.addresses[text if "://" in text else f"{kind}://{text}"] = mode.address
        self.server._modes.append(mode)  # the server opens it after its extensions, and closes it

    async def _https(self, address: Address, path: str) -> None:
        try:
            config_room = importlib.import_module("hypercorn.config")
            serve_room = importlib.import_module("hypercorn.asyncio")
        except ImportError:
            raise missing_extra("DNS over HTTPS", "doh") from None
        certificate, key = self._certificate()
        tls_context(certificate, key, ["h2"])  # says what is wrong with them before the server starts
        config = config_room.Config()
        config.bind = [str(address)]
        config.certfile, config.keyfile = certificate, key
        config.alpn_protocols = ["h2", "http/1.1"]
        config.keep_alive_timeout = 30
        config.h2_max_concurrent_streams = 100
        config.h2_max_header_list_size = 16_384
        config.accesslog = None
        config.errorlog = None
        app: Any = asgi(self.service, path=path)
        task = asyncio.ensure_future(serve_room.serve(app, config, shutdown_trigger=self.ending.wait))
        self.tasks.append(task)
        await asyncio.sleep(0.05)
        if task.done() and task.exception():
            error = task.exception()
            raise StartError(
                f"https://{address} could not be served: {error}.", code="bad-address"
            ) from error
        self.addresses[f"https://{address}{path}"] = address

    def reload_certificates(self) -> None:
        """Read certificates and keys again; new connections use them."""
        for context, certificate, key in self.contexts:
            context.load_cert_chain(certificate, key)

    async def close(self) -> None:
        self.ending.set()
        if self.tasks:
            _, late = await asyncio.wait(self.tasks, timeout=2.0)
            for task in late:
                task.cancel()
