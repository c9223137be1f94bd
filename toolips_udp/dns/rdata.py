"""RDATA of every type as text and as wire octets, from one table.

`parse` reads the words of a master file, `show` writes them, `read` takes RDATA
out of a message (names uncompressed, length checked), `compressible` tells the
writer where names may be compressed. Unknown types and any type may be written
as RFC 3597 does: `\\# length hex`. Imports fields, names and rrtypes.
"""

# ruff: noqa: E501 (tables)

from __future__ import annotations

from collections.abc import Sequence

from ..errors import FormatError
from . import names, rrtypes
from .fields import (
    Base64,
    Bitmap,
    Dashed,
    Field,
    Hash32,
    Hex,
    Int,
    Ip4,
    Ip6,
    Name,
    Octets,
    RRType,
    Salt,
    Seconds,
    String,
    Strings,
    When,
    Words,
    unhex,
)
from .fields_rare import Gateway, HostIdentity, Location, Nsap, Prefixes, ServiceParameters, Services

_ALGORITHMS = {
    "RSAMD5": 1, "DH": 2, "DSA": 3, "RSASHA1": 5, "DSA-NSEC3-SHA1": 6, "RSASHA1-NSEC3-SHA1": 7, "RSASHA256": 8,
    "RSASHA512": 10, "ECC-GOST": 12, "ECDSAP256SHA256": 13, "ECDSAP384SHA384": 14, "ED25519": 15, "ED448": 16,
    "INDIRECT": 252, "PRIVATEDNS": 253, "PRIVATEOID": 254,
}  # fmt: skip
_CERTIFICATES = {"PKIX": 1, "SPKI": 2, "PGP": 3, "IPKIX": 4, "ISPKI": 5, "IPGP": 6, "ACPKIX": 7, "IACPKIX": 8,
                 "URI": 253, "OID": 254}  # fmt: skip


def _u8(label: str) -> Int:
    return Int(label, 1)


def _u16(label: str) -> Int:
    return Int(label, 2)


def _algorithm() -> Int:
    return Int("algorithm", 1, _ALGORITHMS)


_DS: list[Field] = [_u16("key tag"), _algorithm(), _u8("digest type"), Hex("digest")]
_KEY: list[Field] = [_u16("flags"), _u8("protocol"), _algorithm(), Base64("public key", empty=True)]
_SIG: list[Field] = [RRType(), _algorithm(), _u8("labels"), Int("original TTL", 4), When("expiration"),
                     When("inception"), _u16("key tag"), Name("signer"), Base64("signature")]  # fmt: skip
_NAME: list[Field] = [Name()]
_PREFERENCE: list[Field] = [_u16("preference"), Name()]
_TEXT: list[Field] = [Strings()]
_CERT_USE: list[Field] = [_u8("usage"), _u8("selector"), _u8("matching type"), Hex("certificate data")]
_SERVICE: list[Field] = [_u16("priority"), Name("target"), ServiceParameters()]

