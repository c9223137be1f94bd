"""Reads the packet ledgers: families of packets, each with its origin and the reaction it has to get."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Packet(NamedTuple):
    id: str
    origin: str
    reaction: tuple[str, ...]
    data: bytes


def families(name: str) -> dict[str, list[Packet]]:
    """The families of a file beside this one: the comment above each names it."""
    found: dict[str, list[Packet]] = {}
    packets: list[Packet] = []
    for line in Path(__file__).with_name(name).read_text().splitlines():
        if line.startswith("#"):
            packets = found[line[1:].strip()] = []
        elif line:
            ident, origin, reaction, data = (part.strip() for part in line.split("|"))
            packets.append(Packet(ident, origin, tuple(reaction.split()), bytes.fromhex(data)))
    return {family: packets for family, packets in found.items() if packets}
