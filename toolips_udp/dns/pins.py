"""Public keys that are pinned: an upstream is believed for its key, whoever signed its certificate (RFC 7858 4.2).

A pin is the SHA-256 of the certificate's SubjectPublicKeyInfo, in base64. Imports errors; called by
sockets and doh after the handshake.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ssl
from typing import Any

from ..errors import FormatError

SCHEME = "pin-sha256="
_SEQUENCE, _VERSION = 0x30, 0xA0
_BEFORE_KEY = 5  # serial, algorithm, issuer, validity, subject


def read(text: str) -> bytes | None:
    """The digest in `pin-sha256=BASE64`; None for a name. Raises `FormatError` when it is no digest."""
    if not text.startswith(SCHEME):
        return None
    try:
        digest = base64.b64decode(text.removeprefix(SCHEME), validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != 32:
        raise FormatError(
            f"{text!r} is no pin: expected {SCHEME} and the base64 of a SHA-256, 44 characters."
        )
    return digest


def _element(der: bytes, at: int, tag: int | None = None) -> tuple[int, int]:
    """Where the content of a DER element begins and ends."""
    if len(der) - at < 2 or (tag is not None and der[at] != tag):
        raise FormatError("a certificate that is not DER.")
    size, begin = der[at + 1], at + 2
    if size & 0x80:
        octets = size & 0x7F
        if not 1 <= octets <= 4 or octets > len(der) - begin:
            raise FormatError("a certificate that is not DER.")
        size, begin = int.from_bytes(der[begin : begin + octets], "big"), begin + octets
    if size > len(der) - begin:
        raise FormatError("a certificate that is cut short.")
    return begin, begin + size


def digest_of(der: bytes) -> bytes:
    """The SHA-256 of the public key in a certificate; `FormatError` when it is none."""
    at, _ = _element(der, 0, _SEQUENCE)
    at, _ = _element(der, at, _SEQUENCE)
    if der[at : at + 1] == bytes((_VERSION,)):
        at = _element(der, at)[1]
    for _ in range(_BEFORE_KEY):
        at = _element(der, at)[1]
    end = _element(der, at, _SEQUENCE)[1]
    return hashlib.sha256(der[at:end]).digest()


def check(connection: Any, pin: bytes | None) -> None:
    """Raises `ssl.SSLError` unless the peer of a connection has the pinned key. Without a pin, nothing."""
    if pin is None:
        return
    tls = connection.get_extra_info("ssl_object")
    der = tls.getpeercert(binary_form=True) if tls is not None else None
    try:
        good = der is not None and hmac.compare_digest(digest_of(der), pin)
    except FormatError:
        good = False
    if not good:
        raise ssl.SSLError("its key is not the one that is pinned")
