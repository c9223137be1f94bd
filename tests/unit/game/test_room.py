"""Rooms: joining, leaving, kinds, capacity, messages in order, presence, timers."""

import pytest

from toolips_udp.errors import TooLong
from toolips_udp.game import presence
from toolips_udp.game.room import RoomFull


def told(peer):
    """The presence messages that a peer got."""
    return [(p.room, p.peer, p.presence) for p in map(presence.decode, peer.got)]


def test_a_se4_in_a_room_of_three_a_broadcast_without_oneself_reaches_the_other_two(game, peers):
    room = game.room("arena")
    a, b, c = peers[:3]
    for peer in (a, b, c):
        room.join(peer)
    assert room.broadcast(b"hello", exclude=a) == 2
    assert (a.got, b.got, c.got) == ([], [b"hello"], [b"hello"])
    game.gone(b)
    assert room.members == (a, c)
    assert room.broadcast(b"again", exclude=a) == 1
    assert room.send(b, b"you there?") is False
    room.leave(b)
    room.join(b)
    assert room.members == (a, c) and b.got == [b"hello"] and not game.failed


def test_a_room_is_made_once_and_found_by_its_name(game):
    assert game.room("a") is game.room("a") is not game.room("b")
    assert list(game.rooms) == ["a", "b"]


@pytest.mark.parametrize("name", ["", "x" * 129, 7, None])
def test_a_name_that_is_none_is_refused(game, name):
    with pytest.raises(ValueError, match="1 to 128"):
        game.room(name)


def test_enter_leaves_all_other_rooms_and_room_is_the_last_one_entered(game, peers):
    a, lobby, red, blue = peers[0], game.room("lobby"), game.room("red"), game.room("blue")
    a.enter(lobby)
    red.join(a)
    assert a.rooms == (lobby, red) and a.room is red
    red.leave(a)
    assert a.room is lobby
    a.enter(blue)
    assert a.rooms == (blue,) and a.room is blue and a not in lobby and a in blue
    a.enter(blue)
    assert len(blue) == 1


def test_a_full_room_raises_and_the_peer_stays_where_it_was(game, peers):
    lobby, small = game.room("lobby"), game.room("small", capacity=1)
    peers[0].enter(small)
    peers[1].enter(lobby)
    with pytest.raises(RoomFull, match=r"small.*full: 1 of 1"):
        peers[1].enter(small)
    assert peers[1].rooms == (lobby,) and peers[1] in lobby


def test_a_peer_is_in_at_most_sixteen_rooms(game, peers):
    a = peers[0]
    for n in range(16):
        game.room(f"r{n}").join(a)
    with pytest.raises(RoomFull, match="16 rooms"):
        game.room("r16").join(a)
    a.enter(game.room("r16"))
    assert a.rooms == (game.room("r16"),)


def test_a_peer_opens_at_most_one_room_a_second(game, peers):
    game.rooms.acting = peers[0]
    for n in range(5):
        game.room(f"r{n}")
    with pytest.raises(RoomFull, match="faster than"):
        game.room("r5")
    game.room("r0")
    game.run(1.0)
    game.room("r5")
    with pytest.raises(RoomFull):
        game.room("r6")
    game.rooms.acting = None
    for n in range(6, 100):
        game.room(f"r{n}")


def test_the_decorators_of_a_kind_apply_to_each_room_under_it(game, peers):
    kind, log = game.room("match:*", capacity=2, state=dict), []

    @kind.on_join
    def came(room, peer):
        room.state[peer.id] = 0
        log.append((room.name, peer.id))

    @kind.on_leave
    def went(room, peer):
        log.append((room.name, -peer.id))

    one, two = game.room("match:1"), game.room("match:2")
    one.join(peers[0]), two.join(peers[1])
    assert one.state == {1: 0} and two.state == {2: 0} and one.capacity == 2
    game.gone(peers[0])
    assert log == [("match:1", 1), ("match:2", 2), ("match:1", -1)]
    assert kind.rooms == [one, two] and game.room("other").kind is None


def test_the_kind_with_the_longest_beginning_counts(game):
    game.room("match:*", capacity=2)
    game.room("match:big:*", capacity=64)
    assert game.room("match:7").capacity == 2 and game.room("match:big:7").capacity == 64


def test_an_empty_room_of_a_kind_closes_after_its_linger(game, peers):
    game.room("match:*", linger=5.0)
    room = game.room("match:1")
    game.run(4.0)
    room.join(peers[0])
    game.run(60.0)
    assert room.open
    room.leave(peers[0])
    game.run(4.9)
    assert room.open
    game.run(0.2)
    assert not room.open and "match:1" not in game.rooms
    with pytest.raises(RoomFull, match="closed"):
        room.join(peers[0])
    assert game.room("match:1") is not room
    assert game.room("plain").open
    game.run(100.0)
    assert game.room("plain").open


