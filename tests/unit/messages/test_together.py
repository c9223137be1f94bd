"""Short frames of one turn travel as one message: what that may hold, who makes it, and that nobody can tell."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from toolips_udp import messages
from toolips_udp.messages import frames
from toolips_udp.messages.carriers.link import Link
from toolips_udp.messages.errors import BadFrame
from toolips_udp.messages.frames import Done, Failed, Operation, Ping, Result, Text
from toolips_udp.messages.login import Terms
from toolips_udp.messages.protocol import Protocol

sys.path.insert(0, str(Path(__file__).parents[2]))
from fuzz_messages import logged_in, mutate

SOME = [Operation(1, "add", {"a": 1}), Result(2, "x"), Text(3, "hello", None, 1), Done(4), Failed(5, 6, "text")]


def nested(levels):
    value = None
    for _ in range(levels):
        value = [value]
    return value


# -- what one message may hold ----------------------------------------------------------------------


def test_what_is_put_together_is_read_as_the_same_frames():
    body = frames.together([frames.write(frame) for frame in SOME])
    assert frames.read(body) == SOME and body[0] == frames.SEVERAL
    assert frames.read(frames.together([frames.write(SOME[0])])) == SOME[:1]
    assert all(frames.write(frame)[0] != frames.SEVERAL for frame in SOME)


def test_at_most_1024_frames_and_at_least_one():
    done = frames.write(Done(1))
    assert len(frames.read(frames.together([done] * 1024))) == 1024
    for count in (0, 1025):
        with pytest.raises(BadFrame):
            frames.read(frames.together([done] * count))


def test_a_ping_cannot_hide_among_others_and_nothing_nests():
    done = frames.write(Done(1))
    for other in (frames.write(Ping(1)), frames.together([done]), b"\x01", b"\xc0"):
        with pytest.raises(BadFrame):
            frames.read(frames.together([done, other]))


def test_a_frame_may_nest_as_deep_among_others_as_alone():
    for levels, right in ((frames.DEPTH - 1, True), (frames.DEPTH, False)):
        body = msgspec.msgpack.encode([3, 1, "x", nested(levels)])
        for each in (body, frames.together([body]), frames.together([body, body])):
            if right:
                frames.read(each)
            else:
                with pytest.raises(BadFrame):
                    frames.read(each)


def test_a_part_that_is_wrong_makes_the_whole_wrong_and_the_link_goes_on():
    server, client = logged_in()
    body = frames.together([frames.write(Done(1)), b"\x92\x04\x00"])
    event = server.receive(client.close(body, 0.0), 0.0)
    assert event[0] == "bad" and server.counts["malformed"] == 1
    assert server.receive(client.write(SOME[0], 0.0), 0.0) == SOME[0]


def test_what_is_cut_or_changed_on_the_way_is_denied():
    dice = random.Random(5)
    server, client = logged_in()
    body = frames.together([frames.write(frame) for frame in SOME])
    for _ in range(200):
        sealed = client.close(body, 0.0)
        changed = mutate(dice, sealed)
        if changed != sealed:
            assert server.receive(changed, 0.0) is None
    assert server.counts["denied"] + server.counts["too_long"] > 100


def test_held_frames_are_one_message_or_the_frame_itself():
    server, client = logged_in()
    for frame in SOME:
        body = frames.write(frame)
        client.held.append(body)
        client.room -= len(body)
    assert server.receive(client.together(0.0), 0.0) == SOME and client.held == []
    client.held.append(frames.write(SOME[0]))
    assert server.receive(client.together(0.0), 0.0) == SOME[0], "one alone is as if it had not been held"


def test_what_is_held_never_is_more_than_the_other_side_takes():
    for most, room in ((40, 37), (515, 512), (100_000, 512)):
        protocol = Protocol(Terms("1.0"), 0.0, most, Counter())
        assert protocol.room == room
    for most in (0, 3):
        assert Protocol(Terms("1.0"), 0.0, most, Counter()).room <= 0, "then nothing is held"


# -- who makes it -----------------------------------------------------------------------------------


class Ear:
    """What passes a client's link, either way."""

    def __init__(self, client):
        self.sent, self.came = [], []
        link = client._link
        send, take = link.send, link.on_message

        def sending(data):
            self.sent.append(data)
            return send(data)

        def taking(data):
            self.came.append(data)
            take(data)

        link.send, link.on_message = sending, taking


