"""The C host and the Python host at their bounds: small caps, peers near them, strangers who knock; all must be equal.

The storms of test_enet_twins.py run far from every cap. Here a peer's messages are whole commands whose numbers,
fragments and acks are near what the host expects, so that groups fill, windows close and caps are passed.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from toolips_udp.address import Address
from toolips_udp.errors import TooLong
from toolips_udp.peers import enet_wire as w
from toolips_udp.peers.range_coder import compress, decompress

sys.path.insert(0, str(Path(__file__).parent))
from enet_examples import EXAMPLES
from pairs import MS, SERVER, Wire

CAPS = {
    "max_message": 512, "group_bytes": 4096, "waiting_bytes": 4096, "queue_bytes": 8192, "reassembly_bytes": 6000,
    "max_groups": 6, "max_waiting": 12, "max_fragments": 8, "max_acks": 16, "queue_age": 0.5,
}  # fmt: skip
TOTALS = "joins leaves connects answered refused unproven_in unproven_out shed".split()
TRIPLE = (5000, 2, 2)


def pair(**settings):
    """A native server and a Python one, with the same settings."""
    return [Wire(native=native, **settings) for native in (True, False)]


def told(wire):
    """Everything that can be seen of a server since it was last asked."""

    def plain(event):
        kind, peer, what = event
        if kind == "message":
            what = (what.data, what.channel, int(what.delivery))
        return kind, peer.id, what

    wire.server.advance(wire.now)
    wire._collect()
    said, wire.seen[:] = sorted(wire.seen, key=lambda each: each[1]), []  # peers of one turn have no order
    events = sorted((plain(event) for event in wire.events[SERVER]), key=lambda event: event[1])
    wire.events[SERVER].clear()
    wire.flying.clear()
    views = [peer.view() for peer in wire.server.peers.values()]
    return said, events, views, wire.server.half_open, [wire.server.totals[name] for name in TOTALS]


class Stranger:
    """An address that knocks, and what it must know to be let in."""

    def __init__(self, dice, address, checksum=False, coded=False):
        self.dice, self.address, self.checksum, self.coded = dice, address, checksum, coded
        self.connect_id, self.word, self.time = bytes(4), 0, 0

    def connect(self, **change):
        """A CONNECT; fields that are not given are chosen."""
        dice = self.dice
        self.connect_id = dice.choice((b"\0\0\0\1", dice.randbytes(4)))
        self.their_id = dice.choice((0, 1, 2, w.NO_ID - 1, w.NO_ID, w.NO_ID + 1))
        fields = {
            "id": self.their_id, "in": dice.choice((0, 1, 3, 255)), "out": dice.choice((0, 2, 3, 255)),
            "mtu": dice.choice((0, 575, 576, 1000, 1391, 1392, 1393, 4097)),
            "window": dice.choice((0, 4095, 4096, 30_000, 65_536, 65_537)),
            "channels": dice.choice((0, 1, 2, 254, 255, 256)), "incoming": dice.choice((0, 1, 65_535, 65_536, 300_000)),
            "outgoing": dice.choice((0, 9)), "a": TRIPLE[0], "b": dice.choice((2, 5)), "c": TRIPLE[2],
            "connect_id": self.connect_id, "data": dice.randrange(100),
        } | change  # fmt: skip
        self.their_id, self.connect_id = fields["id"], fields["connect_id"]
        command = w.Command(w.CONNECT, w.FLAG_ACK, w.CONTROL, 1, tuple(fields.values()))
        return self.seal(w.NO_ID, w.write_command(command), dice.randrange(65_536), bytes(4))

    def seal(self, word, body, time=None, connect_id=None):
        header = (word | (w.SENT_TIME if time is not None else 0)).to_bytes(2)
        header += b"" if time is None else time.to_bytes(2)
        small = compress(body) if self.coded else body
        if len(small) < len(body):
            header = bytes((header[0] | 0x40,)) + header[1:]
        else:
            small = body
        check = w.checksum(header, self.connect_id if connect_id is None else connect_id, body)
        return header + (check if self.checksum else b"") + small

    def hear(self, said):
        """Learn from what the server said to this address; the numbers of its commands that want an ack."""
        found = []
        for data, to in said:
            if tuple(to) != tuple(self.address):
                continue
            head = w.read_header(data)
            at = head.size + (4 if self.checksum else 0)
            if head.compressed:
                data, at = decompress(data[at:], 4096), 0
            while at < len(data) and (read := w.read_command(data, at)) is not None:
                command, at = read
                if command.type == w.VERIFY_CONNECT:
                    self.word = int(command.fields[0]) | int(command.fields[2]) << 12
                    self.time = head.time
                if command.flags & w.FLAG_ACK:
                    found.append((command.channel, command.number, head.time))
        return found

    def proof(self, number=1, time=None):
        body = w.Command(w.ACKNOWLEDGE, 0, w.CONTROL, 1, (number, self.time if time is None else time))
        return self.seal(self.word, w.write_command(body))


def equal(wires, where):
    """Compares both servers; what the first has said and told."""
    first, second = (told(wire) for wire in wires)
    assert len(first[2]) == len(second[2]), where
    for one, other in zip(first[2], second[2], strict=True):
        assert {key: (one[key], other[key]) for key in one if one[key] != other[key]} == {}, where
    assert first == second, where
    return first


def let_in(wires, stranger, **change):
    """The stranger becomes a peer of both servers."""
    data = stranger.connect(id=0, channels=2, mtu=1392, window=65_536, incoming=0, b=2, **change)
    for wire in wires:
        wire.inject(data, stranger.address)
    stranger.hear(wires[0].seen)
    for wire in wires:
        wire.inject(stranger.proof(), stranger.address)
        assert len(wire.server.peers) >= 1


def near(dice, number):
    """A number of 16 bits near another, sometimes windows away."""
    away = dice.choice(
        (0, 1, 1, 1, 1, 2, 2, 3, 4, 7, 12, 4096, 6 * 4096, 7 * 4096, 8 * 4096, 9 * 4096, -1, -2, -4096)
    )
    return (number + away) & 0xFFFF


def fragment(dice, number):
    """A fragment of one of a few messages, seldom a wrong one."""
    kind = dice.choice((w.SEND_FRAGMENT, w.SEND_UNRELIABLE_FRAGMENT))
    start = near(dice, number) if kind == w.SEND_FRAGMENT else dice.randrange(12)
    piece, count = dice.choice((1, 50, 100)), dice.choice((1, 2, 2, 3, 3, 8, 9))
    index = dice.randrange(count)
    total = dice.choice((piece * count,) * 12 + (piece * count - 1, count, count - 1, 511, 512, 513, 6000))
    offset = dice.choice((piece * index,) * 12 + (0, total, total - 1, total + 1)) % 2**32
    length = dice.choice((min(piece, max(total - offset, 0)),) * 12 + (0, piece))
    own = start if kind == w.SEND_FRAGMENT else near(dice, number)
    fields = (start, length, count, index + (count if dice.random() < 0.02 else 0), total, offset)
    flags = w.FLAG_ACK if kind == w.SEND_FRAGMENT or dice.random() < 0.1 else 0
    return w.Command(kind, flags, dice.randrange(2), own, fields, dice.randbytes(length))


def saying(dice, link, acks):
    """A command near what the host expects of this link."""
    channel = dice.choice((0, 0, 0, 1, 1, 2))
    c = link.channel.get(channel)
    number, unreliable = (c.in_reliable, c.in_unreliable) if c else (0, 0)
    data = dice.randbytes(dice.choice((0, 1, 30, 300, 511, 512, 513)))
    which = dice.random()
    if which < 0.3 and acks:
        channel, number, time = acks.pop(dice.randrange(len(acks)) if dice.random() < 0.3 else 0)
        time = (time + dice.choice((0,) * 8 + (1, 50, 0x8000, 0xFFFF, 0xC000))) & 0xFFFF
        return w.Command(w.ACKNOWLEDGE, 0, channel, 1, (number, time))
    if which < 0.5:
        flags = w.FLAG_ACK if dice.random() < 0.95 else 0
        return w.Command(w.SEND_RELIABLE, flags, channel, near(dice, number), (len(data),), data)
    if which < 0.62:
        fields = (max(0, unreliable + dice.choice((-1, 0, 1, 1, 2, 3))), len(data))
        return w.Command(w.SEND_UNRELIABLE, 0, channel, near(dice, number), fields, data)
    if which < 0.72:
        group = (
            link.group_base + dice.choice((0, 1, 2, 1023, 1024, 2048, 32_767, 32_768, -1, -1024))
        ) & 0xFFFF
        return w.Command(w.SEND_UNSEQUENCED, w.FLAG_UNSEQUENCED, channel, 0, (group, len(data)), data)
    if which < 0.93:
        return fragment(dice, number)
    if which < 0.95:
        limits = dice.choice(((0, 0), (1, 0), (65_535, 0), (100_000, 0), (10_000_000, 9)))
        return w.Command(w.BANDWIDTH_LIMIT, w.FLAG_ACK, w.CONTROL, near(dice, link.control), limits)
    if which < 0.96:
        triple = dice.choice((TRIPLE, (0, 32, 32), (1000, 7, 1), (5000, 0, 40)))
        return w.Command(w.THROTTLE_CONFIGURE, w.FLAG_ACK, w.CONTROL, 5, triple)
    if which < 0.99:
        return w.Command(
            w.PING, dice.choice((0, w.FLAG_ACK)), dice.choice((w.CONTROL, 0, 1)), near(dice, number)
        )
    greeting = tuple(w.read_command(EXAMPLES["E2 verify"], 4)[0].fields)
    return dice.choice((
        w.Command(w.VERIFY_CONNECT, w.FLAG_ACK, w.CONTROL, 1, greeting),
        w.Command(w.DISCONNECT, dice.choice((0, w.FLAG_ACK, w.FLAG_UNSEQUENCED)), w.CONTROL, 9, (7,)),
    ))  # fmt: skip


def talk(dice, wires, step):
    """What the servers say by themselves, the same on both."""
    size, delivery = dice.choice((0, 10, 500, 512, 513)), dice.randrange(3)
    data, fragmented = dice.randbytes(size), dice.random() < 0.5
    quiet = dice.random() < 0.4
    ending = dice.choice((0, 1, 2)) if step % 500 == 499 else None
    outcomes = []
    for wire in wires:
        outcomes.append([])
        for peer in list(wire.server.peers.values()):
            if not quiet:
                try:
                    outcomes[-1].append(peer.send(data, step % 3, delivery, fragmented))
                except (TooLong, ValueError) as error:
                    outcomes[-1].append(str(error))
            if ending is not None:
                peer.close(ending, 3, "left")
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("seed", range(4))
def test_both_hosts_keep_the_same_caps_whatever_two_peers_say(seed):
    dice = random.Random(seed)
    settings = {**CAPS, "clock": dice.choice((0, 0xFFFF0000))}
    wires = pair(max_malformed=40, **settings)
    peers = [Stranger(dice, Address("127.0.0.2", 4000 + n), checksum=n == 1) for n in range(2)]
    acks = {each: [] for each in peers}
    ends = set()
    for step in range(2500):
        who = peers[step % 2]
        links = {link.address[1]: link for link in wires[1].server.links.values()}
        link = links.get(who.address.port)
        if link is None:
            acks[who].clear()
            let_in(wires, who)
        else:
            body = b"".join(
                w.write_command(saying(dice, link, acks[who])) for _ in range(dice.choice((1, 1, 2, 3, 8)))
            )
            time = None if dice.random() < 0.05 else (wires[0].now // MS - dice.choice((0, 5, 80))) & 0xFFFF
            data = who.seal(who.word, body, time)
            words = [wire.inject(data, who.address) for wire in wires]
            assert words[0] == words[1], step
        talk(dice, wires, step)
        pause = dice.choice((0, 0, 0.001, 0.02, 0.02, 0.1, 0.7) if step % 700 else (11.0,))
        for wire in wires:
            wire.run(pause)
        found = equal(wires, step)
        ends |= {what[0] for kind, _, what in found[1] if kind == "leave"}
        for each in peers:
            acks[each] += each.hear(found[0])
            del acks[each][:-40]
    assert ends >= {"too_big", "left"}, ends


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("checksum", ["auto", True, False])
def test_both_hosts_answer_strangers_alike_and_let_the_same_ones_in(checksum, coded):
    dice = random.Random(f"{checksum} {coded}")
    wires = pair(
        max_message=512, max_peers=4, per_prefix=3, checksum=checksum, channels=8, mtu=1400,
        limit_loopback=True,
    )  # fmt: skip
    hosts = ("192.0.2.1", "192.0.2.2", "198.51.100.7", "127.0.0.2", "2001:db8::1")
    strangers = [
        Stranger(dice, Address(host, 4000 + n), checksum=n % 2 == 1, coded=coded)
        for host in hosts
        for n in range(2)
    ]
    words = set()
    for step in range(500 if coded else 1500):  # the coder in Python is slow
        who = dice.choice(strangers)
        which = dice.random()
        good = {"id": dice.randrange(3), "channels": 2} if dice.random() < 0.7 else {}
        if which < 0.35:
            data = who.connect(**good)
        elif which < 0.45:
            data = who.connect(connect_id=b"\0\0\0\1", **good)
        elif which < 0.75:
            data = who.proof(dice.choice((1, 1, 1, 1, 2, 2, 3)), dice.choice((None,) * 6 + (0,)))
        elif which < 0.9:
            ping = w.write_command(w.Command(w.PING, w.FLAG_ACK, w.CONTROL, 2))
            data = who.seal(
                who.word ^ dice.choice((0, 0, 0, 1, 0x1000)), ping * dice.choice((1, 4)), step & 0xFFFF
            )
        else:
            data = dice.choice(
                (
                    b"\0",
                    b"\x0f\xff",
                    dice.randbytes(30),
                    who.proof()[:-1],
                    who.connect()[:-1],
                    who.seal(0, b""),
                )
            )
        many = dice.choice((1,) * 9 + (20,))
        for _ in range(many):
            answers = [wire.inject(data, who.address) for wire in wires]
            assert answers[0] == answers[1], step
            words.add(answers[0])
        if step % 200 == 199:
            for wire in wires:
                wire.server.ban(who.address.host, wire.now + 2_000_000_000)
        if step % 40 == 39:
            for wire in wires:
                for peer in list(wire.server.peers.values())[:2]:
                    peer.close(0, 1, "left")
        pause = dice.choice((0, 0, 0.001, 0.3, 1.0, 2.0) if step % 97 else (4.9, 5.1, 61.0))
        for wire in wires:
            wire.run(pause)
        found = equal(wires, step)
        for each in strangers:
            each.hear(found[0])
    assert words >= {"answered", "denied", "malformed", "passed"}, words
    assert wires[0].server.totals["joins"] > 4, wires[0].server.totals
