"""The native endpoint, call by call: each system call fails, every reply arrives once or is counted."""

import array
import errno
import random
import socket
import struct

import pytest

from tests.conftest import assert_ledgers_close
from toolips_udp import Address, MultiHandler, handler
from toolips_udp._native.endpoint import ClientTable, Faults, MemoryWire
from toolips_udp.counters import AGE_BOUNDS, WORDS

CLIENT = Address("192.0.2.7", 4000)
OTHER = Address("192.0.2.8", 4000)


def all_sent(wire):
    return [data for data, _ in wire.collect()]


# ---- receiving ----


def test_what_comes_in_is_answered_in_one_turn(wired):
    w = wired()
    for n in range(100):
        w.wire.push(b"%d" % n, CLIENT)
    w.endpoint.turn()
    assert all_sent(w.wire) == [b"%d" % n for n in range(100)]
    # 64, then 36, then a last look: behind a busy batch more is likely to wait by now
    assert w.counters["turns"] == 1 and w.counters["receive_calls"] == 3


def test_a_lone_datagram_costs_one_call_to_receive(wired):
    w = wired()
    w.wire.push(b"hello", CLIENT)
    w.endpoint.turn()
    assert all_sent(w.wire) == [b"hello"] and w.counters["receive_calls"] == 1


def test_a_turn_ends_after_four_batches_so_that_others_run(wired):
    w = wired()
    for n in range(300):
        w.wire.push(b"%d" % n, CLIENT)
    w.endpoint.turn()
    assert w.counters["received"] == 256 and w.wire.readable
    w.endpoint.turn()
    assert w.counters["handled"] == 300 and not w.wire.readable


def test_a_turn_ends_when_its_time_is_over(wired):
    wire = MemoryWire("192.0.2.1:53")

    @handler
    def slow(c):
        wire.advance(0.001)

    w = wired(slow, wire=wire)
    for n in range(200):
        wire.push(b"%d" % n, CLIENT)
    w.endpoint.turn()
    assert w.counters["received"] == 64


def test_short_batches_lose_nothing(wired):
    wire = MemoryWire("192.0.2.1:53")
    faults = Faults(wire)
    faults.shorten("recvmmsg", 3)
    faults.shorten("sendmmsg", 1)
    w = wired(wire=wire, calls=faults)
    for n in range(50):
        wire.push(b"%d" % n, Address("192.0.2.7", 1000 + n % 7))
    while wire.readable:
        w.endpoint.turn()
    assert sorted(all_sent(wire), key=int) == [b"%d" % n for n in range(50)]


@pytest.mark.parametrize(
    "error", [errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENOMEM]
)
@pytest.mark.parametrize("which", [1, 2])
def test_a_receive_call_that_fails_never_stops_the_server(wired, error, which):
    wire = MemoryWire("192.0.2.1:53")
    faults = Faults(wire)
    faults.fail("recvmmsg", error, first=which)
    w = wired(wire=wire, calls=faults)
    for n in range(70):
        wire.push(b"%d" % n, CLIENT)
    for _ in range(3):
        w.endpoint.turn()
    assert all_sent(wire) == [b"%d" % n for n in range(70)]
    assert not w.failed


def test_a_socket_that_is_gone_is_said_and_no_longer_read(wired):
    wire = MemoryWire("192.0.2.1:53")
    faults = Faults(wire)
    faults.fail("recvmmsg", errno.EBADF)
    w = wired(wire=wire, calls=faults)
    wire.push(b"x", CLIENT)
    w.endpoint.turn()
    assert "socket of 192.0.2.1:53" in str(w.failed)


def test_sources_that_are_never_served_are_denied_before_any_handler(wired):
    w = wired()
    denied = [Address("192.0.2.7", port) for port in (0, 7, 13, 19, 37)]
    denied += [Address("192.0.2.1", 53), Address("255.255.255.255", 9), Address("224.0.0.1", 99)]
    for source in denied:
        w.wire.push(b"x", source)
    w.wire.push(b"served", Address("192.0.2.7", 38))
    w.wire.push(b"served", Address("192.0.2.1", 54))
    w.endpoint.turn()
    assert w.counters["denied"] == len(denied) and all_sent(w.wire) == [b"served"] * 2


