"""serve: a server for the length of a `with` block. Above starting."""

from __future__ import annotations

from typing import Any

from .address import AnyAddress
from .modes import AnyMode
from .servers.base import Server
from .starting import DEFAULT, _remember, prepare


class serve:
    """A server for the length of a `with` block: `with serve(UDP, module) as server`.

    Takes what `start` takes. Nothing is bound before the block is entered; the
    body's own error is the one that leaves it. `async with` serves on the running
    loop, `with` in a thread of its own, also inside a running loop.

    >>> with serve(UDP, __name__, "127.0.0.1:0") as server:
    ...     request("hello", server.address)
    """

    def __init__(
        self,
        mode: AnyMode,
        module: Any,
        ip: AnyAddress | tuple[Any, ...] = DEFAULT,
        *,
        workers: int | str = 1,
        threads: int | None = None,
        **settings: Any,
    ) -> None:
        def make() -> Server:
            return prepare(mode, module, ip, workers=workers, threads=threads, settings=settings)

        self._make = make
        self._server: Server | None = None

    def __enter__(self) -> Server:
        server = self._server = self._make()
        server.run_in_thread()
        _remember(server)
        return server

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.stop()

    async def __aenter__(self) -> Server:
        server = self._server = self._make()
        await server.__aenter__()
        _remember(server)
        return server

    async def __aexit__(self, *args: object) -> None:
        if self._server is not None:
            await self._server.__aexit__(*args)