TABLE: dict[str, list[Field]] = {
    "A": [Ip4()], "AAAA": [Ip6()], "NS": _NAME, "MD": _NAME, "MF": _NAME, "CNAME": _NAME, "MB": _NAME,
    "MG": _NAME, "MR": _NAME, "PTR": _NAME, "DNAME": _NAME, "NSAP-PTR": _NAME,
    "SOA": [Name("primary server"), Name("mailbox"), Int("serial", 4), Seconds("refresh"), Seconds("retry"),
            Seconds("expire"), Seconds("minimum")],
    "NULL": [Hex("data", empty=True)], "WKS": [Ip4(), Services()], "HINFO": [String("cpu"), String("system")],
    "MINFO": [Name("responsible mailbox"), Name("error mailbox")], "MX": _PREFERENCE, "TXT": _TEXT,
    "RP": [Name("mailbox"), Name("text name")], "AFSDB": [_u16("subtype"), Name()], "X25": [String("address")],
    "ISDN": [Strings("ISDN address")], "RT": _PREFERENCE, "NSAP": [Nsap()], "SIG": _SIG, "KEY": _KEY,
    "PX": [_u16("preference"), Name("RFC 822 name"), Name("X.400 name")],
    "GPOS": [String("longitude", True), String("latitude", True), String("altitude", True)], "LOC": [Location()],
    "NXT": [Name("next name"), Hex("bitmap")], "EID": [Hex("data")], "NIMLOC": [Hex("data")],
    "SRV": [_u16("priority"), _u16("weight"), _u16("port"), Name("target")],
    "NAPTR": [_u16("order"), _u16("preference"), String("flags"), String("service"), String("regular expression"),
              Name("replacement")],
    "KX": _PREFERENCE,
    "CERT": [Int("certificate type", 2, _CERTIFICATES, shown=True), _u16("key tag"), _algorithm(),
             Base64("certificate")],
    "APL": [Prefixes()], "DS": _DS, "SSHFP": [_u8("algorithm"), _u8("fingerprint type"), Hex("fingerprint")],
    "IPSECKEY": [Gateway(False), Base64("public key", empty=True)], "RRSIG": _SIG,
    "NSEC": [Name("next name"), Bitmap()], "DNSKEY": _KEY, "DHCID": [Base64("digest")],
    "NSEC3": [_u8("hash algorithm"), _u8("flags"), _u16("iterations"), Salt(), Hash32(), Bitmap()],
    "NSEC3PARAM": [_u8("hash algorithm"), _u8("flags"), _u16("iterations"), Salt()],
    "TLSA": _CERT_USE, "SMIMEA": _CERT_USE, "HIP": [HostIdentity()], "NINFO": _TEXT, "RKEY": _KEY,
    "TALINK": [Name("previous"), Name("next")], "CDS": [_u16("key tag"), _algorithm(), _u8("digest type"),
                                                        Hex("digest")],
    "CDNSKEY": _KEY, "OPENPGPKEY": [Base64("key")], "CSYNC": [Int("serial", 4), _u16("flags"), Bitmap()],
    "ZONEMD": [Int("serial", 4), _u8("scheme"), _u8("hash algorithm"), Hex("digest")],
    "SVCB": _SERVICE, "HTTPS": _SERVICE,
    "DSYNC": [RRType(), Int("scheme", 1, {"NOTIFY": 1}, shown=True), _u16("port"), Name("target")],
    "HHIT": [Base64("data")], "BRID": [Base64("data")], "SPF": _TEXT, "UINFO": _TEXT, "NID": [_u16("preference"), Dashed("node id", 8, 2, ":")],
    "L32": [_u16("preference"), Ip4()], "L64": [_u16("preference"), Dashed("locator", 8, 2, ":")],
    "LP": _PREFERENCE, "EUI48": [Dashed("EUI-48", 6, 1, "-")], "EUI64": [Dashed("EUI-64", 8, 1, "-")],
    "URI": [_u16("priority"), _u16("weight"), Octets("target")],
    "CAA": [_u8("flags"), String("tag", True), Octets("value")], "AVC": _TEXT,
    "AMTRELAY": [Gateway(True)], "RESINFO": _TEXT, "WALLET": _TEXT, "CLA": _TEXT, "TA": _DS, "DLV": _DS,
}  # fmt: skip
_BY_NUMBER: dict[int, list[Field]] = {rrtypes.TYPES[name]: spec for name, spec in TABLE.items()}

COMPRESSED: dict[int, tuple[int, int]] = {
    rrtypes.TYPES[name]: place
    for name, place in {
        "NS": (0, 1), "MD": (0, 1), "MF": (0, 1), "CNAME": (0, 1), "SOA": (0, 2), "MB": (0, 1), "MG": (0, 1),
        "MR": (0, 1), "PTR": (0, 1), "MINFO": (0, 2), "MX": (2, 1),
    }.items()
}  # fmt: skip
"""Types whose names a writer compresses (N5): octets before the names, and how many there are."""

_MAY_BE_COMPRESSED = frozenset(COMPRESSED) | {
    rrtypes.TYPES[name] for name in ["RP", "AFSDB", "RT", "SIG", "PX", "NXT", "NAPTR", "SRV"]
}


def parse(rtype: int, words: Sequence[str], origin: bytes | None = names.ROOT, at: int = 0) -> bytes:
    """The wire form of RDATA given as the words of a master file, from index `at` on.

    Quoted words are `fields.Quoted`. Names are completed with `origin`. Raises
    `FormatError` saying which field was wrong, what was found and expected.

    >>> parse(rrtypes.MX, ["10", "mail.example.org."])[:2]
    b'\\x00\\n'
    """
    left = Words(words, origin, at)
    try:
        return _parse(rtype, left)
    except FormatError as error:
        raise WordError(str(error), left.at - 1) from None


class WordError(FormatError):
    """A `FormatError` that knows which word was wrong, by index."""

    def __init__(self, text: str, at: int) -> None:
        super().__init__(text)
        self.at = at


