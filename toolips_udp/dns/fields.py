"""The fields that RDATA is made of, each as text and as wire octets.

A field knows three things: how to read its text from a master file, how to
show its octets as text, and how far it reaches on the wire. `rdata.py` lists
for each RR type which fields follow one another; fields of one type only are in
`fields_rare.py`. Imports names, rrtypes and errors.
"""

from __future__ import annotations

import base64
import binascii
import calendar
import re
import socket
import struct
import time
from collections.abc import Sequence

from ..errors import FormatError
from . import names, rrtypes


class Quoted(str):
    """A word that stood in double quotes; the quotes are gone, escapes are not."""

    __slots__ = ()


class Words:
    """The words of one record's RDATA, taken from left to right."""

    __slots__ = ("at", "origin", "words")

    def __init__(self, words: Sequence[str], origin: bytes | None = names.ROOT, at: int = 0) -> None:
        self.words = words
        self.at = at
        self.origin = origin

    def take(self, what: str) -> str:
        if self.at >= len(self.words):
            raise FormatError(f"{what} is missing at the end of the record.")
        word = self.words[self.at]
        self.at += 1
        return word

    def rest(self) -> list[str]:
        left = list(self.words[self.at :])
        self.at = len(self.words)
        return left

    @property
    def more(self) -> bool:
        return self.at < len(self.words)


class Field:
    """One field. `size` is its width on the wire where that is fixed, else 0."""

    size = 0
    label = "field"

    def parse(self, words: Words) -> bytes:
        raise NotImplementedError

    def show(self, data: bytes, at: int, end: int) -> tuple[str, int]:
        raise NotImplementedError

    def reach(self, data: bytes, at: int, end: int) -> int:
        """Where the field ends; more than `end` when it is cut short."""
        return at + self.size


_UNITS = {"S": 1, "M": 60, "H": 3600, "D": 86400, "W": 604800}
_TTL = re.compile(r"(?:(\d+)([SMHDW]))", re.I)


def parse_ttl(text: str) -> int:
    """Seconds from `3600` or `1h30m`. At most 2^31 - 1 (RFC 2181 section 8)."""
    if text.isdigit() and text.isascii():
        value = int(text)
    else:
        pairs = _TTL.findall(text)
        if not pairs or "".join(a + b for a, b in pairs) != text:
            raise FormatError(
                f"{text!r} is not a time: expected seconds, or a form like 1h30m (w, d, h, m, s)."
            )
        value = sum(int(a) * _UNITS[b.upper()] for a, b in pairs)
    if value > 0x7FFFFFFF:
        raise FormatError(f"time {text!r} is above 2147483647 seconds.")
    return value


class Int(Field):
    def __init__(
        self, label: str, size: int, mnemonics: dict[str, int] | None = None, shown: bool = False
    ) -> None:
        self.label = label
        self.size = size
        self.mnemonics = mnemonics or {}
        self.numbers = {v: k for k, v in self.mnemonics.items()} if shown else {}

    def parse(self, words: Words) -> bytes:
        word = words.take(self.label)
        value = self.mnemonics.get(word.upper()) if self.mnemonics else None
        if value is None:
            if not (word.isdigit() and word.isascii()):
                raise FormatError(f"{self.label} is {word!r}: expected a number.")
            value = int(word)
        if value >= 1 << (8 * self.size):
            raise FormatError(f"{self.label} is {word}: at most {(1 << (8 * self.size)) - 1} fits.")
        return value.to_bytes(self.size, "big")

    def show(self, data: bytes, at: int, end: int) -> tuple[str, int]:
        value = int.from_bytes(data[at : at + self.size], "big")
        return self.numbers.get(value) or str(value), at + self.size


class Seconds(Field):
    size = 4

    def __init__(self, label: str) -> None:
        self.label = label

    def parse(self, words: Words) -> bytes:
        return parse_ttl(words.take(self.label)).to_bytes(4, "big")

    def show(self, data: bytes, at: int, end: int) -> tuple[str, int]:
        return str(int.from_bytes(data[at : at + 4], "big")), at + 4


class Ip4(Field):
    size = 4
    label = "IPv4 address"

    def parse(self, words: Words) -> bytes:
        word = words.take(self.label)
        try:
            return socket.inet_pton(socket.AF_INET, word)
        except (OSError, ValueError):
            raise FormatError(f"{word!r} is not an IPv4 address: expected a form like 192.0.2.1.") from None

    def show(self, data: bytes, at: int, end: int) -> tuple[str, int]:
        return ".".join(map(str, data[at : at + 4])), at + 4


class Ip6(Field):
    size = 16
    label = "IPv6 address"

    def parse(self, words: Words) -> bytes:
        word = words.take(self.label)
        try:
            return socket.inet_pton(socket.AF_INET6, word)
        except (OSError, ValueError):
            raise FormatError(f"{word!r} is not an IPv6 address: expected a form like 2001:db8::1.") from None

    def show(self, data: bytes, at: int, end: int) -> tuple[str, int]:
        return socket.inet_ntop(socket.AF_INET6, data[at : at + 16]), at + 16


