"""Reads block and allow lists: hosts files, plain names, adblock syntax, RPZ (spec P3, P4).

The kind is detected per file. What cannot be used is counted, never fatal.
Imports names, namelist, zone, and the native DNS for its rules.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

try:
    from .._native import dns as native
except ImportError:
    native = None  # type: ignore[assignment]
from ..errors import FormatError
from . import namelist, names, rrtypes, zonefile
from .zone import RRset, Zone

_TELLING = 2000
"""Lines that are looked at to tell what kind of list a file is."""
BLOCK, ALLOW, IMPORTANT = "block", "allow", "important"
_LOCAL_NAMES = frozenset(
    "localhost localhost.localdomain local broadcasthost ip6-localhost ip6-loopback ip6-localnet ip6-mcastprefix "
    "ip6-allnodes ip6-allrouters ip6-allhosts 0.0.0.0".split()
)
_RPZ_ACTIONS = {b"\0": "nxdomain", b"\1*\0": "nodata", b"\x0crpz-passthru\0": "pass", b"\x08rpz-drop\0": "drop",
                b"\x0crpz-tcp-only\0": "tcp"}  # fmt: skip


_IN_C: dict[str | None, int] = (
    {
        "nxdomain": native.ALWAYS_NXDOMAIN,
        "nodata": native.NODATA,
        "drop": native.DROP_IT,
        "tcp": native.TCP_ONLY,
    }
    if native is not None
    else {}
)


NameSet: Any = native.NameSet if native is not None else namelist.NameSet


@dataclass(slots=True)
class Special:
    """A rule that a plain name does not hold: an action of its own, types, clients, records."""

    action: str = BLOCK
    types: frozenset[int] | None = None
    clients: tuple[str, ...] = ()
    answer: str | None = None
    records: list[RRset] = field(default_factory=list)
    line: int = 0


@dataclass(slots=True)
class Rule:
    """The rule that decided: list and line, what it says, how it answers."""

    file: str
    line: int
    action: str
    answer: str | None = None
    records: list[RRset] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class PrefixTable:
    """Address prefixes with a rule each: one look per length that there is, the longest first (spec P5)."""

    def __init__(self) -> None:
        self.lengths: dict[int, list[int]] = {4: [], 6: []}
        self.rules: dict[tuple[int, int, int], Special] = {}

    def add(self, network: ipaddress.IPv4Network | ipaddress.IPv6Network, special: Special) -> None:
        """One prefix; of equal ones the first stays."""
        lengths = self.lengths[network.version]
        if network.prefixlen not in lengths:
            lengths.append(network.prefixlen)
            lengths.sort(reverse=True)
        rest = network.max_prefixlen - network.prefixlen
        key = network.version, network.prefixlen, int(network.network_address) >> rest
        self.rules.setdefault(key, special)

    def find(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Special | None:
        """The rule of the longest prefix that holds the address."""
        number = int(address)
        for length in self.lengths[address.version]:
            found = self.rules.get((address.version, length, number >> (address.max_prefixlen - length)))
            if found is not None:
                return found
        return None

    def __len__(self) -> int:
        return len(self.rules)


class NameList:
    """The rules of one file. `match` finds the one for a name."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.stamp: tuple[int, ...] = ()
        self.kind = ""
        self.exact = NameSet()
        self.below = NameSet()  # the name and everything below it
        self.allow_exact = NameSet()
        self.allow_below = NameSet()
        self.special: dict[bytes, list[Special]] = {}
        self.special_below: dict[bytes, list[Special]] = {}
        self.addresses = PrefixTable()
        self.client_addresses = PrefixTable()
        self.servers: dict[bytes, list[Special]] = {}  # names of name servers; with *. in front, those below
        self.server_addresses = PrefixTable()
        self.unsupported = 0
        self.count = 0
        self.rules: Any = native.Rules() if native is not None else None
        """The same for C; rules that look at more than the name send the question to Python."""

    @classmethod
    def load(cls, path: Path) -> NameList:
        """Read a file; raises `OSError`, or `ZoneError` for an RPZ that is no zone."""
        before = stamp(path)
        made = cls.read(path.read_bytes(), str(path))
        made.stamp = before
        return made

    @classmethod
    def read(cls, text: str | bytes, file: str = "") -> NameList:
        """Rules from text. C reads the plain lines; what it leaves, and RPZ, is read here."""
        made = cls(file)
        octets = text.encode("utf-8", "replace") if isinstance(text, str) else text
        made.kind = kind_of(_head(octets).decode("utf-8", "replace"))
        if made.kind == "rpz":
            made._rpz(zonefile.read(octets.decode("utf-8", "replace"), None, fallback="rpz."))
        else:
            made._lines(octets)
        for table in (made.exact, made.below, made.allow_exact, made.allow_below):
            table.seal()
        return made

    @classmethod
    def of_zone(cls, zone: Zone) -> NameList:
        """The rules of a response policy zone that is here as a zone."""
        made = cls(zone.name)
        made.kind = "rpz"
        made._rpz(zone)
        return made

    def _lines(self, octets: bytes) -> None:
        sets = (self.exact, self.below, self.allow_exact, self.allow_below)
        left: Iterable[tuple[int, bytes]]
        if native is not None:
            self.rules, self.count, left = native.read_list(octets, self.kind, *sets)
        else:
            left = enumerate(octets.split(b"\n"), 1)
        take = {"hosts": self._hosts, "adblock": self._adblock, "names": self._names}[self.kind]
        for number, line in left:
            stripped = line.decode("utf-8", "replace").strip()
            if stripped and stripped[0] not in "#!;[":
                try:
                    take(stripped, number)
                except FormatError:
                    self.unsupported += 1

    def _add(self, table: NameSet, text: str, line: int) -> None:
        name = names.fold(names.from_text(text))
        table.add(name, line)
        self.count += 1
        if self.rules is not None:
            scope = native.SUBTREE if table is self.below or table is self.allow_below else native.EXACT
            allow = table is self.allow_exact or table is self.allow_below
            self.rules.add(name, scope, native.ALLOW if allow else native.NXDOMAIN)

    def _special(self, table: dict[bytes, list[Special]], name: bytes, special: Special) -> None:
        table.setdefault(name, []).append(special)
        self.count += 1
        if self.rules is not None:
            scope = native.EXACT if table is self.special else native.SUBTREE
            if name[:2] == b"\1*" and table is self.special_below:
                name, scope = name[2:], native.BELOW
            self.rules.add(name, scope, _native_action(special))

    def _hosts(self, line: str, number: int) -> None:
        words = line.partition("#")[0].split()
        for word in words[1:]:
            if word.lower() not in _LOCAL_NAMES:
                self._add(self.exact, word, number)

    def _names(self, line: str, number: int) -> None:
        word = line.partition("#")[0].split()[0]
        self._add(self.below, word.removeprefix("*."), number)

    def _adblock(self, line: str, number: int) -> None:
        action = ALLOW if line.startswith("@@") else BLOCK
        body, _, options = line.removeprefix("@@").partition("$")
        special = Special(action, line=number)
        plain = True
        for option in options.split(",") if options else ():
            key, _, value = option.partition("=")
            if key == "important":
                special.action = IMPORTANT if action == BLOCK else ALLOW
            elif key == "dnstype" and not value.startswith("~"):
                special.types = frozenset(rrtypes.type_number(t) for t in value.split("|"))
            elif key == "client" and not value.startswith("~"):
                special.clients = tuple(value.strip("'\"").split("|"))
            else:
                raise FormatError(f"option {key} is not supported")
            plain = False
        below = body.startswith("||")
        name = body.removeprefix("||").removesuffix("|").removesuffix("^").strip("|")
        if not name or any(mark in name for mark in "*/:^ "):
            raise FormatError("only whole names are supported")
        if plain:
            block, allow = (self.below, self.allow_below) if below else (self.exact, self.allow_exact)
            self._add(allow if action == ALLOW else block, name, number)
            return
        table = self.special_below if below else self.special
        self._special(table, names.fold(names.from_text(name)), special)

    def _rpz(self, zone: Zone) -> None:
        for key, node in zone.nodes.items():
            if key == zone.key or not node:
                continue
            labels = names.split(key[: len(key) - len(zone.key)] + names.ROOT)
            special = self._rpz_action(node)
            trigger = labels[-1]
            if trigger in _ADDRESS_TRIGGERS:
                try:
                    network = rpz_network(labels[:-1])
                except ValueError:
                    self.unsupported += 1
                    continue
                getattr(self, _ADDRESS_TRIGGERS[trigger]).add(network, special)
            elif trigger == b"rpz-nsdname":
                self.servers.setdefault(names.join(labels[:-1]), []).append(special)
            elif trigger.startswith(b"rpz-"):
                self.unsupported += 1
                continue
            elif labels[0] == b"*":
                self._special(self.special_below, b"\1*" + names.join(labels[1:]), special)
                continue
            else:
                self._special(self.special, names.join(labels), special)
                continue
            self.count += 1

    @staticmethod
    def _rpz_action(node: dict[int, RRset]) -> Special:
        cname = node.get(rrtypes.CNAME)
        line = next(iter(node.values())).place & 0xFFFFFFFFFF
        answer = _RPZ_ACTIONS.get(cname.rdatas[0].lower()) if cname else None
        if answer == "pass":
            return Special(ALLOW, line=line)
        if answer:
            return Special(BLOCK, answer=answer, line=line)
        return Special(BLOCK, answer="records", records=list(node.values()), line=line)

    @property
    def names_clients(self) -> bool:
        """Whether a rule is for some clients only."""
        tables = (*self.special.values(), *self.special_below.values())
        return bool(self.client_addresses) or any(special.clients for group in tables for special in group)

    def match(self, key: bytes, qtype: int, client: str) -> Rule | None:
        """The rule for a folded name: the most specific one; at one name allow beats block."""
        at = 0
        while True:
            here = key[at:]
            found = self._at(here, at == 0, qtype, client)
            if found is not None:
                return found
            if not key[at]:
                return None
            at += 1 + key[at]

    def _at(self, name: bytes, whole: bool, qtype: int, client: str) -> Rule | None:
        specials = list(self.special_below.get(name, ()))
        if whole:
            specials += self.special.get(name, ())
        else:
            specials += self.special_below.get(b"\1*" + name, ())
        fitting = [s for s in specials if fits(s, qtype, client)]
        for wanted in (IMPORTANT, ALLOW):
            for special in fitting:
                if special.action == wanted:
                    return self._rule(special)
        line = self.allow_below.find(name)
        if line is None and whole:
            line = self.allow_exact.find(name)
        if line is not None:
            return Rule(self.file, line, ALLOW)
        if fitting:
            return self._rule(fitting[0])
        line = self.below.find(name)
        if line is None and whole:
            line = self.exact.find(name)
        return Rule(self.file, line, BLOCK) if line is not None else None

    def _rule(self, special: Special) -> Rule:
        action = BLOCK if special.action == IMPORTANT else special.action
        return Rule(self.file, special.line, action, special.answer, special.records)

    @property
    def names_servers(self) -> bool:
        """Whether a rule is about the servers of a zone."""
        return bool(self.servers or self.server_addresses)

    def match_server(self, key: bytes) -> Rule | None:
        """The rule for the folded name of a name server."""
        found = self.servers.get(key, ())
        at = 0
        while not found and key[at]:
            at += 1 + key[at]
            found = self.servers.get(b"\1*" + key[at:], ())
        return self._rule(found[0]) if found else None

    def match_address(self, text: str, kind: str = "answer") -> Rule | None:
        """The rule for an address of an `"answer"`, a `"client"` or a `"server"`: the longest prefix."""
        table = {
            "answer": self.addresses, "client": self.client_addresses, "server": self.server_addresses,
        }[kind]  # fmt: skip
        if not table:
            return None
        special = table.find(ipaddress.ip_address(text))
        return self._rule(special) if special is not None else None


