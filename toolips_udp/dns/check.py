"""The semantic check of a zone: what makes it impossible to serve, and what is only odd.

The verdicts are those of spec table 3.3: no SOA, two SOAs, data beside a CNAME,
two DNAMEs, a DNAME beside NS below the apex, records below a DNAME are errors;
records below a delegation, name servers without address and RRsets that no message
can hold (spec E4) are warnings.
Imports names, rrtypes and zone.
"""

from __future__ import annotations

from collections.abc import Callable

from . import names, rrtypes
from .zone import Problem, RRset, Zone

_BESIDE_CNAME = frozenset(rrtypes.TYPES[name] for name in ["CNAME", "RRSIG", "NSEC", "SIG", "NXT", "KEY"])
_BELOW_DNAME = frozenset(rrtypes.TYPES[name] for name in ["NSEC3", "RRSIG"])
"""What may lie below a DNAME: the chain of hashed names when the DNAME is at the apex (RFC 6672 section 2.4)."""
_MOST_OCCLUDED = 20
_LARGE = 65_000
"""Octets of an RRset that leave no room for the rest of a message."""


def check(
    zone: Zone, problems: list[Problem], where: Callable[[RRset], tuple[str, int]] | None = None
) -> None:
    """Append what is found to `problems`."""

    def say(rrset: RRset | None, text: str, error: bool = True) -> None:
        file, line = where(rrset) if where and rrset is not None else (str(zone.path or ""), 0)
        problems.append(Problem(text, file, line, 1 if line else 0, error))

    apex = zone.nodes[zone.key]
    soa = apex.get(rrtypes.SOA)
    if soa is None and not any("no SOA" in p.text for p in problems):
        say(None, f"{zone.name} has no SOA record. A zone has exactly one, at its own name; add it.")
    elif soa is not None and len(soa.rdatas) > 1:
        say(soa, f"{zone.name} has {len(soa.rdatas)} different SOA records. Keep one.")
    if rrtypes.NS not in apex and soa is not None:
        say(soa, f"{zone.name} has no NS record at its apex.", error=False)
    cuts = []
    for key, node in zone.nodes.items():
        for rrset in node.values():
            if len(rrset.rdatas) > 1 or len(rrset.rdatas[0]) > _LARGE:
                _large(rrset, say)
        if rrtypes.CNAME in node and len(node) > 1:
            _beside_cname(node, say)
        if rrtypes.CNAME in node and len(node[rrtypes.CNAME].rdatas) > 1:
            say(
                node[rrtypes.CNAME],
                f"{_owner(node)} has {len(node[rrtypes.CNAME].rdatas)} CNAME records. Keep one.",
            )
        if rrtypes.SOA in node and key != zone.key:
            say(
                node[rrtypes.SOA],
                f"SOA at {_owner(node)}, which is not the apex {zone.name} of the zone. Remove it.",
            )
        if rrtypes.DNAME in node:
            _dname(zone, key, node, say)
            cuts.append((key, "DNAME"))
        if rrtypes.NS in node:
            _servers(zone, node[rrtypes.NS], say)
            if key != zone.key:
                cuts.append((key, "delegation"))
    _occluded(zone, dict(cuts), say)


def _owner(node: dict[int, RRset]) -> str:
    return names.to_text(next(iter(node.values())).owner)


def _large(rrset: RRset, say: Callable[..., None]) -> None:
    octets = sum(map(len, rrset.rdatas)) + 12 * len(rrset.rdatas)
    if octets > _LARGE:
        owner, rtype = names.to_text(rrset.owner), rrtypes.type_name(rrset.type)
        say(
            rrset,
            f"{owner} {rtype} takes {octets} octets, more than a message holds: answered SERVFAIL.",
            False,
        )


def _beside_cname(node: dict[int, RRset], say: Callable[..., None]) -> None:
    others = [rrtypes.type_name(t) for t in node if t not in _BESIDE_CNAME]
    if others:
        say(
            node[rrtypes.CNAME],
            f"CNAME at {_owner(node)} beside {', '.join(others)}. A CNAME stands alone; remove one.",
        )


def _dname(zone: Zone, key: bytes, node: dict[int, RRset], say: Callable[..., None]) -> None:
    dname = node[rrtypes.DNAME]
    if len(dname.rdatas) > 1:
        say(dname, f"{_owner(node)} has {len(dname.rdatas)} DNAME records. Keep one.")
    if rrtypes.NS in node and key != zone.key:
        say(dname, f"DNAME beside NS at {_owner(node)}, below the apex. Remove one of them.")


def _servers(zone: Zone, ns: RRset, say: Callable[..., None]) -> None:
    for target in ns.rdatas:
        key = names.fold(target)
        if not names.encloses(zone.key, key):
            continue
        node = zone.nodes.get(key) or _wildcard(zone, key)
        if not node or not (rrtypes.A in node or rrtypes.AAAA in node):
            say(
                ns,
                f"name server {names.to_text(target)} of {names.to_text(ns.owner)} has no address here.",
                False,
            )


def _wildcard(zone: Zone, key: bytes) -> dict[int, RRset] | None:
    while key != zone.key:
        key = key[1 + key[0] :]
        if key in zone.nodes:
            return zone.nodes.get(b"\1*" + key)
    return None


def _occluded(zone: Zone, cuts: dict[bytes, str], say: Callable[..., None]) -> None:
    """Records that nobody can ask for: below a DNAME an error (RFC 6672), below a cut only odd (glue is not)."""
    if not cuts:
        return
    said = 0
    for key, node in zone.nodes.items():
        up = key
        while up != zone.key and node:
            up = up[1 + up[0] :]
            kind = cuts.get(up)
            if kind is None:
                continue
            expected = _BELOW_DNAME if kind == "DNAME" else {rrtypes.A, rrtypes.AAAA}
            hidden = [rrset for rtype, rrset in node.items() if rtype not in expected]
            if hidden:
                said += 1
                if kind == "DNAME" or said <= _MOST_OCCLUDED:
                    shown, below = rrtypes.type_name(hidden[0].type), names.to_text(up)
                    text = f"{shown} at {_owner(node)} lies below the {kind} {below} and is never answered."
                    if kind == "DNAME":
                        text += " Nothing may (RFC 6672 section 2.4); remove one of them."
                    say(hidden[0], text, kind == "DNAME")
            break
    if said > _MOST_OCCLUDED:
        say(None, f"{said - _MOST_OCCLUDED} more names are occluded.", False)