class Name(Field):
    def __init__(self, label: str = "name") -> None:
        self.label = label

    def parse(self, words: Words) -> bytes:
        return names.from_text(words.take(self.label), words.origin)

    def show(self, data: bytes, at: int, end: int) -> tuple[str, int]:
        stop = self.reach(data, at, end)
        return names.to_text(data[at:stop]), stop

    def reach(self, data: bytes, at: int, end: int) -> int:
        start = at
        while at < end:
            size = data[at]
            if size > 63:
                raise FormatError(f"label length {size} in RDATA: expected 0 to 63, and no compression.")
            at += 1 + size
            if not size:
                if at - start > names.MOST_OCTETS:
                    raise FormatError(f"name of {at - start} octets in RDATA: at most 255.")
                return at
        return end + 1


def quote(octets: bytes) -> str:
    """A character-string in quotes, other octets as `\\DDD`."""
    if octets.isascii() and octets.isalnum():
        return f'"{octets.decode()}"'
    out = []
    for octet in octets:
        if octet in (0x22, 0x5C):
            out.append("\\" + chr(octet))
        elif 0x20 <= octet < 0x7F:
            out.append(chr(octet))
        else:
            out.append(f"\\{octet:03d}")
    return '"' + "".join(out) + '"'


class String(Field):
    def __init__(self, label: str = "character-string", bare: bool = False) -> None:
        self.label = label
        self.bare = bare

    def parse(self, words: Words) -> bytes:
        return self.pack(words.take(self.label))

    def pack(self, word: str) -> bytes:
        octets = names.unescape(word)
        if len(octets) > 255:
            raise FormatError(
                f"{self.label} has {len(octets)} octets: at most 255. Split it into several strings."
            )
        return bytes((len(octets),)) + octets

    def show(self, data: bytes, at: int, end: int) -> tuple[str, int]:
        stop = at + 1 + data[at]
        octets = data[at + 1 : stop]
        return (
            octets.decode() if self.bare and octets.isascii() and octets.isalnum() else quote(octets)
        ), stop

    def reach(self, data: bytes, at: int, end: int) -> int:
        return at + 1 + data[at] if at < end else end + 1


class Strings(String):
    """One or more character-strings up to the end."""

    def parse(self, words: Words) -> bytes:
        return b"".join([self.pack(words.take(self.label)), *map(self.pack, words.rest())])

    def show(self, data: bytes, at: int, end: int) -> tuple[str, int]:
        shown = []
        while at < end:
            text, at = super().show(data, at, end)
            shown.append(text)
        return " ".join(shown), at

    def reach(self, data: bytes, at: int, end: int) -> int:
        if at >= end:
            return end + 1
        while at < end:
            at = super().reach(data, at, end)
        return at


class Octets(Field):
    """Text up to the end of the RDATA, without a length octet (URI target, CAA value)."""

    def __init__(self, label: str) -> None:
        self.label = label

    def parse(self, words: Words) -> bytes:
        return names.unescape(words.take(self.label))

    def show(self, data: bytes, at: int, end: int) -> tuple[str, int]:
        return quote(data[at:end]), end

    def reach(self, data: bytes, at: int, end: int) -> int:
        return end


class Hex(Field):
    """Hexadecimal up to the end; blanks between digits are allowed."""

    def __init__(self, label: str, empty: bool = False) -> None:
        self.label = label
        self.empty = empty

    def parse(self, words: Words) -> bytes:
        text = "".join(words.rest())
        if not text and not self.empty:
            raise FormatError(f"{self.label} is missing at the end of the record.")
        return unhex(text, self.label)

    def show(self, data: bytes, at: int, end: int) -> tuple[str, int]:
        return data[at:end].hex().upper(), end

    def reach(self, data: bytes, at: int, end: int) -> int:
        return end if self.empty or at < end else end + 1


def unhex(text: str, label: str) -> bytes:
    try:
        return binascii.unhexlify(text)
    except (binascii.Error, ValueError):
        raise FormatError(f"{label} {text[:40]!r} is not an even number of hexadecimal digits.") from None


class Base64(Field):
    """Base64 up to the end; blanks are allowed."""

    def __init__(self, label: str, empty: bool = False) -> None:
        self.label = label
        self.empty = empty

    def parse(self, words: Words) -> bytes:
        text = "".join(words.rest())
        if not text and not self.empty:
            raise FormatError(f"{self.label} is missing at the end of the record.")
        return unbase64(text, self.label)

    def show(self, data: bytes, at: int, end: int) -> tuple[str, int]:
        return base64.b64encode(data[at:end]).decode(), end

    def reach(self, data: bytes, at: int, end: int) -> int:
        return end if self.empty or at < end else end + 1


