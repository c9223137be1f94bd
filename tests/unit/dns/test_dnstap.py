"""dnstap (O5): frames of C and Python are alike, the handshake, and a reader that comes and goes."""

from __future__ import annotations

import contextlib
import shutil
import socket
import struct
import subprocess
import threading
import time

import pytest
from dns import message
from dns.query import tcp as tcp_query
from dns.query import udp as udp_query

from toolips_udp import TCP, UDP, Address, dns
from toolips_udp.dns import dnstap, framestream
from toolips_udp.errors import FormatError

native = pytest.importorskip("toolips_udp._native.dns")

ZONE = "@ 60 SOA ns h 1 2 3 4 30\n@ 60 NS ns\nns 60 A 127.0.0.1\nwww 60 A 192.0.2.1\n"
TYPE = dnstap.CONTENT_TYPE


def fields(data):
    """A protobuf message as `{field: value}`, by its rules and nothing of ours."""
    found, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            octet = data[at]
            at += 1
            value |= (octet & 127) << shift
            shift += 7
            if octet < 128:
                return value

    while at < len(data):
        tag = number()
        if tag & 7 == 0:
            found[tag >> 3] = number()
        elif tag & 7 == 2:
            size = number()
            found[tag >> 3] = data[at : at + size]
            at += size
        else:
            assert tag & 7 == 5
            found[tag >> 3] = struct.unpack_from("<I", data, at)[0]
            at += 4
    return found


def frames(data):
    while data:
        (size,) = struct.unpack_from("!I", data)
        yield fields(data[4 : 4 + size])
        data = data[4 + size :]


def messages(data):
    return [fields(each[14]) for each in frames(data)]


class Reader:
    """A reader of frame streams on a unix socket, written from the protocol's description."""

    def __init__(self, path, accept=TYPE):
        self.data = b""
        self.stopped = threading.Event()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.listener.settimeout(30)
        self.accept = accept
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def take(self, sock, size):
        found = b""
        while len(found) < size:
            more = sock.recv(size - len(found))
            if not more:
                raise EOFError
            found += more
        return found

    def run(self):
        self.sock, _ = self.listener.accept()
        self.sock.settimeout(30)
        with self.listener, self.sock, contextlib.suppress(EOFError):
            self.read(self.sock)

    def read(self, sock):
        while True:
            (size,) = struct.unpack("!I", self.take(sock, 4))
            if size:
                self.data += struct.pack("!I", size) + self.take(sock, size)
                continue
            (size,) = struct.unpack("!I", self.take(sock, 4))
            (kind,) = struct.unpack("!I", self.take(sock, size)[:4])
            if kind == framestream.READY:
                sock.sendall(framestream.control(framestream.ACCEPT, self.accept))
            elif kind == framestream.STOP:
                sock.sendall(framestream.control(framestream.FINISH))
                self.stopped.set()
                return


@pytest.mark.parametrize("over", ["udp", "tcp", "tls", "https"])
@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_o5_frames_of_c_and_of_python_are_alike(over, host):
    service = dns.Service(dns.Zone.from_text(ZONE, "z.test"))
    service.dnstap = dnstap.Dnstap("unused", identity="n1", version="v 1")
    service.stages()
    packet = dns.ask("www.z.test", "A").encode()
    service.wall = lambda: 1000.25
    reply = service.half.answer(packet, Address(host, 4242), over)
    question, answer = messages(service.dnstap.ring.take())
    when = 1_000_250_000_000
    client = (host, 4242)
    service.dnstap._put(dnstap.message(1, transport=over, client=client, asked=when, query=packet))
    service.dnstap._put(dnstap.message(2, transport=over, client=client, asked=when, said=when, reply=reply))
    made = service.dnstap._frames()
    assert [question, answer] == messages(made)
    assert next(frames(made)) == {1: b"n1", 2: b"v 1", 14: next(frames(made))[14], 15: 1}
    assert question[10] == packet and answer[14] == reply and answer[12] == 1000


