"""Digests over whole zones (RFC 8976, scheme SIMPLE): making and checking them.

Sans-io. Used for zones that come by transfer, and by `dns zone digest`. Imports
zone, rdata, names.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable
from typing import Any

from ..errors import FormatError
from . import names, rdata, rrtypes
from .zone import Zone

ZONEMD = rrtypes.TYPES["ZONEMD"]
SIMPLE = 1
HASHES: dict[int, Callable[[], Any]] = {1: hashlib.sha384, 2: hashlib.sha512}
_FIXED = struct.Struct("!HHIH")


def digest(zone: Zone, algorithm: int = 1) -> bytes:
    """The digest over every record but the apex ZONEMD and its signatures. 1 is SHA-384, 2 SHA-512."""
    if algorithm not in HASHES:
        raise FormatError(f"ZONEMD hash {algorithm}: expected 1 (SHA-384) or 2 (SHA-512).")
    made = HASHES[algorithm]()
    covers = ZONEMD.to_bytes(2, "big")
    for key in sorted(zone.nodes, key=names.canonical_key):
        node = zone.nodes[key]
        for rtype in sorted(node):
            rrset = node[rtype]
            if key == zone.key and rtype == ZONEMD:
                continue
            for data in sorted({rdata.canonical(rtype, data) for data in rrset.rdatas}):
                if rtype == rrtypes.RRSIG and key == zone.key and data[:2] == covers:
                    continue
                covered = node.get(data[0] << 8 | data[1]) if rtype == rrtypes.RRSIG else None
                ttl = covered.ttl if covered else rrset.ttl  # an RRSIG has the TTL of what it signs
                made.update(key + _FIXED.pack(rtype, rrtypes.IN, ttl, len(data)) + data)
    return bytes(made.digest())


def record(zone: Zone, algorithm: int = 1) -> bytes:
    """The RDATA of the ZONEMD that fits the zone as it is."""
    return struct.pack("!IBB", zone.serial, SIMPLE, algorithm) + digest(zone, algorithm)


def check(zone: Zone) -> bool | None:
    """Whether the zone's ZONEMD holds; None when it has none that can be checked.

    One good digest is enough; a record for another serial, or two of one scheme
    and hash, do not count (RFC 8976 section 4).
    """
    found = zone.nodes[zone.key].get(ZONEMD)
    usable: dict[tuple[int, int], list[bytes]] = {}
    for data in found.rdatas if found else ():
        serial, scheme, algorithm = struct.unpack_from("!IBB", data)
        if serial == zone.serial and scheme == SIMPLE and algorithm in HASHES:
            usable.setdefault((scheme, algorithm), []).append(data[6:])
    once = {pair: kept[0] for pair, kept in usable.items() if len(kept) == 1}
    if not once:
        return None
    return any(
        hmac.compare_digest(wanted, digest(zone, algorithm)) for (_, algorithm), wanted in once.items()
    )