def unbase64(text: str, label: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise FormatError(f"{label} {text[:40]!r} is not base64.") from None


class Salt(Field):
    """A length octet and hexadecimal; `-` when empty (NSEC3, RFC 5155 3.3)."""

    label = "salt"

    def parse(self, words: Words) -> bytes:
        word = words.take(self.label)
        octets = b"" if word == "-" else unhex(word, self.label)
        if len(octets) > 255:
            raise FormatError(f"salt has {len(octets)} octets: at most 255.")
        return bytes((len(octets),)) + octets

    def show(self, data: bytes, at: int, end: int) -> tuple[str, int]:
        stop = at + 1 + data[at]
        return data[at + 1 : stop].hex().upper() or "-", stop

    def reach(self, data: bytes, at: int, end: int) -> int:
        return at + 1 + data[at] if at < end else end + 1


class Hash32(Field):
    """A length octet and base32hex (NSEC3's next owner)."""

    label = "next hashed owner"

    def parse(self, words: Words) -> bytes:
        word = words.take(self.label).upper()
        try:
            octets = base64.b32hexdecode(word + "=" * (-len(word) % 8))
        except (binascii.Error, ValueError):
            raise FormatError(f"{self.label} {word!r} is not base32hex.") from None
        return bytes((len(octets),)) + octets

    def show(self, data: bytes, at: int, end: int) -> tuple[str, int]:
        stop = at + 1 + data[at]
        return base64.b32hexencode(data[at + 1 : stop]).decode().rstrip("="), stop

    def reach(self, data: bytes, at: int, end: int) -> int:
        return at + 1 + data[at] if at < end else end + 1


class RRType(Field):
    size = 2
    label = "RR type"

    def parse(self, words: Words) -> bytes:
        return struct.pack("!H", rrtypes.type_number(str(words.take(self.label))))

    def show(self, data: bytes, at: int, end: int) -> tuple[str, int]:
        return rrtypes.type_name(int.from_bytes(data[at : at + 2], "big")), at + 2


class Bitmap(Field):
    """A type bitmap (RFC 4034 4.1.2)."""

    label = "type bitmap"

    def parse(self, words: Words) -> bytes:
        return pack_bitmap({rrtypes.type_number(str(word)) for word in words.rest()})

    def show(self, data: bytes, at: int, end: int) -> tuple[str, int]:
        return " ".join(map(rrtypes.type_name, unpack_bitmap(data[at:end]))), end

    def reach(self, data: bytes, at: int, end: int) -> int:
        last = -1
        while at < end:
            if at + 2 > end or not 0 < data[at + 1] <= 32 or data[at] <= last:
                return end + 1
            last = data[at]
            at += 2 + data[at + 1]
        return at


def pack_bitmap(numbers: set[int]) -> bytes:
    windows: dict[int, bytearray] = {}
    for number in sorted(numbers):
        bits = windows.setdefault(number >> 8, bytearray())
        low = number & 255
        if len(bits) <= low >> 3:
            bits.extend(bytes((low >> 3) + 1 - len(bits)))
        bits[low >> 3] |= 0x80 >> (low & 7)
    return b"".join(bytes((window, len(bits))) + bits for window, bits in windows.items())


def unpack_bitmap(data: bytes) -> list[int]:
    found, at = [], 0
    while at + 2 <= len(data):
        window, size = data[at], data[at + 1]
        for index, octet in enumerate(data[at + 2 : at + 2 + size]):
            found += [window << 8 | index << 3 | bit for bit in range(8) if octet & 0x80 >> bit]
        at += 2 + size
    return found


class When(Field):
    """A signature time: YYYYMMDDHHMMSS or seconds (RFC 4034 3.2)."""

    size = 4

    def __init__(self, label: str) -> None:
        self.label = label

    def parse(self, words: Words) -> bytes:
        word = words.take(self.label)
        if not (word.isdigit() and word.isascii()) or not (len(word) == 14 or len(word) <= 10):
            raise FormatError(f"{self.label} is {word!r}: expected YYYYMMDDHHMMSS or seconds.")
        if len(word) == 14:
            try:
                value = calendar.timegm(time.strptime(word, "%Y%m%d%H%M%S"))
            except ValueError:
                raise FormatError(f"{self.label} is {word!r}: there is no such day or hour.") from None
        else:
            value = int(word)
        return (value & 0xFFFFFFFF).to_bytes(4, "big")

    def show(self, data: bytes, at: int, end: int) -> tuple[str, int]:
        return time.strftime("%Y%m%d%H%M%S", time.gmtime(int.from_bytes(data[at : at + 4], "big"))), at + 4


class Dashed(Field):
    """Fixed octets shown in groups: EUI48 `00-11-22-33-44-55`, NID `0014:4fff:ff20:ee64`."""

    def __init__(self, label: str, size: int, group: int, mark: str) -> None:
        self.label = label
        self.size = size
        self.group = group
        self.mark = mark

    def parse(self, words: Words) -> bytes:
        word = words.take(self.label)
        parts = word.split(self.mark)
        width = 2 * self.group
        if len(parts) * self.group != self.size or any(not 0 < len(part) <= width for part in parts):
            raise FormatError(
                f"{self.label} is {word!r}: expected {self.size // self.group} groups with {self.mark!r}."
            )
        return unhex("".join(part.rjust(width, "0") for part in parts), self.label)

    def show(self, data: bytes, at: int, end: int) -> tuple[str, int]:
        text = data[at : at + self.size].hex()
        width = 2 * self.group
        return self.mark.join(text[i : i + width] for i in range(0, len(text), width)), at + self.size