def test_o5_a_frame_stream_says_ready_start_and_stop_in_its_turn():
    writer = framestream.Writer(b"t")
    assert writer.hello == bytes.fromhex("00000000 0000000d 00000004 00000001 00000001 74")
    accept = bytes.fromhex("00000000 0000000d 00000001 00000001 00000001 74")
    for octet in accept[:-1]:
        assert writer.receive(bytes((octet,))) == b"" and not writer.ready
    assert writer.receive(accept[-1:]) == bytes.fromhex("00000000 0000000d 00000002 00000001 00000001 74")
    assert writer.ready and framestream.frame(b"abc") == b"\0\0\0\3abc"
    assert writer.end() == bytes.fromhex("00000000 00000004 00000003")
    assert writer.receive(bytes.fromhex("00000000 00000004 00000005")) == b"" and writer.finished


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (framestream.frame(b"12345678"), "something else"),
        (struct.pack("!II", 0, 513), "something else"),
        (framestream.control(framestream.FINISH), "FINISH out of turn"),
        (framestream.control(framestream.READY, b"t"), "READY out of turn"),
        (framestream.control(framestream.ACCEPT, b"other"), "expected b't'"),
        (struct.pack("!IIIII", 0, 12, 1, 1, 9), "of 9 octets"),
        (struct.pack("!IIIB", 0, 5, 1, 1), "cut short"),
    ],
)
def test_o5_a_reader_that_says_something_else_is_left(said, text):
    with pytest.raises(FormatError, match=text):
        framestream.Writer(b"t").receive(said)


@pytest.mark.parametrize("half", [True, False], ids=["c", "python"])
def test_o5_dnstap_tells_of_zone_handler_and_forwarded_answers(server, tmp_path, half):
    reader = Reader(tmp_path / "tap")
    upstream = server(dns.Service(dns.Zone.from_text(ZONE, "up.test"))).address.port
    service = dns.Service(
        dns.Zone.from_text(ZONE, "z.test"), dns.Forward(f"127.0.0.1:{upstream}"), native=half
    )
    service.dnstap = dnstap.Dnstap(tmp_path / "tap", identity="n1")

    @service.answers("plain.z.test", "A")
    def plain(q):
        return dns.A("192.0.2.8")

    @service.answers("broken.z.test", "A")
    async def broken(q):
        raise ValueError(q)

    running = server(service, mode=(UDP, TCP))
    asked = [("www.z.test", False), ("plain.z.test", False), ("broken.z.test", False), ("www.z.test", True),
             ("www.up.test", False)]  # fmt: skip
    replies = []
    for name, tcp in asked:
        query = message.make_query(name, "A")
        replies.append((tcp_query if tcp else udp_query)(query, "127.0.0.1", port=running.address.port, timeout=10))
    running.stop()
    assert reader.stopped.wait(20)
    told = messages(reader.data)
    kinds = sorted(each[1] for each in told)
    assert kinds == sorted([5, 6] * 5 + [7, 8])  # recursion is offered: all are clients
    answers = {each[14] for each in told if each[1] == 6}
    assert {reply.wire for reply in replies} == answers
    assert {message.from_wire(each[10]).question[0].name.to_text() for each in told if each[1] == 5} == {
        name + "." for name, _ in asked
    }
    (up,), (back,) = [each for each in told if each[1] == 7], [each for each in told if each[1] == 8]
    assert up[7] == back[7] == upstream and up[5] == back[5] == b"\x7f\0\0\1" and back[12] >= back[8]
    assert str(message.from_wire(up[10]).question[0].name).lower() == "www.up.test."
    assert message.from_wire(back[14]).id == message.from_wire(up[10]).id
    assert all(abs(each.get(12, each[8]) - time.time()) < 60 for each in told)
    assert service.dnstap.lost == 0


def test_o5_frames_wait_for_a_reader_and_a_new_one_takes_over(tmp_path, eventually):
    made = dnstap.Dnstap(tmp_path / "tap")
    made.start()
    made.asked(b"one", ("192.0.2.1", 53), "udp")
    first = Reader(tmp_path / "tap")
    eventually(lambda: [each[10] for each in messages(first.data)] == [b"one"])
    (tmp_path / "tap").unlink()
    second = Reader(tmp_path / "tap")
    first.sock.shutdown(socket.SHUT_RDWR)
    eventually(lambda: made.asked(b"two", ("192.0.2.1", 53), "udp") or b"two" in second.data)
    made.close()
    assert second.stopped.wait(10)
    assert made.lost + len(messages(second.data)) >= 1
    assert all(each[10] == b"two" for each in messages(second.data))


