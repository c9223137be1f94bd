"""Plain data between processes: what travels, and what is named because it does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolips_udp import Address
from toolips_udp.servers import plain

SIMPLE = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
)
KEYS = st.text() | st.integers(-(2**63), 2**63 - 1)
VALUES = st.recursive(
    SIMPLE,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.sets(st.integers(0, 99) | st.text(max_size=3), max_size=4)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_plain_data_comes_back_as_it_was_with_its_types(value):
    found = plain.decode(plain.encode(value))
    assert found == value
    assert type(found) is type(value)


def test_an_address_stays_an_address():
    value = {"who": Address("::1", 53), "all": [Address("127.0.0.1", 1)]}
    found = plain.decode(plain.encode(value))
    assert found == value
    assert isinstance(found["who"], Address)


def test_what_cannot_travel_is_dropped_and_named_by_its_place():
    data, lost = plain.pack({"a": {"b": [1, print]}, "c": object(), (1, 2): 3, "big": 2**70, "good": 1})
    assert plain.decode(data) == {"a": {"b": [1, None]}, "good": 1}
    assert lost == [
        "a.b[1] (builtin_function_or_method)",
        "c (object)",
        "(1, 2) (a key of type tuple)",
        "big (int)",
    ]
    with pytest.raises(plain.NotPlain, match="c \\(object\\)"):
        plain.encode({"c": object()})


def test_a_nest_without_end_is_dropped_and_a_long_list_of_losses_is_cut():
    nest = []
    nest.append(nest)
    _, lost = plain.pack({"nest": nest})
    assert len(lost) == 1
    _, lost = plain.pack([object()] * 100)
    assert len(lost) == 11 and lost[-1] == "and 90 more"
