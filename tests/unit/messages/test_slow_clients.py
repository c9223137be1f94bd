"""A client that does not read: its queue is bounded, the others hear everything."""

from __future__ import annotations

import asyncio

import pytest

from toolips_udp import messages

BIG = "x" * 100_000


@pytest.mark.parametrize("slow", ["drop", "disconnect"])
def test_a_slow_client_stalls_nobody_and_is_dropped_by_the_policy(slow):
    async def story(server):
        async with messages.connect("test", server) as quick, messages.connect("test", server) as stuck:
            heard = asyncio.Queue()
            quick.receive("news")(lambda message: heard.put_nowait(message.id))
            stuck._link.pause()
            counts = []
            for _ in range(20):
                counts.append(await server.broadcast("news", BIG))
                await asyncio.wait_for(heard.get(), 2)
            assert counts[0] == (2, 0, 0) and any(each.queued == 1 for each in counts)
            assert any(each.failed == 1 for each in counts)
            for each in counts:
                assert each.delivered >= 1 and sum(each) in (1, 2)
            if slow == "drop":
                assert server.counters["dropped_queue"] == sum(each.failed for each in counts)
                late = []
                stuck.receive("news")(lambda message: late.append(message.id))
                stuck._link.resume()
                while len(late) < 20 - server.counters["dropped_queue"]:
                    await asyncio.sleep(0.01)
                assert late == sorted(late) and len(server.clients) == 2
            else:
                assert server.counters["slow"] == 1 and len(server.clients) == 1
            assert max(each["queued"] for each in server.status()) <= server.max_queue

    with messages.serve("test", ip="127.0.0.1:0", slow=slow, max_queue=500_000) as server:
        asyncio.run(asyncio.wait_for(story(server), 20))
