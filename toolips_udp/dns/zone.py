"""A zone: its names, each with its RRsets, and what they make up.

A node is a dict from type number to RRset; an empty non-terminal is a node
without RRsets. Built by `zonefile`, `transfer` and tests; read by `lookup` and
by the image builder. Imports names, rdata, rrtypes, errors.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ..errors import FormatError
from . import names, rdata, rrtypes

Node = dict[int, "RRset"]
MOST_TEXT = 400
"""Characters of a finding; what is longer, as of a file that is no zone, has its middle left out."""


class RRset:
    """Records of one owner and type: `owner` (wire, original case), `type`, `ttl`, `rdatas` (wire)."""

    __slots__ = ("owner", "place", "rdatas", "ttl", "type")

    def __init__(self, owner: bytes, rtype: int, ttl: int, rdatas: list[bytes], place: int = 0) -> None:
        self.owner = owner
        self.type = rtype
        self.ttl = ttl
        self.rdatas = rdatas
        self.place = place

    def at(self, owner: bytes, ttl: int | None = None) -> RRset:
        """The same data under another owner (a wildcard's) or with another TTL."""
        return RRset(owner, self.type, self.ttl if ttl is None else ttl, self.rdatas)

    def texts(self) -> list[str]:
        """One line of text for each record."""
        head = f"{names.to_text(self.owner)} {self.ttl} IN {rrtypes.type_name(self.type)}"
        return [f"{head} {rdata.show(self.type, data)}" for data in self.rdatas]

    def __repr__(self) -> str:
        shown = rrtypes.type_name(self.type)
        return f"<RRset {names.to_text(self.owner)} {self.ttl} {shown} x{len(self.rdatas)}>"


class Problem:
    """One finding of the reader or the check: where, what, and whether it stops the zone."""

    __slots__ = ("column", "error", "file", "line", "text")

    def __init__(self, text: str, file: str = "", line: int = 0, column: int = 0, error: bool = True) -> None:
        self.text = text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 100]} ... {text[-90:]}"
        self.file = file
        self.line = line
        self.column = column
        self.error = error

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        return f"{place}: {'' if self.error else 'warning: '}{self.text}" if place else self.text


class ZoneError(FormatError):
    """A zone that cannot be served. `problems` lists every finding with its place."""

    code = "bad-zone"

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        wrong = [p for p in problems if p.error]
        more = f"\n... and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        super().__init__("\n".join(map(str, wrong[:10])) + more)


