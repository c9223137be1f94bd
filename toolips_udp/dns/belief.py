"""Which records of another server's reply are believed (spec B1, and 5.3 for forward zones).

Sans-io. Imports message, names, rrtypes, result.
"""

from __future__ import annotations

from . import names, rrtypes
from .adapters import gathered
from .message import Message
from .result import Result
from .zone import RRset

MOST_RECORDS = 100


def believed(
    message: Message, key: bytes, qtype: int, bailiwick: bytes = names.ROOT
) -> tuple[Result, bytes | None]:
    """A Result with the records that answer the question, and a chain's end outside the bailiwick.

    From the answer: the chain of CNAME and DNAME that starts at the question's
    name, inside the bailiwick, and the records at its end. From the authority:
    SOA and denial of zones that enclose the name. The rest is dropped. The second
    value is a target that must be asked again elsewhere, or None.
    """
    result = Result(message.rcode)
    result.source = "forward"
    found = gathered(message.answer)
    by_name: dict[bytes, list[RRset]] = {}
    for rrset in found:
        by_name.setdefault(rrset.owner.lower(), []).append(rrset)
    dnames = [r for r in found if r.type == rrtypes.DNAME]
    at, seen, outside, count = key, set(), None, 0
    while at not in seen and count < MOST_RECORDS:
        seen.add(at)
        if not names.encloses(bailiwick, at):
            outside = at
            break
        here = by_name.get(at, ())
        for dname in dnames:
            owner = dname.owner.lower()
            if at != owner and names.encloses(owner, at) and dname not in result.answer:
                result.answer += [r for r in by_name[owner] if r is dname or _signs(r, rrtypes.DNAME)]
        cname = next((r for r in here if r.type == rrtypes.CNAME), None)
        if cname is not None and qtype not in (rrtypes.CNAME, rrtypes.ANY):
            result.answer += [r for r in here if r is cname or _signs(r, rrtypes.CNAME)]
            at = cname.rdatas[0].lower()
            continue
        wanted = [r for r in here if qtype in (r.type, rrtypes.ANY) or _signs(r, qtype)]
        for rrset in wanted:
            count += len(rrset.rdatas)
            result.answer.append(rrset)
        break
    last = at if outside is None else key
    for rrset in gathered(message.authority):
        zone = rrset.owner.lower()
        kind = rrset.type if rrset.type != rrtypes.RRSIG else int.from_bytes(rrset.rdatas[0][:2], "big")
        if not names.encloses(bailiwick, zone):
            continue
        if (kind == rrtypes.SOA and names.encloses(zone, last)) or kind in (rrtypes.NSEC, rrtypes.NSEC3):
            result.authority.append(rrset)
    return result, outside


def _signs(rrset: RRset, qtype: int) -> bool:
    return rrset.type == rrtypes.RRSIG and rrset.rdatas[0][:2] == qtype.to_bytes(2, "big")
