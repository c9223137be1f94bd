"""The C host and the Python host, given the same: every datagram and every event must be equal."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from toolips_udp.address import Address
from toolips_udp.peers import RELIABLE, SEQUENCED, UNSEQUENCED

sys.path.insert(0, str(Path(__file__).parent))
from enet_examples import CHECKED_CONNECT, EXAMPLES
from pairs import MS, SERVER, Wire, storm


def plain(event):
    kind, peer, what = event
    if kind == "message":
        what = (what.data, what.channel, int(what.delivery))
    return kind, peer.id, what


def record(native: bool, seed: int, checksum: bool, compress: int, **settings) -> tuple[list, list, list]:
    """One story of a server and three clients in bad weather."""
    wire = Wire(native=native, weather=storm(seed, loss=0.15, duplicate=0.1, reorder=0.2), **settings)
    dice = random.Random(seed)
    clients = [wire.client(2, n, checksum=checksum, compress=compress, join=False) for n in range(3)]
    wire.run(4.0)
    for n in range(40 if compress else 150):  # the coder in Python is slow
        for _, peer, _ in clients:
            size = dice.choice((0, 5, 100, 1360)) if dice.random() < 0.95 else 9000
            delivery = dice.choice((RELIABLE, SEQUENCED, UNSEQUENCED))
            if size > 1360 and delivery == UNSEQUENCED:
                delivery = RELIABLE
            peer.send(dice.randbytes(size) if n % 2 else bytes(size), n % 2, delivery, True)
        for peer in list(wire.server.peers.values()):
            peer.send(b"tick %d" % n, 1, SEQUENCED)
            if n == 30 and peer.id == 1:
                peer.kick(9)
        wire.run(dice.random() / 20)
    clients[1][1].close(1, 5, "left")
    del wire.clients[clients[2][2]]
    wire.run(40.0)
    events = [plain(e) for address in wire.events for e in wire.events[address]]
    views = [peer.view() for peer in wire.server.peers.values()]
    return wire.seen, events, views


@pytest.mark.parametrize("seed", range(4))
def test_both_hosts_say_the_same_bytes_through_a_storm(seed):
    story = (seed, seed % 2 == 1, int(seed >= 2))
    native, python = record(True, *story), record(False, *story)
    assert len(native[0]) > 200 and len(native[1]) > 150
    assert python[1] == native[1]
    assert python[0] == native[0]
    assert python[2] == native[2]


def _noise(dice: random.Random, word: int, now: int) -> bytes:
    """A datagram of a proven peer: right header, commands from examples with fields and bytes changed."""
    body = b""
    for _ in range(dice.randrange(1, 4)):
        example = dice.choice(list(EXAMPLES.values()))
        command = bytearray(example[4:] if example[0] & 0x80 else example[2:])
        for _ in range(dice.randrange(3)):
            command[dice.randrange(min(len(command), 24))] = dice.choice((0, 1, 2, 127, 128, 255, dice.randrange(256)))
        if dice.random() < 0.1:
            del command[dice.randrange(len(command)) :]
        if command and command[0] & 15 == 4 and dice.random() < 0.95:
            continue
        body += command
    timed = dice.random() < 0.8
    return (word | (0x8000 if timed else 0)).to_bytes(2) + ((now // MS) & 0xFFFF).to_bytes(2) * timed + body


@pytest.mark.parametrize("seed", range(3))
def test_b8_both_hosts_answer_alike_to_whatever_a_peer_says(seed):
    dice = random.Random(seed)
    wires = [Wire(native=native, max_malformed=0, max_message=4096) for native in (True, False)]
    source, word = Address("127.0.0.2", 4000), 0
    for step in range(4000):
        if not wires[0].server.peers:
            connect = EXAMPLES["E1 connect"] if step % 2 else CHECKED_CONNECT
            if step % 2:
                connect = connect[:44] + step.to_bytes(4) + connect[48:]
            for wire in wires:
                wire.seen.clear()
                wire.inject(EXAMPLES["E1 connect"][:44] + step.to_bytes(4) + connect[-4:], source)
            verify = wires[0].seen[-1][0]
            assert wires[1].seen[-1][0] == verify
            word = int.from_bytes(verify[8:10]) | verify[11] << 12
            ack = (word | 0x8000).to_bytes(2) + b"\0\1\1\xff\0\1\0\1" + verify[2:4]
            words = [wire.inject(ack, source) for wire in wires]
        else:
            data = _noise(dice, word, wires[0].now)
            words = [wire.inject(data, source) for wire in wires]
        assert words[0] == words[1], step
        pause = dice.choice((0, 1, 20, 700)) / 1000
        for wire in wires:
            for peer in list(wire.server.peers.values()):
                peer.send(b"news", 0, step % 3, False)
            wire.run(pause)
        assert wires[0].seen == wires[1].seen, step
        events = [[plain(e) for e in wire.events[SERVER]] for wire in wires]
        assert events[0] == events[1], step
        views = [[p.view() for p in wire.server.peers.values()] for wire in wires]
        assert views[0] == views[1], step
        for wire in wires:
            wire.seen.clear()
            wire.events[SERVER].clear()
