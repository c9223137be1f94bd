"""DNS over streams: two octets of length, then a message (spec T2; RFC 7766).

Works on any connection with `frames(prefix)` and `write_frame`. Replies leave in
the order in which they are ready. Used by `service`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .service import Service

MOST_IN_FLIGHT = 50
"""Questions of one connection that wait for an answer; reading pauses above it."""
LEAST = 12


async def serve(service: Service, c: Any, transport: str) -> None:
    """Answer the messages of one connection until it ends. A message under 12 octets closes it."""
    waiting: set[asyncio.Task[None]] = set()
    service.connections[transport] += 1
    try:
        async for packet in c.frames(2):
            if len(packet) < LEAST:
                return
            task = asyncio.ensure_future(_one(service, c, bytes(packet), transport))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
            await c.drain()
            while len(waiting) >= MOST_IN_FLIGHT:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if waiting:
            await asyncio.wait(waiting)
    finally:
        service.connections[transport] -= 1
        for task in waiting:
            task.cancel()


async def _one(service: Service, c: Any, packet: bytes, transport: str) -> None:
    async for answer in service.replies(packet, c.address, transport, c):
        if c.is_closed():
            return
        c.write_frame(answer)
        if len(answer) > 8192:  # a transfer: others take their turn, and a slow client is waited for
            await c.drain()
            pause = service.transfers.pace.after(len(answer), service.clock()) if service.transfers else 0.0
            await asyncio.sleep(pause)
