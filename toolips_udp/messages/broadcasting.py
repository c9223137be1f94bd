"""Broadcast: one message to every client, and how many got it. Imports nothing of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from concurrent.futures import Future
from typing import Any, NamedTuple


class Counts(NamedTuple):
    """What became of a broadcast. Their sum is the number of clients that were logged in."""

    delivered: int
    """Handed to the client's connection, which brings it in order, again when it is lost, or ends (`on_leave`).

    No acknowledgement is waited for: a broadcast would take as long as its slowest client. Who must know that a
    client's program has it asks for a reply: `server.message_later`.
    """
    queued: int
    """The client is slow; it waits in this server's queue for that client."""
    failed: int
    """The client's queue is full (see `slow=`), or its link has just ended."""


class Broadcast:
    """A broadcast on its way. `await` it on any loop, or ask `result(timeout)` in a thread: both give `Counts`.

    It is queued when `broadcast` returns; nobody has to wait for it.
    """

    def __init__(self) -> None:
        self.future: Future[Counts] = Future()

    def result(self, timeout: float | None = 5.0) -> Counts:
        """Wait in this thread. `TimeoutError` after `timeout` seconds."""
        try:
            return self.future.result(timeout)
        except TimeoutError:
            raise TimeoutError(
                f"the broadcast was not counted within {timeout} s. On the server's own loop, await it instead"
            ) from None

    def __await__(self) -> Generator[Any, None, Counts]:
        if self.future.done():
            return self.future.result()
        return (yield from asyncio.wrap_future(self.future).__await__())
