"""Signatures and proofs of denial from a signed zone (spec 3.2; RFC 4035, 5155, 9077).

Sans-io. Used by `lookup` when the question has DO set. Imports zone, names.
"""

from __future__ import annotations

import base64
import hashlib

from . import names, rrtypes
from .zone import Node, RRset, Zone

MOST_ITERATIONS = 500


def signatures(node: Node, rrset: RRset, owner: bytes | None = None) -> list[RRset]:
    """The RRSIGs of an RRset, as a list of none or one."""
    sigs = node.get(rrtypes.RRSIG)
    if sigs is None or rrset.type == rrtypes.RRSIG:
        return []
    wanted = rrset.type.to_bytes(2, "big")
    covering = [data for data in sigs.rdatas if data[:2] == wanted]
    return [RRset(owner or rrset.owner, rrtypes.RRSIG, rrset.ttl, covering)] if covering else []


def _with(zone: Zone, found: list[RRset | None]) -> list[RRset]:
    """Proof records with their signatures, each once, TTL of RFC 9077."""
    made: list[RRset] = []
    seen: set[int] = set()
    soa = zone.soa
    for rrset in found:
        if rrset is None or id(rrset) in seen:
            continue
        seen.add(id(rrset))
        ttl = min(soa.ttl, int.from_bytes(soa.rdatas[0][-4:], "big")) if soa else rrset.ttl
        node = zone.nodes[rrset.owner.lower()]
        made.append(rrset.at(rrset.owner, ttl))
        made += [sigs.at(sigs.owner, ttl) for sigs in signatures(node, rrset)]
    return made


def hashed(zone: Zone, name: bytes) -> bytes | None:
    """The NSEC3 label of a folded name (RFC 5155 section 5); None in a zone without NSEC3."""
    parameters = zone.nsec3_parameters
    if parameters is None or parameters[0] > MOST_ITERATIONS:
        return None
    iterations, salt = parameters
    digest = hashlib.sha1(name + salt).digest()
    for _ in range(iterations):
        digest = hashlib.sha1(digest + salt).digest()
    return base64.b32hexencode(digest).lower()


def _matching(zone: Zone, name: bytes) -> RRset | None:
    label = hashed(zone, name)
    return zone.nsec3_matching(label) if label else None


def _covering(zone: Zone, name: bytes) -> RRset | None:
    label = hashed(zone, name)
    return zone.nsec3_covering(label) if label else None


def _closest(zone: Zone, key: bytes, encloser: bytes, next_closer: bytes) -> list[RRset | None]:
    """The closest *provable* encloser (opt-out may hide some) and the cover of the next closer name."""
    while True:
        match = _matching(zone, encloser)
        if match is not None or encloser == zone.key:
            return [match, _covering(zone, next_closer)]
        next_closer, encloser = encloser, encloser[1 + encloser[0] :]


def no_name(zone: Zone, key: bytes, encloser: bytes, next_closer: bytes) -> list[RRset]:
    """NXDOMAIN: the name does not exist and no wildcard could have made it."""
    if not zone.signed:
        return []
    if zone.nsec3_parameters:
        found = _closest(zone, key, encloser, next_closer)
        return _with(zone, [*found, _covering(zone, b"\1*" + encloser)])
    return _with(zone, [zone.nsec_before(key), zone.nsec_before(b"\1*" + encloser)])


def no_data(
    zone: Zone, key: bytes, node: Node, wildcard: tuple[bytes, bytes] | None, qtype: int
) -> list[RRset]:
    """NODATA at a name, an empty non-terminal, or by a wildcard."""
    if not zone.signed:
        return []
    if zone.nsec3_parameters:
        if wildcard:
            encloser, next_closer = wildcard
            return _with(
                zone, [*_closest(zone, key, encloser, next_closer), _matching(zone, b"\1*" + encloser)]
            )
        match = _matching(zone, key)
        if match is None:  # an insecure delegation under opt-out
            encloser = names.parent(key)
            return _with(zone, _closest(zone, key, encloser, key))
        return _with(zone, [match])
    if wildcard:
        return _with(zone, [zone.nsec_before(key), zone.nodes[b"\1*" + wildcard[0]].get(rrtypes.NSEC)])
    return _with(zone, [node.get(rrtypes.NSEC) or zone.nsec_before(key)])


def no_closer(zone: Zone, key: bytes, next_closer: bytes) -> list[RRset]:
    """A wildcard answer: nothing closer exists."""
    if not zone.signed:
        return []
    if zone.nsec3_parameters:
        return _with(zone, [_covering(zone, next_closer)])
    return _with(zone, [zone.nsec_before(key)])


def delegation(zone: Zone, node: Node, cut: bytes) -> list[RRset]:
    """A referral: the DS with its signature, or the proof that there is none."""
    if not zone.signed:
        return []
    ds = node.get(rrtypes.DS)
    if ds is not None:
        return [ds, *signatures(node, ds)]
    if zone.nsec3_parameters:
        match = _matching(zone, cut)
        return _with(zone, [match] if match else _closest(zone, cut, names.parent(cut), cut))
    return _with(zone, [node.get(rrtypes.NSEC)])
