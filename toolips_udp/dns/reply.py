"""The reply to a client's question: flags, OPT, truncation (spec E1 to E9).

Sans-io. The Python twin of the C reply writer. Imports message, query, result,
edns.
"""

from __future__ import annotations

import struct

from . import edns, rrtypes
from .message import MOST_STREAM, Writer
from .query import Query
from .result import Result, error

_HEADER = struct.Struct("!HHHHHH")
UDP_LIMIT = edns.UDP_SIZE


def header_only(query: Query) -> bytes:
    """Twelve octets: id, QR, opcode, RCODE, and RD of a QUERY; everything else zero (Q4, Q9)."""
    rd = 0x0100 if query.rd and query.opcode == rrtypes.QUERY else 0
    return _HEADER.pack(query.id, 0x8000 | query.opcode << 11 | rd | query.rcode & 15, 0, 0, 0, 0)


def limit_of(query: Query, stream: bool, most: int = UDP_LIMIT) -> int:
    """How long the reply may be (E2)."""
    if stream:
        return MOST_STREAM
    return min(query.udp_size if query.has_opt else 512, most)


def encode_error(query: Query, options: bytes = b"") -> bytes:
    """The reply to a query that its parser refused."""
    if not query.echo and not query.has_opt:
        return header_only(query)
    result = error(query.rcode, query.ede)
    return encode_reply(query, result, MOST_STREAM, options=options)


def encode_reply(
    query: Query,
    result: Result,
    limit: int,
    *,
    ra: bool = False,
    options: bytes = b"",
    udp_size: int = UDP_LIMIT,
    pad: int = 0,
    room: int = 0,
) -> bytes:
    """The octets of a reply, at most `limit` long.

    `options` are ready EDNS options to add; they, extended errors and padding
    are sent only when the query had OPT (E1). `room` octets are kept free (TSIG).
    """
    opt = b""
    if query.has_opt:
        extended = b"".join(edns.ede(code, text) for code, text in result.ede)
        opt = edns.opt_record(udp_size, result.rcode, query.do, options + extended)
    space = limit - len(opt) - room
    writer = Writer()
    if query.echo:
        writer.question(query.packet, query.question_end, query.name)
    start = len(writer.out)
    counts = [0, 0, 0]
    tc = result.tc
    if not tc:
        tc = not _sections(writer, result, space, counts)
    if tc:
        if limit == MOST_STREAM and not result.tc:
            return encode_reply(
                query, error(rrtypes.SERVFAIL), limit, ra=ra, options=options, udp_size=udp_size
            )
        del writer.out[start:]
        counts = [0, 0, 0]
    flags = 0x8000 | query.opcode << 11 | result.rcode & 15
    if query.opcode == rrtypes.QUERY and query.rd:
        flags |= 0x0100
    if result.aa:
        flags |= 0x0400
    if tc:
        flags |= 0x0200
    if ra:
        flags |= 0x0080
        if query.cd:
            flags |= 0x0010
    if result.ad and (query.ad or query.do):
        flags |= 0x0020
    if opt:
        if pad:
            used = len(writer.out) + len(opt) + room
            filling = edns.padding(used, pad)
            size = int.from_bytes(opt[9:11], "big") + len(filling)
            opt = opt[:9] + size.to_bytes(2, "big") + opt[11:] + filling
        writer.out += opt
        counts[2] += 1
    _HEADER.pack_into(writer.out, 0, query.id, flags, 1 if query.echo else 0, *counts)
    return bytes(writer.out)


def _sections(writer: Writer, result: Result, space: int, counts: list[int]) -> bool:
    """Write the sections; False when what is required does not fit (E3)."""
    for index, rrsets in enumerate((result.answer, result.authority, result.glue)):
        for rrset in rrsets:
            counts[index] += writer.rrset(rrset)
            if len(writer.out) > space:
                return False
    for rrset in result.additional:
        mark = writer.mark()
        written = writer.rrset(rrset)
        if len(writer.out) > space:
            writer.back(mark)
            break
        counts[2] += written
    return True
