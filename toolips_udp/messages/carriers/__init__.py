"""Carriers: reliable, ordered connections below messages. UDP peers, WebSocket, and memory.

Imports nothing at once; `open_link` finds the carrier that an address means.
"""

from __future__ import annotations

from typing import Any

from .link import Link


async def open_link(address: Any, timeout: float, max_message: int) -> Link:
    """A link to `"host:port"` (UDP), `"ws://..."` (WebSocket) or a running server object (memory)."""
    if hasattr(address, "accept"):
        from .memory import open_memory

        return await open_memory(address)
    if isinstance(address, str) and address.startswith(("ws://", "wss://")):
        from .websocket import open_websocket

        return await open_websocket(address, timeout, max_message)
    from .udp import open_udp

    return await open_udp(address, timeout, max_message)


__all__ = ["Link", "open_link"]
