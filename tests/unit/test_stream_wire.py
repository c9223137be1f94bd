"""Our transport of a plain socket does to a stream what the loop's own does."""

import array
import asyncio
import contextvars
import os
import socket
import struct
import sys
from types import SimpleNamespace

import pytest
import uvloop

from toolips_udp._native import streams as native
from toolips_udp.address import Address
from toolips_udp.counters import SIZE
from toolips_udp.transports.framing import Line
from toolips_udp.transports.stream_limits import StreamLimits

BIG = bytes(range(256)) * 16384  # 4 MiB: more than the kernel takes at once


class Told(native.Stream, asyncio.Protocol):
    """Notes what its transport tells it."""

    def __init__(self, loop):
        counters = array.array("Q", bytes(8 * SIZE))
        super().__init__(
            SimpleNamespace(loop=loop, limits=StreamLimits(), counters=counters, outbox=None, draining=False),
            Address("127.0.0.1", 1),
        )
        self.told, self.over, self.keeps_open = [], loop.create_future(), True

    def eof_received(self):
        self.told.append("eof")
        self._inbox.end()
        return self.keeps_open

    def pause_writing(self):
        self.told.append("pause")

    def resume_writing(self):
        self.told.append("resume")

    def overrun(self):
        self.told.append("overrun")

    def connection_lost(self, error):
        self.told.append("lost" if error is None else type(error).__name__)
        self.lost = True
        self.over.set_result(None)


def joined():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname(), timeout=10)
        server, _ = listening.accept()
    server.setblocking(False)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    return server, client


@pytest.fixture(params=["wire on uvloop", "wire on asyncio", "uvloop", "asyncio"])
def play(request):
    """Runs `scene(stream, client)`; the client's blocking calls go through `stream.thread`."""

    async def run(scene):
        loop = asyncio.get_running_loop()
        sock, client = joined()
        stream = Told(loop)
        stream.thread = lambda fn, *args: loop.run_in_executor(None, fn, *args)
        if request.param.startswith("wire"):
            native.Wire(loop, sock, stream)
        else:
            await loop.connect_accepted_socket(lambda: stream, sock)
        try:
            async with asyncio.timeout(20):
                await scene(stream, client)
        finally:
            client.close()
            if not stream.over.done():
                stream._transport.abort()
            await stream.over
            await asyncio.sleep(0)
            assert sock.fileno() == -1
        return stream

    def runs(scene):
        factory = uvloop.new_event_loop if request.param.endswith("uvloop") else None
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(run(scene))

    return runs


def everything(client):
    parts = []
    while part := client.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def exactly(client, size):
    parts = bytearray()
    while len(parts) < size:
        parts += client.recv(size - len(parts))
    return bytes(parts)


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_bytes_arrive_in_order_and_the_end_is_told_once(play):
    async def scene(stream, client):
        client.sendall(b"one")
        await until(lambda: len(stream._inbox) == 3)
        client.sendall(b"two")
        client.shutdown(socket.SHUT_WR)
        await until(lambda: stream.told)
        assert stream._inbox.take(10) == b"onetwo"
        stream.respond("answer")  # our side is open still
        stream.push()
        assert await stream.thread(client.recv, 100) == b"answer"

    assert play(scene).told == ["eof", "lost"]


def test_what_the_kernel_does_not_take_at_once_follows_in_order(play):
    async def scene(stream, client):
        stream._transport.write(BIG)
        assert stream._transport.get_write_buffer_size() > 0
        assert stream.told == ["pause"]
        stream._transport.write(b"the end")
        assert await stream.thread(exactly, client, len(BIG) + 7) == BIG + b"the end"
        await until(lambda: len(stream.told) == 2)
        assert stream._transport.get_write_buffer_size() == 0
        stream._transport.write(b"x")
        assert await stream.thread(client.recv, 10) == b"x"

    assert play(scene).told == ["pause", "resume", "lost"]


@pytest.mark.parametrize("way", ["write_eof", "close"])
def test_what_was_written_before_the_close_is_sent_first(play, way):
    async def scene(stream, client):
        stream._transport.write(BIG)
        getattr(stream._transport, way)()
        assert stream._transport.is_closing() is (way == "close")
        assert await stream.thread(everything, client) == BIG
        if way == "write_eof":
            client.sendall(b"still heard")
            await until(lambda: len(stream._inbox) == 11)

    assert play(scene).told[-1] == "lost"


def test_a_line_may_be_answered_with_itself(play):
    async def scene(stream, client):
        stream.respond(Line(b"again"))
        stream.push()
        assert await stream.thread(client.recv, 10) == b"again"

    play(scene)


def test_close_without_anything_unsent_closes_and_later_writes_are_nothing(play):
    async def scene(stream, client):
        stream._transport.close()
        stream._transport.close()
        assert await stream.thread(client.recv, 10) == b""
        await asyncio.wait([stream.over])

    assert play(scene).told == ["lost"]


