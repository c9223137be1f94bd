"""What one turn of the loop answers leaves in one write per client; native half and Python twin alike."""

from types import SimpleNamespace

import pytest

from toolips_udp._native import streams as native
from toolips_udp.address import Address
from toolips_udp.connections import streaming
from toolips_udp.counters import SIZE, WORDS
from toolips_udp.transports.stream_limits import StreamLimits


class Loop:
    def __init__(self):
        self.soon, self.errors = [], []

    def call_soon(self, fn):
        self.soon.append(fn)

    def call_exception_handler(self, context):
        self.errors.append(context)

    def turn(self):
        soon, self.soon = self.soon, []
        for fn in soon:
            fn()


class Transport:
    def __init__(self):
        self.written, self.closing, self.unsent, self.breaks = [], False, 0, False

    def write(self, data):
        if self.breaks:
            raise RuntimeError("broken")
        self.written.append(bytes(data))

    def is_closing(self):
        return self.closing

    def get_write_buffer_size(self):
        return self.unsent


@pytest.fixture(params=[native, streaming], ids=["native", "python"])
def half(request):
    import array

    loop = Loop()
    listener = SimpleNamespace(
        loop=loop,
        limits=StreamLimits(),
        counters=array.array("Q", bytes(8 * SIZE)),
        outbox=None,
        draining=False,
    )
    dropped = []

    class Stream(request.param.Stream):
        def overrun(self):
            dropped.append(self)

    def client():
        c = Stream(listener, Address("127.0.0.1", 1))
        transport = Transport()
        c.connection_made(transport)
        return c, transport

    return SimpleNamespace(loop=loop, client=client, counters=listener.counters, dropped=dropped)


def test_all_answers_of_a_turn_leave_in_one_write_in_their_order(half):
    c, transport = half.client()
    for text in ("one ", b"two ", memoryview(b"three")):
        c.respond(text)
    assert transport.written == [] and c._held == 13
    half.loop.turn()
    assert transport.written == [b"one two three"] and c._held == 0
    assert half.counters[WORDS.index("sent")] == 3 and half.counters[WORDS.index("bytes_out")] == 13
    c.respond("next turn")
    half.loop.turn()
    assert transport.written[1:] == [b"next turn"]


def test_bytes_that_change_after_the_answer_do_not_change_the_answer(half):
    c, transport = half.client()
    data = bytearray(b"before")
    c.respond(data)
    data[:] = b"after!"
    half.loop.turn()
    assert transport.written == [b"before"]


def test_more_than_64_kib_leave_at_once_and_before_what_follows(half):
    c, transport = half.client()
    c.respond("first")
    c.respond(b"x" * 65536)
    assert transport.written == [b"first" + b"x" * 65536]
    c.respond("last")
    half.loop.turn()
    assert transport.written[1:] == [b"last"]


def test_clients_share_one_turn_and_one_that_breaks_costs_the_others_nothing(half):
    (a, first), (b, second), (c, third) = (half.client() for _ in range(3))
    second.breaks = True
    for each in (a, b, c):
        each.respond("x")
    assert len(half.loop.soon) == 1
    half.loop.turn()
    assert (first.written, third.written) == ([b"x"], [b"x"])
    assert "127.0.0.1:1" in half.loop.errors[0]["message"]


def test_a_closed_transport_is_not_written_to_and_discarded_answers_never_leave(half):
    c, transport = half.client()
    c.respond("gone")
    c.discard()
    half.loop.turn()
    c.respond("late")
    transport.closing = True
    half.loop.turn()
    assert transport.written == [] and half.loop.errors == []


def test_a_client_over_its_unsent_bytes_is_cut_when_they_are_handed_over(half):
    c, transport = half.client()
    c._writing_paused = True
    transport.unsent = StreamLimits().max_unsent + 1
    c.respond("x")
    assert half.dropped == []
    half.loop.turn()
    assert half.dropped == [c]
