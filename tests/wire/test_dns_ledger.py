"""The packet ledger of DNS: what came with which bug or rule, and what each of our servers has to send back."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from tests.wire.packets import Packet, families
from toolips_udp.dns import rrtypes
from toolips_udp.dns.message import Message
from toolips_udp.errors import FormatError

ZONE = "@ 300 SOA ns hostmaster 1 7200 900 1209600 60\n@ 300 NS ns\nns 300 A 192.0.2.1\nwww 300 A 192.0.2.2\n"
ORIGIN = "example.test"


FAMILIES = families("dns_udp.txt")


def in_python() -> Callable[[bytes], bytes | str]:
    from toolips_udp.address import Address
    from toolips_udp.dns.zone import Zone
    from toolips_udp.testing.dns import Authority

    server = Authority(Zone.from_text(ZONE, ORIGIN), Address("192.0.2.1", 53))

    def ask(packet: bytes) -> bytes | str:
        replies = server.answer(packet)
        return replies[0] if replies else "malformed"

    return ask


def in_c() -> Callable[[bytes], bytes | str]:
    native = pytest.importorskip("toolips_udp._native.dns", reason="the native core is not built")
    from toolips_udp.counters import WORDS

    def at(label: bytes) -> bytes:
        return label + b"\7example\4test\0"

    soa = at(b"\2ns") + at(b"\x0ahostmaster") + struct.pack("!5I", 1, 7200, 900, 1209600, 60)
    records = [
        (at(b""), 6, 300, [soa]),
        (at(b""), 2, 300, [at(b"\2ns")]),
        (at(b"\2ns"), 1, 300, [bytes([192, 0, 2, 1])]),
        (at(b"\3www"), 1, 300, [bytes([192, 0, 2, 2])]),
    ]
    stage = native.Stage(native.Server(secrets=(bytes(16),)))
    stage.set_view(0, zones=native.Zones([native.build_image(at(b""), records)]), final=True)

    def ask(packet: bytes) -> bytes | str:
        got = stage.answer(packet)
        assert got is not None, "left to Python"
        return WORDS[-got] if isinstance(got, int) else got

    return ask


SERVERS = {"C": in_c, "Python": in_python}


def fault(packet: Packet, got: bytes | str) -> str | None:
    """What is wrong with the reaction, or None."""
    kind, *more = packet.reaction
    if kind == "drop":
        return None if got == more[0] else f"expected to be dropped as {more[0]}, found {got!r}"
    if isinstance(got, str):
        return f"dropped as {got}"
    try:
        reply = Message.parse(got)
    except FormatError as error:
        return f"the reply is no message: {error}"
    end = 12 + len(reply.question[0][0]) + 4 if reply.question else 12
    wrong = {
        "id": got[:2] != packet.data[:2],
        "QR": not reply.qr,
        "RCODE": rrtypes.rcode_name(reply.rcode) != kind,
        "length": len(got) > 1232,
        "bare": "bare" in more and (len(got) != 12 or any(got[4:])),
        "question": "question" in more and not (len(reply.question) == 1 and got[12:end] == packet.data[12:end]),
        "opt": "opt" in more and not reply.udp_size,
        "noopt": "noopt" in more and bool(reply.udp_size),
        "opcode": any(word.startswith("opcode=") and word != f"opcode={reply.opcode}" for word in more),
    }
    found = [what for what, bad in wrong.items() if bad]
    return f"wrong {', '.join(found)} in {got.hex()}" if found else None


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_packet_of_the_family_gets_its_reaction(family, server):
    ask = SERVERS[server]()
    faults = [f"{p.id} ({p.origin}): {what}" for p in FAMILIES[family] if (what := fault(p, ask(p.data)))]
    assert not faults, "\n".join(faults)


def test_the_ledgers_have_thousands_of_packets_and_name_none_twice():
    for name, least in (("dns_udp.txt", 1500), ("enet_udp.txt", 1000)):
        ids = [packet.id for packets in families(name).values() for packet in packets]
        assert len(ids) >= least and len(set(ids)) == len(ids)
