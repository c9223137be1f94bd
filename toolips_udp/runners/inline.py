"""Inline handlers: a plain call in the turn. Above connections and handlers.

There is nothing between the endpoint and the function except, for a typed
handler, the decoding of its packet. That is folded here, once, at start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..handlers import UDPHandler


def folded(handler: UDPHandler) -> Callable[[Any], Any]:
    """The function of one connection that an endpoint calls for this handler.

    For a typed handler it decodes first and raises `typed.Malformed` when the
    packet does not fit; otherwise it is the user's own function.
    """
    if handler.decode is None:
        return handler.fn
    fn, decode = handler.fn, handler.decode

    def run(c: Any) -> Any:
        return fn(c, decode(c.packet))

    return run
