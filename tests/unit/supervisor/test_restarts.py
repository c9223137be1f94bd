"""When to start a worker again, and which packets to keep out."""

import signal

from toolips_udp.supervisor.restarts import FIRST, GIVE_UP, KEPT_OUT, LARGEST, CrashLoop, Quarantine, lifetime


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


def test_lifetimes_are_spread_by_a_tenth():
    assert lifetime(None) is None
    found = [lifetime(100.0) for _ in range(200)]
    assert 90 <= min(found) < 95 and 105 < max(found) <= 110
