"""A client and a server that have nothing to say ask for no round of their loops, and set no timer but one."""

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


def test_nothing_but_the_heartbeat_is_set_when_nobody_waits():
    server = messages.Server("test", log_level=40, heartbeat=60)

    @server.operation()
    async def echo(text: str) -> str:
        return text

    server.start("127.0.0.1:0")

    async def story() -> None:
        async with messages.connect("test", server.address, heartbeat=60) as client:
            assert await client.operation("echo", text="x") == "x"
            async with asyncio.timeout(10):
                while client._sweeper is not None or server._ticker is not None:
                    await asyncio.sleep(0.01)  # the look that is under way is the last one
            await asyncio.sleep(0.1)
            assert client._sweeper is None and server._ticker is None
            for loop, timers in ((asyncio.get_running_loop(), [client._beat]), (server.loop, [server._beat])):
                assert all(timer.when() - loop.time() > 10 for timer in timers)
            asking = asyncio.ensure_future(client.operation("echo", text="y"))
            await asyncio.sleep(0)
            assert client._sweeper is not None, "who asks has a deadline again"
            assert await asking == "y"

    try:
        asyncio.run(asyncio.wait_for(story(), 20))
    finally:
        server.close()
