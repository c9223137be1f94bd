"""connect, connect_with, main and probe: how programs of clients begin. Above the client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from . import login
from .carriers import open_link
from .carriers.link import settle
from .client import DEFAULT_ADDRESS, Client
from .errors import ConnectError

F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, Any]])


class connect:
    """A client for the length of an `async with` block: connect, log in, yield, close.

    Takes what `Client` takes.

    >>> async with connect("test", "127.0.0.1:5000") as client:
    ...     await client.operation("echo", text="abc")
    """

    def __init__(self, token: str, address: Any = DEFAULT_ADDRESS, **settings: Any) -> None:
        self._client = Client(token, address, **settings)

    async def __aenter__(self) -> Client:
        await self._client.connect()
        return self._client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._client.close()


def connect_with(token: str, address: Any = DEFAULT_ADDRESS, **settings: Any) -> Callable[[F], F]:
    """Run this coroutine now, with a client; its errors are raised here. The name stays bound to the function.

    >>> @connect_with("test")
    ... async def main(server):
    ...     await server.message("hello")
    """

    def run(fn: F) -> F:
        async def whole() -> None:
            async with connect(token, address, **settings) as client:
                await fn(client)

        _run(whole)
        return fn

    return run


def main(fn: F) -> F:
    """Run this coroutine now, when its module is the script that was started; else do nothing.

    >>> @main
    ... async def program():
    ...     print("running")
    """
    if fn.__module__ == "__main__":
        _run(fn)
    return fn


def _run(fn: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise RuntimeError(
            "a loop runs in this thread already, so a program cannot begin here. Fix: async with connect(...)"
        )
    from ..servers.base import new_loop

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(fn())


async def probe(address: Any = DEFAULT_ADDRESS, timeout: float = 1.0) -> str:
    """The version of the server at this address, without a login. `ConnectError` when none answers in time.

    >>> await probe("127.0.0.1:5000")
    '0.1.0'
    """
    loop = asyncio.get_running_loop()
    until = time.monotonic() + timeout
    link = await open_link(address, timeout, login.HELLO_SIZE)
    found: asyncio.Future[str | None] = loop.create_future()
    link.on_message = lambda data: settle(found, login.read_probed(data))
    link.on_close = lambda word: settle(found)
    try:
        link.send(login.probe())
        async with asyncio.timeout(max(0.0, until - time.monotonic())):
            version = await found
    except TimeoutError:
        version = None
    finally:
        link.abort()
    if version is None:
        raise ConnectError(f"no messages server answered at {address} within {timeout} s")
    return version
