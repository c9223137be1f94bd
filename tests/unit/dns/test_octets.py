"""What strangers can make the server send: octets of a limited prefix (7.2), and the pace of transfers (X2)."""

import asyncio
import random
import socket
import struct
import time

import pytest

from toolips_udp import TCP, UDP
from toolips_udp import dns as ours
from toolips_udp.address import Address
from toolips_udp.dns.message import Message, ask
from toolips_udp.dns.transfers import Pace
from toolips_udp.errors import StartError

TEXT = " ".join(['"' + "x" * 200 + '"'] * 5)
ZONE = f"@ 60 SOA a b 1 2 3 4 5\n@ NS a\n@ TXT {TEXT}\nwww A 192.0.2.1\n"
BOTH = pytest.mark.parametrize("native", [True, False], ids=["c", "python"])


def service(native, **limit):
    made = ours.Service(
        ours.Zone.from_text(ZONE, "z.test"), native=native, limit=ours.RateLimit(50, 125, trusted=[], **limit)
    )
    made.stages()
    return made


def exchange(made, packet, host, now):
    made.clock = lambda: now
    if made.half is not None:
        ip = socket.inet_aton(host)
        octets = made.half.stage.answer(packet, ip, now=now)
        return octets if isinstance(octets, bytes) else None
    return asyncio.run(made.reply(packet, Address(host, 4000)))


@pytest.mark.parametrize(
    ("native", "times", "sources"),
    [(n, t, 1) for n in (True, False) for t in (1.2, 2, 5)] + [(True, 1.2, 200), (True, 5, 200), (False, 5, 200)],
)
def test_7_2_above_the_rate_a_prefix_gets_at_most_three_octets_for_each_it_sent(native, times, sources):
    made = service(native)
    chance = random.Random(1)
    packet = ask("z.test", "TXT", rd=False).encode()
    rate = 50 * times * (1 if sources == 1 else 32)
    now, came, went, whole = 1000.0, 0, 0, 0
    full = 125 / 50 / (times - 1)  # seconds that the burst lasts
    for _ in range(int(rate * (full * 1.2 + 1))):
        now += 1 / rate
        host = f"192.0.2.{1 + chance.randrange(sources)}"
        reply = exchange(made, packet, host, now)
        if now < 1000 + full * 1.2:
            continue
        came += len(packet)
        went += len(reply or b"")
        whole += bool(reply and len(reply) > 500)
    assert came and went <= 3 * came
    assert times < 2 or not whole


@BOTH
def test_7_2_below_the_rate_answers_are_whole_and_a_small_one_is_never_cut(native):
    made = service(native)
    large, small = ask("z.test", "TXT", rd=False).encode(), ask("www.z.test", "A", rd=False).encode()
    for number in range(300):
        reply = Message.parse(exchange(made, large, "192.0.2.1", 1000 + number / 25))
        assert reply.answer and not reply.tc
    answered = 0
    for number in range(500):
        octets = exchange(made, small, "198.51.100.2", 2000 + number / 200)
        if octets and not Message.parse(octets).tc:
            answered += 1
            assert Message.parse(octets).answer
    assert 220 <= answered <= 260  # the burst, and 50 a second


@BOTH
def test_7_2_a_question_that_is_truncated_is_answered_whole_by_tcp(native):
    made = service(native)
    packet = ask("z.test", "TXT", rd=False).encode()
    replies = [exchange(made, packet, "192.0.2.1", 1000.0) for _ in range(125)]
    assert all(replies) and Message.parse(replies[-1]).tc and not Message.parse(replies[0]).tc
    answer = made.half.answer(packet, Address("192.0.2.1", 1), "tcp") if made.half else None
    answer = answer or asyncio.run(made.reply(packet, Address("192.0.2.1", 1), "tcp"))
    assert len(Message.parse(answer).answer) == 1


def test_x2_all_transfers_together_keep_to_their_rate():
    pace = Pace(1000.0)
    waits = [pace.after(100, 50.0) for _ in range(5)]
    assert waits == pytest.approx([0.0, 0.075, 0.175, 0.275, 0.375])
    assert pace.after(100, 60.0) == 0.0  # what was not used is lost, but for an eighth of a second's worth
    with pytest.raises(StartError, match="more than 0"):
        ours.Transfers(rate=0)


def test_x2_a_capped_transfer_does_not_hold_up_answers(server, peer):
    zone = ours.Zone.from_text(ZONE + "".join(f"h{i} TXT {'y' * 200}\n" for i in range(1000)), "z.test")
    transfers = ours.Transfers(rate=200_000)
    transfers.allow("z.test", [("127.0.0.0/8", None)])
    running = server(ours.Service(zone, transfers=transfers), mode=(UDP, TCP))
    client = peer(running.address)
    began = time.monotonic()
    with socket.create_connection(running.address, 5) as sock:
        packet = ask("z.test", "AXFR").encode()
        sock.sendall(struct.pack("!H", len(packet)) + packet)
        soas = octets = 0
        while soas < 2:
            (size,) = struct.unpack("!H", sock.recv(2, socket.MSG_WAITALL))
            message = sock.recv(size, socket.MSG_WAITALL)
            octets += size
            soas += sum(record.type == 6 for record in Message.parse(message).answer)
            assert client.ask(ask("www.z.test", "A").encode())
    took = time.monotonic() - began
    assert octets > 200_000 and took >= octets / 200_000 - 0.3
