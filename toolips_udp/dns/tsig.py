"""Signed messages (TSIG, RFC 8945; spec X6), with dnspython's HMAC (extra `dnssec`).

Sans-io: time is an argument. Nothing acts on a message before its MAC holds.
Imports names, wire, errors.
"""

from __future__ import annotations

import hmac
import importlib
import struct
from collections.abc import Mapping
from typing import Any

from ..errors import FormatError, StartError, missing_extra
from . import names, rrtypes
from .wire import read_name

FUDGE = 300
ALGORITHMS = ("hmac-sha256", "hmac-sha384", "hmac-sha512")
WEAK = ("hmac-sha1", "hmac-sha224")
_FIXED = struct.Struct("!HHIH")


class Tsig:
    """The parts of a TSIG record as it came."""

    name: bytes
    algorithm: bytes
    time: int
    fudge: int
    mac: bytes
    id: int
    error: int
    other: bytes

    @classmethod
    def parse(cls, message: bytes, at: int) -> Tsig:
        """The TSIG at `at`, which is the last record. `FormatError` when it is malformed."""
        made = cls()
        end = len(message)
        made.name, at = read_name(message, at, end, [16])
        if end - at < 10:
            raise FormatError("a TSIG that is cut short.")
        rtype, rclass, ttl, size = _FIXED.unpack_from(message, at)
        at += 10
        if rtype != rrtypes.TSIG or rclass != rrtypes.ANY_CLASS or ttl or size != end - at:
            raise FormatError("a TSIG with a wrong class, TTL or length.")
        made.algorithm, at = read_name(message, at, end, [0])
        if end - at < 10:
            raise FormatError("a TSIG that is cut short.")
        high, low, made.fudge, size = struct.unpack_from("!HIHH", message, at)
        made.time = high << 32 | low
        at += 10
        if end - at < size + 6:
            raise FormatError("a TSIG that is cut short.")
        made.mac = message[at : at + size]
        made.id, made.error, size = struct.unpack_from("!HHH", message, at + len(made.mac))
        at += len(made.mac) + 6
        if end - at != size:
            raise FormatError("a TSIG with a wrong length.")
        made.other = message[at:]
        return made


