"""The numbers of DNS and their names: types, classes, opcodes, rcodes, extended errors.

Imports nothing of ours but the errors. Used by every file of this house.
"""

# ruff: noqa: E501 (tables)

from __future__ import annotations

from ..errors import FormatError, suggestion

_TYPES = (
    "A=1 NS=2 MD=3 MF=4 CNAME=5 SOA=6 MB=7 MG=8 MR=9 NULL=10 WKS=11 PTR=12 HINFO=13 MINFO=14 MX=15 TXT=16 RP=17 "
    "AFSDB=18 X25=19 ISDN=20 RT=21 NSAP=22 NSAP-PTR=23 SIG=24 KEY=25 PX=26 GPOS=27 AAAA=28 LOC=29 NXT=30 EID=31 "
    "NIMLOC=32 SRV=33 ATMA=34 NAPTR=35 KX=36 CERT=37 A6=38 DNAME=39 SINK=40 OPT=41 APL=42 DS=43 SSHFP=44 "
    "IPSECKEY=45 RRSIG=46 NSEC=47 DNSKEY=48 DHCID=49 NSEC3=50 NSEC3PARAM=51 TLSA=52 SMIMEA=53 HIP=55 NINFO=56 "
    "RKEY=57 TALINK=58 CDS=59 CDNSKEY=60 OPENPGPKEY=61 CSYNC=62 ZONEMD=63 SVCB=64 HTTPS=65 DSYNC=66 HHIT=67 BRID=68 SPF=99 "
    "UINFO=100 UID=101 GID=102 UNSPEC=103 NID=104 L32=105 L64=106 LP=107 EUI48=108 EUI64=109 NXNAME=128 TKEY=249 "
    "TSIG=250 IXFR=251 AXFR=252 MAILB=253 MAILA=254 ANY=255 URI=256 CAA=257 AVC=258 DOA=259 AMTRELAY=260 "
    "RESINFO=261 WALLET=262 CLA=263 IPN=264 TA=32768 DLV=32769"
)
TYPES: dict[str, int] = {name: int(number) for name, number in (pair.split("=") for pair in _TYPES.split())}
"""Mnemonic to number, upper case."""
TYPE_NAMES: dict[int, str] = {number: name for name, number in TYPES.items()}

A, NS, CNAME, SOA, PTR, MX, TXT, AAAA = 1, 2, 5, 6, 12, 15, 16, 28
SRV, NAPTR, DNAME, OPT, DS, RRSIG, NSEC, DNSKEY = 33, 35, 39, 41, 43, 46, 47, 48
NSEC3, NSEC3PARAM, SVCB, HTTPS, NXNAME, TKEY, TSIG = 50, 51, 64, 65, 128, 249, 250
SIG, IXFR, AXFR, MAILB, MAILA, ANY = 24, 251, 252, 253, 254, 255

META: frozenset[int] = frozenset({0, OPT, *range(128, 256)})
"""Types that no zone can hold."""

IN, CH, HS, NONE, ANY_CLASS = 1, 3, 4, 254, 255
CLASSES: dict[str, int] = {"IN": IN, "CH": CH, "HS": HS, "NONE": NONE, "ANY": ANY_CLASS}
CLASS_NAMES: dict[int, str] = {number: name for name, number in CLASSES.items()}

QUERY, IQUERY, STATUS, NOTIFY, UPDATE = 0, 1, 2, 4, 5
OPCODE_NAMES: dict[int, str] = {0: "QUERY", 1: "IQUERY", 2: "STATUS", 4: "NOTIFY", 5: "UPDATE", 6: "DSO"}

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
YXDOMAIN, YXRRSET, NXRRSET, NOTAUTH, NOTZONE = 6, 7, 8, 9, 10
BADVERS, BADSIG, BADKEY, BADTIME, BADTRUNC, BADCOOKIE = 16, 16, 17, 18, 22, 23
RCODES: dict[str, int] = {
    "NOERROR": 0, "FORMERR": 1, "SERVFAIL": 2, "NXDOMAIN": 3, "NOTIMP": 4, "REFUSED": 5, "YXDOMAIN": 6,
    "YXRRSET": 7, "NXRRSET": 8, "NOTAUTH": 9, "NOTZONE": 10, "BADVERS": 16, "BADKEY": 17, "BADTIME": 18,
    "BADMODE": 19, "BADNAME": 20, "BADALG": 21, "BADTRUNC": 22, "BADCOOKIE": 23,
}  # fmt: skip
RCODE_NAMES: dict[int, str] = {number: name for name, number in RCODES.items()}

EDE_NAMES: dict[int, str] = {
    0: "Other", 1: "Unsupported DNSKEY Algorithm", 2: "Unsupported DS Digest Type", 3: "Stale Answer",
    4: "Forged Answer", 5: "DNSSEC Indeterminate", 6: "DNSSEC Bogus", 7: "Signature Expired",
    8: "Signature Not Yet Valid", 9: "DNSKEY Missing", 10: "RRSIGs Missing", 11: "No Zone Key Bit Set",
    12: "NSEC Missing", 13: "Cached Error", 14: "Not Ready", 15: "Blocked", 16: "Censored", 17: "Filtered",
    18: "Prohibited", 19: "Stale NXDOMAIN Answer", 20: "Not Authoritative", 21: "Not Supported",
    22: "No Reachable Authority", 23: "Network Error", 24: "Invalid Data", 25: "Signature Expired before Valid",
    26: "Too Early", 27: "Unsupported NSEC3 Iterations Value", 28: "Unable to conform to policy",
    29: "Synthesized", 30: "Invalid Query Type",
}  # fmt: skip


def type_number(text: str | int) -> int:
    """The number of an RR type given as `"AAAA"`, `"TYPE28"` or 28.

    Raises `FormatError` for a name that no registry knows.
    """
    if isinstance(text, int):
        if not 0 <= text <= 65535:
            raise FormatError(f"{text} is not an RR type: expected 0 to 65535.")
        return text
    upper = text.upper()
    if upper == "*":
        return ANY
    found = TYPES.get(upper)
    if found is not None:
        return found
    if upper.startswith("TYPE") and upper[4:].isdigit() and int(upper[4:]) <= 65535:
        return int(upper[4:])
    raise FormatError(
        f"unknown RR type {text!r}.{suggestion(upper, TYPES)} Unknown types are written TYPE123."
    )


def type_name(number: int) -> str:
    """`"AAAA"` for 28, `"TYPE1000"` for a number without a name (RFC 3597)."""
    return TYPE_NAMES.get(number) or f"TYPE{number}"


def class_number(text: str | int) -> int:
    """The number of a class given as `"IN"`, `"CLASS1"` or 1; else `FormatError`."""
    if isinstance(text, int):
        return text
    upper = text.upper()
    found = CLASSES.get(upper)
    if found is not None:
        return found
    if upper.startswith("CLASS") and upper[5:].isdigit() and int(upper[5:]) <= 65535:
        return int(upper[5:])
    raise FormatError(f"unknown class {text!r}: expected IN, CH, HS or CLASS123.")


def class_name(number: int) -> str:
    return CLASS_NAMES.get(number) or f"CLASS{number}"


def rcode_name(number: int) -> str:
    return RCODE_NAMES.get(number) or f"RCODE{number}"
