"""Fields and bits: small, exact to half a step, and back again."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolips_udp.game.bits import Reader, golomb, packed, zigzag
from toolips_udp.game.fields import angle, counter, fixed, flag, number, quaternion


@given(st.floats(-64, 64))
def test_a_fixed_number_is_off_by_half_a_step_at_most(x):
    field = fixed(-64, 64, 1 / 128)
    assert field.bits == 15
    assert abs(field.x(field.q(x)) - x) <= 1 / 256 + 1e-12
    assert field.q(field.x(field.q(x))) == field.q(x)


def test_a_fixed_number_outside_its_range_becomes_the_end():
    field = fixed(0, 10, 0.3)
    assert field.x(field.q(99)) == pytest.approx(9.9) and field.q(-5) == 0
    assert fixed(-1, 1, 1).bits == 2


@given(st.floats(-100, 100))
def test_an_angle_is_off_by_half_a_step_at_most_all_the_way_round(x):
    field = angle(10)
    error = (field.x(field.q(x)) - x + math.pi) % math.tau - math.pi
    assert abs(error) <= math.pi / 1024 + 1e-9


def test_between_two_angles_the_short_way_is_taken():
    field = angle(10)
    assert math.cos(field.between(0.1, math.tau - 0.1, 0.5)) == pytest.approx(1.0)


@given(st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: sum(c * c for c in q) > 0.01))
def test_a_rotation_takes_29_bits_and_is_off_by_little(x):
    field = quaternion()
    q = field.q(x)
    assert q < 1 << 29
    back = field.x(q)
    length = math.sqrt(sum(c * c for c in x))
    assert (
        abs(sum(a * b / length for a, b in zip(back, x, strict=True))) > 0.99997
    )  # half a step in each of three
    assert sum(c * c for c in back) == pytest.approx(1.0, abs=1e-6)


def test_a_rotation_of_length_zero_is_refused():
    with pytest.raises(ValueError, match="length 0"):
        quaternion().q((0, 0, 0, 0))


def test_small_kinds():
    assert flag().q(True) == 1 and flag().bits == 1 and flag().between(0, 1, 0.9) == 0
    assert number(12).q(5000) == 4095 and number(12).raw
    assert counter(16).q(7) == 7 and not counter(16).raw


@pytest.mark.parametrize(
    "make", [lambda: fixed(1, 1, 0.1), lambda: fixed(0, 1, 0), lambda: number(33), lambda: number(0)]
)
def test_a_field_that_makes_no_sense_is_refused(make):
    with pytest.raises(ValueError, match=r"fixed|bits"):
        make()


@given(st.lists(st.integers(-(2**31), 2**31 - 1)), st.integers(0, 5))
def test_differences_come_back(values, order):
    bits = size = 0
    for value in values:
        more, count = golomb(zigzag(value), order)
        bits, size = bits << count | more, size + count
    reader = Reader(packed(bits, size))
    for value in values:
        got = reader.golomb(order)
        assert (got >> 1) ^ -(got & 1) == value


def test_small_differences_take_few_bits():
    assert [golomb(zigzag(d))[1] for d in (0, 3, -4, 4, 11, 12, 27)] == [4, 4, 4, 6, 6, 8, 8]


def test_reading_past_the_end_is_refused():
    reader = Reader(b"\x00")
    assert reader.bits(8) == 0
    with pytest.raises(ValueError, match="too early"):
        reader.bits(1)
    with pytest.raises(ValueError, match="32 bits"):
        Reader(bytes(40)).golomb()