class Keys:
    """Keys by name: `{"xfr.": ("hmac-sha256", "<base64>")}`.

    HMAC-SHA-256, -384 and -512 are on; SHA-1 and SHA-224 only with `weak=True`;
    MD5 never. Raises `StartError` for another algorithm or a secret that is no
    base64 of at least 16 octets.
    """

    def __init__(self, keys: Mapping[str, tuple[str, str]] | None = None, *, weak: bool = False) -> None:
        self.keys: dict[bytes, Any] = {}
        for name, (algorithm, secret) in (keys or {}).items():
            self.add(name, algorithm, secret, weak)

    def add(self, name: str, algorithm: str, secret: str, weak: bool = False) -> None:
        from .fields import unbase64

        allowed = ALGORITHMS + (WEAK if weak else ())
        if algorithm.lower().rstrip(".") not in allowed:
            raise StartError(
                f"key {name}: algorithm {algorithm!r}; expected one of {', '.join(allowed)}.", code="bad-key"
            )
        try:
            octets = unbase64(secret, "secret")
        except FormatError:
            octets = b""
        if len(octets) < 16:
            raise StartError(f"key {name}: the secret must be base64 of at least 16 octets.", code="bad-key")
        wire = names.fold(names.from_text(name))
        self.keys[wire] = _dnspython("dns.tsig").Key(
            names.to_text(wire), octets, algorithm.lower().rstrip(".") + "."
        )

    def get(self, name: str | bytes) -> Any:
        """The key of this name; `LookupError` without one."""
        wire = names.fold(names.from_text(name) if isinstance(name, str) else name)
        if wire not in self.keys:
            raise LookupError(f"there is no key {names.to_text(wire)}")
        return self.keys[wire]

    def open(self, message: bytes, at: int, now: int) -> Session:
        """Check a request: key, MAC, time, length of the MAC, in this order (RFC 8945 section 5.2).

        The session says whether it held (`error` 0) and signs the replies. A MAC that is cut is verified as
        far as it goes; then it is too short for us, and the reply that says so (BADTRUNC) is signed.
        """
        try:
            tsig = Tsig.parse(message, at)
        except FormatError:
            return Session(None, None, 0, malformed=True)
        key = self.keys.get(names.fold(tsig.name))
        if key is None or names.fold(tsig.algorithm) != key.algorithm.to_wire().lower():
            return Session(None, tsig, rrtypes.BADKEY)
        full = _dnspython("dns.tsig").mac_sizes[key.algorithm]
        if len(tsig.mac) > full or len(tsig.mac) < max(10, full // 2):
            return Session(None, tsig, 0, malformed=True)
        if tsig.error or not _holds(message, at, key, tsig):
            return Session(None, tsig, rrtypes.BADSIG)
        if abs(tsig.time - now) > tsig.fudge:
            return Session(key, tsig, rrtypes.BADTIME)
        if len(tsig.mac) < full:
            return Session(key, tsig, rrtypes.BADTRUNC)
        return Session(key, tsig, 0)


def _holds(message: bytes, at: int, key: Any, tsig: Tsig) -> bool:
    """Whether the MAC is what the key makes of the message before the TSIG, or the beginning of it."""
    count = int.from_bytes(message[10:12], "big") - 1
    bare = message[:10] + count.to_bytes(2, "big") + message[12:at]
    made, _ = _dnspython("dns.tsig").sign(bare, key, _rdata(tsig), tsig.time)
    return hmac.compare_digest(made.mac[: len(tsig.mac)], tsig.mac)


class Session:
    """One signed request and the replies to it, in order. `name` is the key's; empty when it does not hold."""

    def __init__(self, key: Any, tsig: Tsig | None, error: int, *, malformed: bool = False) -> None:
        self.key = key
        self.tsig = tsig
        self.error = error
        self.malformed = malformed
        self.context: Any = None
        self.name = names.fold(tsig.name) if tsig is not None and key is not None and not error else b""
        self.mac = tsig.mac if tsig is not None else b""

    @property
    def valid(self) -> bool:
        return bool(self.name)

    def sign(self, reply: bytes, now: int, *, multi: bool = False) -> bytes:
        """The reply with its TSIG. BADKEY and BADSIG replies carry one without a MAC."""
        assert self.tsig is not None
        other = b""
        if self.error == rrtypes.BADTIME:
            other = now.to_bytes(6, "big")
        number = int.from_bytes(reply[:2], "big")
        if self.key is None:
            return append(
                reply, self.tsig.name, self.tsig.algorithm, self.tsig.time, b"", number, self.error, other
            )
        when = self.tsig.time if self.error == rrtypes.BADTIME else now
        wire, self.context, _ = signed(
            reply, self.key, when, self.mac, self.context, multi, self.error, other
        )
        return wire


def append(
    message: bytes,
    name: bytes,
    algorithm: bytes,
    when: int,
    mac: bytes,
    number: int,
    error: int,
    other: bytes,
) -> bytes:
    """The message with a TSIG record at its end."""
    data = (
        algorithm
        + struct.pack("!HIHH", when >> 32, when & 0xFFFFFFFF, FUDGE, len(mac))
        + mac
        + struct.pack("!HHH", number, error, len(other))
        + other
    )
    count = int.from_bytes(message[10:12], "big") + 1
    record = name + _FIXED.pack(rrtypes.TSIG, rrtypes.ANY_CLASS, 0, len(data)) + data
    return message[:10] + count.to_bytes(2, "big") + message[12:] + record


def signed(
    message: bytes, key: Any, now: int, request_mac: bytes = b"", context: Any = None, multi: bool = False,
    error: int = 0, other: bytes = b"",
) -> tuple[bytes, Any, bytes]:  # fmt: skip
    """The message signed, the context for the next one of a stream, and the MAC."""
    room = _dnspython("dns.rdtypes.ANY.TSIG")
    number = int.from_bytes(message[:2], "big")
    rdata = room.TSIG(255, 250, key.algorithm, now, FUDGE, b"", number, error, other)
    made, after = _dnspython("dns.tsig").sign(message, key, rdata, now, request_mac, context, multi)
    wire = append(
        message,
        key.name.to_wire().lower(),
        key.algorithm.to_wire().lower(),
        now,
        made.mac,
        number,
        error,
        other,
    )
    return wire, after, made.mac


class Checker:
    """Checks the replies to a request of ours, one or a stream of them."""

    def __init__(self, key: Any, request_mac: bytes) -> None:
        self.key = key
        self.mac = request_mac
        self.context: Any = None
        self.unsigned = 0
        self.first = True

    def check(self, message: bytes, at: int, now: int, multi: bool) -> None:
        """Raise `FormatError` unless the message is signed as it must be; `at` 0 is an unsigned one."""
        if not at:
            self.unsigned += 1
            if self.first or self.unsigned > 99 or self.context is None:
                raise FormatError("a reply without the signature it must have.")
            self.context.update(message)
            return
        tsig = Tsig.parse(message, at)
        module = _dnspython("dns.tsig")
        try:
            self.context = module.validate(
                message, self.key, _dnspython("dns.name").from_wire(tsig.name, 0)[0], _rdata(tsig), now,
                self.mac, at, self.context, multi,
            )  # fmt: skip
        except Exception as error:
            raise FormatError(f"a reply whose signature does not hold ({type(error).__name__}).") from None
        self.unsigned = 0
        self.first = False


def _rdata(tsig: Tsig) -> Any:
    name = _dnspython("dns.name").from_wire(names.fold(tsig.algorithm), 0)[0]
    room = _dnspython("dns.rdtypes.ANY.TSIG")
    return room.TSIG(255, 250, name, tsig.time, tsig.fudge, tsig.mac, tsig.id, tsig.error, tsig.other)


def _dnspython(room: str) -> Any:
    try:
        return importlib.import_module(room)
    except ImportError:
        raise missing_extra("TSIG", "dnssec") from None
