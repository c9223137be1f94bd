"""Fields that one or two RR types use: places, prefixes, gateways, service parameters.

LOC (RFC 1876), APL (RFC 3123), IPSECKEY (RFC 4025), AMTRELAY (RFC 8777), HIP
(RFC 8005), WKS (RFC 1035), NSAP (RFC 1706), SVCB (RFC 9460). Imports fields.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import socket
import struct

from ..errors import FormatError
from . import names
from .fields import Field, Int, Ip4, Ip6, Name, Words, quote, unbase64, unhex


class Location(Field):
    """LOC, 16 octets: version, size, precisions, latitude, longitude, altitude."""

    size = 16
    label = "location"

    def parse(self, words: Words) -> bytes:
        latitude = self._angle(words, "NS", 90)
        longitude = self._angle(words, "EW", 180)
        altitude = round(self._metres(words.take("altitude")) * 100) + 10_000_000
        if not 0 <= altitude <= 0xFFFFFFFF:
            raise FormatError("altitude is out of range: expected -100000m to 42849672m.")
        sizes = [self._power(words.take("size")) if words.more else default for default in (0x12, 0x16, 0x13)]
        return struct.pack("!BBBBIII", 0, *sizes, latitude, longitude, altitude)

    def _angle(self, words: Words, sides: str, most: int) -> int:
        parts: list[float] = []
        while True:
            word = words.take("latitude" if sides == "NS" else "longitude")
            if word.upper() in sides:
                break
            try:
                parts.append(float(word))
            except ValueError:
                raise FormatError(
                    f"{word!r} in a location: expected degrees, minutes, seconds and {sides}."
                ) from None
        if not 1 <= len(parts) <= 3 or parts[0] > most or any(not 0 <= p < 60 for p in parts[1:]):
            raise FormatError(
                f"location {parts}: expected degrees up to {most}, minutes and seconds below 60."
            )
        total = round(sum(part * unit for part, unit in zip(parts, (3_600_000, 60_000, 1000), strict=False)))
        return 0x80000000 + (total if word.upper() == sides[0] else -total)

    @staticmethod
    def _metres(word: str) -> float:
        try:
            return float(word.rstrip("mM"))
        except ValueError:
            raise FormatError(f"{word!r} in a location: expected metres, as in 10m.") from None

    def _power(self, word: str) -> int:
        centimetres = round(self._metres(word) * 100)
        exponent = 0
        while centimetres > 9:
            centimetres //= 10
            exponent += 1
        if centimetres < 0 or exponent > 9:
            raise FormatError(f"{word!r} in a location: expected 0m to 90000000m.")
        return centimetres << 4 | exponent

    def show(self, data: bytes, at: int, end: int) -> tuple[str, int]:
        version, size, horizontal, vertical, lat, lon, alt = struct.unpack("!BBBBIII", data[at : at + 16])
        if version:
            raise FormatError(f"LOC version {version}")
        metres = alt - 10_000_000
        sign = "-" if metres < 0 else ""
        shown = [
            self._degrees(lat, "NS"),
            self._degrees(lon, "EW"),
            f"{sign}{abs(metres) // 100}.{abs(metres) % 100:02d}m",
        ]
        for octet in (size, horizontal, vertical):
            value = (octet >> 4) * 10 ** (octet & 15)
            shown.append(f"{value // 100}.{value % 100:02d}m")
        return " ".join(shown), at + 16

    @staticmethod
    def _degrees(value: int, sides: str) -> str:
        side = sides[0] if value >= 0x80000000 else sides[1]
        value = abs(value - 0x80000000)
        return f"{value // 3_600_000} {value // 60_000 % 60} {value // 1000 % 60}.{value % 1000:03d} {side}"


class Prefixes(Field):
    """APL: `!1:192.0.2.0/24 2:2001:db8::/32`."""

    label = "address prefix"

    def parse(self, words: Words) -> bytes:
        return b"".join(self._one(word) for word in words.rest())

    def _one(self, word: str) -> bytes:
        negated = word.startswith("!")
        family, _, rest = word.lstrip("!").partition(":")
        address, _, prefix = rest.partition("/")
        try:
            octets = socket.inet_pton(socket.AF_INET if family == "1" else socket.AF_INET6, address)
            bits = int(prefix)
        except (OSError, ValueError):
            bits = -1
            octets = b""
        if family not in ("1", "2") or not 0 <= bits <= 8 * len(octets):
            raise FormatError(f"{word!r} is not an address prefix: expected a form like 1:192.0.2.0/24.")
        octets = octets.rstrip(b"\0")
        return struct.pack("!HBB", int(family), bits, negated << 7 | len(octets)) + octets

    def show(self, data: bytes, at: int, end: int) -> tuple[str, int]:
        shown = []
        while at + 4 <= end:
            family, bits, length = struct.unpack("!HBB", data[at : at + 4])
            sign, size = "!" if length & 0x80 else "", length & 0x7F
            octets = data[at + 4 : at + 4 + size]
            at += 4 + size
            if family not in (1, 2) or size > (4 if family == 1 else 16):
                raise FormatError(f"APL family {family}")
            whole = octets.ljust(4 if family == 1 else 16, b"\0")
            text = socket.inet_ntop(socket.AF_INET if family == 1 else socket.AF_INET6, whole)
            shown.append(f"{sign}{family}:{text}/{bits}")
        return " ".join(shown), at

    def reach(self, data: bytes, at: int, end: int) -> int:
        while at < end:
            at = at + 4 + (data[at + 3] & 0x7F) if at + 4 <= end else end + 1
        return at


class Gateway(Field):
    """IPSECKEY and AMTRELAY: numbers, then a gateway whose form they choose."""

    label = "gateway"

    def __init__(self, relay: bool) -> None:
        self.relay = relay

    def parse(self, words: Words) -> bytes:
        first = Int("precedence", 1).parse(words)
        if self.relay:
            discovery = Int("discovery bit", 1).parse(words)[0]
            kind = Int("relay type", 1).parse(words)[0]
            head = first + bytes((discovery << 7 & 0x80 | kind,))
        else:
            kind = Int("gateway type", 1).parse(words)[0]
            head = first + bytes((kind,)) + Int("algorithm", 1).parse(words)
        if kind == 0:
            word = words.take("gateway")
            if word != ".":
                raise FormatError(f"gateway is {word!r}: type 0 has none, written as a dot.")
            return head
        field: Field = {1: Ip4(), 2: Ip6(), 3: Name("gateway")}.get(kind) or self._wrong(kind)
        return head + field.parse(words)

    @staticmethod
    def _wrong(kind: int) -> Field:
        raise FormatError(f"gateway type {kind}: expected 0 none, 1 IPv4, 2 IPv6 or 3 name.")

    def _head(self, data: bytes, at: int) -> tuple[int, int, str]:
        if self.relay:
            kind = data[at + 1] & 0x7F
            return kind, at + 2, f"{data[at]} {data[at + 1] >> 7} {kind}"
        return data[at + 1], at + 3, f"{data[at]} {data[at + 1]} {data[at + 2]}"

    def show(self, data: bytes, at: int, end: int) -> tuple[str, int]:
        kind, at, head = self._head(data, at)
        if kind == 0:
            return f"{head} .", at
        field: Field = {1: Ip4(), 2: Ip6(), 3: Name("gateway")}.get(kind) or self._wrong(kind)
        text, at = field.show(data, at, end)
        return f"{head} {text}", at

    def reach(self, data: bytes, at: int, end: int) -> int:
        if at + (2 if self.relay else 3) > end:
            return end + 1
        kind, at, _ = self._head(data, at)
        field: Field | None = {1: Ip4(), 2: Ip6(), 3: Name("gateway")}.get(kind)
        return field.reach(data, at, end) if field else at if kind == 0 else end + 1


class HostIdentity(Field):
    """HIP: algorithm, identity tag, public key, rendezvous servers."""

    label = "host identity"

    def parse(self, words: Words) -> bytes:
        algorithm = Int("algorithm", 1).parse(words)
        tag = unhex(words.take("host identity tag"), "host identity tag")
        key = unbase64(words.take("public key"), "public key")
        if not 0 < len(tag) < 256 or not 0 < len(key) < 65536:
            raise FormatError("HIP: the identity tag has 1 to 255 octets, the key 1 to 65535.")
        servers = b"".join(names.from_text(word, words.origin) for word in words.rest())
        return bytes((len(tag),)) + algorithm + struct.pack("!H", len(key)) + tag + key + servers

    def show(self, data: bytes, at: int, end: int) -> tuple[str, int]:
        tag_size, algorithm, key_size = struct.unpack("!BBH", data[at : at + 4])
        tag, key = data[at + 4 : at + 4 + tag_size], data[at + 4 + tag_size : at + 4 + tag_size + key_size]
        at += 4 + tag_size + key_size
        shown = [str(algorithm), tag.hex().upper(), base64.b64encode(key).decode()]
        while at < end:
            text, at = Name().show(data, at, end)
            shown.append(text)
        return " ".join(shown), at

    def reach(self, data: bytes, at: int, end: int) -> int:
        if at + 4 > end:
            return end + 1
        at += 4 + data[at] + int.from_bytes(data[at + 2 : at + 4], "big")
        while at < end:
            at = Name().reach(data, at, end)
        return at


_PROTOCOLS = {"ICMP": 1, "TCP": 6, "UDP": 17}


class Services(Field):
    """WKS: protocol and a bitmap of ports."""

    label = "well-known services"

    def parse(self, words: Words) -> bytes:
        word = words.take("protocol")
        protocol = _PROTOCOLS.get(word.upper()) or (int(word) if word.isdigit() and int(word) < 256 else None)
        if protocol is None:
            raise FormatError(f"protocol is {word!r}: expected TCP, UDP or a number up to 255.")
        bits = bytearray()
        for service in words.rest():
            port = self._port(service, "tcp" if protocol == 6 else "udp")
            if len(bits) <= port >> 3:
                bits.extend(bytes((port >> 3) + 1 - len(bits)))
            bits[port >> 3] |= 0x80 >> (port & 7)
        return bytes((protocol,)) + bits

    @staticmethod
    def _port(word: str, protocol: str) -> int:
        if word.isdigit() and int(word) < 65536:
            return int(word)
        try:
            return socket.getservbyname(word, protocol)
        except OSError:
            raise FormatError(f"service {word!r} is not known here. Write its port number.") from None

    def show(self, data: bytes, at: int, end: int) -> tuple[str, int]:
        ports = [
            i << 3 | bit
            for i, octet in enumerate(data[at + 1 : end])
            for bit in range(8)
            if octet & 0x80 >> bit
        ]
        return " ".join(map(str, [data[at], *ports])), end

    def reach(self, data: bytes, at: int, end: int) -> int:
        return end if at < end else end + 1


class Nsap(Field):
    label = "NSAP address"

    def parse(self, words: Words) -> bytes:
        word = words.take(self.label)
        if not word.lower().startswith("0x"):
            raise FormatError(f"NSAP address {word!r}: expected 0x and hexadecimal digits, dots allowed.")
        return unhex(word[2:].replace(".", ""), self.label)

    def show(self, data: bytes, at: int, end: int) -> tuple[str, int]:
        return "0x" + data[at:end].hex(), end

    def reach(self, data: bytes, at: int, end: int) -> int:
        return end


SVC_KEYS = {
    "mandatory": 0, "alpn": 1, "no-default-alpn": 2, "port": 3, "ipv4hint": 4, "ech": 5, "ipv6hint": 6,
    "dohpath": 7, "ohttp": 8, "tls-supported-groups": 9,
}  # fmt: skip
_SVC_NAMES = {number: key for key, number in SVC_KEYS.items()}


def _svc_key(word: str) -> int:
    found = SVC_KEYS.get(word)
    if found is None and re.fullmatch(r"key(0|[1-9]\d{0,4})", word) and int(word[3:]) < 65535:
        found = int(word[3:])
    if found is None:
        raise FormatError(
            f"service parameter {word!r} is not known. Known: {', '.join(SVC_KEYS)}, or key12345."
        )
    return found


class ServiceParameters(Field):
    """SvcParams of SVCB and HTTPS (RFC 9460 2.1): `alpn=h2,h3 port=8443`."""

    label = "service parameters"

    def parse(self, words: Words) -> bytes:
        found: dict[int, bytes] = {}
        while words.more:
            word = words.take(self.label)
            key, equals, value = word.partition("=")
            if equals and not value and words.more and type(words.words[words.at]) is not str:
                value = words.take(self.label)  # key="value"
            number = _svc_key(key)
            if number in found:
                raise FormatError(f"service parameter {key} stands twice.")
            found[number] = self._pack(number, key, value, bool(equals))
        if 0 in found:
            listed = {int.from_bytes(found[0][i : i + 2], "big") for i in range(0, len(found[0]), 2)}
            if missing := listed - set(found):
                raise FormatError(
                    f"mandatory names {', '.join(map(self._name, sorted(missing)))}, which is absent."
                )
        return b"".join(struct.pack("!HH", k, len(v)) + v for k, v in sorted(found.items()))

    @staticmethod
    def _name(number: int) -> str:
        return _SVC_NAMES.get(number) or f"key{number}"

    def _pack(self, number: int, key: str, value: str, given: bool) -> bytes:
        octets = names.unescape(value)
        try:
            if number == 0:
                numbers = sorted({_svc_key(part) for part in value.split(",")} - {0})
                return b"".join(n.to_bytes(2, "big") for n in numbers)
            if number == 1:
                parts = [
                    p.replace(b"\\,", b",").replace(b"\\\\", b"\\") for p in re.split(rb"(?<!\\),", octets)
                ]
                if any(not 0 < len(part) < 256 for part in parts):
                    raise ValueError
                return b"".join(bytes((len(part),)) + part for part in parts)
            if number in (2, 8):
                if given and value:
                    raise ValueError
                return b""
            if number == 3:
                return int(value).to_bytes(2, "big")
            if number == 4:
                return b"".join(socket.inet_pton(socket.AF_INET, part) for part in value.split(","))
            if number == 5:
                return unbase64(value, "ech")
            if number == 6:
                return b"".join(socket.inet_pton(socket.AF_INET6, part) for part in value.split(","))
            if number == 9:
                return b"".join(int(part).to_bytes(2, "big") for part in value.split(","))
        except (ValueError, OSError, OverflowError):
            raise FormatError(f"service parameter {key}={value!r} does not fit its key.") from None
        return octets

    def show(self, data: bytes, at: int, end: int) -> tuple[str, int]:
        shown = []
        while at + 4 <= end:
            number, size = struct.unpack("!HH", data[at : at + 4])
            value = data[at + 4 : at + 4 + size]
            at += 4 + size
            text = self._shown(number, value)
            shown.append(self._name(number) + (f"={text}" if text else ""))
        return " ".join(shown), at

    def _shown(self, number: int, value: bytes) -> str:
        pairs = [int.from_bytes(value[i : i + 2], "big") for i in range(0, len(value), 2)]
        if number == 0:
            return ",".join(map(self._name, pairs))
        if number == 1:
            parts, at = [], 0
            while at < len(value):
                part = value[at + 1 : at + 1 + value[at]]
                parts.append(part.replace(b"\\", b"\\\\").replace(b",", b"\\,"))
                at += 1 + value[at]
            return quote(b",".join(parts))
        if number == 3 or number == 9:
            return ",".join(map(str, pairs))
        if number == 4:
            return ",".join(str(ipaddress.IPv4Address(value[i : i + 4])) for i in range(0, len(value), 4))
        if number == 6:
            return ",".join(str(ipaddress.IPv6Address(value[i : i + 16])) for i in range(0, len(value), 16))
        if number == 5:
            return base64.b64encode(value).decode()
        return quote(value) if value else ""

    def reach(self, data: bytes, at: int, end: int) -> int:
        last = -1
        while at < end:
            if at + 4 > end:
                return end + 1
            key, size = struct.unpack("!HH", data[at : at + 4])
            wrong = {3: size != 2, 4: size % 4 or not size, 6: size % 16 or not size, 0: size % 2 or not size}
            if key <= last or wrong.get(key):
                return end + 1
            last = key
            at += 4 + size
        return at
