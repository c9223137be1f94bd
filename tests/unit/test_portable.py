"""The portable endpoint, call by call: every system call fails in turn and both ledgers close."""

import errno
import os
import socket
import threading
from collections import deque
from types import SimpleNamespace

import pytest

from toolips_udp import Address, handler
from toolips_udp.counters import DROPS
from toolips_udp.manifest import read
from toolips_udp.pipeline import Pipeline
from toolips_udp.transports import portable, portable_sending


class FakeSocket:
    """A socket whose calls do what the test says: `faults` are raised, one per call, None passes."""

    family = socket.AF_INET

    def __init__(self):
        self.inbox, self.sent = deque(), []
        self.receive_faults, self.send_faults = deque(), deque()
        self.drops = 0

    def getsockname(self):
        return ("192.0.2.1", 2000)

    def fileno(self):
        return 99

    def getsockopt(self, level, name, size=0):
        return bytes(32) + self.drops.to_bytes(4, "little")

    def recvfrom(self, size):
        fault = self.receive_faults.popleft() if self.receive_faults else None
        if fault is not None:
            raise OSError(fault, os.strerror(fault))
        if not self.inbox:
            raise BlockingIOError(errno.EAGAIN, "nothing")
        return self.inbox.popleft()

    def sendto(self, data, to):
        fault = self.send_faults.popleft() if self.send_faults else None
        if fault is not None:
            raise OSError(fault, os.strerror(fault))
        self.sent.append((bytes(data), to))


class FakeLoop:
    """Keeps what is called later until `run`."""

    def __init__(self):
        self.calls, self.readers = deque(), {}

    def call_soon(self, fn, *args):
        self.calls.append((fn, args))

    call_soon_threadsafe = call_soon

    def call_later(self, seconds, fn, *args):
        self.calls.append((fn, args))

    def add_reader(self, fd, fn):
        self.readers[fd] = fn

    def remove_reader(self, fd):
        self.readers.pop(fd, None)

    def run(self, most=1):
        for _ in range(min(most, len(self.calls))):
            fn, args = self.calls.popleft()
            fn(*args)


class Said:
    def __init__(self):
        self.lines = []

    def event(self, kind, level, text, *rest):
        self.lines.append(text)


@pytest.fixture
def bench():
    """An endpoint on a fake socket, with a clock that is set by hand; its ledgers are checked at the end."""
    made = []

    def make(fn=lambda c: c.respond(c.packet), **limits):
        now = [100.0]
        server = SimpleNamespace(data={}, journal=Said())
        pipeline = Pipeline(read(SimpleNamespace(main=handler(fn))), server)
        sock, loop = FakeSocket(), FakeLoop()
        endpoint = portable.Endpoint(sock, pipeline, server=server, clock=lambda: now[0], **limits)
        pipeline.endpoint = endpoint
        endpoint.attach(loop)
        loop.calls.clear()
        endpoint._scheduled = False
        found = SimpleNamespace(endpoint=endpoint, sock=sock, loop=loop, now=now, server=server)
        made.append(found)
        return found

    yield make
    for each in made:
        each.endpoint.close()
        c = each.endpoint.counters
        assert c["received"] == c["handled"] + sum(c[word] for word in DROPS)
        assert (
            c["send_queued"]
            == c["sent"] + c["send_refused"] + c["send_refused_late"] + c["send_dropped_full"]
        )


PEER = ("198.51.100.7", 4000)


@pytest.mark.parametrize(
    "code", [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENOMEM, errno.EINTR, errno.EIO]
)
def test_a_receive_error_costs_nothing_and_the_next_datagram_comes(bench, code):
    b = bench()
    b.sock.receive_faults.extend([code])
    b.sock.inbox.append((b"x", PEER))
    b.endpoint.turn()
    b.endpoint.turn()
    assert b.sock.sent == [(b"x", PEER)]


def test_endless_receive_errors_end_the_turn(bench):
    b = bench()
    b.sock.receive_faults.extend([errno.ECONNREFUSED] * 10_000)
    b.endpoint.turn()
    assert b.endpoint.counters["receive_errors"] == portable.ROUND


def test_a_socket_that_is_gone_is_said_and_not_read_again(bench):
    b = bench()
    b.sock.receive_faults.append(errno.EBADF)
    b.endpoint.turn()
    assert b.loop.readers == {}
    assert "the socket of 192.0.2.1:2000" in b.server.journal.lines[0]


@pytest.mark.parametrize(
    "code",
    [
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EPERM,
        errno.EACCES,
        errno.EMSGSIZE,
        errno.EINVAL,
    ],
)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_refused_message_costs_only_itself(bench, code, which):
    b = bench()
    b.sock.send_faults.extend([None] * which + [code])
    b.sock.inbox.extend((b"%d" % number, PEER) for number in range(3))
    b.endpoint.turn()
    assert [data for data, _ in b.sock.sent] == [b"%d" % n for n in range(3) if n != which]
    assert b.endpoint.counters["send_refused"] == 1 and b.endpoint.counters["handled"] == 3


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM])
def test_what_the_kernel_does_not_take_is_sent_later_in_order(bench, code):
    b = bench()
    b.sock.send_faults.extend([None, code, code])
    b.sock.inbox.extend((b"%d" % number, PEER) for number in range(4))
    b.endpoint.turn()
    assert len(b.sock.sent) == 1
    b.endpoint.send(b"later", Address(*PEER))
    assert (b.endpoint.waiting, b.endpoint.queued) == (3, 1), "the send ledger closes with them"
    b.loop.run(3)
    b.loop.run(3)
    assert (b.endpoint.waiting, b.endpoint.queued) == (0, 0)
    assert [data for data, _ in b.sock.sent] == [b"0", b"1", b"2", b"3", b"later"]


