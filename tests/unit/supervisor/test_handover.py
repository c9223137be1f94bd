"""What is given to the next worker, and what was changed after that."""

import asyncio

from toolips_udp import Address
from toolips_udp.servers import plain
from toolips_udp.supervisor.handover import changed

A, B = Address("127.0.0.1", 1), Address("127.0.0.1", 2)


def state(sessions, positions=()):
    return {
        "sessions": [(tuple(who), kept) for who, kept in sessions],
        "positions": [(tuple(who), name) for who, name in positions],
    }


def given(*args):
    return plain.decode(plain.pack(state(*args))[0])


def test_nothing_changed_is_no_client():
    before = ([(A, {"x": (1, 2), "odd": print})], [(A, "second")])
    assert changed(given(*before), state(*before)) == []


def test_a_session_that_expired_is_no_change_and_neither_is_a_new_empty_one():
    assert changed(given([(A, {"x": 1})]), state([(B, {})])) == []


def test_sessions_and_positions_that_changed_name_their_clients_once():
    before = given([(A, {"x": [1]}), (B, {})], [(A, "second")])
    assert changed(before, state([(A, {"x": [1, 2]}), (B, {})])) == ["127.0.0.1:1"]
    assert changed(before, state([(A, {"x": [1]}), (B, {"new": 1})], [(A, "second"), (B, "third")])) == [
        "127.0.0.1:2"
    ]
    assert changed(before, state([(A, {"x": [1]}), (B, {})], [(A, "third")])) == ["127.0.0.1:1"]


def test_a_game_settles_when_its_async_handlers_have_ended():
    from toolips_udp.game import Game

    async def play():
        game, gate, ended = Game(), asyncio.Event(), []
        game._loop = asyncio.get_running_loop()

        async def works():
            await gate.wait()
            ended.append(True)

        game.call(works)
        await game.settle(0.0)
        assert not ended
        gate.set()
        await game.settle(10.0)
        assert ended

    asyncio.run(play())