def test_multicast_and_own_addresses_are_denied_over_ipv6_too(wired):
    w = wired(address="[2001:db8::1]:53")
    for source in ("[ff02::1]:99", "[2001:db8::1]:53", "[2001:db8::2]:7"):
        w.wire.push(b"x", source)
    w.wire.push(b"served", "[2001:db8::2]:99")
    w.endpoint.turn()
    assert w.counters["denied"] == 3 and w.wire.collect() == [(b"served", Address("2001:db8::2", 99))]


def test_a_datagram_longer_than_its_slot_is_truncated_and_never_parsed(wired):
    seen = []
    w = wired(handler(lambda c: seen.append(len(c.packet))), slot_room=1000)
    for size in (999, 1000, 1001, 65507):
        w.wire.push(bytes(size), CLIENT)
    w.endpoint.turn()
    assert seen == [999, 1000] and w.counters["truncated"] == 2


def test_n6_every_length_is_handled_or_truncated_exactly(wired):
    seen = []
    w = wired(handler(lambda c: seen.append(len(c.packet))), slot_room=3000)
    for length in (*range(3100), *range(65_400, 65_508)):
        w.wire.push(bytes(length), CLIENT)
        w.endpoint.turn()
    assert seen == list(range(3001)) and w.counters["truncated"] == 99 + 108
    seen.clear()
    w = wired(handler(lambda c: seen.append(len(c.packet))))
    for length in range(0, 65_508, 13):
        w.wire.push(bytes(length), CLIENT)
        w.endpoint.turn()
    assert seen == list(range(0, 65_508, 13)) and w.counters["truncated"] == 0


def test_empty_datagrams_are_delivered_and_never_end_the_loop(wired):
    w = wired()
    wanted = [b"%d" % n if n % 1000 == 0 else b"" for n in range(100_000)]
    sent = []
    for first in range(0, len(wanted), 500):
        for packet in wanted[first : first + 500]:
            w.wire.push(packet, CLIENT)
        while w.wire.readable:
            w.endpoint.turn()
        sent += all_sent(w.wire)
    assert sent == wanted


def test_what_the_kernel_dropped_is_in_the_ledger(wired):
    wire = MemoryWire("192.0.2.1:53", limit=10 * 832)
    w = wired(wire=wire)
    for n in range(64):
        wire.push(b"%d" % n, CLIENT)
    assert wire.drops == 54
    w.endpoint.turn()
    assert w.counters["kernel"] == 54 and w.counters["received"] == 64 and w.counters["handled"] == 10


def test_who_reads_the_counters_in_a_turn_changes_none_of_them(wired):
    # a turn receives without the interpreter's lock: another thread that added to a word then would undo what it adds
    wire = MemoryWire("192.0.2.1:53", limit=10 * 832)
    words, found, kernel = array.array("Q", [0] * 48), [], WORDS.index("kernel")

    @handler
    def main(c):
        found.append((w.counters["kernel"], w.counters["received"], words[0], words[kernel]))

    w = wired(main, wire=wire, counters=words)
    for n in range(64):
        wire.push(b"%d" % n, CLIENT)
    w.endpoint.turn()
    assert found == [(54, 64, 10, 0)] * 10
    assert w.counters["kernel"] == words[kernel] == 54 and w.counters["received"] == words[0] == 64


def test_the_drop_count_may_wrap_or_be_unreadable(wired):
    wire = MemoryWire("192.0.2.1:53")
    faults = Faults(wire)
    w = wired(wire=wire, calls=faults)
    faults.fail("getsockopt", errno.EPERM, times=100)
    assert w.counters["kernel"] == 0 and w.endpoint.refresh() == 0


# ---- age ----


def overloaded(wired, **limits):
    """An endpoint whose queue is never empty, as under load; a turn takes 10 ms of its time."""
    wire = MemoryWire("192.0.2.1:53")
    w = wired(wire=wire, **limits)

    def load(seconds):
        end = wire.now + seconds
        while wire.now < end:
            for _ in range(300):
                wire.push(b"x", CLIENT)
            wire.advance(0.01)
            w.endpoint.turn()

    w.load = load
    return w


