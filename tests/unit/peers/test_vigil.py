"""A vigil is short, kept only between two who take turns quickly, and costs nothing when nobody speaks."""

from __future__ import annotations

import pytest

from toolips_udp.peers import vigil as module
from toolips_udp.peers.vigil import LEAST, LONGEST, MOST, SOON, Vigil

ROUND = 2e-6
"""Seconds of one round of the loop."""


class Loop:
    """A loop whose rounds take two microseconds."""

    def __init__(self):
        self.now = 100.0
        self.asked = []

    def call_soon(self, function):
        self.asked.append(function)

    def clock(self):
        return self.now

    def round(self):
        self.now += ROUND
        asked, self.asked = self.asked, []
        for each in asked:
            each()

    def sleep(self, seconds):
        """Rounds until the time is over; the loop sleeps as soon as nobody asks for a round. Returns the rounds."""
        end, rounds = self.now + seconds, 0
        while self.asked and self.now < end:
            self.round()
            rounds += 1
        self.now = max(self.now, end)
        return rounds


@pytest.fixture
def loop(monkeypatch):
    monkeypatch.setattr(module, "FINE", True)
    return Loop()


def take_turns(loop, vigil, times, wait=30e-6, who=1):
    """Ask and be answered, again and again. Returns the rounds of the loop that the vigil asked for."""
    rounds = 0
    for _ in range(times):
        vigil.said(who)
        rounds += loop.sleep(wait)
        vigil.heard(who, loop.now)
    return rounds


def test_the_next_answer_is_looked_for_when_eight_came_at_once(loop):
    vigil = Vigil(loop, loop.clock)
    assert take_turns(loop, vigil, LEAST) == 0
    assert take_turns(loop, vigil, 1) == pytest.approx(30e-6 / ROUND, abs=2)
    assert (vigil.vain, vigil.looks > 0) == (0, True)


def test_an_answer_that_does_not_come_is_looked_for_no_longer_than_a_moment(loop):
    vigil = Vigil(loop, loop.clock)
    take_turns(loop, vigil, LEAST)
    vigil.said(1)
    assert loop.sleep(10.0) <= LONGEST / ROUND + 2
    assert not loop.asked and vigil.vain == 1


def test_a_side_that_nobody_speaks_to_asks_for_no_round(loop):
    vigil = Vigil(loop, loop.clock)
    take_turns(loop, vigil, 10_000)
    loop.sleep(1.0)  # the last vigil ends
    before = vigil.looks
    assert loop.sleep(1000.0) == 0 and vigil.looks == before
    assert vigil.vain == 0  # it was answered; that no more is asked is no failure


def test_answers_that_take_longer_are_not_looked_for(loop):
    vigil = Vigil(loop, loop.clock)
    assert take_turns(loop, vigil, 1000, wait=1.1 * SOON) == 0


def test_vigils_in_vain_become_rare(loop):
    vigil = Vigil(loop, loop.clock)
    rounds = take_turns(loop, vigil, 100_000, wait=1.5 * LONGEST)  # soon enough to be tried, never found
    assert vigil.vain <= 100_000 / MOST + 8
    assert rounds * ROUND < 0.001 * loop.now


def test_a_long_conversation_that_ended_unanswered_does_not_make_the_next_wait(loop):
    vigil = Vigil(loop, loop.clock)
    for _ in range(20):
        take_turns(loop, vigil, 10 * LEAST)
        vigil.said(1)
        loop.sleep(1.0)
        vigil.heard(1, loop.now)
    take_turns(loop, vigil, LEAST)
    assert take_turns(loop, vigil, 1) > 0


def test_several_who_ask_by_turns_are_not_waited_for(loop):
    vigil = Vigil(loop, loop.clock)
    for who in range(1000):  # each is answered, and then another one asks
        vigil.said(who)
        assert loop.sleep(30e-6) == 0
        vigil.heard(who + 1, loop.now)
    assert vigil.looks == 0


