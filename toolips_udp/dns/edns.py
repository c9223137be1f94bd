"""EDNS: options in and out, the OPT record, server cookies (RFC 6891, 7873, 8914, 9018).

Sans-io: time and secrets are arguments. Imports errors only.
"""

from __future__ import annotations

import hmac
import ipaddress
import struct

from ..errors import FormatError

NSID, ECS, EXPIRE, COOKIE, KEEPALIVE, PADDING, EDE = 3, 8, 9, 10, 11, 12, 15
MOST_OPTIONS = 100
UDP_SIZE = 1232

_KNOWN = frozenset((NSID, ECS, EXPIRE, COOKIE, KEEPALIVE, PADDING))


def parse_options(data: bytes) -> dict[int, bytes]:
    """The known options, each as first met (E6). `FormatError` for a wrong length or over 100 options."""
    found: dict[int, bytes] = {}
    at, end, count = 0, len(data), 0
    while at < end:
        if end - at < 4:
            raise FormatError("an EDNS option is cut short.")
        code, size = struct.unpack_from("!HH", data, at)
        at += 4
        if size > end - at:
            raise FormatError(f"EDNS option {code} says {size} octets and {end - at} are left.")
        count += 1
        if count > MOST_OPTIONS:
            raise FormatError(f"over {MOST_OPTIONS} EDNS options.")
        if code in _KNOWN and code not in found:
            found[code] = data[at : at + size]
        at += size
    cookie = found.get(COOKIE)
    if cookie is not None and len(cookie) != 8 and not 16 <= len(cookie) <= 40:
        raise FormatError(f"EDNS cookie of {len(cookie)} octets: expected 8, or 16 to 40.")
    return found


def option(code: int, data: bytes) -> bytes:
    return struct.pack("!HH", code, len(data)) + data


def ede(code: int, text: str = "") -> bytes:
    """An extended error (RFC 8914)."""
    return option(EDE, struct.pack("!H", code) + text.encode()[:64])


def opt_record(size: int, rcode: int, do: bool, options: bytes = b"", version: int = 0) -> bytes:
    """The OPT record; `rcode` is the whole number, of which this carries the upper 8 bits."""
    flags = (rcode >> 4) << 24 | version << 16 | (0x8000 if do else 0)
    return b"\0" + struct.pack("!HHIH", 41, size, flags, len(options)) + options


def padding(size: int, block: int) -> bytes:
    """The padding option that brings a message of `size` octets to a multiple of `block` (RFC 8467)."""
    return option(PADDING, bytes(-(size + 4) % block))


_MASK = 0xFFFFFFFFFFFFFFFF
DAY = 86_400
"""Seconds that a secret for cookies is the one in use; RFC 7873 wants a new one within 26 hours."""


def siphash24(key: bytes, data: bytes) -> bytes:
    """SipHash-2-4 of `data` under a key of 16 octets, 8 octets in little-endian order."""
    k0, k1 = struct.unpack("<QQ", key)
    v0, v1, v2, v3 = (
        k0 ^ 0x736F6D6570736575,
        k1 ^ 0x646F72616E646F6D,
        k0 ^ 0x6C7967656E657261,
        k1 ^ 0x7465646279746573,
    )

    def rounds(count: int) -> None:
        nonlocal v0, v1, v2, v3
        for _ in range(count):
            v0 = (v0 + v1) & _MASK
            v1 = ((v1 << 13) | (v1 >> 51)) & _MASK ^ v0
            v0 = ((v0 << 32) | (v0 >> 32)) & _MASK
            v2 = (v2 + v3) & _MASK
            v3 = ((v3 << 16) | (v3 >> 48)) & _MASK ^ v2
            v0 = (v0 + v3) & _MASK
            v3 = ((v3 << 21) | (v3 >> 43)) & _MASK ^ v0
            v2 = (v2 + v1) & _MASK
            v1 = ((v1 << 17) | (v1 >> 47)) & _MASK ^ v2
            v2 = ((v2 << 32) | (v2 >> 32)) & _MASK

    tail = len(data) & ~7
    words = list(struct.unpack(f"<{tail // 8}Q", data[:tail]))
    words.append(int.from_bytes(data[tail:], "little") | (len(data) & 255) << 56)
    for word in words:
        v3 ^= word
        rounds(2)
        v0 ^= word
    v2 ^= 0xFF
    rounds(4)
    return struct.pack("<Q", v0 ^ v1 ^ v2 ^ v3)


