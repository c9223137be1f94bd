"""What a worker leaves in shared memory when it dies."""

import struct

import pytest

from toolips_udp.counters import WORDS
from toolips_udp.supervisor import memory

AT = {word: memory.COUNTERS_AT + 8 * at for at, word in enumerate(WORDS)}


@pytest.fixture
def region():
    made = memory.Region(65536)
    yield made
    made.close()


def count(view, **words):
    for word, number in words.items():
        struct.pack_into("=Q", view, AT[word], number)


def test_what_was_taken_and_not_finished_is_worker_lost_and_both_ledgers_close(region):
    view = memory.attach(region.fd)
    count(view, received=100, handled=80, denied=5, handler_failed=5, send_queued=90, sent=85)
    view.close()
    found = dict(zip(WORDS, region.final(), strict=False))
    assert found["worker_lost"] == 10
    assert found["send_refused_late"] == 5
    assert found["handled"] == 80


def test_the_kernels_drops_are_those_of_the_socket_not_of_a_process(region):
    view = memory.attach(region.fd)
    count(view, received=100, kernel=30, handled=70)
    view.close()
    own = memory.without_kernel(region.counters())
    found = dict(zip(WORDS, memory.with_kernel(own, 40), strict=False))
    assert (found["received"], found["kernel"], found["handled"]) == (110, 40, 70)


def test_the_datagram_in_work_is_read_and_nonsense_is_not(region):
    assert region.datagram() is None
    view = memory.attach(region.fd)
    view[600:606] = b"poison"
    struct.pack_into("=II", view, 24, 600, 6)
    assert region.datagram() == b"poison"
    for at, length in ((600, 0xFFFFFFFF), (10, 6), (len(view) - 3, 6), (600, 70_000)):
        struct.pack_into("=II", view, 24, at, length)
        assert region.datagram() is None
    view.close()


def test_a_heartbeat_is_the_monotonic_clock(region):
    import time

    view = memory.attach(region.fd)
    assert region.heartbeat() == 0
    before = time.monotonic_ns()
    memory.beat(view)
    assert before <= region.heartbeat() <= time.monotonic_ns()
    view.close()


def test_an_endpoint_and_the_supervisor_mean_the_same_memory(region):
    endpoint = pytest.importorskip("toolips_udp._native.endpoint", reason="the native core is not built")
    assert 0 <= memory.part_size(65536) - endpoint.shared_size(65536) < 4096


def test_streams_count_beside_the_endpoint():
    region = memory.Region(65536, 1, 3)
    view = memory.attach(region.fd)
    for number in range(3):
        counters = memory.stream_counters(view, number)
        counters[WORDS.index("handled")] += 10
        counters[WORDS.index("received")] += 11
        counters.release()
    count(view, received=5, handled=5)
    view.close()
    found = dict(zip(WORDS, region.final(), strict=False))
    assert (found["received"], found["handled"], found["worker_lost"]) == (38, 35, 3)
    region.close()


def test_each_udp_socket_has_a_part_of_its_own_and_all_are_counted():
    region = memory.Region(2048, 2, 1)
    view = memory.attach(region.fd)
    for number in range(2):
        part = memory.part(view, number, 2048)
        counters = memory.counters_of(part).cast("Q")
        counters[WORDS.index("received")] += 10 + number
        counters[WORDS.index("handled")] += 10
        if number:
            part[600:606] = b"poison"
            struct.pack_into("=II", part, 24, 600, 6)
        counters.release()
        part.release()
    assert region.datagram() == b"poison"  # the supervisor does not know beforehand in which one
    found = dict(zip(WORDS, region.final(), strict=False))
    assert (found["received"], found["handled"], found["worker_lost"]) == (21, 20, 1)
    view.close()
    region.close()
