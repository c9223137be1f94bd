"""The throttle: what is forgotten when, and who is forgotten first. Sans-io."""

from __future__ import annotations

from toolips_udp.messages.throttle import FREE, LONGEST, MOST, SPAN, STEP, Throttle, source_of


def failures(throttle, source, times):
    for now in times:
        throttle.failed(source, now)


def test_a_failure_counts_for_less_than_a_minute():
    throttle = Throttle()
    failures(throttle, "a", [float(n) for n in range(FREE)])
    assert throttle.wait("a", SPAN - 0.001) == STEP
    assert throttle.wait("a", SPAN) == 0, "the first is a minute old, so nine are left"


def test_of_more_failures_than_the_free_ones_only_the_newest_are_remembered():
    throttle = Throttle()
    failures(throttle, "a", [float(n) for n in range(100)])
    assert len(throttle._sources["a"].failures) == FREE + 1


def test_who_waited_long_enough_waits_one_step_from_now_and_no_more():
    throttle = Throttle()
    failures(throttle, "a", [0.0] * FREE)
    assert [throttle.wait("a", 1.0) for _ in range(5)] == [STEP, 2 * STEP, 3 * STEP, LONGEST, None]
    assert throttle.wait("a", 2.0) == LONGEST, "one of the four has been judged meanwhile"
    assert throttle.wait("a", 30.0) == STEP


def test_the_source_that_failed_longest_ago_makes_room():
    throttle = Throttle()
    failures(throttle, "old", [0.0] * FREE)
    failures(throttle, "again", [1.0] * FREE)
    for n in range(MOST - 2):
        throttle.failed(f"s{n}", 2.0)
    throttle.failed("old", 3.0)  # it is the newest now
    throttle.failed("one more", 4.0)
    assert len(throttle) == MOST
    assert throttle.wait("old", 4.0) == STEP and throttle.wait("again", 4.0) == 0


def test_a_network_of_ipv6_is_64_bits_whatever_the_zone_says():
    assert source_of("2001:db8:0:1::1") == "2001:db8:0:1::/64"
    assert source_of("2001:db8:0:1:8000::1") == "2001:db8:0:1::/64", "the bit behind the 64 does not count"
    assert source_of("fe80::1%eth0") == source_of("fe80::1%wlan0") == "fe80::/64"
    assert source_of("no:address") == "no:address"