def test_a_backlog_that_is_full_or_old_is_counted(bench):
    b = bench()
    b.sock.send_faults.extend([errno.EAGAIN] * 10)
    for _ in range(portable_sending.BACKLOG + 10):
        b.endpoint.send(b"x", Address(*PEER))
    b.loop.run(1)
    assert b.endpoint.counters["send_dropped_full"] == 10
    b.now[0] += 1
    b.loop.run(5)
    assert b.endpoint.counters["send_refused_late"] == portable_sending.BACKLOG


def test_an_interrupted_send_is_repeated(bench):
    b = bench()
    b.sock.send_faults.append(errno.EINTR)
    b.sock.inbox.append((b"x", PEER))
    b.endpoint.turn()
    assert len(b.sock.sent) == 1 and b.endpoint.counters["sent"] == 1


def test_kernel_drops_are_counted_once_also_when_the_number_wraps(bench):
    b = bench()
    b.sock.drops = 5
    assert b.endpoint.counters["kernel"] == 5 and b.endpoint.counters["received"] == 5
    b.sock.drops = 2**32 - 1
    assert b.endpoint.counters["kernel"] == 2**32 - 1
    b.sock.drops = 3
    assert b.endpoint.counters["kernel"] == 2**32 + 3


def test_who_reads_the_counters_on_another_thread_changes_none_of_them(bench):
    b = bench()
    b.endpoint.attach(b.loop)
    b.sock.drops = 5
    found = []
    reader = threading.Thread(target=lambda: found.extend([b.endpoint.counters["kernel"]] * 2))
    reader.start()
    reader.join()
    assert found == [5, 5] and b.endpoint.words[portable.KERNEL] == 0, "the words are the loop's"
    assert b.endpoint.counters["kernel"] == b.endpoint.counters["received"] == 5
    assert b.endpoint.words[portable.KERNEL] == 5


def test_a_turn_is_bounded_by_number_and_by_time(bench):
    b = bench(lambda c: None)
    b.sock.inbox.extend([(b"x", PEER)] * 1000)
    b.endpoint.turn()
    assert b.endpoint.counters["handled"] == portable.ROUND
    slow = bench(lambda c: slow.now.__setitem__(0, slow.now[0] + 0.001))
    slow.sock.inbox.extend([(b"x", PEER)] * 1000)
    slow.endpoint.turn()
    assert slow.endpoint.counters["handled"] <= 4


@pytest.mark.parametrize(
    "source",
    [("198.51.100.7", port) for port in (0, 7, 13, 19, 37)]
    + [("224.0.0.1", 5), ("239.255.255.255", 5), ("255.255.255.255", 5), ("192.0.2.1", 2000)],
)
def test_n9_sources_that_may_not_ask_are_denied(bench, source):
    b = bench()
    b.sock.inbox.append((b"x", source))
    b.endpoint.turn()
    assert b.endpoint.counters["denied"] == 1 and not b.sock.sent


def test_after_the_close_answers_are_counted_and_vanish(bench):
    kept = []
    b = bench(kept.append)
    b.sock.inbox.append((b"x", PEER))
    b.endpoint.turn()
    b.endpoint.close()
    kept[0].respond("too late")
    assert b.endpoint.counters["send_refused"] == 1 and not b.sock.sent


def test_positions_and_sessions_go_to_the_next_process_as_plain_data(bench):
    import json

    def moves(c):
        c.set_handler("named")
        c.session["word"] = c.text

    def make():
        return bench(moves)

    old, new = make(), make()
    for each in (old, new):
        each.endpoint.pipeline.handlers["named"] = handler(lambda c: c.respond("moved"), "named")
        each.endpoint.pipeline.calls.update({h: h.fn for h in each.endpoint.pipeline.handlers.values()})
        from toolips_udp import MultiHandler

        each.endpoint.pipeline.chooser = MultiHandler()
        each.endpoint.fold(each.endpoint.pipeline)
    old.sock.inbox.append((b"hello", PEER))
    old.endpoint.turn()
    state = json.loads(json.dumps(old.endpoint.export()))
    new.endpoint.restore(state)
    new.sock.inbox.append((b"x", PEER))
    new.endpoint.turn()
    assert new.sock.sent == [(b"moved", PEER)]
    assert new.endpoint.live_sessions() == [(Address(*PEER), {"word": "hello"})]


def test_a_connection_can_be_made_without_a_socket(bench):
    b = bench()
    c = b.endpoint.connection(b"\xffmade", "198.51.100.9:5")
    assert (c.packet, c.text, c.ip, c.port) == (b"\xffmade", "\ufffdmade", "198.51.100.9", 5)
    assert bytes(c.view) == c.packet and "198.51.100.9:5" in repr(c)
    c.respond("answer")
    b.loop.run(1)
    assert b.sock.sent == [(b"answer", ("198.51.100.9", 5))]


def test_an_ipv6_target_from_an_ipv4_socket_is_refused_at_the_call(bench):
    b = bench()
    with pytest.raises(ValueError, match="socket is IPv4"):
        b.endpoint.send(b"x", Address("::1", 5))
