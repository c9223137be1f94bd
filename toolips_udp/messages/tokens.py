"""Tokens: made from a secure source, shown once, turned into a key of fixed length.

Imports nothing of ours. The token itself never leaves this room's server and client, unless a custom
login wants it.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import string

DEFAULT_LENGTH = 25
DEFAULT_CHOICES = string.ascii_letters
LEAST_BITS = 64
"""Below this much randomness a generated token is warned of."""
LONGEST = 4096
"""Bytes of a token that a custom login is sent."""


def generate(length: int = DEFAULT_LENGTH, choices: str = DEFAULT_CHOICES) -> str:
    """A random token. `ValueError` for a length below 1 or fewer than two different characters.

    >>> len(generate())
    25
    """
    check(length, choices)
    return "".join(secrets.choice(choices) for _ in range(length))


def check(length: int, choices: str) -> None:
    """Raise `ValueError` when no token can be made from these."""
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise ValueError(f"default_token_len is {length!r}, expected 1 or more characters")
    if len(set(choices)) < 2:
        raise ValueError(f"default_token_choices is {choices!r}, expected two different characters or more")


def bits(length: int, choices: str) -> float:
    """How much randomness such a token has."""
    return length * math.log2(len(set(choices)))


def key_of(token: str) -> bytes:
    """32 bytes that stand for a token, whatever its length and letters."""
    raw = token.encode("utf-8", "surrogatepass")
    return hmac.digest(b"toolips_udp messages token", raw, hashlib.sha256)