_ADDRESS_TRIGGERS = {
    b"rpz-ip": "addresses", b"rpz-client-ip": "client_addresses", b"rpz-nsip": "server_addresses",
}  # fmt: skip


def _native_action(special: Special) -> int:
    """What C does for a rule of its own; whatever depends on more than the name is Python's."""
    if special.types is None and not special.clients and special.action != IMPORTANT:
        if special.action == ALLOW:
            return native.ALLOW
        if special.answer in _IN_C:
            return _IN_C[special.answer]
    return native.ASK_PYTHON | native.IMPORTANT


def _head(octets: bytes) -> bytes:
    """The lines that tell the kind, without a copy of all that follows."""
    end = 0
    for _ in range(_TELLING):
        end = octets.find(b"\n", end) + 1
        if not end:
            return octets
    return octets[:end]


def stamp(path: Path) -> tuple[int, ...]:
    """What tells that a file has changed."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def kind_of(text: str) -> str:
    """`rpz`, `adblock`, `hosts` or `names`, from the first lines that tell."""
    for line in text.split("\n"):
        stripped = line.strip()
        words = stripped.split()
        if not words or stripped[0] in "#;":
            continue
        if words[0] in ("$TTL", "$ORIGIN") or "SOA" in words:
            return "rpz"
        if stripped.startswith(("||", "@@", "!", "[Adblock")) or stripped.endswith("^"):
            return "adblock"
        try:
            ipaddress.ip_address(words[0].partition("%")[0])
            return "hosts"
        except ValueError:
            return "names"
    return "names"


def fits(special: Special, qtype: int, client: str) -> bool:
    if special.types is not None and qtype not in special.types:
        return False
    if not special.clients:
        return True
    address = ipaddress.ip_address(client.partition("%")[0])
    for text in special.clients:
        try:
            if address in ipaddress.ip_network(text, strict=False):
                return True
        except (ValueError, TypeError):
            continue
    return False


def rpz_network(labels: tuple[bytes, ...]) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """The prefix that an RPZ owner spells: `24.0.2.0.192`, `48.zz.db8.2001`."""
    bits, *parts = [label.decode("ascii", "replace") for label in labels]
    if len(parts) == 4 and "zz" not in parts and all(p.isdigit() for p in parts):
        return ipaddress.IPv4Network(f"{'.'.join(reversed(parts))}/{bits}", strict=False)
    text = ":".join("" if part == "zz" else part for part in reversed(parts))
    if "zz" in parts:
        text = text if not text.startswith(":") else ":" + text
        text = text if not text.endswith(":") else text + ":"
    return ipaddress.IPv6Network(f"{text}/{bits}", strict=False)
