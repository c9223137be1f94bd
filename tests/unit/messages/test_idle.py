"""A client and a server that have nothing to say ask for no round of their loops."""

from __future__ import annotations

import asyncio

from toolips_udp import messages


def test_a_pair_that_was_busy_and_is_idle_looks_for_nothing():
    server = messages.Server("test", log_level=40)

    @server.operation()
    async def echo(text: str) -> str:
        return text

    server.start("127.0.0.1:0")
    vigil = server._carrier.vigil

    async def story() -> None:
        async with messages.connect("test", server.address) as client:
            assert [await client.operation("echo", text=str(n)) for n in range(500)] == [
                str(n) for n in range(500)
            ]
            mine = client._link.vigil
            await asyncio.sleep(0.05)  # hundreds of times longer than a vigil
            looks = mine.looks, vigil.looks
            await asyncio.sleep(0.3)
            assert (mine.looks, vigil.looks) == looks

    try:
        asyncio.run(asyncio.wait_for(story(), 20))
    finally:
        server.close()
