"""Answers a question from zones: the algorithm of spec 3.1, the oracle of the C image.

Sans-io and without state. Imports zone, result, names, proofs, rrtypes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from . import names, proofs, rrtypes
from .result import Result
from .zone import Node, RRset, Zone

if TYPE_CHECKING:
    from .question import Question

MOST_LINKS = 16
MOST_ALIASES = 8
_NOT_FOLLOWED = frozenset((rrtypes.CNAME, rrtypes.ANY, rrtypes.NSEC, rrtypes.RRSIG))
_ADDRESSES = (rrtypes.A, rrtypes.AAAA)


class Zones:
    """The zones of one view, found by the longest that encloses a name."""

    def __init__(self, zones: Iterable[Zone] = ()) -> None:
        self.by_key: dict[bytes, Zone] = {zone.key: zone for zone in zones}

    def find(self, key: bytes, qtype: int = 0) -> Zone | None:
        """The zone for this folded name; for DS at an apex the parent's, if held (A2)."""
        at = 0
        own: Zone | None = None
        while True:
            zone = self.by_key.get(key[at:])
            if zone is not None:
                if qtype != rrtypes.DS or at or own:
                    return zone
                own = zone
            if not key[at]:
                return own
            at += 1 + key[at]

    def put(self, zone: Zone) -> None:
        self.by_key = {**self.by_key, zone.key: zone}

    def drop(self, key: bytes) -> None:
        self.by_key = {k: zone for k, zone in self.by_key.items() if k != key}

    def __iter__(self) -> Iterator[Zone]:
        return iter(self.by_key.values())

    def __len__(self) -> int:
        return len(self.by_key)


def asked(zones: Zones, q: Question) -> Result | None:
    """The answer to a question from the zones of a step, as its service wants it; None where none of them is meant."""
    query, service = q.query, q.service
    if zones.find(query.key, query.qtype) is None:
        return None
    whole = service.whole_any and query.qtype in (rrtypes.ANY, rrtypes.RRSIG)
    if whole and not q.stream:
        truncated = Result(aa=True)
        truncated.tc = True
        return truncated
    return answer(
        zones, query.name, query.qtype, do=query.do, minimal=service.minimal, whole=whole and q.stream
    )


def answer(
    zones: Zones, qname: bytes, qtype: int, *, do: bool = False, minimal: bool = True, whole: bool = False
) -> Result:
    """The answer to (qname, qtype, IN) from these zones.

    `do` adds signatures and proofs of signed zones. REFUSED when no zone
    encloses the name. `minimal=False` adds addresses for MX and SRV;
    `whole` gives all RRsets for ANY and RRSIG.
    """
    return _Search(zones, qname, qtype, do, minimal, whole).run()


