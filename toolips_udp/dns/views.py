"""Steps that hold steps: View (split horizon) and DNS64 (spec P6, P8). Imports question, result, service's grouping."""

from __future__ import annotations

import inspect
import ipaddress
from collections.abc import Iterable
from typing import Any

from ..errors import StartError
from . import names, rrtypes
from .access import Prefixes
from .listen import split
from .policy import block_soa
from .query import Query
from .question import Question, derived
from .result import Result, error
from .steps import grouped, walk
from .zone import RRset

WELL_KNOWN = "64:ff9b::/96"
_IPV4ONLY = names.from_text("ipv4only.arpa")
_ONLY = (bytes((192, 0, 0, 170)), bytes((192, 0, 0, 171)))
_MAPPED = ipaddress.ip_network("::ffff:0:0/96")
_LENGTHS = (32, 40, 48, 56, 64, 96)


class Nested:
    """Steps within a step."""

    steps: list[Any]

    @property
    def recursive(self) -> bool:
        return any(getattr(step, "recursive", False) for step in self.steps)

    async def start(self, service: Any) -> None:
        for step in self.steps:
            started = step.start(service) if hasattr(step, "start") else None
            if inspect.isawaitable(started):
                await started

    async def stop(self) -> None:
        for step in reversed(self.steps):
            stopped = step.stop() if hasattr(step, "stop") else None
            if inspect.isawaitable(stopped):
                await stopped


class View(Nested):
    """Steps for some clients only; the first view that fits answers, also with REFUSED.

    `clients` are address prefixes, `transports` like `"udp"` or `"tls"`, `keys` names of
    TSIG keys that the question must be signed with, `listeners` addresses of ours that it came to,
    written as in `Service(listen=...)`; all left out means everyone. Recursion is offered where the
    view's own steps can. Answers are never shared between views.

    >>> View("office", clients=["10.0.0.0/8"], steps=[Zone.load("inside.zone")])
    """

    def __init__(
        self,
        name: str,
        *,
        clients: Iterable[str] = ("any",),
        transports: Iterable[str] = (),
        keys: Iterable[str] = (),
        listeners: Iterable[str] = (),
        steps: Iterable[Any] = (),
    ) -> None:
        self.name = name
        self.clients = Prefixes(clients)
        self.transports = frozenset(transports)
        self.keys = frozenset(names.fold(names.from_text(key)) for key in keys)
        self.listeners = frozenset(
            (kind, address) for kinds, address, _ in map(split, listeners) for kind in kinds
        )
        self.steps = grouped(steps)

    def fits(self, q: Question) -> bool:
        if self.keys and getattr(q, "key", b"") not in self.keys:
            return False
        if self.listeners and (q.transport, getattr(q.connection, "listener", None)) not in self.listeners:
            return False
        return q.client.host in self.clients and (not self.transports or q.transport in self.transports)

    def ask(self, q: Question) -> Any:
        if not self.fits(q):
            return None
        q.view = self.name
        q.recurses = self.recursive
        return self._ask(q)

    async def _ask(self, q: Question) -> Any:
        found = await walk(self.steps, q)
        return found if found is not None else error(rrtypes.REFUSED, 20)