def test_another_peer_ends_the_vigil(loop):
    vigil = Vigil(loop, loop.clock)
    take_turns(loop, vigil, 2 * LEAST)
    vigil.said(1)
    loop.round()
    vigil.heard(2, loop.now)
    loop.round()
    assert not loop.asked and vigil.vain == 0


def test_several_messages_of_one_turn_are_no_conversation(loop):
    vigil = Vigil(loop, loop.clock)
    for _ in range(1000):
        turn = loop.now  # what came in this turn was there when it began, before the answer went out
        for _ in range(3):
            loop.now += ROUND
            vigil.heard(1, turn)
            vigil.said(1)
        assert loop.sleep(30e-6) == 0
    assert vigil.looks == 0


def test_there_is_none_where_the_clock_is_too_coarse(loop, monkeypatch):
    monkeypatch.setattr(module, "FINE", False)
    vigil = Vigil(loop, loop.clock)
    assert take_turns(loop, vigil, 10_000) == 0


def converse(vigil, clock, took, times=1, who=1):
    """Answers that took so long, with a clock that stands still meanwhile."""
    for _ in range(times):
        clock[0] += 1.0
        vigil.said(who)
        vigil.heard(who, clock[0] + took)


class Still:
    """A loop that does nothing by itself."""

    def __init__(self):
        self.asked = []

    def call_soon(self, function):
        self.asked.append(function)

    def rounds(self):
        """Runs what was asked for once; how much that was."""
        asked, self.asked = self.asked, []
        for each in asked:
            each()
        return len(asked)


@pytest.fixture
def still(loop):
    clock, quiet = [64.0], Still()
    return Vigil(quiet, lambda: clock[0]), clock, quiet


def test_answers_count_from_the_first_moment_to_the_last(still):
    vigil, clock, _ = still
    assert (vigil.fast, vigil.waits, vigil.looks, vigil.vain) == (0, 0.0, 0, 0)
    clock[0] = 0.0
    vigil.waits = 2.0**-20
    vigil._who = 1
    vigil.heard(1, 2.0**-20)
    assert vigil.fast == 1, "an answer in the very turn"
    vigil.waits = 2.0**-20
    vigil.heard(1, 2.0**-20 + SOON)
    assert vigil.fast == 2, "exactly as long as it may take"
    converse(vigil, clock, 2 * SOON)
    assert vigil.fast == 0
    converse(vigil, clock, SOON / 2)
    assert vigil.fast == 1, "it began at nothing again"


def test_what_is_heard_before_anything_was_said_is_no_answer(still):
    vigil, clock, _ = still
    vigil.heard(0, clock[0])
    vigil.heard(1, SOON / 2)
    assert vigil.fast == 0


def test_each_look_and_each_vigil_in_vain_is_counted_once(still):
    vigil, clock, loop = still
    for vain in (1, 2):
        converse(vigil, clock, 0.0, vigil._need)
        loop.rounds()
        vigil.said(1)
        before = vigil.looks
        assert [loop.rounds() for _ in range(3)] == [1, 1, 1] and vigil.looks == before + 3
        clock[0] += LONGEST  # exactly over
        loop.rounds()
        assert (vigil.looks, vigil.vain, vigil.fast, loop.rounds()) == (before + 3, vain, 0, 0)
        assert vigil._until == 0.0


def test_a_vigil_in_vain_asks_for_twice_as_many_answers_and_one_that_paid_for_the_least(still):
    vigil, clock, loop = still
    converse(vigil, clock, 0.0, LEAST)
    for paid, need in ((0, 2 * LEAST), (0, 4 * LEAST), (LEAST - 1, 8 * LEAST), (LEAST, LEAST)):
        converse(vigil, clock, 0.0, vigil._need - vigil.fast)
        vigil.said(1)
        clock[0] += LONGEST / 2
        for _ in range(paid):
            vigil.heard(1, clock[0])
            vigil.said(1)
        clock[0] += 1.0
        while loop.rounds():
            pass
        assert vigil._need == need
