"""The C code makes the same snapshots as its Python twin: bits, what the client holds, what it still misses."""

import math
import random
import struct
from operator import attrgetter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolips_udp.game import making
from toolips_udp.game.fields import Field, angle, counter, dial, fixed, flag, number, quaternion
from toolips_udp.game.interest import Near

native = pytest.importorskip("toolips_udp._native.snapshot", reason="needs the native core")


class Thing:
    def __init__(self, id, **values):
        self.id, self._jumps = id, 0
        self.__dict__.update(values)


class Odd(Field):
    """A field of one's own: the native core asks it."""

    def q(self, x):
        return int(x) * 3 % 32


KINDS = {
    "x": fixed(-64, 64, 1 / 128), "y": fixed(-64, 64, 1), "turn": angle(10), "heading": dial(6),
    "score": counter(32), "team": number(2), "dead": flag(), "pose": quaternion(), "odd": Odd(5),
}  # fmt: skip


def value(dice, name):
    if name == "pose":
        return tuple(dice.uniform(-1, 1) for _ in range(4))
    if name in ("x", "y"):
        return dice.choice(
            [dice.uniform(-70, 70), dice.randrange(-70, 70), 1e300, -1e18, dice.uniform(-9, 9)]
        )
    if name == "turn":
        return dice.choice([dice.uniform(-10, 10), dice.randrange(-9, 9), 1e15])
    return dice.choice([dice.randrange(40), dice.randrange(1 << 33), -3, True, dice.uniform(0, 40)])


def plans(fields, near, budget):
    get = attrgetter(*fields) if len(fields) > 1 else lambda e, name=next(iter(fields)): (getattr(e, name),)
    return native.Plan(fields, get, near, budget), making.Plan(fields, get, near, budget)


def rows_of(frame, fields):
    words = 1 + len(fields)
    flat = struct.unpack(f"={len(frame) // 4}I", frame)
    return {flat[n] & 0xFFFF: (flat[n] >> 16, *flat[n + 1 : n + words]) for n in range(0, len(flat), words)}


def misses(urgent):
    flat = struct.unpack(f"={len(urgent) // 16 * 'dQ'}", urgent)
    return dict(zip(flat[1::2], flat[::2], strict=True))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    many=st.sampled_from([1, 3, 20, 80]),
    budget=st.sampled_from([12, 60, 200, 1079]),
    view=st.sampled_from([None, 12.0, 200.0]),
    weighty=st.booleans(),
    names=st.sets(st.sampled_from(sorted(KINDS))),
)
def test_both_make_the_same_bytes_through_a_match(seed, many, budget, view, weighty, names):
    dice = random.Random(seed)
    fields = {name: KINDS[name] for name in {"x", "y", *names}}
    weight = (lambda e: 1.0 + e.id % 3 / 7) if weighty else None
    near = Near(view, weight=weight) if view is not None else None
    fast, plain = plans(fields, near, budget)
    ids = sorted(dice.sample([*range(1, 3 * many + 9), *range(65_536 - many, 65_536)], many))
    things = {id: Thing(id, **{name: value(dice, name) for name in fields}) for id in ids}
    clients = [[([b""], [{}]), b"", {}] for _ in range(3)]
    for _ in range(8):
        for id in list(things):
            if dice.random() < 0.1:
                del things[id]
            elif dice.random() < 0.6:
                name = dice.choice(list(fields))
                setattr(things[id], name, value(dice, name))
                things[id]._jumps = (things[id]._jumps + (dice.random() < 0.2)) & 0xFFFF
        if dice.random() < 0.5:
            id = dice.randrange(1, 65_536)
            things[id] = Thing(id, **{name: value(dice, name) for name in fields})
        alive = [things[id] for id in sorted(things)]
        a, b = native.Made(fast, alive), making.Made(plain, alive)
        assert rows_of(a.now, fields) == b.now
        for client in clients:
            (fasts, plains), missed, urgent = client
            own = dice.choice([None, *alive])
            at = dice.randrange(len(fasts))
            got, expected = a.body(missed, fasts[at], own), b.body(urgent, plains[at], own)
            assert (got is None) == (expected is None)
            if got is None:
                continue
            body, frame, client[1] = got
            bits, held, client[2] = expected
            assert body == bits and len(body) <= budget
            assert rows_of(frame, fields) == held
            assert misses(client[1]) == client[2]
            fasts.append(frame), plains.append(held)


def test_a_view_is_the_same_on_the_edges_of_cells_and_far_away():
    dice = random.Random(5)
    fields = {"x": fixed(-1, 1, 0.5), "y": fixed(-1, 1, 0.5)}
    near = Near(10.0)
    fast, plain = plans(fields, near, 100_000)
    edge = [
        0.0,
        11.5,
        -11.5,
        23.0,
        10.0,
        -10.0,
        math.nextafter(10.0, 11),
        math.nextafter(11.5, 12),
        1e12,
        -1e300,
    ]
    things = [Thing(n + 1, x=dice.choice(edge), y=dice.choice(edge)) for n in range(400)]
    a, b = native.Made(fast, things), making.Made(plain, things)
    held, base = a.now, b.now
    for own in things[:60]:
        for fast_base, base_ in ((b"", {}), (held, base)):
            got, expected = a.body(b"", fast_base, own), b.body({}, base_, own)
            assert got[0] == expected[0] and rows_of(got[1], fields) == expected[1]


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, "x", None])
def test_a_value_that_is_no_number_raises_as_the_field_does(wrong):
    fields = {"x": fixed(-1, 1, 0.5)}
    fast, plain = plans(fields, None, 100)
    with pytest.raises(Exception) as theirs:
        making.Made(plain, [Thing(1, x=wrong)])
    with pytest.raises(type(theirs.value)):
        native.Made(fast, [Thing(1, x=wrong)])


def test_more_deaths_than_fit_ask_for_a_new_beginning():
    fields = {"x": counter(4)}
    fast, plain = plans(fields, None, 20)
    many = [Thing(n + 1, x=n % 16) for n in range(200)]
    held, base = native.Made(fast, many).now, making.Made(plain, many).now
    assert native.Made(fast, many[:3]).body(b"", held, None) is None
    assert making.Made(plain, many[:3]).body({}, base, None) is None


def test_a_snapshot_that_is_over_says_so():
    fast, _ = plans({"x": counter(4)}, None, 20)
    first = native.Made(fast, [Thing(1, x=1)])
    native.Made(fast, [Thing(1, x=2)])
    with pytest.raises(RuntimeError, match="is over"):
        first.body(b"", b"", None)
