"""ClientTable: bounded, forgetful, the longest silent first."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from toolips_udp.clients import ClientTable


def test_a_client_is_remembered_until_it_is_silent_too_long():
    table = ClientTable(ttl=10, most=5)
    table.place("a", 1, now=0)
    assert table.lookup("a", now=10) == 1
    assert table.lookup("a", now=20) == 1, "hearing it starts its time again"
    assert table.lookup("a", now=30.1) is None and len(table) == 0


def test_the_longest_silent_client_makes_room():
    gone = []
    table = ClientTable(ttl=10, most=2, gone=lambda key, value: gone.append((key, value)))
    table.place("a", 1, now=0)
    table.place("b", 2, now=1)
    table.lookup("a", now=2)
    table.place("c", 3, now=3)
    assert gone == [("b", 2)] and list(table) == ["a", "c"]


def test_those_removed_on_purpose_are_not_reported_gone():
    gone = []
    table = ClientTable(ttl=10, most=2, gone=lambda key, value: gone.append(key))
    table.place("a", 1, now=0)
    assert table.remove("a") == 1 and table.remove("a") is None
    table.place("b", 1, now=0)
    table.expire(now=11)
    assert gone == ["b"]


def test_a_table_without_room_or_time_is_refused():
    for ttl, most in ((0, 1), (1, 0), (-1, 1)):
        with pytest.raises(ValueError):
            ClientTable(ttl, most)


def test_a_table_of_one_client_and_less_than_a_second_is_a_table():
    table = ClientTable(ttl=0.5, most=1)
    table.place("a", 1, now=0)
    assert table.lookup("a", now=0.5) == 1
    table.place("b", 2, now=0.6)
    assert table.items() == [("b", 2)]


def test_who_asks_too_late_is_told_to_be_gone_with_its_value():
    gone = []
    table = ClientTable(ttl=10, most=5, gone=lambda *what: gone.append(what))
    table.place("a", 1, now=0)
    assert table.lookup("a", now=10.1) is None and gone == [("a", 1)]


def test_a_look_at_a_client_gives_its_value_and_is_no_sign_of_life():
    table = ClientTable(ttl=10, most=5)
    table.place("a", 1, now=0)
    table.place("b", 2, now=1)
    assert (table.peek("a"), table.peek("x")) == (1, None)
    table.expire(now=10)
    assert table.items() == [("a", 1), ("b", 2)], "ten seconds of silence are allowed"
    table.expire(now=10.5)
    assert table.items() == [("b", 2)]


class AgainstAModel(RuleBasedStateMachine):
    """The table against a plain dict of last times."""

    def __init__(self):
        super().__init__()
        self.table = ClientTable(ttl=5, most=3)
        self.model = {}
        self.now = 0.0

    def fresh(self):
        return {key: entry for key, entry in self.model.items() if self.now - entry[0] <= 5}

    @rule(seconds=st.floats(0, 4))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(key=st.integers(0, 5), value=st.integers())
    def place(self, key, value):
        self.model = self.fresh()
        if key not in self.model and len(self.model) == 3:
            del self.model[min(self.model, key=lambda k: self.model[k][0])]
        self.model.pop(key, None)
        self.model[key] = (self.now, value)
        self.table.place(key, value, self.now)

    @rule(key=st.integers(0, 5))
    def lookup(self, key):
        expected = self.fresh().get(key)
        assert self.table.lookup(key, self.now) == (expected[1] if expected else None)
        if expected:
            del self.model[key]
            self.model[key] = (self.now, expected[1])
        else:
            self.model.pop(key, None)

    @rule(key=st.integers(0, 5))
    def remove(self, key):
        self.table.remove(key)
        self.model.pop(key, None)

    @invariant()
    def never_more_than_allowed(self):
        assert len(self.table) <= 3


TestAgainstAModel = AgainstAModel.TestCase