def served(story, **settings):
    server = messages.Server("test", **settings)
    ran = []

    @server.operation()
    async def note(n: int, text: str = "") -> int:
        ran.append(n)
        return n

    @server.operation()
    async def late(n: int) -> int:
        await asyncio.sleep(0.01)
        ran.append(n)
        return n

    @server.operation()
    async def kick() -> None:
        next(iter(server.clients.values())).kick()

    @server.receive("hello")
    async def hello(message):
        ran.append(message.data)

    async def main(address):
        async with messages.connect("test", address) as client:
            await client.operation("note", n=0)
            ran.clear()
            await asyncio.wait_for(story(client, ran, server), 20)

    with server.start("127.0.0.1:0"):
        asyncio.run(main(server))  # in memory: each message of the link is seen
    return server


def test_a_hundred_operations_of_one_turn_take_few_messages_both_ways():
    async def story(client, ran, server):
        ear = Ear(client)
        found = await asyncio.gather(*(client.operation("note", n=n) for n in range(100)))
        assert found == list(range(100)) and ran == found, "in the order in which they were asked"
        assert 4 <= len(ear.sent) <= 12 and 4 <= len(ear.came) <= 12
        assert max(map(len, ear.sent)) <= 512 + 27

    served(story)


def test_one_operation_after_the_other_is_sent_at_once_and_alone():
    async def story(client, ran, server):
        ear = Ear(client)
        for n in range(10):
            asked = asyncio.ensure_future(client.operation("note", n=n))
            await asyncio.sleep(0)
            assert len(ear.sent) == n + 1, "it does not wait for the end of a turn"
            await asked
        assert len(ear.came) == 10

    served(story)


def test_long_frames_among_short_ones_keep_the_order():
    async def story(client, ran, server):
        sizes = [0, 3, 600, 5, 100_000, 0, 511, 700, 1]
        await asyncio.gather(*(client.operation("note", n=n, text="x" * size) for n, size in enumerate(sizes * 5)))
        assert ran == list(range(len(sizes) * 5))

    served(story)


def test_operations_that_wait_answer_by_themselves_and_messages_go_with_them():
    async def story(client, ran, server):
        asked = [client.operation("late", n=n) for n in range(5)]
        asked += [client.message("hello", n) for n in range(5, 10)]
        await asyncio.gather(*asked)
        assert ran[:5] == [5, 6, 7, 8, 9] and sorted(ran) == list(range(10))

    served(story)


def test_every_frame_counts_against_the_rate():
    async def story(client, ran, server):
        with pytest.raises(messages.NotConnected):
            await asyncio.gather(*(client.operation("note", n=n) for n in range(200)))
        assert server.counters["flood"] == 1 and len(ran) <= 100

    served(story, rate=100)


def test_who_is_kicked_amid_others_gets_the_answers_before_and_nothing_after_runs():
    async def story(client, ran, server):
        asked = [client.operation("note", n=n) for n in range(3)]
        asked += [client.operation("kick")] + [client.operation("note", n=n) for n in range(3, 6)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert found[:3] == [0, 1, 2] and ran == [0, 1, 2]
        assert all(isinstance(each, messages.NotConnected) for each in found[4:])

    served(story)


def test_what_was_asked_before_close_is_still_sent():
    async def story(client, ran, server):
        asked = [asyncio.ensure_future(client.operation("note", n=n)) for n in range(5)]
        await asyncio.sleep(0)
        await client.close()
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert all(n == each or isinstance(each, messages.NotConnected) for n, each in enumerate(found))
        for _ in range(200):
            if ran == list(range(5)):
                break
            await asyncio.sleep(0.005)
        assert ran == list(range(5))
        with pytest.raises(messages.NotConnected):
            await client.operation("note", n=9)

    served(story)


def test_a_link_that_ends_right_after_the_login_is_a_connect_error(monkeypatch):
    async def main(address):
        client = messages.Client("test", address)
        happened = client._happened

        def and_gone(event):
            happened(event)
            client._link.ended("lost")

        client._happened = and_gone
        with pytest.raises(messages.ConnectError, match="right after the login"):
            await client.connect()
        assert not client.connected
        with pytest.raises(messages.NotConnected):
            await client.operation("x")

    with messages.serve("test", ip="127.0.0.1:0") as server:
        asyncio.run(asyncio.wait_for(main(server), 20))


def test_a_link_without_a_turn_of_its_own_sends_what_is_held_soon():
    async def main():
        link, told = Link(), []
        link.before_leaving(lambda: told.append(1))
        link.hurry()
        assert told == []
        await asyncio.sleep(0)
        assert told == [1]

    asyncio.run(main())
