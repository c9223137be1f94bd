"""MultiHandler: which handler a client is on. Above connections, below the pipeline.

The positions themselves are kept by the endpoint, natively where there is a
native core; this object says who decides them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from ..handlers import UDPHandler
from .base import Extension

Key = Callable[[Any], Hashable]


class MultiHandler(Extension):
    """Remembers a handler per client: a client that was given a name gets that handler, else `main`.

    `key` says what a client is: `"address"` (IP and port), `"ip"`, or a function
    of the connection. A client that is silent for `ttl` seconds is forgotten; at
    most `max_clients` are remembered, the longest silent one makes room. A module
    with named handlers and no MultiHandler gets the default one.

    >>> multi_handler = MultiHandler(main_handler, key="ip", ttl=60)
    """

    def __init__(
        self,
        main: UDPHandler | Callable[..., Any] | None = None,
        key: str | Key = "address",
        ttl: float = 600,
        max_clients: int = 100_000,
    ) -> None:
        if main is not None and not isinstance(main, UDPHandler):
            main = UDPHandler(main)
        if main is not None and main.name is not None:
            raise ValueError(f"the main handler of a MultiHandler has no name, found {main.name!r}")
        if not callable(key) and key not in ("address", "ip"):
            raise ValueError(
                f"key={key!r} of a MultiHandler: expected 'address', 'ip' or a function of the connection"
            )
        if not ttl > 0 or max_clients < 1:
            raise ValueError(
                f"a MultiHandler needs ttl above 0 and max_clients above 0, found {ttl} and {max_clients}"
            )
        self.main = main
        self.key = key
        self.ttl = float(ttl)
        self.max_clients = int(max_clients)
