"""Record and replay: the same inputs give the same state, and a difference is found."""

import hashlib
import random

import pytest

from toolips_udp.errors import FormatError
from toolips_udp.game.record import Recorder, ReplayDiffers, read, replay


class Rules:
    """A little game whose state follows from the seed and the events."""

    def __init__(self, seed=5, version="1", fault_at=None):
        self.seed, self.version, self.fault_at = seed, version, fault_at
        self.dice, self.players, self.ticks = random.Random(seed), {}, 0

    def step(self, tick, events):
        assert tick == self.ticks
        self.ticks += 1
        for player, what, data in events:
            if what == "join":
                self.players[player] = 0
            elif what == "leave":
                del self.players[player]
            else:
                self.players[player] += data[0]
        for player in self.players:
            self.players[player] += self.dice.randrange(3)
        if tick == self.fault_at:
            self.dice.random()

    def hash(self):
        return hashlib.sha256(repr((self.ticks, sorted(self.players.items()))).encode()).hexdigest()


@pytest.fixture
def recorded(tmp_path):
    path, rules, dice = tmp_path / "match.rec", Rules(), random.Random(1)
    with path.open("wb") as file:
        recorder = Recorder(file, rules.version, rules.seed)
        for tick in range(600):
            events = []
            if tick in (0, 3):
                events.append((tick + 1, "join", b""))
            elif dice.random() < 0.3:
                events.append((dice.choice((1, 4)), "input", bytes([dice.randrange(5)])))
            if tick == 500:
                events = [(4, "leave", b"")]
            if tick > 500:
                events = [(1, w, d) for p, w, d in events]
            if tick < 4:
                events = [e for e in events if e[1] == "join"]
            rules.step(tick, events)
            recorder.tick(tick, events)
            if tick % 60 == 59:
                recorder.check(tick, rules.hash())
    assert path.stat().st_size == recorder.bytes
    return path, rules


def test_a_replay_comes_to_the_same_state(recorded):
    path, rules = recorded
    again = Rules()
    assert replay(path, again) == 599
    assert again.hash() == rules.hash()


def test_a_replay_can_stop_at_any_tick_and_be_gone_on_with(recorded):
    path, _ = recorded
    one, two = Rules(), Rules()
    assert replay(path, one, to_tick=250) == 250 and one.ticks == 251
    replay(path, two, to_tick=250)
    assert one.hash() == two.hash()


def test_rules_that_have_changed_are_found_within_a_second(recorded):
    path, _ = recorded
    with pytest.raises(ReplayDiffers, match="after tick 119"):
        replay(path, Rules(fault_at=100))
    with pytest.raises(ReplayDiffers, match="rules 1 with seed 5"):
        replay(path, Rules(version="2"))
    with pytest.raises(ReplayDiffers, match="seed 6"):
        replay(path, Rules(seed=6))


def test_a_record_that_was_cut_off_is_read_up_to_there(recorded, tmp_path):
    path, _ = recorded
    data = path.read_bytes()
    cut = tmp_path / "cut.rec"
    for end in range(60, len(data), 517):
        cut.write_bytes(data[:end])
        replay(cut, Rules())
    _, _, lines = read(cut)
    assert lines


@pytest.mark.parametrize("data", [b"", b"hello, this is no record", b"\x00\x00\x00\x01\x90", bytes(100)])
def test_a_file_that_is_no_record_is_refused(tmp_path, data):
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(FormatError, match="not a record"):
        read(path)
