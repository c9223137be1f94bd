"""The DNS house: zones, messages, and a service that answers questions.

Every public name, loaded when first used. Record makers (`dns.A`, `dns.TXT`,
`dns.MX`, ...) exist for every RR type.

>>> from toolips_udp import TCP, UDP, dns, start
>>> service = dns.Service(dns.Zone.load("example.org.zone"))
>>> start((UDP, TCP), __name__, "127.0.0.1:5300")
"""

from __future__ import annotations

import importlib
from typing import Any

_ROOMS = {
    "answers": "Answer RR NXDOMAIN NODATA REFUSED SERVFAIL DROP PASS",
    "message": "Message Record ask",
    "zone": "Zone ZoneError RRset Problem",
    "service": "Service",
    "question": "Question",
    "result": "Result",
    "adapters": "from_dnslib",
    "forward": "Forward",
    "policy": "Blocklist Local Rebinding",
    "views": "View DNS64",
    "ratelimit": "RateLimit",
    "tsig": "Keys",
    "transfers": "Transfers",
    "asgi": "asgi",
    "store": "ZoneStore",
    "importing": "from_chins",
    "starting": "start serve",
}
_HOMES = {name: room for room, found in _ROOMS.items() for name in found.split()}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif name.isupper() or (name.replace("_", "").isalnum() and name.upper() == name):
        from .answers import maker
        from .rdata import TABLE

        kind = name.replace("_", "-")
        if kind not in TABLE:
            raise AttributeError(f"toolips_udp.dns has no attribute {name!r}")
        value = maker(kind)
    else:
        raise AttributeError(f"toolips_udp.dns has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