class _Search:
    __slots__ = (
        "dnames",
        "do",
        "key",
        "links",
        "minimal",
        "name",
        "owners",
        "qtype",
        "result",
        "whole",
        "zone",
        "zones",
    )

    def __init__(self, zones: Zones, qname: bytes, qtype: int, do: bool, minimal: bool, whole: bool) -> None:
        self.zones = zones
        self.name = qname
        self.key = qname.lower()
        self.qtype = qtype
        self.do = do
        self.minimal = minimal
        self.whole = whole
        self.result = Result(aa=True)
        self.owners: set[bytes] = set()
        self.dnames: set[bytes] = set()
        self.links = 0
        self.zone: Zone

    def run(self) -> Result:
        first = True
        while True:
            zone = self.zones.find(self.key, self.qtype)
            if zone is None or zone.state != "ready":
                return self._nowhere(zone, first)
            self.zone = zone
            self.result.zone = self.result.zone or zone
            if self.key in self.owners or self.links == MOST_LINKS:
                return self.result
            if not self._step(first):
                return self.result
            first = False
            self.links += 1

    def _nowhere(self, zone: Zone | None, first: bool) -> Result:
        if not first:
            return self.result
        self.result.aa = False
        if zone is None:
            self.result.rcode = rrtypes.REFUSED
            self.result.ede.append((20, ""))
        else:
            self.result.rcode = rrtypes.SERVFAIL
            self.result.ede.append((14 if zone.state == "loading" else 24, ""))
        return self.result

    def _step(self, first: bool) -> bool:
        """One name of the chain; True when the chain goes on at `self.key`."""
        zone, key = self.zone, self.key
        places = names.offsets(key)
        apex = places.index(len(key) - len(zone.key))
        encloser = apex
        for index in range(apex, -1, -1):
            node = zone.nodes.get(key[places[index] :])
            if node is None:
                break
            encloser = index
            if rrtypes.NS in node and index != apex and not (index == 0 and self.qtype == rrtypes.DS):
                self._referral(node, key[places[index] :], first)
                return False
            if rrtypes.DNAME in node and index:
                return self._rewrite(node[rrtypes.DNAME], node, places[index])
        if encloser == 0:
            return self._source(zone.nodes[key], None)
        closest = key[places[encloser] :]
        star = zone.nodes.get(b"\1*" + closest)
        next_closer = key[places[encloser - 1] :]
        if star is not None:
            return self._source(star, (closest, next_closer))
        self.result.rcode = rrtypes.NXDOMAIN
        self._negative()
        if self.do:
            self.result.authority += proofs.no_name(zone, key, closest, next_closer)
        return False

    def _source(self, node: Node, wildcard: tuple[bytes, bytes] | None) -> bool:
        """Answer from a node: the exact one, or a wildcard (closest encloser, next closer)."""
        qtype, zone = self.qtype, self.zone
        if rrtypes.CNAME in node and qtype not in _NOT_FOLLOWED:
            cname = node[rrtypes.CNAME]
            self._add(cname, node, wildcard)
            self.owners.add(self.key)
            self.name = cname.rdatas[0]
            self.key = self.name.lower()
            return True
        found = self._any(node) if qtype in (rrtypes.ANY, rrtypes.RRSIG) else None
        if found is None and qtype in node and qtype != rrtypes.RRSIG:
            found = [node[qtype]]
        if found:
            for rrset in found:
                self._add(rrset, node, wildcard)
            return False
        self._negative()
        if self.do:
            self.result.authority += proofs.no_data(zone, self.key, node, wildcard, qtype)
        return False

    def _any(self, node: Node) -> list[RRset] | None:
        """Minimal ANY (E9): the smallest RRset, or the CNAME; RRSIG alike."""
        if self.qtype == rrtypes.RRSIG:
            sigs = node.get(rrtypes.RRSIG)
            if not sigs:
                return None
            if self.whole:
                return [sigs]
            covered = min(data[:2] for data in sigs.rdatas)
            return [RRset(sigs.owner, sigs.type, sigs.ttl, [d for d in sigs.rdatas if d[:2] == covered])]
        plain = [rrset for rtype, rrset in node.items() if rtype != rrtypes.RRSIG]
        if self.whole:
            return plain
        if rrtypes.CNAME in node:
            return [node[rrtypes.CNAME]]
        return (
            [min(plain, key=lambda r: (sum(map(len, r.rdatas)) + 12 * len(r.rdatas), r.type))]
            if plain
            else None
        )

    def _add(self, rrset: RRset, node: Node, wildcard: tuple[bytes, bytes] | None) -> None:
        """Put an RRset in the answer, with signatures, wildcard proof and additional addresses."""
        shown = rrset.at(self.name) if wildcard or rrset.owner != self.name else rrset
        self.result.answer.append(shown)
        if self.do:
            self.result.answer += proofs.signatures(node, rrset, self.name)
            if wildcard:
                self.result.authority += proofs.no_closer(self.zone, self.key, wildcard[1])
        rtype = rrset.type
        if rtype == rrtypes.NS:
            for target in rrset.rdatas:
                self._addresses(target, self.result.additional)
        elif rtype in (rrtypes.SVCB, rrtypes.HTTPS):
            self._services(rrset, rtype)
        elif not self.minimal and rtype in (rrtypes.MX, rrtypes.SRV):
            for data in rrset.rdatas:
                self._addresses(data[2 if rtype == rrtypes.MX else 6 :], self.result.additional)

    def _addresses(self, target: bytes, into: list[RRset]) -> None:
        """A and AAAA that the zone holds for this very name."""
        node = self.zone.nodes.get(target.lower())
        if not node:
            return
        taken = self.result.additional + self.result.glue
        for rtype in _ADDRESSES:
            rrset = node.get(rtype)
            if rrset is not None and rrset not in taken:
                into.append(rrset)
                if self.do:
                    into += proofs.signatures(node, rrset)

    def _services(self, rrset: RRset, rtype: int) -> None:
        """RFC 9460 4.1: addresses and records of the targets, aliases followed inside our zones."""
        waiting = [(rrset, self.name)]
        seen = {self.key}
        steps = 0
        while waiting and steps < MOST_ALIASES:
            current, owner = waiting.pop(0)
            steps += 1
            for data in current.rdatas:
                alias = data[:2] == b"\0\0"
                target = data[2:]
                end = 0
                while target[end]:
                    end += 1 + target[end]
                target = target[: end + 1]
                if target == names.ROOT:
                    if alias:
                        continue
                    target = owner
                low = target.lower()
                zone = self.zones.find(low)
                node = zone.nodes.get(low) if zone else None
                if not node:
                    continue
                for wanted in (*_ADDRESSES, *((rtype,) if low not in seen else ())):
                    found = node.get(wanted)
                    if found is not None and found not in self.result.additional + self.result.answer:
                        self.result.additional.append(found)
                        if wanted == rtype:
                            waiting.append((found, target))
                seen.add(low)

    def _rewrite(self, dname: RRset, node: Node, at: int) -> bool:
        """RFC 6672: the DNAME, and the CNAME it makes for this name."""
        result, owner, target = self.result, self.key[at:], dname.rdatas[0]
        if owner in self.dnames and len(target) >= len(owner):
            return False
        if owner not in self.dnames:
            self.dnames.add(owner)
            result.answer.append(dname)
            if self.do:
                result.answer += proofs.signatures(node, dname)
        new = names.replace_suffix(self.name, owner, target)
        if new is None:
            result.rcode = rrtypes.YXDOMAIN
            return False
        result.answer.append(RRset(self.name, rrtypes.CNAME, dname.ttl, [new]))
        self.owners.add(self.key)
        if self.qtype == rrtypes.CNAME:
            return False
        self.name, self.key = new, new.lower()
        return True

    def _referral(self, node: Node, cut: bytes, first: bool) -> None:
        result, ns = self.result, node[rrtypes.NS]
        if first:
            result.aa = False
        result.authority.append(ns)
        if self.do:
            result.authority += proofs.delegation(self.zone, node, cut)
        for target in ns.rdatas:
            below = names.encloses(cut, target.lower())
            self._addresses(target, result.glue if below else result.additional)

    def _negative(self) -> None:
        soa = self.zone.soa
        if soa is None:
            return
        ttl = min(soa.ttl, int.from_bytes(soa.rdatas[0][-4:], "big"))
        self.result.authority.append(soa.at(soa.owner, ttl))
        if self.do:
            for sigs in proofs.signatures(self.zone.nodes[self.zone.key], soa):
                self.result.authority.append(sigs.at(sigs.owner, ttl))
