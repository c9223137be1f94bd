"""The channel between supervisor and worker, and what stands for workers that begin later."""

import asyncio
from types import SimpleNamespace

import pytest

from toolips_udp.supervisor.link import Gone, Link
from toolips_udp.supervisor.orders import Orders

MANY = 3000


@pytest.fixture
def pair():
    ours, sock = Link.pair()
    theirs = Link(sock)
    for each in (ours, theirs):
        each.sock.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


def test_what_does_not_fit_waits_and_arrives_in_order_with_its_memory_files(pair):
    ours, theirs = pair

    async def talk():
        for number in range(MANY):
            ours.post({"number": number}, b"%d" % number if number % 100 == 0 else None)
        with pytest.raises(BlockingIOError):
            ours.send({"number": -1})
        heard = []
        while len(heard) < MANY:
            try:
                heard.append(theirs.receive())
            except BlockingIOError:
                await asyncio.sleep(0)
        return heard

    heard = asyncio.run(talk())
    assert [message["number"] for message, _ in heard] == list(range(MANY))
    assert [int(state) for _, state in heard if state is not None] == list(range(0, MANY, 100))


def test_what_waits_for_somebody_who_is_gone_is_forgotten(pair):
    ours, theirs = pair

    async def talk():
        for number in range(MANY):
            ours.post({"number": number})
        theirs.close()
        await asyncio.sleep(0.01)
        with pytest.raises(Gone):
            ours.post({"number": MANY})

    asyncio.run(talk())


def test_a_standing_order_is_told_once_to_each_and_only_the_last_of_its_kind():
    orders, told = Orders(), []

    def process():
        heard = []
        told.append(heard)
        return SimpleNamespace(
            orders_told=set(), tell=lambda message, content: heard.append((message["name"], content))
        )

    knows, later = process(), process()
    orders.keep("log", "log-on", {})
    orders.keep("zone", "take", {"of": "e.test"}, b"1", known=[knows])
    orders.tell(knows)
    orders.keep("log", "log-off", {})
    for each in (knows, later, later):
        orders.tell(each)
    assert told == [[("log-on", None), ("log-off", None)], [("log-off", None), ("take", b"1")]]