def test_o5_a_reader_that_says_goodbye_and_leaves_is_no_fault(tmp_path, caplog):
    made = dnstap.Dnstap(tmp_path / "tap")
    reader = Reader(tmp_path / "tap")
    made.start()
    made.asked(b"one", ("192.0.2.1", 53), "udp")
    made.close()
    reader.thread.join(10)
    assert reader.stopped.is_set() and len(messages(reader.data)) == 1 and made.lost == 0
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_o5_a_reader_that_leaves_is_missed_though_nobody_asks(tmp_path, caplog, eventually):
    made = dnstap.Dnstap(tmp_path / "tap")
    reader = Reader(tmp_path / "tap")
    made.start()
    eventually(lambda: hasattr(reader, "sock") and made._writer.ready)
    reader.sock.shutdown(socket.SHUT_RDWR)
    reader.thread.join(10)
    eventually(lambda: "no dnstap reader" in caplog.text)
    made.close()


def test_o5_what_finds_no_room_is_lost_and_counted(tmp_path):
    made = dnstap.Dnstap(tmp_path / "nobody")
    for _ in range(dnstap.MOST_WAITING + 7):
        made.asked(b"", ("192.0.2.1", 53), "udp")
    assert made.lost == 7
    made.ring = native.Tap(octets=1024)
    service = dns.Service(dns.Zone.from_text(ZONE, "z.test"))
    service.dnstap = made
    service.stages()
    for _ in range(100):
        service.half.stage.answer(dns.ask("www.z.test", "A").encode())
    assert made.lost + dnstap.count(made.ring.take()) == 7 + 200


def test_o5_a_share_of_the_answers_is_sampled():
    service = dns.Service(dns.Zone.from_text(ZONE, "z.test"))
    service.dnstap = dnstap.Dnstap("unused", sample=0.1)
    service.stages()
    for _ in range(5000):
        service.half.stage.answer(dns.ask("www.z.test", "A").encode())
    pairs = [each[1] for each in messages(service.dnstap.ring.take())]
    assert 700 < len(pairs) < 1300 and pairs[::2] == [1] * (len(pairs) // 2) and pairs[1::2] == [2] * (len(pairs) // 2)


@pytest.mark.skipif(
    not (shutil.which("fstrm_capture") and shutil.which("dnstap-read")),
    reason="needs fstrm_capture and dnstap-read: apt install fstrm-bin bind9-dnsutils",
)
def test_o5_fstrm_capture_and_dnstap_read_understand_what_is_told(server, tmp_path, eventually):
    capture = subprocess.Popen(
        ["fstrm_capture", "-t", TYPE.decode(), "-u", tmp_path / "tap", "-w", tmp_path / "out"],
        stderr=subprocess.PIPE,
    )
    try:
        eventually((tmp_path / "tap").exists)
        service = dns.Service(dns.Zone.from_text(ZONE, "z.test"), id="ns1")
        service.dnstap = dnstap.Dnstap(tmp_path / "tap", identity="ns1", version="toolips_udp")
        running = server(service, mode=(UDP, TCP))
        for name in ("www.z.test", "no.z.test"):
            udp_query(message.make_query(name, "A"), "127.0.0.1", port=running.address.port, timeout=10)
        running.stop()
    finally:
        capture.terminate()
        said = capture.communicate(timeout=20)[1].decode()
    found = subprocess.run(["dnstap-read", "-p", tmp_path / "out"], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, (found.stderr, said)
    lines = [line for line in found.stdout.splitlines() if " AQ " in line or " AR " in line]
    assert [line.split(" A")[1][0] for line in lines] == ["Q", "R", "Q", "R"]
    assert "www.z.test/IN/A" in lines[0] and "no.z.test/IN/A" in lines[3]
    assert "www.z.test.\t\t60\tIN\tA\t192.0.2.1" in found.stdout and "NXDOMAIN" in found.stdout
    yaml = subprocess.run(["dnstap-read", "-y", tmp_path / "out"], capture_output=True, text=True, timeout=60)
    assert "identity: ns1" in yaml.stdout and "version: toolips_udp" in yaml.stdout
