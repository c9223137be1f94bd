"""limits and access: the native stages, their Python twins, and both in a server."""

import ipaddress
import random

import pytest

from toolips_udp import Address, TooLong, access, handler, limits
from toolips_udp._native.guards import AccessList, Limiter
from toolips_udp.extensions.limits import Buckets


def native(rate=50, burst=125, levels=((4, 32, 1),), loopback=False):
    return Limiter(rate, burst, levels, loopback)


def twin(rate=50, burst=125, levels=((4, 32, 1),), loopback=False):
    return Buckets(rate, burst, list(levels), loopback)


@pytest.mark.parametrize("make", [native, twin])
def test_a_burst_passes_and_then_the_rate(make):
    limiter = make(rate=10, burst=5)
    assert [limiter.take("192.0.2.1", 100.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert not limiter.take("192.0.2.1", 100.09)
    assert limiter.take("192.0.2.1", 100.11)
    assert not limiter.take("192.0.2.1", 100.12)
    assert [limiter.take("192.0.2.1", 200.0) for _ in range(6)] == [True] * 5 + [False]


@pytest.mark.parametrize("make", [native, twin])
def test_one_source_does_not_use_up_the_rate_of_another(make):
    limiter = make(rate=1, burst=1)
    assert limiter.take("192.0.2.1", 1.0) and not limiter.take("192.0.2.1", 1.0)
    assert limiter.take("192.0.2.2", 1.0)


@pytest.mark.parametrize("make", [native, twin])
def test_a_prefix_has_a_rate_of_its_own(make):
    limiter = make(rate=1, burst=1, levels=((4, 32, 1), (4, 24, 3)))
    taken = [limiter.take(f"192.0.2.{n}", 1.0) for n in range(1, 10)]
    assert taken[0] and sum(taken) < 9  # the /24 is over before its ninth source
    assert limiter.take("192.0.3.1", 1.0)


@pytest.mark.parametrize("make", [native, twin])
def test_an_ipv6_client_cannot_escape_within_its_prefix(make):
    limiter = make(rate=1, burst=2, levels=((6, 64, 1),))
    assert [limiter.take(f"2001:db8::{n:x}", 1.0) for n in range(1, 5)] == [True, True, False, False]
    assert limiter.take("2001:db8:0:1::1", 1.0)


@pytest.mark.parametrize("make", [native, twin])
def test_loopback_is_exempt_unless_asked(make):
    for ip in ("127.0.0.1", "127.9.9.9", "::1"):
        levels = ((4, 32, 1), (6, 64, 1))
        free, bound = (
            make(rate=1, burst=1, levels=levels),
            make(rate=1, burst=1, levels=levels, loopback=True),
        )
        assert all(free.take(ip, 1.0) for _ in range(10))
        assert [bound.take(ip, 1.0) for _ in range(3)] == [True, False, False]


def test_a_million_sources_take_no_more_memory_and_a_limited_one_stays_limited():
    limiter = native(rate=1, burst=1)
    assert limiter.take("198.51.100.7", 5.0)
    for n in range(0, 1 << 20, 16):
        limiter.take(str(ipaddress.ip_address((10 << 24) + n)), 5.0)
    assert not limiter.take("198.51.100.7", 5.0)


def test_the_twin_and_the_c_decide_alike():
    dice = random.Random(7)
    both = [make(rate=20, burst=10, levels=((4, 32, 1), (4, 24, 4))) for make in (native, twin)]
    now = 10.0
    for _ in range(5_000):
        now += dice.random() * 0.01
        ip = f"192.0.2.{dice.randrange(6)}"
        assert len({limiter.take(ip, now) for limiter in both}) == 1


def test_the_longest_prefix_decides_and_deny_wins_over_allow():
    office = access(allow=["10.0.0.0/8", "2001:db8::/32"], deny=["10.9.0.0/16", "10.0.0.0/8"])
    nested = access(allow=["10.0.0.0/8", "10.9.9.9"], deny=["10.9.0.0/16"])
    assert not office.allows("10.1.1.1") and office.allows("2001:db8::1") and not office.allows("192.0.2.1")
    assert nested.allows("10.8.255.255") and not nested.allows("10.9.0.0") and nested.allows("10.9.9.9")
    assert not nested.allows("10.9.9.10") and nested.allows("10.10.0.0") and not nested.allows("11.0.0.0")
    assert access(deny=["192.0.2.0/24"]).allows("192.0.3.0") and access().allows("::1")


def test_folded_ranges_say_the_same_as_a_look_at_every_prefix():
    dice = random.Random(3)

    def some(count):
        bits = [dice.randrange(8, 33) for _ in range(count)]
        return [str(ipaddress.ip_network((dice.randrange(1 << 32), b), strict=False)) for b in bits]

    for _ in range(30):
        allow, deny = some(dice.randrange(6)), some(dice.randrange(6))
        lists = access(allow=allow, deny=deny)
        compiled = AccessList((first.to_bytes(16, "big"), ok) for first, ok in lists.ranges)
        probes = [ipaddress.ip_network(p)[i] for p in allow + deny for i in (0, -1)]
        probes += [ipaddress.ip_address(dice.randrange(1 << 32)) for _ in range(20)]
        for ip in probes:
            fits = [
                (ipaddress.ip_network(p).prefixlen, bad)
                for bad, of in ((0, allow), (1, deny))
                for p in of
                if ip in ipaddress.ip_network(p)
            ]
            expected = not max(fits)[1] if fits else not allow
            assert lists.allows(str(ip)) == compiled.allows(str(ip)) == expected


def test_wrong_lists_and_rates_are_refused_with_the_fix():
    with pytest.raises(ValueError, match=r"allow.*'10.0.0.1/8'.*192.0.2.0/24"):
        access(allow=["10.0.0.1/8"])
    with pytest.raises(TypeError, match="Fix"):
        access(deny="10.0.0.0/8")
    for wrong in ({"rate": 0}, {"burst": 0.5}, {"max_ratio": 0}, {"prefixes": {4: {33: 1}}}):
        with pytest.raises(ValueError):
            limits(**wrong)


def test_a_source_over_its_rate_is_counted_limited_and_never_reaches_python(
    server, transport, peer, eventually
):
    seen = []
    at = server(handler(lambda c: seen.append(c.packet)), limits(rate=1, burst=3, loopback=True))
    client = peer(at.address)
    for n in range(10):
        client.send(b"%d" % n)
    eventually(lambda: at.counters["received"] == 10)
    eventually(lambda: at.counters["limited"] == 7 and seen == [b"0", b"1", b"2"])


def test_a_source_that_may_not_ask_is_counted_denied(server, transport, peer, eventually):
    at = server(handler(lambda c: c.respond("hello")), access(deny=["127.0.0.0/8"]))
    peer(at.address).send(b"x")
    eventually(lambda: at.counters["denied"] == 1)
    assert at.counters["handled"] == 0


def test_answers_stay_within_the_ratio(server, transport, peer):
    found = []

    @handler
    def main(c):
        assert c.max_reply == 3 * len(c.packet)
        c.respond(b"x" * 2 * len(c.packet))
        try:
            c.respond(b"x" * 2 * len(c.packet))
        except TooLong:
            found.append(c.max_reply)
        c.respond(b"y" * len(c.packet))

    client = peer(server(main, limits(max_ratio=3)).address)
    assert client.ask(b"12345") == b"x" * 10 and client.recv(100) == b"yyyyy"
    assert found == [5]


def test_two_servers_that_answer_each_other_end_within_one_burst(server, transport, eventually):
    def echo():
        return handler(lambda c: c.respond(c.packet))

    one = server(echo(), limits(rate=0.001, burst=20, loopback=True))
    other = server(echo(), limits(rate=0.001, burst=20, loopback=True))
    one.send(b"ping", other.address)
    eventually(lambda: one.counters["limited"] + other.counters["limited"] == 1)
    assert one.counters["received"] + other.counters["received"] <= 41


def test_addresses_of_a_dual_stack_socket_are_limited_as_ipv4(server, transport, peer, eventually):
    at = server(handler(lambda c: c.respond(c.ip)), access(allow=["127.0.0.0/8"]), ip="[::]:0")
    assert peer(Address("127.0.0.1", at.address.port)).ask(b"x") == b"127.0.0.1"
    peer(Address("::1", at.address.port)).send(b"x")
    eventually(lambda: at.counters["denied"] == 1)
