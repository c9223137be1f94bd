"""The packet ledger of ENet: what a stranger or a connected client may send, and what has to come of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.wire.packets import Packet, families

sys.path.insert(0, str(Path(__file__).parents[1] / "unit/peers"))
pytest.importorskip("toolips_udp._native.enet", reason="the native core is not built")
from pairs import Wire
from test_enet_bad_input import STRANGER, Talker, reliable

FAMILIES = families("enet_udp.txt")


def from_a_stranger(packet: Packet, wire: Wire) -> str | None:
    Talker(wire)
    wire.inject(packet.data, STRANGER)
    replies = [data for data, to in wire.seen if to == STRANGER]
    if packet.reaction == ("silence",):
        return f"answered with {replies[0].hex()}" if replies else None
    if len(replies) != 1 or replies[0][4] & 15 != 3:
        return f"expected one VERIFY_CONNECT, found {replies}"
    return "answered with more than came" if len(replies[0]) > len(packet.data) else None


def from_a_peer(packet: Packet, wire: Wire) -> str | None:
    client = Talker(wire)
    client.raw(packet.data, timed="untimed" not in packet.reaction)
    left = client.left()
    counts = dict(word.split("=") for word in packet.reaction if "=" in word)
    if left or "left" in counts:
        return None if left == [counts.get("left")] else f"the client has left: {left}"
    found = {"acks": client.acks(), "got": len(client.got())}
    expected = {"acks": int(counts.get("acks", 0)), "got": int(counts.get("got", 0))}
    return None if "any" in packet.reaction or found == expected else f"expected {expected}, found {found}"


def served_as_before(wire: Wire) -> bool:
    """Whether the client can still be heard; what it sends here is new whatever came before."""
    talker = Talker(wire, connect_id=b"next")
    talker.raw(reliable(1, b"canary"))
    return [data[:6] for data in talker.got()] == [b"canary"]


@pytest.mark.parametrize("native", [True, False], ids=["C", "Python"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_datagram_of_the_family_gets_its_reaction(family, native):
    react = from_a_stranger if family.startswith("stranger") else from_a_peer
    faults = []
    for packet in FAMILIES[family]:
        wire = Wire(native=native)
        if what := react(packet, wire):
            faults.append(f"{packet.id} ({packet.origin}): {what}")
        elif not served_as_before(wire):
            faults.append(f"{packet.id}: the client is not heard any more")
    assert not faults, "\n".join(faults)