def test_abort_drops_what_is_unsent(play):
    async def scene(stream, client):
        stream._transport.write(BIG)
        stream._transport.abort()
        await asyncio.wait([stream.over])
        assert stream._transport.get_write_buffer_size() == 0

    assert play(scene).told == ["pause", "lost"]


def test_while_reading_is_paused_nothing_is_read_and_nothing_is_lost(play):
    async def scene(stream, client):
        stream._transport.pause_reading()
        client.sendall(b"patience")
        await asyncio.sleep(0.02)
        assert len(stream._inbox) == 0
        stream._transport.resume_reading()
        await until(lambda: len(stream._inbox) == 8)

    play(scene)


def test_a_client_that_resets_is_told_with_its_error(play):
    async def scene(stream, client):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        await asyncio.wait([stream.over])

    assert play(scene).told == ["ConnectionResetError"]


def test_a_stream_that_says_so_is_closed_at_the_clients_end(play):
    async def scene(stream, client):
        stream.keeps_open = False
        client.shutdown(socket.SHUT_WR)
        assert await stream.thread(client.recv, 10) == b""
        await asyncio.wait([stream.over])

    assert play(scene).told == ["eof", "lost"]


def test_answers_of_a_step_leave_in_one_segment_before_the_next_turn():
    async def run():
        loop = asyncio.get_running_loop()
        sock, client = joined()
        stream = Told(loop)
        native.Wire(loop, sock, stream)

        async def handler():
            async for line in native.Messages(stream, b"\n", 100, 0):
                stream.respond(line + b"!")

        task = loop.create_task(stepped(handler()))
        await asyncio.sleep(0)
        client.sendall(b"a\nb\nc\n")
        answer = await loop.run_in_executor(None, client.recv, 100)
        task.cancel()
        await asyncio.wait([task])
        stream._transport.abort()
        await stream.over
        client.close()
        return answer

    async def stepped(coro):
        await native.Steps(coro)

    assert asyncio.run(run()) == b"a!b!c!"


class Shared(Told):
    """One of several connections of a listener: all are told by one `Poller`, in one batch."""

    def __init__(self, loop, outbox):
        super().__init__(loop)
        self._listener.outbox = outbox
        native.Stream.__init__(self, self._listener, Address("127.0.0.1", 1))


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="epoll is Linux's; elsewhere the loop tells each"
)
@pytest.mark.parametrize("factory", [uvloop.new_event_loop, None], ids=["uvloop", "asyncio"])
def test_connections_of_a_listener_share_one_reader_which_goes_with_the_last_of_them(factory):
    async def scene():
        loop = asyncio.get_running_loop()
        before = set(os.listdir("/proc/self/fd"))
        outbox = native.Outbox(loop)
        pairs = [joined() for _ in range(100)]  # more than one batch
        streams = [Shared(loop, outbox) for _ in pairs]
        wires = [native.Wire(loop, sock, each) for (sock, _), each in zip(pairs, streams, strict=True)]
        assert len(set(os.listdir("/proc/self/fd")) - before) == 2 * len(pairs) + 1
        for number, (_, client) in enumerate(pairs):
            client.sendall(b"%d" % number)
        wires[3].pause_reading()
        wires[5].abort()  # with its bytes waiting, between the kernel's word and its turn
        async with asyncio.timeout(20):
            heard = [each for each in streams if each not in (streams[3], streams[5])]
            await until(lambda: all(len(each._inbox) for each in heard))
            assert not streams[3]._inbox and not streams[5]._inbox and streams[5].told == ["lost"]
            wires[3].resume_reading()
            await until(lambda: len(streams[3]._inbox))
            for number, each in enumerate(streams):
                assert number == 5 or each._inbox.take(9) == b"%d" % number
            for (_, client), wire in zip(pairs, wires, strict=True):
                client.close()
                wire.close()
            await until(lambda: all(each.lost for each in streams))
        assert set(os.listdir("/proc/self/fd")) == before

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(scene())


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="epoll is Linux's; elsewhere the loop tells each"
)
def test_a_connection_that_another_of_its_batch_ends_is_not_told_any_more():
    class Ends(Shared):
        others = ()

        def overrun(self):
            for other in self.others:
                if other is not self:
                    other._transport.abort()

    async def scene():
        loop = asyncio.get_running_loop()
        outbox = native.Outbox(loop)
        pairs = [joined() for _ in range(8)]
        Ends.others = streams = [Ends(loop, outbox) for _ in pairs]
        for (sock, _), each in zip(pairs, streams, strict=True):
            native.Wire(loop, sock, each)
            each._wake.__await__()
            each._wake.add_done_callback(
                lambda wake, each=each: each.overrun(), context=contextvars.copy_context()
            )
        for _, client in pairs:
            client.sendall(b"x")
        async with asyncio.timeout(20):
            await until(lambda: sum(each.lost for each in streams) == len(streams) - 1)
            assert [len(each._inbox) for each in streams].count(1) == 1, "one was told, and ended the rest"
            for each in streams:
                each._transport.abort()
            await until(lambda: all(each.lost for each in streams))
        for _, client in pairs:
            client.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scene())
