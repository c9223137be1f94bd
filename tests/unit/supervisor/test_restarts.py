"""When to start a worker again, and which packets to keep out."""

import signal

from toolips_udp.supervisor.restarts import (
    FIRST,
    GIVE_UP,
    KEPT_OUT,
    LARGEST,
    WITHIN,
    CrashLoop,
    Quarantine,
    lifetime,
)


def test_a_worker_that_dies_now_and_then_is_replaced_at_once():
    loop = CrashLoop()
    assert [loop.died(3.0 * n) for n in range(50)] == [0.0] * 50


def test_a_crash_loop_waits_longer_each_time_and_gives_up_after_a_minute():
    loop, now, pauses = CrashLoop(), 0.0, []
    while (pause := loop.died(now)) is not None and len(pauses) < 100:
        pauses.append(pause)
        now += pause + 0.05
    assert pauses[:5] == [0.0] * 5
    assert pauses[5:9] == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST]
    assert max(pauses) <= LARGEST
    assert now <= GIVE_UP + LARGEST + 2


def test_after_a_quiet_time_a_crash_loop_begins_anew():
    loop = CrashLoop()
    assert [loop.died(0.1 * n) for n in range(7)] == [0, 0, 0, 0, 0, FIRST, 2 * FIRST]
    assert [loop.died(100 + 0.1 * n) for n in range(6)] == [0, 0, 0, 0, 0, FIRST]


def test_five_deaths_in_ten_seconds_are_no_loop_and_the_sixth_is():
    within = CrashLoop()
    assert [within.died(2.0 * n) for n in range(6)][-1] == FIRST, "the first is ten seconds old, which counts"
    beyond = CrashLoop()
    assert [beyond.died(2.01 * n) for n in range(6)][-1] == 0.0


def test_a_worker_that_lives_for_more_than_ten_seconds_ends_the_loop():
    loop = CrashLoop()
    assert [loop.died(0.0) for _ in range(6)][-1] == FIRST
    assert loop.died(FIRST + WITHIN) == 2 * FIRST, "ten seconds after its pause is still the loop"
    assert loop.died(3 * FIRST + 2 * WITHIN + 0.001) == 0.0


def test_a_loop_is_one_whatever_the_clock_says():
    loop = CrashLoop()
    assert [loop.died(1000.0) for _ in range(6)][-1] == FIRST
    assert loop.died(1005.0) == 2 * FIRST


def test_a_loop_is_given_up_when_a_minute_of_it_is_full():
    loop = CrashLoop()
    for _ in range(6):
        loop.died(0.0)
    for second in range(5, 60, 5):
        assert loop.died(float(second)) is not None
    assert loop.died(GIVE_UP) is None


def test_the_second_death_of_a_packet_keeps_it_out_for_ten_minutes():
    quarantine = Quarantine()
    assert not quarantine.died(b"poison", -signal.SIGSEGV, 0)
    assert not quarantine.died(b"other", -signal.SIGSEGV, 1)
    assert quarantine.packets(1) == []
    assert quarantine.died(b"poison", 7, 2)
    assert quarantine.packets(2 + KEPT_OUT - 1) == [b"poison"]
    assert quarantine.packets(2 + KEPT_OUT + 1) == []


def test_an_operators_kill_or_a_clean_end_blames_no_packet():
    quarantine = Quarantine()
    for status in (-signal.SIGKILL, -signal.SIGTERM, 0):
        for _ in range(3):
            assert not quarantine.died(b"ping", status, 0)
    assert not quarantine.died(None, -signal.SIGSEGV, 0)
    assert quarantine.packets(0) == []


def test_the_table_of_suspects_and_of_kept_out_packets_is_bounded():
    quarantine = Quarantine()
    for n in range(1000):
        quarantine.died(b"%d" % n, -signal.SIGSEGV, 0)
        quarantine.died(b"%d" % n, -signal.SIGSEGV, 0)
    assert len(quarantine.packets(0)) == 64


def test_of_the_suspects_the_oldest_are_forgotten_and_64_are_kept():
    quarantine = Quarantine()
    for n in range(65):
        assert not quarantine.died(b"%d" % n, 3, 0)
    assert not quarantine.died(b"0", 3, 0), "forgotten, so this was its first"
    assert not quarantine.died(b"1", 3, 0), "that made room for it"
    for n in (*range(3, 65), 0, 1):
        assert quarantine.died(b"%d" % n, 3, 0), n


def test_a_third_death_keeps_a_packet_out_from_then_on_and_as_the_newest():
    quarantine = Quarantine()
    for now in (0, 0, 100, 100):
        quarantine.died(b"again", 3, now)
    assert quarantine.packets(KEPT_OUT + 99) == [b"again"] and quarantine.packets(KEPT_OUT + 100) == []
    for n in range(64):
        quarantine.died(b"%d" % n, 3, 0), quarantine.died(b"%d" % n, 3, 0)
        if n == 30:
            quarantine.died(b"0", 3, 0), quarantine.died(b"0", 3, 0)
    for packet in (b"one more", b"one more"):
        quarantine.died(packet, 3, 0)
    kept = quarantine.packets(0)
    assert b"0" in kept and b"1" not in kept and len(kept) == 64


def test_a_status_of_one_is_an_end_that_a_packet_can_cause():
    quarantine = Quarantine()
    assert [quarantine.died(b"exit", 1, 0) for _ in range(2)] == [False, True]


def test_lifetimes_are_spread_by_a_tenth():
    assert lifetime(None) is None
    found = [lifetime(100.0) for _ in range(200)]
    assert 90 <= min(found) < 95 and 105 < max(found) <= 110
