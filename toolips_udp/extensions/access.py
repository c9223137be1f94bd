"""access: who may ask, by address prefix. Above the ground floor.

The lists are folded to sorted ranges once; a question is one binary search, in
C where the native core serves.
"""

from __future__ import annotations

import bisect
import ipaddress
from collections.abc import Iterable
from typing import Any

from ..address import Address
from .base import Extension

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_MAPPED = 0xFFFF << 32


class Access(Extension):
    """What `access(...)` makes."""

    def __init__(self, allow: Iterable[str], deny: Iterable[str]) -> None:
        self.ranges = fold(_parse(allow, "allow"), _parse(deny, "deny"))
        self._starts = [first for first, _ in self.ranges]

    def stages(self) -> list[Any]:
        """The native access list."""
        from .._native.guards import AccessList

        return [AccessList((first.to_bytes(16, "big"), allowed) for first, allowed in self.ranges)]

    def allows(self, ip: str) -> bool:
        """Whether this address may ask."""
        number = _number(ipaddress.ip_address(ip.partition("%")[0]))
        return self.ranges[bisect.bisect_right(self._starts, number) - 1][1]

    def guard(self, address: Address, now: float) -> str | None:
        """The word of a datagram that may not ask, or None. Where no stage runs."""
        return None if self.allows(address.host) else "denied"


def access(*, allow: Iterable[str] = (), deny: Iterable[str] = ()) -> Access:
    """Serve only sources that may ask; the others are counted `denied` before Python sees them.

    Both lists hold addresses and prefixes, `"192.0.2.0/24"` or `"2001:db8::/32"`.
    The longest prefix that fits decides, and `deny` wins over `allow` for the
    same one. What fits none is served, unless there is an `allow` list.

    >>> office = access(allow=["127.0.0.0/8", "10.0.0.0/8"], deny=["10.9.0.0/16"])
    """
    return Access(allow, deny)


def _parse(prefixes: Iterable[str], name: str) -> list[_Network]:
    if isinstance(prefixes, str):
        raise TypeError(
            f"access({name}=...) takes a list of prefixes, found the text {prefixes!r}. Fix: [{prefixes!r}]"
        )
    found = []
    for text in prefixes:
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise ValueError(
                f"access({name}=...) holds {text!r}: {error}. Expected for example '192.0.2.0/24'"
            ) from None
    return found


def _number(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    return int(ip) | _MAPPED if ip.version == 4 else int(ip)


def fold(allow: list[_Network], deny: list[_Network]) -> list[tuple[int, bool]]:
    """Sorted (first address, verdict) ranges over all 128-bit addresses; IPv4 as ::ffff:0:0/96."""
    default = not allow
    spans = []
    for networks, verdict in ((allow, True), (deny, False)):
        for network in networks:
            bits = network.prefixlen + (96 if network.version == 4 else 0)
            first = _number(network.network_address)
            spans.append((first, first + (1 << (128 - bits)), bits, verdict))
    # Outer prefixes first, deny last of equals, so that what comes later wins. Prefixes nest, so a stack holds them.
    spans.sort(key=lambda span: (span[0], span[2], not span[3]))
    ranges: list[tuple[int, bool]] = [(0, default)]
    open_spans: list[tuple[int, bool]] = []  # (end, verdict)

    def begin(at: int, verdict: bool) -> None:
        if ranges[-1][0] == at:
            ranges.pop()
        if not ranges or ranges[-1][1] != verdict:
            ranges.append((at, verdict))

    def close_until(at: int) -> None:
        while open_spans and open_spans[-1][0] <= at:
            end, _ = open_spans.pop()
            if end < 1 << 128:
                begin(end, open_spans[-1][1] if open_spans else default)

    for first, end, _, verdict in spans:
        close_until(first)
        open_spans.append((end, verdict))
        begin(first, verdict)
    close_until(1 << 128)
    return ranges