class DNS64(Nested):
    """AAAA for names that have only A, for clients behind NAT64 (RFC 6147).

    `prefix` is one of the lengths of RFC 6052. Nothing is made for clients that
    validate themselves (DO and CD).

    >>> DNS64(Forward("192.0.2.1"), prefix="64:ff9b::/96")
    """

    def __init__(self, *steps: Any, prefix: str = WELL_KNOWN) -> None:
        self.steps = grouped(steps)
        try:
            self.prefix = ipaddress.IPv6Network(prefix)
        except ValueError as wrong:
            raise StartError(
                f"DNS64 prefix {prefix!r} is no IPv6 prefix ({wrong}).", code="bad-dns-setting"
            ) from None
        if self.prefix.prefixlen not in _LENGTHS:
            raise StartError(
                f"DNS64 prefix {prefix!r}: expected a length of {', '.join(map(str, _LENGTHS))}.",
                code="bad-dns-setting",
            )

    def ask(self, q: Question) -> Any:
        return self._ask(q)

    async def _ask(self, q: Question) -> Any:
        query = q.query
        if query.qtype == rrtypes.PTR:
            mapped = self._mapped(query.key)
            if mapped is not None:
                return await self._reverse(q, mapped)
        if query.key == _IPV4ONLY:
            return self._ipv4only(query)
        found = await walk(self.steps, q)
        if query.qtype != rrtypes.AAAA or found is None or found == "drop" or (query.do and query.cd):
            return found
        if found.rcode != rrtypes.NOERROR or _useful(found):
            return found
        plain = await walk(self.steps, derived(q, query.name, rrtypes.A))
        if plain is None or plain == "drop" or plain.rcode != rrtypes.NOERROR:
            return found
        return self._made(plain, found)

    def _ipv4only(self, query: Query) -> Result:
        """By this name clients find the prefix; it is answered here, never asked (RFC 8880)."""
        result = Result(aa=True)
        result.source = "policy"
        data = {rrtypes.A: list(_ONLY), rrtypes.AAAA: [self.embed(octets) for octets in _ONLY]}.get(
            query.qtype
        )
        if data:
            result.answer.append(RRset(query.name, query.qtype, 600, data))
        else:
            result.authority.append(block_soa())
        return result

    def _made(self, plain: Result, negative: Result) -> Result:
        soa = next((r for r in negative.authority if r.type == rrtypes.SOA), None)
        most = min(soa.ttl, int.from_bytes(soa.rdatas[0][-4:], "big")) if soa else 600
        made = Result()
        made.source = plain.source
        for rrset in plain.answer:
            if rrset.type == rrtypes.A:
                data = [self.embed(octets) for octets in rrset.rdatas]
                made.answer.append(RRset(rrset.owner, rrtypes.AAAA, min(rrset.ttl, most), data))
            elif rrset.type in (rrtypes.CNAME, rrtypes.DNAME):
                made.answer.append(rrset)
        return made if any(r.type == rrtypes.AAAA for r in made.answer) else negative

    def embed(self, octets: bytes) -> bytes:
        """The IPv6 address that holds an IPv4 one (RFC 6052 2.2)."""
        length = self.prefix.prefixlen // 8
        whole = bytearray(self.prefix.network_address.packed)
        places = [at for at in range(length, 16) if at != 8][:4] if length < 12 else [12, 13, 14, 15]
        for at, octet in zip(places, octets, strict=True):
            whole[at] = octet
        return bytes(whole)

    def _mapped(self, key: bytes) -> bytes | None:
        """The IPv4 address in an ip6.arpa name below the prefix."""
        labels = names.split(key)
        if (
            len(labels) != 34
            or labels[32:] != (b"ip6", b"arpa")
            or any(len(label) != 1 for label in labels[:32])
        ):
            return None
        try:
            octets = bytes.fromhex(b"".join(reversed(labels[:32])).decode())
        except ValueError:
            return None
        if ipaddress.IPv6Address(octets) not in self.prefix:
            return None
        length = self.prefix.prefixlen // 8
        places = [at for at in range(length, 16) if at != 8][:4] if length < 12 else [12, 13, 14, 15]
        return bytes(octets[at] for at in places)

    async def _reverse(self, q: Question, octets: bytes) -> Any:
        target = names.from_text(ipaddress.IPv4Address(octets).reverse_pointer)
        found = await walk(self.steps, derived(q, target, rrtypes.PTR))
        made = Result()
        made.source = "policy"
        made.answer.append(RRset(q.query.name, rrtypes.CNAME, 600, [target]))
        if found is not None and found != "drop":
            made.rcode = found.rcode
            made.answer += found.answer
            made.authority += found.authority
        return made


def _useful(result: Result) -> bool:
    """Whether there is an AAAA that is not an IPv4-mapped one."""
    return any(
        ipaddress.IPv6Address(octets) not in _MAPPED
        for rrset in result.answer
        if rrset.type == rrtypes.AAAA
        for octets in rrset.rdatas
    )