def test_the_age_drop_arms_only_after_half_a_second_without_an_empty_queue(wired):
    w = overloaded(wired)
    w.load(0.4)
    assert not w.endpoint.is_armed and w.counters["stale"] == 0
    w.load(0.3)
    assert w.endpoint.is_armed


def test_an_armed_age_drop_drops_what_waited_too_long_and_serves_what_is_fresh(wired):
    w = overloaded(wired)
    w.load(1.0)
    waiting_before = w.counters["stale"]
    w.load(2.0)
    assert w.counters["stale"] > waiting_before
    assert_ledgers_close(w.counters)


def test_the_age_drop_disarms_when_the_queue_empties(wired):
    w = overloaded(wired)
    w.load(1.5)
    while w.wire.readable:
        w.endpoint.turn()
    w.endpoint.turn()
    assert not w.endpoint.is_armed
    stale = w.counters["stale"]
    w.wire.push(b"late", CLIENT)
    w.wire.advance(0.2)
    w.endpoint.turn()
    assert w.counters["stale"] == stale


def test_a_burst_or_a_slow_handler_loses_nothing_by_age(wired):
    w = wired()
    for n in range(5000):
        w.wire.push(b"%d" % n, CLIENT)
    w.wire.advance(0.4)
    while w.wire.readable:
        w.endpoint.turn()
    assert w.counters["stale"] == 0 and w.counters["handled"] == 5000


def test_how_long_datagrams_waited_is_counted_only_while_the_age_drop_is_armed(wired):
    w = overloaded(wired)
    w.load(0.4)
    assert not w.endpoint.is_armed and not any(w.endpoint.queue_ages)
    w.load(0.6)
    measured = sum(w.endpoint.queue_ages)
    assert w.endpoint.is_armed and measured
    while w.wire.readable:
        w.endpoint.turn()
    w.endpoint.turn()
    assert not w.endpoint.is_armed
    measured = sum(w.endpoint.queue_ages)
    for _ in range(300):
        w.wire.push(b"x", CLIENT)
    w.wire.advance(0.01)
    w.endpoint.turn()
    assert sum(w.endpoint.queue_ages) == measured


@pytest.mark.parametrize(
    ("waited", "bucket"),
    [(0.0, 0), (0.0002, 0), (0.0003, 1), (0.0005, 1), (0.01, 6), (0.03, 7), (0.5, 11), (1.0, 12), (1.1, 13), (50, 13)],
)
def test_a_datagram_is_counted_in_the_bucket_of_its_age_served_or_stale(wired, waited, bucket):
    w = overloaded(wired)

    def waves(count, seconds):
        for _ in range(count):
            for _ in range(256):  # what a turn takes: the queue is empty after it, and nobody looks
                w.wire.push(b"x", CLIENT)
            w.wire.advance(seconds)
            w.endpoint.turn()

    waves(60, 0.01)
    assert w.endpoint.is_armed
    before = w.endpoint.queue_ages
    waves(3, waited)
    found = [now - then for now, then in zip(w.endpoint.queue_ages, before, strict=True)]
    assert found == [768 if n == bucket else 0 for n in range(len(AGE_BOUNDS) + 1)]
    assert bucket == len(AGE_BOUNDS) or waited < AGE_BOUNDS[bucket]
    assert bucket == 0 or waited >= AGE_BOUNDS[bucket - 1]


def test_an_age_that_cannot_be_is_not_counted(wired):
    w = overloaded(wired)
    w.load(0.7)
    measured = w.endpoint.queue_ages
    w.wire.wall -= 3600
    w.load(0.05)
    w.wire.wall += 7200
    w.load(0.01)
    assert w.endpoint.queue_ages == measured


def test_an_age_limit_of_0_turns_it_off(wired):
    w = overloaded(wired, age_limit=0)
    w.load(2.0)
    assert w.counters["stale"] == 0


def test_a_clock_that_jumps_makes_nothing_stale(wired):
    w = overloaded(wired)
    w.load(0.7)
    assert w.endpoint.is_armed
    stale = w.counters["stale"]
    w.wire.wall -= 3600  # set back: stamps lie in the future
    w.load(0.05)
    assert w.counters["stale"] == stale


