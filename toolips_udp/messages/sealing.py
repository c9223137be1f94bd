"""Seals: every message after the login is signed, or sealed, with keys that only this session has.

Imports nothing of ours; `cryptography` only when `secure` is asked for. Sans-io. One `Seal` is one direction's
writer, one `Opener` its reader. Numbers are 64 bits and never start again under one key.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

MAC = 16
HEAD = 8 + MAC
"""Bytes that a signature adds to a frame."""
WINDOW = 256
"""How far behind the newest number a message may be."""
LAST = 2**64 - 1

_ALL = (1 << WINDOW) - 1
_equal = hmac.compare_digest
_int_of = int.from_bytes


def mac_of(key: bytes) -> Callable[[], Any]:
    """Makes signatures under this key: BLAKE2b, keyed once, then copied."""
    return hashlib.blake2b(digest_size=MAC, key=key).copy


class Seal:
    """Writes: number, signature, body; or number, ciphertext with its tag."""

    __slots__ = ("_cipher", "_mac", "number")

    def __init__(self, key: bytes, secure: bool) -> None:
        self._mac = mac_of(key)
        self._cipher = cipher(key) if secure else None
        self.number = 0

    def close(self, body: bytes) -> bytes:
        """The bytes for the carrier. `OverflowError` after 2**64 messages: log in again."""
        number = self.number + 1
        if number > LAST:
            raise OverflowError("the numbers of this session are used up")
        self.number = number
        head = number.to_bytes(8, "big")
        if self._cipher is not None:
            return head + self._cipher.encrypt(b"\0\0\0\0" + head, body, head)  # type: ignore[no-any-return]
        mac = self._mac()
        mac.update(head + body)
        return head + mac.digest() + body  # type: ignore[no-any-return]


class Window:
    """Which numbers were seen: each once, none that is more than 256 behind the newest."""

    __slots__ = ("newest", "seen")

    def __init__(self) -> None:
        self.newest = 0
        self.seen = 0

    def is_fresh(self, number: int) -> bool:
        """Whether this number may still come."""
        behind = self.newest - number
        return number > 0 and (behind < 0 or (behind < WINDOW and not self.seen >> behind & 1))

    def take(self, number: int) -> None:
        """This number has come, and its message was genuine."""
        ahead = number - self.newest
        if ahead > 0:
            self.seen = ((self.seen << ahead) | 1) & _ALL if ahead < WINDOW else 1
            self.newest = number
        else:
            self.seen |= 1 << -ahead


class Opener:
    """Reads what a `Seal` of the other side wrote."""

    __slots__ = ("_cipher", "_mac", "window")

    def __init__(self, key: bytes, secure: bool) -> None:
        self._mac = mac_of(key)
        self._cipher = cipher(key) if secure else None
        self.window = Window()

    def open(self, data: bytes) -> bytes | str:
        """The body, or the word it is dropped under: `denied` (not genuine) or `replayed`."""
        if len(data) < HEAD:
            return "denied"
        head = data[:8]
        if self._cipher is not None:
            body = self._unseal(head, data[8:])
            if body is None:
                return "denied"
        else:
            body = data[24:]
            mac = self._mac()
            mac.update(head + body)
            if not _equal(mac.digest(), data[8:24]):
                return "denied"
        number = _int_of(head, "big")
        window = self.window
        if number == window.newest + 1:  # what a reliable carrier brings
            window.newest = number
            if window.seen is not _ALL:  # as it is from the 256th on
                seen = (window.seen << 1 | 1) & _ALL
                window.seen = _ALL if seen == _ALL else seen
            return body
        if not window.is_fresh(number):
            return "replayed"
        window.take(number)
        return body

    def _unseal(self, head: bytes, data: bytes) -> bytes | None:
        from cryptography.exceptions import InvalidTag

        assert self._cipher is not None
        try:
            body: bytes = self._cipher.decrypt(b"\0\0\0\0" + head, data, head)
        except InvalidTag:
            return None
        return body


def need_cryptography() -> None:
    """Raises `MissingExtra`, which says what to install, where `cryptography` is not."""
    try:
        import cryptography  # noqa: F401
    except ImportError:
        from ..errors import missing_extra

        raise missing_extra("secure=True", "secure") from None


def cipher(key: bytes) -> Any:
    """ChaCha20-Poly1305 under this key."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    return ChaCha20Poly1305(key)


class Exchange:
    """One side of X25519: a public key to send, and the secret that both sides then share."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        need_cryptography()
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        self._private = X25519PrivateKey.from_private_bytes(random(32))
        self.public: bytes = self._private.public_key().public_bytes_raw()

    def shared(self, public: bytes) -> bytes | None:
        """The shared secret, or None for a public key that is none (a point of low order)."""
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            return None
