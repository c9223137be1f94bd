"""Server: Messages on a port of its own; start and serve. Above the server's side and the package's servers."""

from __future__ import annotations

import logging
from types import SimpleNamespace, TracebackType
from typing import Any

from ..address import Address, AnyAddress
from ..errors import StartError
from ..manifest import read
from ..modes import UDP, AnyMode, modes_of
from ..servers import options
from ..servers.base import Server as Base
from ..servers.signals import Answering, keep_serving_after_main
from ..starting import _remember
from .broadcasting import Broadcast
from .errors import AlreadyRunning, NotStarted
from .listeners import Listeners
from .server import Messages

DEFAULT = "127.0.0.1:5000"


class _Host(Base):
    """The package's server under a Messages; it leaves the start line to it."""

    def _announce(self) -> None:
        return


class Server(Messages):
    """A message server on a port of its own. Takes what `Messages` takes; `start` binds and serves.

    A context manager: `with Server("test") as server` serves until the block ends.

    >>> server = Server("test").start("127.0.0.1:0")
    """

    _host: _Host | None = None
    _began = False

    def start(self, ip: AnyAddress = DEFAULT, *, mode: AnyMode = UDP, **settings: Any) -> Server:
        """Serve in the background; return when it is bound and serves.

        `mode` is UDP, HTTP (WebSocket at `/messages`) or both; `settings` are those of `toolips_udp.start`.
        Raises `AlreadyRunning`, `BindError` and `StartError`, from any thread.
        """
        if self.running:
            raise AlreadyRunning(
                f"this server runs already, on {self.address}. Fix: close it first, or make another"
            )
        modes = modes_of(mode)
        try:
            address = Address.resolve(ip)
        except (ValueError, TypeError) as error:
            raise StartError(f"ip={ip!r}: {error}", code="bad-address") from None
        settings.setdefault("max_unsent", 8 * self.max_message)
        settings.setdefault("watchdog", 1.0)
        module = SimpleNamespace(messages=self, __name__="messages")
        host = _Host(modes, read(module), (address,) * len(modes), options.read(settings), None)
        try:
            host.run_in_thread()
        except BaseException:
            host.stop()
            raise
        self._host = host
        self._began = True
        _remember(host)
        keep_serving_after_main(host)
        shown = self.token if self.generated and not self.hide_token else ""
        self.lines.say("startup", f"starting server on {host.address}", secret=shown)
        return self

    @property
    def running(self) -> bool:
        """Whether it serves."""
        return self._host is not None and self._host.running

    @property
    def address(self) -> Address:
        """The real address; of the last run when it has ended. `NotStarted` before the first."""
        if self._host is None:
            raise NotStarted("this server was never started, so it has no address. Fix: server.start()")
        return self._host.address

    @property
    def host(self) -> Base:
        """The server underneath: its settings, `wait`, `data`. `NotStarted` before the first start."""
        if self._host is None:
            raise NotStarted("this server was never started. Fix: server.start()")
        return self._host

    def close(self) -> None:
        """Stop: let what runs end, tell the clients, free the port. Twice is harmless.

        `NotStarted` before the first start.
        """
        if not self._began or self._host is None:
            raise NotStarted("this server was never started, so it cannot be closed. Fix: server.start()")
        was = self._host.running
        self._host.stop()
        if was:
            self.lines.say("shutdown", f"stopped server on {self._host.address}", logging.DEBUG)

    stop = close

    def _broadcast(self, content: str, data: Any, listeners: Listeners | None) -> Broadcast:
        if not self.running:
            raise NotStarted("this server does not run, so there is nobody to send to. Fix: server.start()")
        return super()._broadcast(content, data, listeners)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it has stopped; in the main thread SIGINT and SIGTERM stop it. False after `timeout` seconds."""
        if timeout is not None:
            return self.host.ended.wait(timeout)
        with Answering(self.host) as signals:
            signals.wait_for(self.host)
            return True

    def __enter__(self) -> Server:
        if not self.running:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self.running:
            self.close()

    def __repr__(self) -> str:
        return (
            f"<messages.Server on {self._host.address}, {'running' if self.running else 'stopped'}>"
            if (self._host is not None)
            else "<messages.Server, not started>"
        )


def start(
    token: str | None = None,
    server: Server | None = None,
    *,
    ip: AnyAddress = DEFAULT,
    mode: AnyMode = UDP,
    **settings: Any,
) -> Server:
    """Start a message server and return it; other code goes on. It serves until it is closed.

    Without a token one is generated and shown in the start line. `server` is a `Server` that was made before;
    else `settings` are those of `Messages`. Raises `BindError`, `AlreadyRunning`, `ValueError`.

    >>> server = start("test")
    """
    if server is None:
        server = Server(token, **settings)
    elif token is not None or settings:
        raise ValueError(
            "a server that was made before has its token and settings already. Fix: give one or the other"
        )
    return server.start(ip, mode=mode)


class serve:
    """A message server for the length of a `with` block; the block's own error is the one that leaves it.

    Takes what `start` takes. Works inside a running loop, with `with` and `async with`.

    >>> with serve("test") as server:
    ...     print(server.address)
    """

    def __init__(self, token: str | None = None, server: Server | None = None, **settings: Any) -> None:
        self._arguments = (token, server, settings)
        self._server: Server | None = None

    def __enter__(self) -> Server:
        token, server, settings = self._arguments
        self._server = start(token, server, **settings)
        return self._server

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._server is not None and self._server.running:
            self._server.close()

    async def __aenter__(self) -> Server:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        import asyncio

        await asyncio.to_thread(self.__exit__, kind, error, at)