# ---- sending ----


def test_answers_of_one_size_to_one_client_leave_as_one_message(wired):
    w = wired()
    for n in range(32):
        w.wire.push(b"%04d" % n, CLIENT)
    w.endpoint.turn()
    assert w.counters["send_calls"] == 1 and w.counters["gso_groups"] == 1
    assert all_sent(w.wire) == [b"%04d" % n for n in range(32)]


def test_grouping_never_changes_the_order_to_one_client(wired):
    dice = random.Random(11)

    @handler
    def main(c):
        for _ in range(dice.randrange(4)):
            count[c.address] = count.get(c.address, 0) + 1
            c.respond(struct.pack("!I", count[c.address]).ljust(dice.choice([4, 4, 4, 9, 1400]), b"."))

    count = {}
    w = wired(main)
    clients = [Address("192.0.2.7", 4000 + n) for n in range(5)]
    for _ in range(2000):
        w.wire.push(b"x", dice.choice(clients))
        if dice.random() < 0.05:
            w.endpoint.turn()
    while w.wire.readable:
        w.endpoint.turn()
    got = {client: [] for client in clients}
    for data, to in w.wire.collect():
        got[to].append(struct.unpack("!I", data[:4])[0])
    assert {client: len(numbers) for client, numbers in got.items()} == count
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in got.values())


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EMSGSIZE, errno.EIO])
def test_a_group_that_the_kernel_refuses_goes_out_one_by_one(wired, error):
    wire = MemoryWire("192.0.2.1:53")
    faults = Faults(wire)
    faults.fail("sendmmsg", error)
    w = wired(wire=wire, calls=faults)
    for n in range(20):
        wire.push(b"%04d" % n, CLIENT if n % 2 else OTHER)
    w.endpoint.turn()
    got = wire.collect()
    assert [d for d, to in got if to == CLIENT] == [b"%04d" % n for n in range(1, 20, 2)]
    assert [d for d, to in got if to == OTHER] == [b"%04d" % n for n in range(0, 20, 2)]
    assert w.counters["gso_fallbacks"] == 1 and w.counters["send_refused"] == 0
    assert w.endpoint.gso is False  # 4-byte segments refused, or a device that cannot: not offered again


def test_a_narrow_path_limits_the_size_of_segments_not_grouping(wired):
    wire = MemoryWire("192.0.2.1:53")
    faults = Faults(wire)
    faults.fail("sendmmsg", errno.EMSGSIZE)
    w = wired(wire=wire, calls=faults)
    for size in (1400, 1400, 100, 100):
        wire.push(b"x" * size, Address("192.0.2.7", size))
    w.endpoint.turn()
    wire.collect()
    before = w.counters["gso_groups"]
    for size in (1400, 1400, 100, 100):
        wire.push(b"x" * size, Address("192.0.2.7", size))
    w.endpoint.turn()
    assert len(wire.collect()) == 4 and w.counters["gso_groups"] == before + 1 and w.endpoint.gso


@pytest.mark.parametrize("error", [errno.ECONNREFUSED, errno.EPERM, errno.ENETUNREACH, errno.EACCES])
@pytest.mark.parametrize("which", range(1, 6))
def test_a_refused_message_costs_itself_only(wired, error, which):
    wire = MemoryWire("192.0.2.1:53")
    faults = Faults(wire)
    w = wired(wire=wire, calls=faults)
    faults.fail("sendmmsg", error, first=which)
    for n in range(6):
        wire.push(b"x", Address("192.0.2.7", 100 + n))
        w.endpoint.turn()
    assert len(wire.collect()) == 5
    assert w.counters["send_refused"] == 1 and w.endpoint.refused_by == {error: 1}
    assert_ledgers_close(w.counters)


