"""Inputs: small on the wire, one loss costs nothing, one input per tick and never two."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolips_udp.game import feedback
from toolips_udp.game.inputs import InputMap, hold

KEYS = InputMap(buttons=("left", "right", "up", "down", "fire"), axes=("aim",), repeat=10)


class Client:
    """Notes what it sends."""

    def __init__(self):
        self.sent = []

    def send(self, data, channel, delivery):
        assert delivery.name == "SEQUENCED"
        self.sent.append(data)


def play(game, peer, seconds, keys=KEYS, hz=60, before=lambda tick: None):
    """Run a room and note the input used in each tick."""
    used = {}

    def step(tick):
        before(tick)
        used[tick.number] = keys.at(peer, tick)

    game.agenda.tick(hz, step)
    game.run(seconds)
    return used


def test_one_tick_takes_a_byte_for_eight_buttons_and_one_for_each_axis():
    assert KEYS.size == 2 and InputMap(buttons=tuple(f"b{n}" for n in range(9))).size == 2
    assert InputMap(axes=("x", "y")).size == 2


def test_what_is_packed_is_what_comes_out():
    i = KEYS.unpack(KEYS.pack(left=1, fire=True, aim=-0.5))
    assert (i.left, i.right, i.fire, i.missing) == (1, 0, 1, False)
    assert i.aim == pytest.approx(-0.5, abs=1 / 127)
    assert KEYS.unpack(KEYS.pack(aim=7)).aim == 1.0 and KEYS.unpack(KEYS.pack(aim=-7)).aim == -1.0
    with pytest.raises(AttributeError, match="jump"):
        i.jump  # noqa: B018
    with pytest.raises(AttributeError, match="cannot be changed"):
        i.left = 0
    with pytest.raises(ValueError, match="jump"):
        KEYS.pack(jump=1)


def test_a_packet_holds_the_newest_inputs_newest_first():
    client = Client()
    for tick in range(65_530, 65_550):
        KEYS.send(client, tick, left=tick % 2)
    number, inputs, trailer = KEYS.parse(client.sent[-1])
    assert number == 65_549 & 0xFFFF and len(inputs) == 10 and trailer == b""
    assert [KEYS.unpack(one).left for one in inputs] == [1, 0] * 5
    assert client.sent[-1][:4] == bytes((0xF0, 0, 13, 10)) and len(client.sent[-1]) == 4 + 10 * 2
    assert client.sent[0] == bytes((0xF0, 0xFF, 0xFA, 1)) + KEYS.pack()


def test_a_slow_frame_is_filled_with_what_was_held():
    client = Client()
    KEYS.send(client, 1, left=1)
    KEYS.send(client, 4, right=1)
    _, inputs, _ = KEYS.parse(client.sent[-1])
    assert [(KEYS.unpack(i).left, KEYS.unpack(i).right) for i in inputs] == [(0, 1), (1, 0), (1, 0), (1, 0)]
    KEYS.send(client, 100, up=1)
    assert len(KEYS.parse(client.sent[-1])[1]) == 1


@pytest.mark.parametrize("losses", [range(0), range(10, 19), range(5, 300, 2)])
def test_nine_losses_in_a_row_cost_nothing(game, peers, losses):
    client, peer = Client(), peers[0]

    def before(tick):
        ahead = tick.number + 12
        KEYS.send(client, ahead, left=ahead % 3 == 0, aim=(ahead % 100) / 100)
        if tick.number not in losses:
            hold(peer, client.sent[-1], tick.now)

    used = play(game, peer, 5.0, before=before)
    for number in range(40, 300):
        assert not used[number].missing, number
        assert used[number].left == (number % 3 == 0)
        assert used[number].aim == pytest.approx((number % 100) / 100, abs=1 / 127)


def test_a_missing_input_is_the_last_one_again(game, peers):
    client, peer = Client(), peers[0]

    def before(tick):
        if tick.number == 5:
            KEYS.send(client, 5, left=1)
            hold(peer, client.sent[-1], tick.now)

    used = play(game, peer, 0.2, before=before)
    assert used[4] == KEYS.unpack(KEYS.idle, True)
    assert used[5].left == 1 and not used[5].missing
    assert used[6].left == 1 and used[6].missing


def test_a_client_that_counts_its_own_ticks_is_lined_up(game, peers):
    client, peer, keys = Client(), peers[0], KEYS
    start = 40_000

    def before(tick):
        if tick.number >= 100:
            keys.send(client, start + tick.number - 100, left=tick.number % 2)
            hold(peer, client.sent[-1], tick.now)

    used = play(game, peer, 5.0, before=before)
    assert all(used[n].left == n % 2 and not used[n].missing for n in range(100, 300))


@pytest.mark.parametrize("jump", [20_000, -20_000, 200, -200])
def test_a_client_that_sets_its_clock_anew_is_lined_up_again_within_two_seconds(game, peers, jump):
    client, peer, keys = Client(), peers[0], InputMap(buttons=("left",))

    def before(tick):
        keys.send(client, tick.number + (jump if tick.number >= 60 else 0), left=tick.number % 2)
        hold(peer, client.sent[-1], tick.now)

    used = play(game, peer, 5.0, keys, before=before)
    assert all(used[n].left == n % 2 and not used[n].missing for n in [*range(1, 60), *range(180, 300)])


def test_b26_inputs_far_ahead_or_past_or_twice_are_refused_and_the_first_counts(game, peers):
    peer = peers[0]
    right, left = KEYS.pack(right=1), KEYS.pack(left=1)

    def before(tick):
        if tick.number == 10:
            hold(peer, KEYS.packet(12, [left]), tick.now)
            hold(peer, KEYS.packet(12, [right]), tick.now)
            hold(peer, KEYS.packet(10 + 61, [right]), tick.now)
            hold(peer, KEYS.packet(10 + 30_000, [right]), tick.now)
            hold(peer, KEYS.packet(5, [right]), tick.now)

    used = play(game, peer, 2.0, before=before)
    assert used[12].left == 1 and used[12].right == 0
    assert used[11].missing
    assert used[71].left == 1 and used[71].missing
    assert peer.feedback.refused == 2 and peer.bad == []


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xf0", b"\xf0\x00\x01\x00", b"\xf0\x00\x01\xff" + bytes(510), b"\xf0\x00\x01\x02" + bytes(3),
        b"\xf0\x00\x01\x0b" + bytes(22), b"\xf0\x00\x01\x01" + bytes(5), b"\xf1\x00\x01\x01\x00\x00",
    ],
)  # fmt: skip
def test_b26_a_packet_that_is_none_is_malformed_and_counted(game, peers, data):
    peer = peers[0]
    used = play(game, peer, 0.2, before=lambda tick: tick.number == 3 and hold(peer, data, tick.now))
    assert all(i.missing for i in used.values())
    assert len(peer.bad) == 1 == peer.feedback.refused


@given(st.lists(st.binary(max_size=64), max_size=30))
def test_random_packets_never_raise_and_never_give_two_inputs_for_a_tick(packets):
    from toolips_udp.game.tick import Schedule, Tick

    class Peer:
        malformed = staticmethod(lambda why: None)

    peer, schedule = Peer(), Schedule(0, 60, lambda tick: None)
    for number, data in enumerate(packets):
        hold(peer, data, 0.0)
        hold(peer, b"\xf0" + data[:20], 0.0)
        i = KEYS.at(peer, Tick(number, 0.0, 1 / 60, 0.0, 0, schedule))
        assert i.left in (0, 1) and -1 <= i.aim <= 1
        assert len(peer.feedback.stream.inputs) <= 61 + 10


def test_b27_more_inputs_than_ticks_give_one_input_per_tick(game, peers):
    peer, moved = peers[0], []
    keys = InputMap(buttons=("go",))

    def before(tick):
        for extra in range(5):  # five times the inputs that there are ticks
            hold(peer, keys.packet(tick.number * 5 + extra & 0xFFFF, [keys.pack(go=1)] * 10), tick.now)

    used = play(game, peer, 5.0, keys=keys, before=before)
    moved = sum(i.go for i in used.values())
    assert moved <= 301 and peer.feedback.refused > 100


def test_a_flood_of_packets_between_two_ticks_keeps_the_newest(peers):
    for n in range(1000):
        hold(peers[0], bytes([n & 0xFF]), 0.0)
    assert len(peers[0].feedback.waiting) == 64


def test_the_feedback_at_the_end_is_read(game, peers):
    peer = peers[0]
    trailer = feedback.pack(7, 0b101, 123_456)

    def before(tick):
        if tick.number == 2:
            hold(peer, KEYS.packet(4, [KEYS.idle], trailer), tick.now - 0.003)

    play(game, peer, 0.2, before=before)
    assert peer.feedback.acked == (7, 0b101) and peer.feedback.clock == 123_456
    assert peer.feedback.lead == 2 and peer.feedback.clock_at == pytest.approx(100 + 2 / 60 - 0.003)


def test_feedback_that_is_older_than_what_is_known_is_left_out():
    known = feedback.Feedback()
    for newest in (65_530, 3, 65_535, 2):
        known.take(feedback.pack(newest, newest, 0), 1.0)
    assert known.acked == (3, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"buttons": ("a", "a")},
        {"buttons": ("1",)},
        {"axes": ("missing",)},
        {"buttons": ("a",), "repeat": 0},
    ],
)
def test_a_map_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=r"inputs|repeat"):
        InputMap(**wrong)
