"""Parses what clients send: the strict twin of `dns_query_parse` in C (spec 2.1 to 2.3).

One parser serves every decision. It never raises: a `Query` says what to do in
`drop` (a counter word), `rcode` (an error to send) and `echo` (whether the
question goes back with it). Imports wire, edns, rrtypes.
"""

from __future__ import annotations

import struct

from ..errors import FormatError
from . import edns, rrtypes
from .wire import MOST_HOPS, read_name

_HEADER = struct.Struct("!HHHHHH")
_FIXED = struct.Struct("!HHIH")
_REFUSED_TYPES = {
    0: rrtypes.FORMERR,
    rrtypes.OPT: rrtypes.FORMERR,
    rrtypes.NXNAME: rrtypes.FORMERR,
    rrtypes.TKEY: rrtypes.FORMERR,
    rrtypes.TSIG: rrtypes.FORMERR,
    rrtypes.MAILB: rrtypes.NOTIMP,
    rrtypes.MAILA: rrtypes.NOTIMP,
}


class Query:
    """One client message, taken apart as far as answering needs it."""

    __slots__ = (
        "ad", "cd", "do", "drop", "echo", "ede", "flags", "has_opt", "id", "key", "name", "opcode", "options",
        "packet", "qclass", "qtype", "question_end", "rcode", "rd", "serial", "tsig_at", "udp_size",
    )  # fmt: skip

    def __init__(self, packet: bytes) -> None:
        self.packet = packet
        self.id = self.flags = self.opcode = 0
        self.rd = self.cd = self.ad = self.do = self.has_opt = False
        self.name = self.key = b""
        self.qtype = self.qclass = 0
        self.question_end = 0
        self.udp_size = 512
        self.options: dict[int, bytes] = {}
        self.tsig_at = 0
        self.serial: int | None = None  # of the SOA in an IXFR or NOTIFY
        self.drop = ""
        self.rcode = -1  # an error to send; -1: to be answered
        self.echo = False
        self.ede: int | None = None


def parse_query(packet: bytes) -> Query:
    """Take a client message apart by rules Q2 to Q15.

    >>> parse_query(b"short").drop
    'malformed'
    """
    query = Query(packet)
    if len(packet) < 12:
        query.drop = "malformed"
        return query
    query.id, flags, questions, *rest = _HEADER.unpack_from(packet)
    counts = (rest[0], rest[1], rest[2])
    query.flags = flags
    if flags & 0x8000:
        query.drop = "malformed"
        return query
    query.opcode = flags >> 11 & 15
    if query.opcode not in (rrtypes.QUERY, rrtypes.NOTIFY, rrtypes.UPDATE):
        query.rcode = rrtypes.NOTIMP
        return query
    query.rd, query.ad, query.cd = bool(flags & 0x100), bool(flags & 0x20), bool(flags & 0x10)
    budget = [MOST_HOPS]
    if questions != 1:
        _without_question(query, questions, counts, budget)
        return query
    try:
        query.name, at = read_name(packet, 12, len(packet), [0])
        if len(packet) - at < 4:
            raise FormatError("the question is cut short.")
    except FormatError:
        query.rcode = rrtypes.FORMERR
        return query
    query.key = query.name.lower()
    query.qtype, query.qclass = struct.unpack_from("!HH", packet, at)
    query.question_end = at + 4
    query.echo = True
    try:
        version = _records(query, counts, budget)
    except FormatError:
        query.rcode = rrtypes.FORMERR
        return query
    _judge(query, version)
    return query


def _without_question(query: Query, count: int, counts: tuple[int, int, int], budget: list[int]) -> None:
    """Q6: no question is an error, but for a cookie asked alone (RFC 7873 5.4)."""
    query.rcode = rrtypes.FORMERR
    query.question_end = 12
    if count or query.opcode != rrtypes.QUERY or counts != (0, 0, 1):
        return
    try:
        version = _records(query, counts, budget)
    except FormatError:
        query.has_opt = False
        return
    if edns.COOKIE not in query.options:
        query.has_opt = False
    else:
        query.rcode = rrtypes.BADVERS if version else rrtypes.NOERROR


