"""Addresses as the twin of the ENet host keeps them: keyed hashes, prefixes, and what a source may send unproven.

Imports nothing of ours. Called by enet_host.py and enet_half.py.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import Any

_MASK = (1 << 64) - 1
_RATE, _BURST, _BUCKETS, _PREFIXES = 1000, 2000, 8192, 4


def siphash(key: tuple[int, int], words: list[int]) -> int:
    """SipHash-1-3 of whole 64-bit words."""
    a, b = key[0] ^ 0x736F6D6570736575, key[1] ^ 0x646F72616E646F6D
    c, d = key[0] ^ 0x6C7967656E657261, key[1] ^ 0x7465646279746573

    def turned(x: int, bits: int) -> int:
        return (x << bits | x >> (64 - bits)) & _MASK

    def mix() -> None:
        nonlocal a, b, c, d
        a = a + b & _MASK
        b = turned(b, 13) ^ a
        a = turned(a, 32)
        c = c + d & _MASK
        d = turned(d, 16) ^ c
        a = a + d & _MASK
        d = turned(d, 21) ^ a
        c = c + b & _MASK
        b = turned(b, 17) ^ c
        c = turned(c, 32)

    for word in [*words, len(words) << 59 & _MASK]:
        d ^= word
        mix()
        a ^= word
    c ^= 0xFF
    mix()
    mix()
    mix()
    return a ^ b ^ c ^ d


def key_words(address: Any) -> list[int]:
    """An address as the three words that are hashed: IPv4 as ::ffff:a.b.c.d, scope, port."""
    ip = ipaddress.ip_address(address[0].partition("%")[0])
    raw = bytes(10) + b"\xff\xff" + ip.packed if ip.version == 4 else ip.packed
    raw += bytes(4) + address[1].to_bytes(2, "little") + bytes(2)
    return [int.from_bytes(raw[i : i + 8], "little") for i in (0, 8, 16)]


def raw_of(address: Any) -> bytes:
    """The IP alone, 16 bytes."""
    return b"".join(word.to_bytes(8, "little") for word in key_words((address[0], 0))[:2])


def prefix_of(address: Any) -> bytes:
    """Its /24, or /56 of IPv6."""
    raw = raw_of(address)
    return raw[:15] if raw.startswith(bytes(10) + b"\xff\xff") else raw[:7]


def loopback(address: Any) -> bool:
    """Whether it is of this machine."""
    host = address[0]
    return bool(host.startswith("127.") or host == "::1")


class Buckets:
    """1,000 datagrams a second and a burst of 2,000 for each address without proof, four times that for a prefix.

    A table of fixed size, the oldest out.
    """

    def __init__(self) -> None:
        self._of: OrderedDict[bytes, tuple[int, int]] = OrderedDict()

    def takes(self, address: Any, ms: int) -> bool:
        """Whether one more may be looked at."""
        return self._take(raw_of(address), ms, 1) and self._take(prefix_of(address), ms, _PREFIXES)

    def _take(self, key: bytes, ms: int, times: int) -> bool:
        most = _BURST * times
        at, tokens = self._of.pop(key, (ms, most))
        tokens = min(most, tokens + (ms - at) * times * _RATE // 1000)
        self._of[key] = ms, max(0, tokens - 1)
        if len(self._of) > _BUCKETS:
            self._of.popitem(last=False)
        return tokens > 0