class Zone:
    """One zone, ready to be served.

    `origin` is its name as wire octets, `nodes` maps each folded name to its
    RRsets. `Zone.load` reads a file, `Zone.from_text` a string. `state` is
    `"ready"`, or `"loading"` and `"expired"`, which answer SERVFAIL.
    """

    def __init__(self, origin: bytes) -> None:
        self.origin = origin
        self.key = names.fold(origin)
        self.nodes: dict[bytes, Node] = {self.key: {}}
        self.warnings: list[Problem] = []
        self.path: Path | None = None
        self.files: tuple[Path, ...] = ()
        self.state = "ready"
        self.version = 0
        self._chain: list[tuple[tuple[bytes, ...], bytes]] | None = None
        self._hashes: list[tuple[bytes, bytes]] | None = None

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        origin: str | None = None,
        *,
        strict: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Zone:
        """Read a master file and check it.

        Without `origin` the zone's name is that of its SOA; names are completed
        with the file's `$ORIGIN`, else with the file's name (`example.org.zone`).
        Raises `ZoneError` naming file, line and column of everything that is
        wrong, `OSError` when the file cannot be read. `strict` turns warnings
        into errors. `progress` is called with the number of records read.

        >>> zone = Zone.load("example.org.zone")
        """
        from .zonefile import load

        return load(Path(path), origin, strict=strict, progress=progress)

    @classmethod
    def from_text(cls, text: str, origin: str | None = None, *, strict: bool = False) -> Zone:
        """A zone from the text of a master file. `$INCLUDE` is refused here.

        >>> Zone.from_text("@ 60 SOA ns.a. x.a. 1 2 3 4 5\\nwww 60 A 192.0.2.1", "example.org").name
        'example.org.'
        """
        from .zonefile import read

        return read(text, origin, strict=strict)

    @property
    def name(self) -> str:
        return names.to_text(self.origin)

    @property
    def soa(self) -> RRset | None:
        return self.nodes[self.key].get(rrtypes.SOA)

    @property
    def serial(self) -> int:
        """The serial of the SOA; 0 when there is none."""
        return int.from_bytes(self.soa.rdatas[0][-20:-16], "big") if self.soa else 0

    def timers(self) -> tuple[int, int, int, int]:
        """refresh, retry, expire and minimum of the SOA, in seconds."""
        assert self.soa is not None
        data = self.soa.rdatas[0]
        refresh, retry, expire, minimum = struct.unpack("!4I", data[-16:])
        return refresh, retry, expire, minimum

    def add(self, owner: bytes, rtype: int, ttl: int, data: bytes) -> bool:
        """Put one record in; False when it was there already. Empty non-terminals appear by themselves."""
        key = names.fold(owner)
        if not names.encloses(self.key, key):
            raise FormatError(f"{names.to_text(owner)} is not in the zone {self.name}")
        node = self.nodes.get(key)
        if node is None:
            node = self.nodes[key] = {}
            self.fill(key)
        found = node.get(rtype)
        self._chain = self._hashes = None
        self.version += 1
        if found is None:
            node[rtype] = RRset(owner, rtype, ttl, [data])
        elif _place(found, data) is not None:
            found.ttl = min(found.ttl, ttl)
            return False
        else:
            found.rdatas.append(data)
            found.ttl = min(found.ttl, ttl)
        return True

    def remove(self, owner: bytes, rtype: int, data: bytes) -> bool:
        """Take one record out; False when it was not there."""
        key = names.fold(owner)
        node = self.nodes.get(key, {})
        found = node.get(rtype)
        at = _place(found, data) if found is not None else None
        if found is None or at is None:
            return False
        self._chain = self._hashes = None
        self.version += 1
        del found.rdatas[at]
        if not found.rdatas:
            del node[rtype]
        return True

    def fill(self, key: bytes) -> None:
        """Make the empty non-terminals between a name and the apex."""
        while key != self.key:
            key = key[1 + key[0] :]
            if key in self.nodes:
                return
            self.nodes[key] = {}

    def prune(self) -> None:
        """Drop empty nodes that nothing hangs below (after removals)."""
        nodes = {self.key: self.nodes[self.key]}
        fresh = self.nodes
        self.nodes = nodes
        for key, node in fresh.items():
            if node:
                nodes[key] = node
        for key in list(nodes):
            self.fill(key)

    def copy(self) -> Zone:
        """A zone of its own with the same records; what is changed in it does not show here."""
        made = Zone(self.origin)
        made.nodes = {
            key: {t: RRset(r.owner, t, r.ttl, list(r.rdatas), r.place) for t, r in node.items()}
            for key, node in self.nodes.items()
        }
        made.path, made.files, made.state = self.path, self.files, self.state
        return made

    def rrsets(self) -> Iterator[RRset]:
        """Every RRset, the SOA first."""
        soa = self.soa
        if soa is not None:
            yield soa
        for node in self.nodes.values():
            for rrset in node.values():
                if rrset is not soa:
                    yield rrset

    def records(self) -> Iterator[tuple[bytes, int, int, bytes]]:
        """Every record as owner, type, TTL and RDATA, the SOA first. An RRSIG has the TTL of what it signs."""
        for rrset in self.rrsets():
            if rrset.type == rrtypes.RRSIG:
                node = self.nodes[names.fold(rrset.owner)]
                for data in rrset.rdatas:
                    covered = node.get(data[0] << 8 | data[1])
                    yield rrset.owner, rrset.type, covered.ttl if covered else rrset.ttl, data
                continue
            for data in rrset.rdatas:
                yield rrset.owner, rrset.type, rrset.ttl, data

    def __len__(self) -> int:
        return sum(len(rrset.rdatas) for rrset in self.rrsets())

    def digest(self) -> frozenset[tuple[bytes, int, int, bytes]]:
        """The records as a set, owners folded: equal for equal zones."""
        return frozenset((names.fold(owner), rtype, ttl, data) for owner, rtype, ttl, data in self.records())

    def to_text(self) -> str:
        """The zone as a master file: every record on a line of its own, sorted, SOA first."""
        lines = [f"$ORIGIN {self.name}"]
        soa = self.soa
        if soa:
            lines += soa.texts()
        for key in sorted(self.nodes, key=names.canonical_key):
            for rtype in sorted(self.nodes[key]):
                rrset = self.nodes[key][rtype]
                if rrset is not soa:
                    lines += rrset.texts()
        return "\n".join(lines) + "\n"

    # -- proofs of what is not there

    @property
    def signed(self) -> bool:
        """Whether the apex is signed."""
        return rrtypes.RRSIG in self.nodes[self.key]

    def nsec_before(self, name: bytes) -> RRset | None:
        """The NSEC at `name` or the last before it in canonical order."""
        if self._chain is None:
            self._chain = sorted(
                (names.canonical_key(k), k) for k, n in self.nodes.items() if rrtypes.NSEC in n
            )
        if not self._chain:
            return None
        at = bisect_right(self._chain, (names.canonical_key(name), b"\xff" * 256)) - 1
        return self.nodes[self._chain[at][1]][rrtypes.NSEC]

    @property
    def nsec3_parameters(self) -> tuple[int, bytes] | None:
        """Iterations and salt of the NSEC3 chain; None without one."""
        found = self.nodes[self.key].get(rrtypes.NSEC3PARAM)
        if found is None:
            return None
        data = found.rdatas[0]
        return int.from_bytes(data[2:4], "big"), data[5 : 5 + data[4]]

    def _nsec3_chain(self) -> list[tuple[bytes, bytes]]:
        if self._hashes is None:
            self._hashes = sorted((k[1 : 1 + k[0]], k) for k, n in self.nodes.items() if rrtypes.NSEC3 in n)
        return self._hashes

    def nsec3_matching(self, label: bytes) -> RRset | None:
        """The NSEC3 whose owner is this hash (base32hex, lower case)."""
        node = self.nodes.get(bytes((len(label),)) + label + self.key)
        return node.get(rrtypes.NSEC3) if node else None

    def nsec3_covering(self, label: bytes) -> RRset | None:
        """The NSEC3 with the last hash before this one, around the end if need be."""
        chain = self._nsec3_chain()
        if not chain:
            return None
        return self.nodes[chain[bisect_left(chain, (label, b"")) - 1][1]][rrtypes.NSEC3]


def _place(rrset: RRset, data: bytes) -> int | None:
    """Where the RRset has this RDATA. Letter case of names in it does not count: compression changes it (RFC 4343)."""
    if data in rrset.rdatas:
        return rrset.rdatas.index(data)
    if rrset.type not in rdata.FOLDED:
        return None
    wanted = rdata.canonical(rrset.type, data)
    for at, known in enumerate(rrset.rdatas):
        if len(known) == len(data) and rdata.canonical(rrset.type, known) == wanted:
            return at
    return None


def changes(
    old: Zone, new: Zone
) -> tuple[list[tuple[bytes, int, int, bytes]], list[tuple[bytes, int, int, bytes]]]:
    """Records taken away and records put in between two versions, SOA left out."""
    before, after = old.digest(), new.digest()

    def ordered(found: Iterable[tuple[bytes, int, int, bytes]]) -> list[tuple[bytes, int, int, bytes]]:
        return sorted(record for record in found if record[1] != rrtypes.SOA)

    return ordered(before - after), ordered(after - before)