def _records(query: Query, counts: tuple[int, int, int], budget: list[int]) -> int:
    """Walk what follows the question (Q7, Q8, Q10, Q11); the EDNS version.

    A count that is wrong still lets OPT be read, so that the error carries one (E1).
    """
    answers, authorities, additionals = counts
    packet, at, end = query.packet, query.question_end, len(query.packet)
    update = query.opcode == rrtypes.UPDATE
    if query.opcode == rrtypes.QUERY:
        wrong = answers > 0 or authorities > (query.qtype == rrtypes.IXFR)
    else:
        wrong = not update and (answers > 1 or authorities > 0)
    wrong = wrong or (not update and additionals > 2)
    total = answers + authorities + additionals
    if total > (end - at) // 11:
        raise FormatError("more records than the message can hold.")
    version = 0
    for index in range(total):
        start = at
        owner, at = read_name(packet, at, end, budget)
        if end - at < 10:
            raise FormatError("a record is cut short.")
        rtype, rclass, ttl, size = _FIXED.unpack_from(packet, at)
        at += 10
        if size > end - at:
            raise FormatError("a record is cut short.")
        data_at, at = at, at + size
        if index < answers + authorities:
            if rtype in (rrtypes.OPT, rrtypes.TSIG):
                query.has_opt = query.has_opt or rtype == rrtypes.OPT  # the error says so in an OPT of its own
                raise FormatError("OPT or TSIG out of place.")
            if not update:
                if rtype != rrtypes.SOA:
                    raise FormatError("only a SOA may stand there.")
                query.serial = _serial(packet, data_at, at, budget)
        elif update and rtype not in (rrtypes.OPT, rrtypes.TSIG):
            continue
        elif rtype == rrtypes.OPT:
            if query.has_opt or owner != b"\0":
                query.has_opt = True
                raise FormatError("an OPT record too many, or with an owner.")
            query.has_opt = True
            query.udp_size = max(512, rclass)
            query.do = bool(ttl & 0x8000)
            version = ttl >> 16 & 255
            query.options = edns.parse_options(packet[data_at:at])
        elif index + 1 < total:
            raise FormatError("an additional record that is neither OPT nor the signature at the end.")
        elif rtype == rrtypes.TSIG and rclass == rrtypes.ANY_CLASS and not ttl:
            query.tsig_at = start
        elif not (rtype == rrtypes.SIG and size >= 18 and packet[data_at : data_at + 2] == b"\0\0"):
            raise FormatError("an additional record that is neither OPT nor a signature.")
    if wrong or at != end:
        raise FormatError("wrong counts, or octets after the last record.")
    return version


def _serial(packet: bytes, at: int, end: int, budget: list[int]) -> int:
    for _ in range(2):
        _, at = read_name(packet, at, end, budget)
    if end - at != 20:
        raise FormatError("a SOA with a wrong length.")
    return int.from_bytes(packet[at : at + 4], "big")


def _judge(query: Query, version: int) -> None:
    """Q12 to Q14: versions, classes and types that are not answered from data."""
    if version:
        query.rcode = rrtypes.BADVERS
    elif query.opcode == rrtypes.UPDATE:
        query.rcode = rrtypes.REFUSED
    elif query.qclass == rrtypes.CH:
        if query.qtype == rrtypes.TXT and query.key in CHAOS and query.opcode == rrtypes.QUERY:
            return
        query.rcode = rrtypes.REFUSED
    elif query.qclass != rrtypes.IN:
        query.rcode = rrtypes.REFUSED
    elif (wrong := _REFUSED_TYPES.get(query.qtype)) is not None:
        query.rcode = wrong
        if query.qtype == rrtypes.NXNAME:
            query.ede = 30


CHAOS = (b"\2id\6server\0", b"\10hostname\4bind\0")
