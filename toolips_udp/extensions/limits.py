"""limits: a rate per source, in memory that does not grow. Above the ground floor.

A native stage where the native core serves; the Python twin serves the portable
transport and is the oracle of the tests.
"""

from __future__ import annotations

import array
import os
from collections.abc import Mapping
from typing import Any

from ..address import Address
from .base import Extension

LEVELS: dict[int, dict[int, int]] = {4: {32: 1, 24: 4}, 6: {64: 1, 48: 4}}
"""IP version -> prefix length -> multiple of the rate."""


class Limits(Extension):
    """What `limits(...)` makes."""

    def __init__(
        self,
        rate: float,
        burst: float,
        max_ratio: float | None,
        prefixes: Mapping[int, Mapping[int, int]],
        loopback: bool,
    ) -> None:
        if not rate > 0 or not burst >= 1:
            raise ValueError(f"limits needs a rate above 0 and a burst of 1 or more, found {rate=}, {burst=}")
        if max_ratio is not None and not max_ratio > 0:
            raise ValueError(f"max_ratio is bytes out to bytes in and above 0, found {max_ratio!r}")
        self.rate = rate
        self.burst = burst
        self.max_ratio = max_ratio
        self.loopback = loopback
        self.levels = [(family, bits, times) for family, of in prefixes.items() for bits, times in of.items()]
        for family, bits, times in self.levels:
            if family not in (4, 6) or not 1 <= bits <= (32 if family == 4 else 128) or times < 1:
                raise ValueError(f"a prefix of {bits} bits times {times} is not possible for IPv{family}")
        self._twin: Buckets | None = None

    def stages(self) -> list[Any]:
        """The native limiter."""
        from .._native.guards import Limiter

        return [Limiter(self.rate, self.burst, self.levels, self.loopback)]

    def guard(self, address: Address, now: float) -> str | None:
        """The word of a datagram that is over its rate, or None. Where no stage runs."""
        if self._twin is None:
            self._twin = Buckets(self.rate, self.burst, self.levels, self.loopback)
        return None if self._twin.take(address.host, now) else "limited"


def limits(
    rate: float = 50,
    burst: float = 125,
    *,
    max_ratio: float | None = None,
    prefixes: Mapping[int, Mapping[int, int]] = LEVELS,
    loopback: bool = False,
) -> Limits:
    """Refuse sources that ask too often, before Python sees them (counted `limited`).

    `rate` datagrams a second are sustained per IPv4 address and per IPv6 /64,
    and bursts of `burst`; a /24 and a /48 get 4 times that. `prefixes` maps IP
    version to {prefix length: multiple}. Memory is fixed (1 MiB): sources share
    buckets by hash, so a collision only makes the limit stricter. Loopback
    sources are exempt unless `loopback=True`. `max_ratio` bounds the bytes that
    one packet's answers may have, as a multiple of its own: over it `respond`
    raises `TooLong`, so that a forged source cannot be flooded through you.

    >>> guard = limits(rate=20, burst=40, max_ratio=3)
    """
    return Limits(rate, burst, max_ratio, prefixes, loopback)


class Buckets:
    """The Python twin of native/limiter.c, with the same rules."""

    SIZE = 1 << 16

    def __init__(self, rate: float, burst: float, levels: list[tuple[int, int, int]], loopback: bool) -> None:
        self._cost = 1.0 / rate
        self._ahead = (burst - 1.0) / rate
        self._levels = levels
        self._loopback = loopback
        self._seed = os.urandom(16)
        self._times = array.array("d", bytes(8 * self.SIZE))

    def take(self, ip: str, now: float, weight: int = 1) -> bool:
        """Whether a datagram from `ip` may pass at time `now`; charges it then."""
        import ipaddress

        source = ipaddress.ip_address(ip.partition("%")[0])
        if source.is_loopback and not self._loopback:
            return True
        charges = []
        for number, (family, bits, times) in enumerate(self._levels):
            if family != source.version:
                continue
            prefix = int(source) >> (source.max_prefixlen - bits)
            at = hash((self._seed, number, prefix)) % self.SIZE
            start = max(self._times[at], now)
            if start - now > self._ahead:
                return False
            charges.append((at, start + self._cost * weight / times))
        for at, then in charges:
            self._times[at] = then
        return True
