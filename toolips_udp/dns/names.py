"""Domain names as wire octets: the one form in which this house keeps a name.

A name is `bytes`: labels with their length octet, in the case they were written,
ended by the root's zero (RFC 1035 3.1). Comparing and hashing fold ASCII case
only (RFC 4343): `fold(a) == fold(b)`. A label may hold any octet; escaping
happens only in text. Imports nothing of ours but the errors.
"""

from __future__ import annotations

import re
from functools import lru_cache

from ..errors import FormatError

ROOT = b"\0"
MOST_OCTETS = 255
MOST_LABELS = 127

_PLAIN = re.compile(r"[A-Za-z0-9_/*+=!#%&'<>?\[\]^`{|}~:,-]*\Z")
_ESCAPE = re.compile(r"\\(?:(\d{3})|([^0-9])|(.?))", re.S)
_SPECIAL = frozenset(b'."\\;()@$')


def fold(name: bytes) -> bytes:
    """The name in lower case. Length octets are below 64, so they never look like letters."""
    return name.lower()


def unescape(text: str) -> bytes:
    r"""The octets of text with `\DDD` and `\X` escapes (RFC 1035 5.1); characters are octets (latin-1)."""
    if "\\" not in text:
        return _octets(text)

    def one(match: re.Match[str]) -> str:
        digits, char, wrong = match.groups()
        if digits:
            if int(digits) > 255:
                raise FormatError(f"escape \\{digits} in {text!r}: expected \\000 to \\255.")
            return chr(int(digits))
        if char:
            return str(char)
        raise FormatError(f"broken escape \\{wrong} in {text!r}: expected \\DDD with three digits, or \\X.")

    return _octets(_ESCAPE.sub(one, text))


def _octets(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


def _split(text: str) -> list[str]:
    """Labels of a name in text, escapes untouched."""
    labels, start, at = [], 0, 0
    while at < len(text):
        if text[at] == "\\":
            at += 2
        elif text[at] == ".":
            labels.append(text[start:at])
            start = at = at + 1
        else:
            at += 1
    labels.append(text[start:])
    return labels


def from_text(text: str, origin: bytes | None = ROOT) -> bytes:
    """The wire form of a name in presentation format.

    A name without a final dot is completed with `origin`; `@` is the origin
    itself. With `origin=None` such a name raises `FormatError`, like an empty
    label, a label over 63 octets and a name over 255.

    >>> from_text("www.Example.org")
    b'\\x03www\\x07Example\\x03org\\x00'
    """
    if text == "@" or text == ".":
        if text == ".":
            return ROOT
        if origin is None:
            raise FormatError(
                "'@' stands for the origin, but there is none. Write the name in full, or set $ORIGIN."
            )
        return origin
    parts = text.split(".") if "\\" not in text else _split(text)
    absolute = parts[-1] == ""
    if absolute:
        parts.pop()
    elif origin is None:
        raise FormatError(
            f"name {text!r} is relative and there is no origin. End it with a dot, or set $ORIGIN."
        )
    if not text.isascii() and any(ord(char) > 255 for char in text):
        parts = [_idna(part) for part in parts]
    wire = bytearray()
    for part in parts:
        label = unescape(part) if "\\" in part else part.encode("latin-1")
        size = len(label)
        if not 0 < size < 64:
            what = "an empty label" if not size else f"a label of {size} octets"
            raise FormatError(f"name {text!r} has {what}: expected 1 to 63 octets between dots.")
        wire.append(size)
        wire += label
    wire += ROOT if absolute else origin or ROOT
    if len(wire) > MOST_OCTETS:
        raise FormatError(
            f"name {text!r} takes {len(wire)} octets on the wire: at most {MOST_OCTETS} are allowed."
        )
    return bytes(wire)


def _idna(label: str) -> str:
    """A label with letters beyond ASCII becomes its A-label; plain ones stay."""
    if label.isascii():
        return label
    try:
        return label.encode("idna").decode()
    except UnicodeError as error:
        raise FormatError(
            f"label {label!r} is no valid international name ({error}). Write its xn-- form."
        ) from error


def split(name: bytes) -> tuple[bytes, ...]:
    """The labels, root left out.

    >>> split(from_text("a.example."))
    (b'a', b'example')
    """
    labels = []
    at = 0
    while size := name[at]:
        labels.append(name[at + 1 : at + 1 + size])
        at += 1 + size
    return tuple(labels)


def join(labels: tuple[bytes, ...] | list[bytes]) -> bytes:
    """The name of these labels; the inverse of `split`."""
    return b"".join([bytes((len(label),)) + label for label in labels]) + ROOT


def escape(label: bytes, special: frozenset[int] = _SPECIAL) -> str:
    r"""A label (or any octets) as text: `\.` and the like, `\DDD` for what does not print."""
    out = []
    for octet in label:
        if octet in special:
            out.append("\\" + chr(octet))
        elif 0x20 < octet < 0x7F:
            out.append(chr(octet))
        else:
            out.append(f"\\{octet:03d}")
    return "".join(out)


@lru_cache(maxsize=8192)
def to_text(name: bytes) -> str:
    """The absolute name in presentation format, with its final dot."""
    if name == ROOT:
        return "."
    out = []
    for label in split(name):
        text = label.decode("latin-1")
        out.append(text if _PLAIN.match(text) else escape(label))
    return ".".join(out) + "."


def texts(name: bytes) -> tuple[str, ...]:
    """The labels as text with escapes, root left out."""
    return tuple(escape(label) for label in split(name))


def offsets(name: bytes) -> list[int]:
    """Where each label starts, the root's zero last."""
    found = []
    at = 0
    while size := name[at]:
        found.append(at)
        at += 1 + size
    found.append(at)
    return found


def parent(name: bytes) -> bytes:
    """The name without its first label; the root is its own parent."""
    return name[1 + name[0] :] if name != ROOT else ROOT


def encloses(zone: bytes, name: bytes) -> bool:
    """Whether `name` is `zone` or lies below it. Both folded."""
    spare = len(name) - len(zone)
    if spare < 0 or not name.endswith(zone):
        return False
    at = 0
    while at < spare:
        at += 1 + name[at]
    return at == spare


def relative(name: bytes, origin: bytes) -> str:
    """Text as a zone file would write it: `@`, a relative name, or an absolute one."""
    low, top = fold(name), fold(origin)
    if low == top:
        return "@"
    if top != ROOT and encloses(top, low):
        return to_text(name)[: -len(to_text(origin)) - 1]
    return to_text(name)


def replace_suffix(name: bytes, old: bytes, new: bytes) -> bytes | None:
    """`name` with the suffix `old` replaced by `new` (DNAME, RFC 6672); None if over 255 octets."""
    made = name[: len(name) - len(old)] + new
    return made if len(made) <= MOST_OCTETS else None


def canonical_key(name: bytes) -> tuple[bytes, ...]:
    """A sort key in DNSSEC's canonical order (RFC 4034 6.1)."""
    return split(name.lower())[::-1]


def check(name: bytes) -> None:
    """Raise `FormatError` unless these octets are exactly one well-formed, uncompressed name."""
    at, count, size = 0, 0, len(name)
    while True:
        if at >= size:
            raise FormatError("name is cut short: no root label at its end.")
        length = name[at]
        if length > 63:
            raise FormatError(f"label length {length} in a name: expected 0 to 63.")
        at += 1 + length
        if not length:
            break
        count += 1
    if at != size or size > MOST_OCTETS or count > MOST_LABELS:
        raise FormatError(
            f"name of {size} octets and {count} labels: at most 255 and 127, and nothing after the root."
        )
