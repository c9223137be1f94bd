"""Address: parsing, printing, canonical forms."""

import pickle
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolips_udp import IP4, Address


@pytest.mark.parametrize(
    "text, host, port, printed",
    [
        ("127.0.0.1:53", "127.0.0.1", 53, "127.0.0.1:53"),
        ("[::1]:53", "::1", 53, "[::1]:53"),
        ("[2001:DB8:0:0::1]:53", "2001:db8::1", 53, "[2001:db8::1]:53"),
        ("[::ffff:1.2.3.4]:9", "1.2.3.4", 9, "1.2.3.4:9"),
        ("[fe80::1%lo]:5", "fe80::1%lo", 5, "[fe80::1%lo]:5"),
        ("1.2.3.4", "1.2.3.4", 0, "1.2.3.4"),
        ("[::1]", "::1", 0, "[::1]"),
    ],
)
def test_an_address_is_read_canonical_and_printed(text, host, port, printed):
    address = Address.parse(text)
    assert (address.host, address.port, str(address)) == (host, port, printed)
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":80",
        "host",
        "localhost:53",
        "::1:53",
        "[::1",
        "[::1]x",
        "[127.0.0.1]:5",
        "1.2.3.4:",
        "1.2.3.4:x",
        "1.2.3.4:-1",
        "1.2.3.4:65536",
        "1.2.3.4:٣",
        "1.2.3:4",
        "256.0.0.1:4",
        "1.2.3.4 :5",
        "[fe80::1%a b]:5",
        "a\x00b:5",
        "-a.example:5",
    ],
)
def test_bad_text_is_a_value_error_that_says_what_was_found(text):
    with pytest.raises(ValueError, match=r"\S"):
        Address.parse(text)


def test_other_types_are_type_errors():
    for bad in (7, None, b"1.2.3.4:5"):
        with pytest.raises(TypeError):
            Address.parse(bad)
    with pytest.raises(TypeError):
        Address("1.2.3.4", "53")
    with pytest.raises(TypeError):
        Address("1.2.3.4", True)


def test_an_address_is_a_hashable_ordered_immutable_pair():
    one, two = Address("127.0.0.1", 1), Address("127.0.0.1", 2)
    assert one < two and sorted([two, one]) == [one, two]
    assert {one: "x"}[Address.parse("127.0.0.1:1")] == "x"
    assert one == ("127.0.0.1", 1) and tuple(one) == ("127.0.0.1", 1)
    with pytest.raises(AttributeError):
        one.port = 5
    assert pickle.loads(pickle.dumps(one)) == one
    assert IP4 is Address and Address.parse(one) is one and Address.parse(("127.0.0.1", 1)) == one


def test_names_are_resolved_only_when_asked():
    assert Address("Example.Test", 53).host == "example.test"
    assert Address.resolve("localhost:53").host in ("127.0.0.1", "::1")
    with pytest.raises(ValueError, match="cannot be resolved"):
        Address.resolve("no-such-host.invalid:53")


def test_kernel_addresses_become_one_spelling():
    assert Address.of(("::ffff:10.0.0.1", 5, 0, 0)) == Address("10.0.0.1", 5)
    scoped = Address.of(("fe80::1", 5, 0, socket.if_nametoindex("lo")))
    assert scoped.host == "fe80::1%lo"
    assert scoped.sockaddr() == ("fe80::1", 5, 0, socket.if_nametoindex("lo"))
    assert Address("10.0.0.1", 5).sockaddr(socket.AF_INET6) == ("::ffff:10.0.0.1", 5, 0, 0)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_literal_goes_round(ip, port):
    address = Address(str(ip), port)
    assert Address.parse(str(address)) == address
    assert address.is_literal


@given(st.text(max_size=60))
def test_no_text_raises_anything_but_value_error(text):
    try:
        Address.parse(text)
    except ValueError:
        pass
