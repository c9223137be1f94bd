"""The DNS house: zones, messages, and a service that answers questions.

Every public name, loaded when first used. Record makers (`dns.A`, `dns.TXT`,
`dns.MX`, ...) exist for every RR type.

>>> from toolips_udp import TCP, UDP, dns, start
>>> service = dns.Service(dns.Zone.load("example.org.zone"))
>>> start((UDP, TCP), __name__, "127.0.0.1:5300")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from .adapters import from_dnslib as from_dnslib
    from .answers import (
        DROP as DROP,
    )
    from .answers import (
        NODATA as NODATA,
    )
    from .answers import (
        NXDOMAIN as NXDOMAIN,
    )
    from .answers import (
        PASS as PASS,
    )
    from .answers import (
        REFUSED as REFUSED,
    )
    from .answers import (
        RR as RR,
    )
    from .answers import (
        SERVFAIL as SERVFAIL,
    )
    from .answers import (
        Answer as Answer,
    )
    from .asgi import asgi as asgi
    from .forward import Forward as Forward
    from .importing import from_chins as from_chins
    from .message import Message as Message
    from .message import Record as Record
    from .message import ask as ask
    from .policy import Blocklist as Blocklist
    from .policy import Local as Local
    from .policy import Rebinding as Rebinding
    from .question import Question as Question
    from .ratelimit import RateLimit as RateLimit
    from .result import Result as Result
    from .service import Service as Service
    from .starting import serve as serve
    from .starting import start as start
    from .store import ZoneStore as ZoneStore
    from .transfers import Transfers as Transfers
    from .tsig import Keys as Keys
    from .views import DNS64 as DNS64
    from .views import View as View
    from .zone import Problem as Problem
    from .zone import RRset as RRset
    from .zone import Zone as Zone
    from .zone import ZoneError as ZoneError

    A: Callable[..., RR]
    AAAA: Callable[..., RR]
    NS: Callable[..., RR]
    CNAME: Callable[..., RR]
    SOA: Callable[..., RR]
    PTR: Callable[..., RR]
    MX: Callable[..., RR]
    TXT: Callable[..., RR]
    SRV: Callable[..., RR]
    NAPTR: Callable[..., RR]
    CAA: Callable[..., RR]
    DS: Callable[..., RR]
    DNSKEY: Callable[..., RR]
    TLSA: Callable[..., RR]
    SSHFP: Callable[..., RR]
    SVCB: Callable[..., RR]
    HTTPS: Callable[..., RR]
    DNAME: Callable[..., RR]
    LOC: Callable[..., RR]
    URI: Callable[..., RR]
    SPF: Callable[..., RR]
    HINFO: Callable[..., RR]

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
_LATER = {"Resolve": "comes with the resolver, which is not here yet. Use dns.Forward to ask servers that resolve."}
_HOMES = {name: room for room, found in _ROOMS.items() for name in found.split()}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif name in _LATER:
        raise AttributeError(f"toolips_udp.dns.{name} {_LATER[name]}")
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
