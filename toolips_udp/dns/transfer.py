"""Zones on the way from server to server: AXFR and IXFR, out and in (RFC 5936, 1995; spec X2 to X4).

Sans-io: messages in, messages out. Imports message, zone, names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..errors import FormatError
from . import names, rrtypes
from .message import Message, Writer
from .zone import RRset, Zone, changes

FILL = 16_384
MOST_RECORDS = 20_000_000
JOURNAL_RECORDS = 100_000

Entry = tuple[bytes, int, int, bytes]


def newer(a: int, b: int) -> bool:
    """Whether serial `a` comes after `b` (RFC 1982)."""
    return a != b and (a - b) & 0xFFFFFFFF < 0x80000000


def serial_of(soa: bytes) -> int:
    """The serial in SOA RDATA."""
    return int.from_bytes(soa[-20:-16], "big")


@dataclass(slots=True)
class Delta:
    """One step between two versions: SOA records and what went and came."""

    old: Entry
    new: Entry
    removed: list[Entry]
    added: list[Entry]

    @property
    def size(self) -> int:
        return len(self.removed) + len(self.added) + 2


@dataclass
class Journal:
    """The last deltas of one zone, at most 100,000 records."""

    deltas: list[Delta] = field(default_factory=list)
    size: int = 0

    def note(self, old: Zone, new: Zone) -> Delta | None:
        """Remember the step from one version to the next; None (and all forgotten) when the serial did not rise."""
        delta = step(old, new)
        if delta is None:
            self.deltas.clear()
            self.size = 0
            return None
        if self.deltas and serial_of(self.deltas[-1].new[3]) != old.serial:
            self.deltas.clear()
            self.size = 0
        self.deltas.append(delta)
        self.size += delta.size
        self._shorten()
        return delta

    def put_before(self, deltas: list[Delta]) -> None:
        """What came before the deltas that are here."""
        self.deltas[:0] = deltas
        self.size += sum(delta.size for delta in deltas)
        self._shorten()

    def _shorten(self) -> None:
        while self.size > JOURNAL_RECORDS and self.deltas:
            self.size -= self.deltas.pop(0).size

    def since(self, serial: int) -> list[Delta] | None:
        """The deltas from this serial on; None when they are not all here."""
        for index, delta in enumerate(self.deltas):
            if serial_of(delta.old[3]) == serial:
                return self.deltas[index:]
        return None


def step(old: Zone, new: Zone) -> Delta | None:
    """What changed from one version to the next; None when the serial did not rise."""
    before, after = soa_of(old), soa_of(new)
    if before is None or after is None or not newer(new.serial, old.serial):
        return None
    return Delta(before, after, *changes(old, new))


def soa_of(zone: Zone) -> Entry | None:
    soa = zone.soa
    return (soa.owner, rrtypes.SOA, soa.ttl, soa.rdatas[0]) if soa else None


def full(zone: Zone) -> Iterator[Entry]:
    """The records of an AXFR: SOA first and last, occluded data included."""
    soa = soa_of(zone)
    if soa is None:
        return
    yield soa
    for entry in zone.records():
        if entry[1] != rrtypes.SOA:
            yield entry
    yield soa


def incremental(zone: Zone, deltas: list[Delta]) -> Iterator[Entry]:
    """The records of an IXFR."""
    soa = soa_of(zone)
    if soa is None:
        return
    yield soa
    for delta in deltas:
        yield delta.old
        yield from delta.removed
        yield delta.new
        yield from delta.added
    yield soa


def messages(
    number: int, question: tuple[bytes, int, int], entries: Iterable[Entry], fill: int = FILL
) -> Iterator[bytes]:
    """Messages filled to about 16 KiB; the question stands in the first."""
    writer, count, first = _begin(question, True), 0, True
    for owner, rtype, ttl, data in entries:
        writer.record(owner, rtype, rrtypes.IN, ttl, data)
        count += 1
        if len(writer.out) >= fill:
            yield _end(writer, number, count, first)
            writer, count, first = _begin(question, False), 0, False
    if count:
        yield _end(writer, number, count, first)


def _begin(question: tuple[bytes, int, int], first: bool) -> Writer:
    writer = Writer()
    writer.lookups = 1 << 30  # a stream of ours, not an answer to a stranger: compress everything
    if first:
        writer.name(question[0])
        writer.out += question[1].to_bytes(2, "big") + question[2].to_bytes(2, "big")
    return writer


def _end(writer: Writer, number: int, count: int, first: bool) -> bytes:
    head = b"".join(value.to_bytes(2, "big") for value in (number, 0x8400, 1 if first else 0, count, 0, 0))
    writer.out[:12] = head
    return bytes(writer.out)


class Incoming:
    """Takes the messages of a transfer and makes the new zone of them.

    `old` is what we have, for IXFR. `take` returns True when the transfer is
    complete; then `zone` is the new version, or None when ours is current.
    Anything that does not belong raises `FormatError`, and the old zone stays.
    """

    def __init__(self, origin: bytes, old: Zone | None = None) -> None:
        self.origin = origin
        self.key = names.fold(origin)
        self.old = old
        self.zone: Zone | None = None
        self.soa: Entry | None = None
        self.kind = ""
        self.adding = False
        self.records = 0
        self.done = False

    def take(self, message: Message, number: int) -> bool:
        if message.id != number or not message.qr:
            raise FormatError("a message of another transfer.")
        if message.rcode:
            raise FormatError(f"the primary said {rrtypes.rcode_name(message.rcode)}.")
        if not message.answer:
            raise FormatError("a transfer message without records.")
        for record in message.answer:
            if self.done:
                raise FormatError("records after the end of the transfer.")
            self.records += 1
            if self.records > MOST_RECORDS:
                raise FormatError(f"over {MOST_RECORDS} records.")
            self._record((record.name, record.type, record.ttl, record.data), record.rclass)
        if not self.done and not self.kind and self.soa is not None and self.old is not None:
            # one SOA that is not newer: we are current; a newer one alone: the rest follows
            self.done = not newer(serial_of(self.soa[3]), self.old.serial)
        return self.done

    def _record(self, entry: Entry, rclass: int) -> None:
        owner, rtype, _, data = entry
        if rclass != rrtypes.IN or not names.encloses(self.key, names.fold(owner)):
            raise FormatError(f"{names.to_text(owner)} is not in the zone {names.to_text(self.origin)}.")
        if self.soa is None:
            if rtype != rrtypes.SOA or names.fold(owner) != self.key:
                raise FormatError("the first record is not the SOA of the zone.")
            self.soa = entry
            return
        if not self.kind:
            self.kind = self._begin(entry)
            if self.kind == "axfr" and rtype == rrtypes.SOA and data == self.soa[3]:
                self._finish()
                return
            if self.kind == "ixfr":
                return
        if self.kind == "axfr":
            self._full(entry)
        else:
            self._step(entry)

    def _begin(self, entry: Entry) -> str:
        """The second record tells what comes: a SOA of our serial is a list of changes."""
        assert self.soa is not None
        old = self.old
        if entry[1] == rrtypes.SOA and old is not None and serial_of(entry[3]) == old.serial:
            self.zone = old.copy()
            self._drop_soa(entry)
            return "ixfr"
        self.zone = Zone(self.soa[0])
        self.zone.add(self.soa[0], self.soa[1], self.soa[2], self.soa[3])
        return "axfr"

    def _full(self, entry: Entry) -> None:
        assert self.zone is not None and self.soa is not None
        if entry[1] == rrtypes.SOA:
            if entry[3] != self.soa[3]:
                raise FormatError("the SOA at the end differs from the one at the beginning.")
            self._finish()
            return
        self.zone.add(*entry)

    def _drop_soa(self, entry: Entry) -> None:
        assert self.zone is not None
        soa = self.zone.soa
        if soa is None or serial_of(soa.rdatas[0]) != serial_of(entry[3]):
            raise FormatError("an incremental transfer that does not start from our version.")
        del self.zone.nodes[self.key][rrtypes.SOA]
        self.adding = False

    def _step(self, entry: Entry) -> None:
        assert self.zone is not None and self.soa is not None
        if entry[1] == rrtypes.SOA:
            if self.adding:
                if serial_of(entry[3]) == serial_of(self.soa[3]) and self.zone.serial == serial_of(
                    self.soa[3]
                ):
                    self._finish()
                    return
                self._drop_soa(entry)
            else:
                self.zone.add(*entry)
                self.adding = True
            return
        if self.adding:
            self.zone.add(*entry)
        elif not self.zone.remove(entry[0], entry[1], entry[3]):
            raise FormatError(f"{names.to_text(entry[0])} is to be removed and is not there.")

    def _finish(self) -> None:
        assert self.zone is not None and self.soa is not None
        if self.zone.soa is None:
            raise FormatError("the transfer leaves no SOA.")
        self.zone.prune()
        self.done = True


def notify(origin: bytes, number: int, soa: RRset | None = None) -> bytes:
    """A NOTIFY for a zone, with its SOA (RFC 1996)."""
    message = Message(id=number, flags=0x2400)
    message.question.append((origin, rrtypes.SOA, rrtypes.IN))
    if soa is not None:
        message.add(message.answer, [soa])
    return message.encode()
