"""Which handler a client of a stream is on: the positions of `MultiHandler` for TCP and HTTP.

On UDP the endpoint keeps them. Imports clients, handlers and extensions; used by
`servers/tcp.py` and `servers/http.py`.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Any

from ..address import Address, AnyAddress
from ..clients import ClientTable
from ..connections.udp import unknown_handler
from ..extensions.multi import MultiHandler
from ..handlers import UDPHandler


class Choosing:
    """Remembers a handler name per client, with expiry and a maximum."""

    def __init__(
        self, main: UDPHandler | None, handlers: dict[str, UDPHandler], chooser: MultiHandler | None
    ) -> None:
        self._main = main
        self._handlers = handlers
        self._chooser = chooser
        self._places = ClientTable(chooser.ttl, chooser.max_clients) if chooser is not None else None

    def pick(self, c: Any) -> UDPHandler | None:
        """The handler of this client, else the main one, else None."""
        if self._places is not None and len(self._places):
            name = self._places.lookup(self._key(c), time.monotonic())
            if name is not None:
                return self._handlers[name]
        return self._main

    def set(self, c: Any, name: str, client: AnyAddress | None = None) -> None:
        """The next connection of this, or another, client goes to `name`. `UnknownHandler` at once."""
        if name not in self._handlers or self._places is None:
            raise unknown_handler(name, self._handlers)
        self._places.place(self._key(c, client), name, time.monotonic())

    def remove(self, c: Any, client: AnyAddress | None = None) -> None:
        """Back to the main handler. Harmless when none is set."""
        if self._places is not None:
            self._places.remove(self._key(c, client))

    def _key(self, c: Any, client: AnyAddress | None = None) -> Hashable:
        assert self._chooser is not None
        key = self._chooser.key
        if callable(key):
            if client is not None:
                raise ValueError(
                    "this MultiHandler tells clients apart by a function of their connection, so another client "
                    "cannot be named by its address. Fix: key='address' or key='ip'"
                )
            found: Hashable = key(c)
            return found
        address = c.address if client is None else Address.parse(client)
        return address.host if key == "ip" else address
