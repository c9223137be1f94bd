"""Whole messages: parsing, writing, and the reply to a client's question (spec 2.4).

`Message` is the general codec: replies of other servers, transfers, tools,
tests. `Writer` puts records into octets with compression; `encode_reply` makes
the answer to a `Query` with OPT, truncation and flags. Imports query, rdata,
names, edns, zone (RRset).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..errors import FormatError
from . import edns, names, rdata, rrtypes
from .wire import MOST_HOPS, read_name
from .zone import RRset

MOST_LOOKUPS = 120
"""Compression look-ups in one message (N7); names after that go out plain."""
MOST_STREAM = 65_535

_HEADER = struct.Struct("!HHHHHH")
_FIXED = struct.Struct("!HHIH")


@dataclass(slots=True)
class Record:
    """One record as it stands in a message: names and RDATA uncompressed wire octets."""

    name: bytes
    type: int
    rclass: int
    ttl: int
    data: bytes

    @property
    def text(self) -> str:
        """The record as a line of a master file."""
        head = f"{names.to_text(self.name)} {self.ttl} {rrtypes.class_name(self.rclass)}"
        return f"{head} {rrtypes.type_name(self.type)} {rdata.show(self.type, self.data)}"


@dataclass(slots=True)
class Message:
    """A DNS message in parts.

    `flags` are the 16 bits of the header; `rcode` includes the upper bits from
    OPT. `udp_size` is 0 without OPT.
    """

    id: int = 0
    flags: int = 0
    rcode: int = 0
    question: list[tuple[bytes, int, int]] = field(default_factory=list)
    answer: list[Record] = field(default_factory=list)
    authority: list[Record] = field(default_factory=list)
    additional: list[Record] = field(default_factory=list)
    udp_size: int = 0
    version: int = 0
    do: bool = False
    options: dict[int, bytes] = field(default_factory=dict)
    tsig: Record | None = None

    @property
    def opcode(self) -> int:
        return self.flags >> 11 & 15

    @property
    def qr(self) -> bool:
        return bool(self.flags & 0x8000)

    @property
    def aa(self) -> bool:
        return bool(self.flags & 0x0400)

    @property
    def tc(self) -> bool:
        return bool(self.flags & 0x0200)

    @property
    def ra(self) -> bool:
        return bool(self.flags & 0x0080)

    @property
    def ad(self) -> bool:
        return bool(self.flags & 0x0020)

    @classmethod
    def parse(cls, data: bytes) -> Message:
        """The message in these octets; `FormatError` when they are not exactly one.

        Work is bounded over the whole message: 256 pointer hops and 4 for each
        record (M1); no count of the header is trusted (M2).

        >>> Message.parse(bytes(12)).question
        []
        """
        if len(data) < 12:
            raise FormatError(f"a message of {len(data)} octets: at least 12 are needed.")
        message = cls()
        message.id, message.flags, questions, *counts = _HEADER.unpack_from(data)
        message.rcode = message.flags & 15
        if questions * 5 + sum(counts) * 11 > len(data) - 12:
            raise FormatError("the header counts more records than the message can hold.")
        budget = [MOST_HOPS]
        at, end = 12, len(data)
        for _ in range(questions):
            name, at = read_name(data, at, end, budget)
            if end - at < 4:
                raise FormatError("a question is cut short.")
            message.question.append((name, *struct.unpack_from("!HH", data, at)))
            at += 4
        for section, count in zip(
            (message.answer, message.authority, message.additional), counts, strict=True
        ):
            for _ in range(count):
                budget[0] += 4
                at = message._record(data, at, end, section, budget)
        if at != end:
            raise FormatError(f"{end - at} octets after the last record.")
        return message

    def _record(self, data: bytes, at: int, end: int, section: list[Record], budget: list[int]) -> int:
        size: int
        if self.tsig is not None:
            raise FormatError("a record after the TSIG.")
        name, at = read_name(data, at, end, budget)
        if end - at < 10:
            raise FormatError("a record is cut short.")
        rtype, rclass, ttl, size = _FIXED.unpack_from(data, at)
        at += 10
        if size > end - at:
            raise FormatError(f"a record says {size} octets of data and {end - at} are left.")
        if rtype == rrtypes.OPT:
            if section is not self.additional or self.udp_size or name != names.ROOT:
                raise FormatError("an OPT record out of place.")
            self.udp_size = max(rclass, 512)
            self.rcode |= ttl >> 24 << 4
            self.version, self.do = ttl >> 16 & 255, bool(ttl & 0x8000)
            self.options = _all_options(data[at : at + size])
            return at + size
        wire = rdata.read(rtype, data, at, at + size, budget) if size or rclass in (1, 3, 4) else b""
        record = Record(name, rtype, rclass, ttl, wire)
        if rtype == rrtypes.TSIG:
            if section is not self.additional:
                raise FormatError("a TSIG out of place.")
            self.tsig = record
        else:
            section.append(record)
        return at + size

    def encode(self, most: int = MOST_STREAM) -> bytes:
        """The octets, names compressed. `FormatError` when they are more than `most`."""
        writer = Writer()
        for name, qtype, qclass in self.question:
            writer.name(name)
            writer.out += struct.pack("!HH", qtype, qclass)
        for section in (self.answer, self.authority, self.additional):
            for record in section:
                writer.record(record.name, record.type, record.rclass, record.ttl, record.data)
        extra = 0
        if self.udp_size:
            options = b"".join(edns.option(code, value) for code, value in self.options.items())
            writer.out += edns.opt_record(self.udp_size, self.rcode, self.do, options, self.version)
            extra = 1
        if self.tsig:
            tsig = self.tsig
            writer.out += (
                tsig.name + _FIXED.pack(tsig.type, tsig.rclass, tsig.ttl, len(tsig.data)) + tsig.data
            )
            extra += 1
        counts = len(self.question), len(self.answer), len(self.authority), len(self.additional) + extra
        _HEADER.pack_into(writer.out, 0, self.id, self.flags & 0xFFF0 | self.rcode & 15, *counts)
        if len(writer.out) > most:
            raise FormatError(f"the message takes {len(writer.out)} octets: at most {most} are allowed.")
        return bytes(writer.out)

    def add(self, section: list[Record], rrsets: Iterable[RRset]) -> None:
        for rrset in rrsets:
            section += [Record(rrset.owner, rrset.type, rrtypes.IN, rrset.ttl, data) for data in rrset.rdatas]

    def texts(self) -> dict[str, list[str]]:
        """The records of each section as lines of text."""
        sections = {"answer": self.answer, "authority": self.authority, "additional": self.additional}
        return {name: [record.text for record in records] for name, records in sections.items()}


def _all_options(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at, end = 0, len(data)
    while at < end:
        if end - at < 4:
            raise FormatError("an EDNS option is cut short.")
        code, size = struct.unpack_from("!HH", data, at)
        at += 4
        if size > end - at or len(found) > edns.MOST_OPTIONS:
            raise FormatError(f"EDNS option {code} is cut short.")
        found.setdefault(code, data[at : at + size])
        at += size
    return found


def ask(name: str | bytes, qtype: str | int, *, id: int = 0, rd: bool = True, size: int = edns.UDP_SIZE,
        do: bool = False, **flags: Any) -> Message:  # fmt: skip
    """A question ready to be encoded; `size=0` leaves OPT out.

    >>> ask("example.org", "A", id=7).encode()[:2]
    b'\\x00\\x07'
    """
    wire = names.from_text(name) if isinstance(name, str) else name
    message = Message(id=id, flags=0x0100 if rd else 0, udp_size=size, do=do, **flags)
    message.question.append((wire, rrtypes.type_number(qtype), rrtypes.IN))
    return message


class Writer:
    """Octets of a message in the making; the header's 12 are left to be filled."""

    __slots__ = ("lookups", "out", "places")

    def __init__(self, start: bytes = bytes(12)) -> None:
        self.out = bytearray(start)
        self.places: dict[bytes, int] = {}
        self.lookups = MOST_LOOKUPS

    def name(self, name: bytes) -> None:
        """Append a name, its longest known suffix as a pointer."""
        low = name.lower()
        whole = self.places.get(low)
        if whole is not None:
            self.out += (0xC000 | whole).to_bytes(2, "big")
            return
        if self.lookups <= 0:
            self.out += name
            return
        self.lookups -= 1
        at, base = 0, len(self.out)
        while name[at]:
            suffix = low[at:]
            place = self.places.get(suffix)
            if place is not None:
                self.out += name[:at]
                self.out += (0xC000 | place).to_bytes(2, "big")
                return
            if base + at < 0x4000:
                self.places[suffix] = base + at
            at += 1 + name[at]
        self.out += name

    def question(self, packet: bytes, end: int, name: bytes) -> None:
        """The question of a client, octets as received (N6)."""
        self.name(name)
        del self.out[12:]
        self.out += packet[12:end]

    def record(self, owner: bytes, rtype: int, rclass: int, ttl: int, data: bytes) -> None:
        self.name(owner)
        out = self.out
        place = rdata.COMPRESSED.get(rtype)
        if place is None or not data:
            out += _FIXED.pack(rtype, rclass, ttl, len(data))
            out += data
            return
        before, count = place
        out += _FIXED.pack(rtype, rclass, ttl, 0)
        start = len(out)
        out += data[:before]
        at = before
        for _ in range(count):
            stop = at
            while data[stop]:
                stop += 1 + data[stop]
            self.name(data[at : stop + 1])
            at = stop + 1
        out += data[at:]
        out[start - 2 : start] = (len(out) - start).to_bytes(2, "big")

    def rrset(self, rrset: RRset) -> int:
        for data in rrset.rdatas:
            self.record(rrset.owner, rrset.type, rrtypes.IN, rrset.ttl, data)
        return len(rrset.rdatas)

    def mark(self) -> tuple[int, int]:
        return len(self.out), self.lookups

    def back(self, mark: tuple[int, int]) -> None:
        """Forget what was written since `mark`."""
        del self.out[mark[0] :]
        self.places = {suffix: place for suffix, place in self.places.items() if place < mark[0]}
        self.lookups = mark[1]