@pytest.mark.parametrize("error", [errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM])
@pytest.mark.parametrize("which", range(1, 8))
def test_a_kernel_that_says_later_gets_everything_later_in_order(wired, error, which):
    wire = MemoryWire("192.0.2.1:53")
    faults = Faults(wire)
    w = wired(wire=wire, calls=faults)
    faults.fail("sendmmsg", error, first=which, times=2)
    sent = []
    for n in range(12):
        wire.push(b"%d" % n, CLIENT)
        w.endpoint.turn()
        w.endpoint.pulse()
        sent += all_sent(wire)
    w.endpoint.retry()
    assert sent + all_sent(wire) == [b"%d" % n for n in range(12)]
    assert w.endpoint.waiting == 0
    assert_ledgers_close(w.counters)


def test_a_refused_message_in_the_middle_of_a_batch_costs_itself_only(wired):
    wire = MemoryWire("192.0.2.1:53")
    first = Faults(wire)
    first.shorten("sendmmsg", 2)
    second = Faults(first)
    second.fail("sendmmsg", errno.EPERM, first=2)  # after a partial send: the third message
    w = wired(wire=wire, calls=second)
    for n in range(6):
        wire.push(b"%d" % n, Address("192.0.2.7", 100 + n))
    w.endpoint.turn()
    assert all_sent(wire) == [b"0", b"1", b"3", b"4", b"5"] and w.counters["send_refused"] == 1


def test_what_waits_too_long_or_too_much_is_counted(wired):
    wire = MemoryWire("192.0.2.1:53")
    faults = Faults(wire)
    faults.fail("sendmmsg", errno.ENOBUFS, times=1 << 40)
    w = wired(wire=wire, calls=faults)
    for n in range(1200):
        wire.push(b"%d" % n, CLIENT)
    while wire.readable:
        w.endpoint.turn()
    assert w.endpoint.waiting == 1024 and w.counters["send_dropped_full"] == 176
    wire.advance(0.051)
    w.endpoint.retry()
    assert w.endpoint.waiting == 0 and w.counters["send_refused_late"] == 1024
    assert_ledgers_close(w.counters)


def test_large_messages_that_wait_do_not_overrun_their_memory(wired):
    wire = MemoryWire("192.0.2.1:53")
    faults = Faults(wire)
    w = wired(wire=wire, calls=faults)
    dice = random.Random(5)
    expected = []
    for _ in range(60):
        faults.fail("sendmmsg", errno.EAGAIN, times=dice.randrange(1, 4))
        for _ in range(dice.randrange(8)):
            data = bytes([dice.randrange(256)]) * dice.randrange(60_000)
            expected.append(data)
            wire.push(data, CLIENT)
        w.endpoint.turn()
        w.endpoint.retry()
    faults.clear()
    w.endpoint.retry()
    got = all_sent(wire)
    assert len(got) + w.counters["send_dropped_full"] == len(expected)
    at = iter(expected)
    assert all(any(data == one for one in at) for data in got)  # a subsequence: nothing overtakes
    assert_ledgers_close(w.counters)


def test_a_dead_socket_costs_its_messages_and_is_said(wired):
    wire = MemoryWire("192.0.2.1:53")
    faults = Faults(wire)
    faults.fail("sendmmsg", errno.EBADF, times=1 << 40)
    w = wired(wire=wire, calls=faults)
    wire.push(b"x", CLIENT)
    w.endpoint.turn()
    assert w.counters["send_refused"] == 1 and w.failed
    assert_ledgers_close(w.counters)


def test_more_answers_than_one_turn_holds_leave_in_the_middle_of_it(wired):
    @handler
    def main(c):
        for n in range(3000):
            c.respond(b"%d" % n)
        for _ in range(200):
            c.respond(b"z" * 65507)

    w = wired(main)
    w.wire.push(b"x", CLIENT)
    w.endpoint.turn()
    got = all_sent(w.wire)
    assert got[:3000] == [b"%d" % n for n in range(3000)]
    assert [len(d) for d in got[3000:]] == [65507] * 200


@pytest.mark.parametrize("call", ["setsockopt", "timer_set", "timer_read"])
def test_other_calls_that_fail_are_survived(wired, call):
    wire = MemoryWire("0.0.0.0:53")
    faults = Faults(wire)
    faults.fail(call, errno.ENOPROTOOPT, times=1 << 40)
    w = wired(wire=wire, calls=faults)
    wire.push(b"x", CLIENT)
    w.endpoint.turn()
    assert all_sent(wire) == [b"x"]