def _parse(rtype: int, left: Words) -> bytes:
    if left.more and left.words[left.at] == "\\#":
        return _parse_generic(rtype, left)
    spec = _BY_NUMBER.get(rtype)
    if spec is None:
        raise FormatError(
            f"type {rrtypes.type_name(rtype)} has no text form here. Write its data as \\# length hex."
        )
    wire = spec[0].parse(left) if len(spec) == 1 else b"".join([field.parse(left) for field in spec])
    if left.more:
        raise FormatError(f"{left.take('')!r} is more than a {rrtypes.type_name(rtype)} record holds.")
    if len(wire) > 65535:
        raise FormatError(f"RDATA of {len(wire)} octets: at most 65535.")
    return wire


def _parse_generic(rtype: int, left: Words) -> bytes:
    left.take("")
    word = left.take("length")
    octets = unhex("".join(left.rest()), "data")
    if not word.isdigit() or int(word) != len(octets):
        raise FormatError(f"\\# says {word} octets and {len(octets)} follow.")
    check(rtype, octets)
    return octets


def from_text(rtype: int, text: str, origin: bytes | None = names.ROOT) -> bytes:
    """`parse` of a whole string, split into words as a master file would be.

    >>> from_text(rrtypes.A, "192.0.2.1")
    b'\\xc0\\x00\\x02\\x01'
    """
    from .scanner import words_of

    return parse(rtype, words_of(text), origin)


def show(rtype: int, wire: bytes) -> str:
    """RDATA as master-file text; names are absolute. Data that does not fit its type is shown as `\\# ...`."""
    spec = _BY_NUMBER.get(rtype)
    if spec is None or rtype in (rrtypes.TYPES["NULL"], rrtypes.TYPES["EID"], rrtypes.TYPES["NIMLOC"]):
        return generic(wire)
    try:
        check(rtype, wire)
        at, end, shown = 0, len(wire), []
        for field in spec:
            text, at = field.show(wire, at, end)
            if text:
                shown.append(text)
        return " ".join(shown)
    except (FormatError, IndexError, ValueError):
        return generic(wire)


def generic(wire: bytes) -> str:
    """The form of RFC 3597 section 5."""
    return f"\\# {len(wire)} {wire.hex()}" if wire else "\\# 0"


def check(rtype: int, wire: bytes) -> None:
    """Raise `FormatError` unless the octets are exactly one uncompressed RDATA of the type."""
    at, end = 0, len(wire)
    for field in _BY_NUMBER.get(rtype, ()):
        at = field.reach(wire, at, end)
        if at > end:
            raise FormatError(
                f"{rrtypes.type_name(rtype)} RDATA of {end} octets is cut short in its {field.label}."
            )
    if rtype in _BY_NUMBER and at != end:
        raise FormatError(f"{rrtypes.type_name(rtype)} RDATA has {end - at} octets too many.")


FOLDED = frozenset(COMPRESSED) | {
    rrtypes.TYPES[name] for name in "RP AFSDB RT SIG PX NXT NAPTR KX SRV DNAME RRSIG".split()
}


def canonical(rtype: int, wire: bytes) -> bytes:
    """RDATA with its names in lower case where DNSSEC's canonical form has them so (RFC 4034 6.2, 6840 5.1)."""
    if rtype not in FOLDED:
        return wire
    made, at, end = [], 0, len(wire)
    for field in _BY_NUMBER[rtype]:
        stop = field.reach(wire, at, end)
        made.append(wire[at:stop].lower() if type(field) is Name else wire[at:stop])
        at = stop
    return b"".join(made)


def read(rtype: int, message: bytes, at: int, end: int, budget: list[int]) -> bytes:
    """RDATA out of a message, its names uncompressed (N5), consumed exactly (M3).

    `budget` holds the hops that are left for the whole message (M1).
    """
    from .wire import read_name

    if rtype not in _MAY_BE_COMPRESSED:
        wire = message[at:end]
        check(rtype, wire)
        return wire
    made = []
    for field in _BY_NUMBER[rtype]:
        if type(field) is Name:
            name, at = read_name(message, at, end, budget)
            made.append(name)
        else:
            stop = field.reach(message, at, end)
            if stop > end:
                raise FormatError(f"{rrtypes.type_name(rtype)} RDATA is cut short in its {field.label}.")
            made.append(message[at:stop])
            at = stop
        if at > end:
            raise FormatError(f"{rrtypes.type_name(rtype)} RDATA runs past its length.")
    if at != end:
        raise FormatError(f"{rrtypes.type_name(rtype)} RDATA has {end - at} octets too many.")
    return b"".join(made)
