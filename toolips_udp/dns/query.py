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
    query.id, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(packet)
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
        _without_question(query, questions, answers, authorities, additionals, budget)
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
    if query.opcode == rrtypes.UPDATE:
        query.rcode = rrtypes.REFUSED
        return query
    try:
        _records(query, answers, authorities, additionals, budget)
    except FormatError:
        query.rcode = rrtypes.FORMERR
    if query.rcode < 0:
        _judge(query)
    return query


def _without_question(query: Query, count: int, an: int, ns: int, ar: int, budget: list[int]) -> None:
    """Q6: no question is an error, but for a cookie asked alone (RFC 7873 5.4)."""
    query.rcode = rrtypes.FORMERR
    query.question_end = 12
    if count == 0 and query.opcode == rrtypes.QUERY:
        try:
            _records(query, an, ns, ar, budget)
        except FormatError:
            query.has_opt = False
            return
        if edns.COOKIE in query.options and query.rcode == rrtypes.FORMERR:
            query.rcode = rrtypes.NOERROR


def _records(query: Query, answers: int, authorities: int, additionals: int, budget: list[int]) -> None:
    """Walk what follows the question (Q7, Q8, Q10, Q11, Q12)."""
    ixfr = query.qtype == rrtypes.IXFR and query.opcode == rrtypes.QUERY
    if answers > (1 if query.opcode == rrtypes.NOTIFY else 0) or authorities > (1 if ixfr else 0):
        raise FormatError("records in the answer or authority section of a query.")
    if additionals > 2:
        raise FormatError("over two additional records in a query.")
    packet, at, end = query.packet, query.question_end, len(query.packet)
    version = 0
    wrong = False
    for index in range(answers + authorities + additionals):
        start = at
        owner, at = read_name(packet, at, end, budget)
        if end - at < 10:
            raise FormatError("a record is cut short.")
        rtype, rclass, ttl, size = _FIXED.unpack_from(packet, at)
        at += 10
        if size > end - at:
            raise FormatError("a record is cut short.")
        data_at, at = at, at + size
        last = index == answers + authorities + additionals - 1
        if index < answers + authorities:
            if rtype != rrtypes.SOA:
                raise FormatError("only a SOA may stand there.")
            query.serial = _serial(packet, data_at, at, budget)
        elif rtype == rrtypes.OPT and not query.has_opt and not wrong:
            if owner != b"\0":
                wrong = True  # Q11, but a broken OPT is not answered with one
                continue
            query.has_opt = True
            query.udp_size = max(512, rclass)
            version = ttl >> 16 & 255
            query.do = bool(ttl & 0x8000)
            if not version:
                query.options = edns.parse_options(packet[data_at:at])
        elif rtype in (rrtypes.TSIG, rrtypes.SIG) and last:
            if rtype == rrtypes.TSIG and rclass != rrtypes.ANY_CLASS:
                raise FormatError("a TSIG whose class is not ANY.")
            query.tsig_at = start if rtype == rrtypes.TSIG else 0
        else:
            raise FormatError("an additional record that is neither OPT nor a signature.")
    if at != end or wrong:
        raise FormatError("octets after the last record.")
    if version:
        query.rcode = rrtypes.BADVERS


def _serial(packet: bytes, at: int, end: int, budget: list[int]) -> int:
    for _ in range(2):
        _, at = read_name(packet, at, end, budget)
    if end - at != 20:
        raise FormatError("a SOA with a wrong length.")
    return int.from_bytes(packet[at : at + 4], "big")


def _judge(query: Query) -> None:
    """Q13 and Q14: classes and types that are not answered from data."""
    if query.qclass == rrtypes.CH:
        if query.qtype == rrtypes.TXT and query.key in CHAOS:
            return
        query.rcode = rrtypes.REFUSED
    elif query.qclass != rrtypes.IN:
        query.rcode = rrtypes.REFUSED
    elif (wrong := _REFUSED_TYPES.get(query.qtype)) is not None:
        query.rcode = wrong
        if query.qtype == rrtypes.NXNAME:
            query.ede = 30


CHAOS = (b"\2id\6server\0", b"\10hostname\4bind\0")