# ---- addresses ----


def test_a_wildcard_endpoint_knows_where_a_datagram_was_sent_to(wired):
    w = wired(address="0.0.0.0:53")
    w.wire.push(b"own", Address("192.0.2.1", 53), local="192.0.2.1:53")
    w.wire.push(b"not own", Address("192.0.2.1", 53), local="192.0.2.2:53")
    w.endpoint.turn()
    assert all_sent(w.wire) == [b"not own"] and w.counters["denied"] == 1


def test_one_peer_is_one_address_on_a_dual_stack_socket(wired):
    seen = []
    w = wired(handler(lambda c: seen.append(c.address)), address="[::]:53")
    w.wire.push(b"x", "192.0.2.7:4000")
    w.wire.push(b"x", "[2001:db8::7]:4000")
    w.endpoint.turn()
    assert seen == [CLIENT, Address("2001:db8::7", 4000)]


def test_a_reply_comes_from_the_address_that_was_asked(server, peer):
    at = server(handler(lambda c: c.respond(b"me")), ip="0.0.0.0:0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(2)
        client.sendto(b"x", ("127.0.0.2", at.address.port))
        assert client.recvfrom(10) == (b"me", ("127.0.0.2", at.address.port))
    at6 = server(handler(lambda c: c.respond(c.ip)), ip="[::]:0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(2)
        client.sendto(b"x", ("127.0.0.3", at6.address.port))
        assert client.recvfrom(20) == (b"127.0.0.1", ("127.0.0.3", at6.address.port))


def test_ip_recverr_stays_off_so_that_a_dead_peer_cannot_silence_the_reader(server, peer, eventually):
    at = server(handler(lambda c: c.respond(c.packet)))
    sock = at.modes[0].sock
    assert sock.getsockopt(socket.IPPROTO_IP, 11) == 0  # IP_RECVERR
    with pytest.raises(OSError):
        sock.getpeername()  # unconnected: one ICMP error must not end the reader
    for _ in range(50):
        gone = peer(at.address)
        gone.send(b"x")
        gone.close()
    assert peer(at.address).ask(b"still here") == b"still here"


# ---- clients ----


def test_positions_are_found_by_address_ip_or_a_function(wired):
    for key, same in (("address", False), ("ip", True), (lambda c: c.packet[:1], True)):

        @handler
        def main(c):
            c.respond(b"1")
            c.set_handler("second")

        @handler("second")
        def second(c):
            c.respond(b"2")

        w = wired(MultiHandler(main, key=key), main, second)
        w.wire.push(b"x", CLIENT)
        w.wire.push(b"x", Address(CLIENT.host, 9999))
        w.endpoint.turn()
        assert all_sent(w.wire) == [b"1", b"2" if same else b"1"], key


def test_positions_expire_and_never_exceed_their_maximum(wired):
    @handler
    def main(c):
        c.set_handler("second")
        c.respond(b"1")

    w = wired(MultiHandler(main, ttl=10, max_clients=3), main, handler(lambda c: c.respond(b"2"), "second"))

    def ask(port):
        w.wire.push(b"x", Address("192.0.2.7", port))
        w.endpoint.turn()
        return all_sent(w.wire)[0]

    assert [ask(p) for p in (1001, 1002, 1003, 1001)] == [b"1", b"1", b"1", b"2"]
    w.wire.advance(1)
    assert ask(1001) == b"2"
    assert ask(1004) == b"1"  # 1002 was silent the longest and made room
    assert [ask(p) for p in (1001, 1003, 1004)] == [b"2", b"2", b"2"]
    assert ask(1002) == b"1"
    w.wire.advance(11)
    assert ask(1002) == b"1"


def test_export_and_restore_carry_positions_and_sessions(wired):
    @handler
    def main(c):
        c.session["seen"] = c.session.get("seen", 0) + 1
        c.set_handler("second")

    second = handler(lambda c: c.respond(str(c.session["seen"])), "second")
    old, new = wired(main, second), wired(main, second)
    old.wire.push(b"x", CLIENT)
    old.endpoint.turn()
    state = old.endpoint.export()
    assert state == {"positions": [(tuple(CLIENT), "second")], "sessions": [(tuple(CLIENT), {"seen": 1})]}
    new.endpoint.restore(state)
    new.wire.push(b"x", CLIENT)
    new.endpoint.turn()
    assert all_sent(new.wire) == [b"1"]


def test_swap_serves_another_pipeline_and_keeps_positions(wired):
    @handler
    def main(c):
        c.set_handler("second")

    w = wired(main, handler(lambda c: c.respond(b"old"), "second"))
    w.wire.push(b"x", CLIENT)
    w.endpoint.turn()
    fresh = wired(main, handler(lambda c: c.respond(b"new"), "second"))
    w.endpoint.swap(fresh.pipeline)
    w.wire.push(b"x", CLIENT)
    w.endpoint.turn()
    assert all_sent(w.wire) == [b"new"]


def test_the_native_client_table_behaves_as_its_twin():
    from toolips_udp.clients import ClientTable as Twin

    dice = random.Random(2)
    gone = {"native": [], "twin": []}
    native = ClientTable(10.0, 50, lambda who, value: gone["native"].append((tuple(who), value)))
    twin = Twin(10.0, 50, lambda who, value: gone["twin"].append((tuple(who), value)))
    now = 100.0
    for step in range(20_000):
        now += dice.random() * 0.4
        who = Address("192.0.2.7", 1 + dice.randrange(120))
        action = dice.random()
        if action < 0.4:
            native.place(who, step, now)
            twin.place(who, step, now)
        elif action < 0.6:
            assert native.remove(who) == twin.remove(who)
        elif action < 0.61:
            native.expire(now)
            twin.expire(now)
        assert len(native) == len(twin) <= 50
    assert dict(native.items()) == dict(twin.items()) and gone["native"] == gone["twin"]


# ---- accounting ----


def test_the_counters_of_an_endpoint_may_lie_in_shared_memory(wired):
    shared = bytearray(48 * 8)
    w = wired(counters=shared)
    w.wire.push(b"abc", CLIENT)
    w.endpoint.turn()
    words = dict(zip(WORDS, memoryview(shared).cast("Q"), strict=False))
    assert words["received"] == words["handled"] == words["sent"] == 1 and words["bytes_in"] == 3


def test_shared_memory_shows_the_datagram_in_work_to_a_supervisor(wired):
    from toolips_udp._native.endpoint import shared_size

    shared = bytearray(shared_size(2048))
    seen = []

    @handler
    def main(c):
        seen.append(b"the packet in work" in bytes(shared))

    w = wired(main, shared=shared, slot_room=2048)
    w.wire.push(b"the packet in work", CLIENT)
    w.endpoint.turn()
    assert seen == [True]


def test_10_000_turns_of_everything_close_both_ledgers(wired):
    dice = random.Random(9)
    wire = MemoryWire("192.0.2.1:53", limit=200_000)
    faults = Faults(wire)

    @handler
    def main(c):
        if c.packet[:1] == b"\0":
            raise ValueError
        for _ in range(dice.randrange(3)):
            c.respond(c.packet * dice.randrange(1, 4))

    w = wired(main, wire=wire, calls=faults, slot_room=4096)
    pushed = 0
    for _ in range(10_000):
        for _ in range(dice.randrange(6)):
            wire.push(
                dice.randbytes(dice.choice([0, 1, 30, 500, 5000])),
                Address("192.0.2.7", dice.randrange(0, 60)),
            )
            pushed += 1
        if dice.random() < 0.1:
            call = dice.choice(["sendmmsg", "recvmmsg"])
            error = dice.choice([errno.EAGAIN, errno.EPERM, errno.EINVAL, errno.ENOBUFS])
            faults.fail(call, error, dice.randrange(1, 4))
        wire.advance(dice.random() * 0.002)
        w.endpoint.turn()
        if dice.random() < 0.1:
            w.endpoint.retry()
    faults.clear()
    wire.advance(1)
    w.endpoint.retry()
    while wire.readable:
        w.endpoint.turn()
    assert w.counters["received"] == pushed
    assert_ledgers_close(w.counters)