class Cookies:
    """Server cookies of version 1 (RFC 9018): made and checked with two secrets of 16 octets.

    A cookie holds for an hour and 5 minutes into the future (clock skew); one
    older than 30 minutes is renewed. `roll` puts a new secret in front. `Rolling`
    does so by itself.
    """

    def __init__(self, secret: bytes) -> None:
        self.secrets = [secret]

    def follow(self, now: int) -> None:
        """Use the secrets of this time, unix seconds: given ones stay."""

    def roll(self, secret: bytes) -> None:
        self.secrets = [secret, self.secrets[0]]

    def make(self, client: bytes, host: str, now: int, secret: bytes | None = None) -> bytes:
        """Client cookie and a fresh server cookie, ready for the option."""
        head = client + b"\1\0\0\0" + struct.pack("!I", now & 0xFFFFFFFF)
        return head + siphash24(secret or self.secrets[0], head + _packed(host))

    def check(self, cookie: bytes, host: str, now: int) -> bool:
        """Whether the cookie of a client (24 octets) was made here, for this address, lately."""
        if len(cookie) != 24 or cookie[8] != 1:
            return False
        age = (now - int.from_bytes(cookie[12:16], "big")) & 0xFFFFFFFF
        if not (age <= 3600 or age >= 0x100000000 - 300):
            return False
        packed = _packed(host)
        wanted = [siphash24(secret, cookie[:16] + packed) for secret in self.secrets]
        good = [hmac.compare_digest(cookie[16:], one) for one in wanted]
        return any(good)

    def answer(self, cookie: bytes, host: str, now: int) -> tuple[bytes, bool]:
        """The cookie to send back, and whether the client's own was valid."""
        valid = self.check(cookie, host, now)
        if valid and (now - int.from_bytes(cookie[12:16], "big")) & 0xFFFFFFFF <= 1800:
            return cookie, True
        return self.make(cookie[:8], host, now), valid


class Rolling(Cookies):
    """Cookies whose secrets follow from one `master` and the day, so that all who know it agree (RFC 9018 section 5).

    The secret of the day and that of the day before are good; a cookie lives for an hour.
    """

    def __init__(self, master: bytes, now: int = 0) -> None:
        self.master = master
        self.day = -1
        self.secrets = []
        self.follow(now)

    def follow(self, now: int) -> None:
        day = now // DAY
        if day != self.day:
            self.day = day
            self.secrets = [self._of(day), self._of(day - 1)]

    def adopt(self, master: bytes, now: int) -> None:
        """Another master: that of the server, which its workers share."""
        self.master, self.day = master, -1
        self.follow(now)

    def _of(self, day: int) -> bytes:
        return hmac.digest(self.master, b"toolips_udp dns cookie %d" % day, "sha256")[:16]

    def answer(self, cookie: bytes, host: str, now: int) -> tuple[bytes, bool]:
        self.follow(now)
        return super().answer(cookie, host, now)


def _packed(host: str) -> bytes:
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).packed


def parse_ecs(data: bytes) -> tuple[int, int, int, bytes]:
    """Family, source and scope prefix length, address (RFC 7871); `FormatError` when they disagree."""
    if len(data) < 4:
        raise FormatError("a client-subnet option is cut short.")
    family, source, scope = struct.unpack_from("!HBB", data)
    address = data[4:]
    most = {1: 32, 2: 128}.get(family, 0)
    if source > most or scope or len(address) != (source + 7) // 8:
        raise FormatError("a client-subnet option with a wrong length.")
    if source & 7 and address[-1] & (0xFF >> (source & 7)):
        raise FormatError("a client-subnet option with bits past its prefix.")
    return family, source, scope, address