def test_messages_go_to_the_typed_handler_of_the_room_and_then_to_its_on_message(game, peers):
    kind, log = game.room("m:*"), []
    room = game.room("m:1")

    @kind.on(int)
    def number(room, peer, value):
        log.append(("int", value))

    assert room.take(peers[0], "raw", 5) and not room.take(peers[0], "raw", "text")

    @kind.on_message
    def anything(room, peer, message):
        log.append(("message", message))

    @room.on(str)
    def text(room, peer, value):
        log.append(("str", value))

    assert (
        room.take(peers[0], "raw", "text") and room.take(peers[0], "raw", 2.0) and room.take(peers[0], "raw")
    )
    assert log == [("int", 5), ("str", "text"), ("message", "raw"), ("message", "raw")]
    with pytest.raises(ValueError, match="already has"):
        kind.on_message(anything)
    with pytest.raises(ValueError, match="already has"):
        kind.on(int)(number)


def test_a_handler_that_raises_stops_neither_the_room_nor_the_tick(game, peers):
    room, ticks = game.room("arena"), []

    @room.on_join
    def bad(room, peer):
        raise KeyError("boom")

    @room.tick(hz=10)
    def step(room, tick):
        ticks.append(tick.number)
        raise ZeroDivisionError

    room.join(peers[0])
    for _ in range(11):
        game.agenda.advance(game.ns)
        game.ns += 100_000_000
    assert peers[0] in room and ticks == list(range(11)) and len(game.failed) == 12


def test_a_room_ticks_its_own_members_at_its_rate(game, peers):
    kind, seen = game.room("match:*"), []
    early = game.room("match:1")

    @kind.tick(hz=20)
    def step(room, tick):
        seen.append((room.name, tick.number, len(room)))

    early.join(peers[0])
    game.room("match:2")
    game.run(1.0)
    assert [n for name, n, members in seen if name == "match:1"] == list(range(21))
    assert {members for name, n, members in seen if name == "match:1"} == {1}
    assert 20 <= len([1 for name, *_ in seen if name == "match:2"]) <= 21
    early.close()
    seen.clear()
    game.run(0.5)
    assert {name for name, *_ in seen} == {"match:2"}


def test_timers_of_a_room_die_with_it(game):
    room, calls = game.room("a"), []
    room.every(0.1, lambda: calls.append("every"))
    room.after(0.35, lambda: calls.append("after"))
    cancelled = room.every(0.1, lambda: calls.append("never"))
    cancelled.cancel()
    room.after(5.0, lambda: calls.append("never"))
    game.run(0.4)
    room.close(7)
    game.run(10.0)
    assert calls == ["every", "every", "every", "after", "every"] and room.closed_with == 7
    assert game.agenda.deadline() is None


def test_presence_reaches_the_other_members_and_newcomers(game, peers):
    a, b, c, room, heard = *peers[:3], game.room("lobby"), []
    room.on_presence(lambda room, peer, value: heard.append((peer.id, value)))
    a.presence = {"name": "Ann"}
    a.enter(room), b.enter(room)
    assert a.got == [] and told(b) == [("lobby", 1, {"name": "Ann"})]
    b.presence = {"name": "Bob"}
    c.enter(room)
    assert told(a) == [("lobby", 2, {"name": "Bob"})]
    assert told(c) == [("lobby", 1, {"name": "Ann"}), ("lobby", 2, {"name": "Bob"})]
    assert room.presence == {1: {"name": "Ann"}, 2: {"name": "Bob"}} and heard == [(2, {"name": "Bob"})]
    game.gone(a)
    assert told(b)[-1] == told(c)[-1] == ("lobby", 1, None)


def test_presence_is_told_at_most_ten_times_a_second_and_the_last_word_counts(game, peers):
    a, b, room = *peers[:2], game.room("lobby")
    a.enter(room), b.enter(room)
    for n in range(1000):
        a.presence = {"n": n}
        game.run(0.001)
    game.run(0.2)
    values = [value["n"] for _, _, value in told(b)]
    assert 10 <= len(values) <= 12 and values[-1] == 999 and values == sorted(values)
    a.presence = {"n": 999}
    game.run(1.0)
    assert len(told(b)) == len(values)


def test_a_presence_too_large_or_of_the_wrong_type_is_refused(game, peers):
    with pytest.raises(TooLong, match="at most 1024"):
        peers[0].presence = {"x": "y" * 1024}
    with pytest.raises(TypeError, match="dict"):
        peers[0].presence = ["x"]
    assert peers[0].presence == {}


def test_a_waiting_presence_of_a_peer_that_left_is_forgotten(game, peers):
    a, b, room = *peers[:2], game.room("lobby")
    a.enter(room), b.enter(room)
    a.presence = {"n": 1}
    a.presence = {"n": 2}
    game.gone(a)
    game.run(1.0)
    assert told(b) == [("lobby", 1, {"n": 1}), ("lobby", 1, None)] and game.agenda.deadline() is None
