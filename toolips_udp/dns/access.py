"""Address prefixes: who may recurse, transfer, notify. Imports errors only."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from ..errors import FormatError

LOOPBACK = ("127.0.0.0/8", "::1/128")


class Prefixes:
    """A set of prefixes; `host in prefixes` for the text of an address.

    IPv4-mapped IPv6 addresses count as IPv4. `"any"` is every address. Raises
    `FormatError` for text that is no prefix.
    """

    def __init__(self, prefixes: Iterable[str] = ()) -> None:
        self.texts = tuple(prefixes)
        self._tables: dict[int, dict[int, set[int]]] = {4: {}, 6: {}}
        for text in self.texts:
            for each in ("0.0.0.0/0", "::/0") if text == "any" else (text,):
                try:
                    network = ipaddress.ip_network(each, strict=False)
                except ValueError as error:
                    raise FormatError(
                        f"{text!r} is not an address prefix ({error}). Expected e.g. 10.0.0.0/8."
                    ) from None
                table = self._tables[network.version]
                table.setdefault(network.max_prefixlen - network.prefixlen, set()).add(
                    int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
                )

    def __contains__(self, host: str) -> bool:
        version, number = _number(host)
        return any(number >> shift in found for shift, found in self._tables[version].items())

    def __bool__(self) -> bool:
        return bool(self.texts)


@lru_cache(maxsize=4096)
def _number(host: str) -> tuple[int, int]:
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        address = mapped
    return address.version, int(address)


NOBODY = Prefixes()
