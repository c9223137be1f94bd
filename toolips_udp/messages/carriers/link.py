"""Link: a reliable, ordered connection for messages, the same over every carrier. Imports the address.

A carrier makes links and hands them to whoever serves or uses them. All calls and callbacks are on the loop
that the link lives on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ...address import Address


def _nobody(_: Any) -> None:
    return


def settle(future: asyncio.Future[Any], value: Any = None) -> None:
    """Give a future its result, unless it has one or was cancelled."""
    if not future.done():
        future.set_result(value)


class Link:
    """One connection. Its owner sets `on_message(data)` and `on_close(word)`; the latter comes exactly once.

    Words of an end: `left` (the other side closed), `closed` (this side did), `lost`, `refused`, `slow`, `malformed`,
    or another word of the carrier.
    """

    address: Address | str = ""
    """The other side."""
    host = ""
    """The other side without its port: what attempts are counted by."""
    near = False
    """Whether the other side is on this machine."""

    def __init__(self) -> None:
        self.open = True
        self.on_message: Callable[[bytes], None] = _nobody
        self.on_close: Callable[[str], None] = _nobody

    def send(self, data: bytes) -> bool:
        """Queue one message. False when the link has ended."""
        raise NotImplementedError

    def before_leaving(self, call: Callable[[], None]) -> None:
        """Call this once, when everything that runs now has run: it may send more, which leaves with the rest."""
        asyncio.get_running_loop().call_soon(call)

    def hurry(self) -> None:
        """Let what is queued leave now, where it would wait for others: the other side can begin."""

    @property
    def unsent(self) -> int:
        """About how many bytes the other side has not taken yet."""
        return 0

    def close(self) -> None:
        """End it when what is queued has arrived. `on_close` follows, or has come by then."""
        raise NotImplementedError

    def abort(self, word: str = "kicked") -> None:
        """End it now; `word` is told to the other side where the carrier can."""
        self.close()

    def ended(self, word: str) -> None:
        """The carrier says that it is over."""
        if self.open:
            self.open = False
            on_close, self.on_message, self.on_close = self.on_close, _nobody, _nobody
            on_close(word)
