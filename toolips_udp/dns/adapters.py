"""Runs an unmodified dnslib resolver as a step (spec section 10, example 7).

Imports dnslib when used. EDNS, truncation, cookies and case are done around it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from . import rrtypes
from .message import Message
from .question import Question
from .result import Result
from .zone import RRset


class _Seen:
    """What a dnslib resolver gets as its `handler`."""

    def __init__(self, q: Question) -> None:
        self.client_address = (q.client.host, q.client.port)
        self.protocol = "tcp" if q.stream else "udp"
        self.server = q.server


class FromDnslib:
    """A `dnslib.server.BaseResolver` as a step; see `from_dnslib`."""

    recursive = False

    def __init__(self, resolver: Any, threaded: bool = False) -> None:
        self.resolver = resolver
        self.threaded = threaded

    def ask(self, q: Question) -> Any:
        """The resolver's reply as a Result; one that raises is a failed handler."""
        if self.threaded:
            return self._in_thread(q)
        return self._result(self.resolver.resolve(q.message, _Seen(q)))

    async def _in_thread(self, q: Question) -> Result:
        loop = asyncio.get_running_loop()
        return self._result(await loop.run_in_executor(None, self.resolver.resolve, q.message, _Seen(q)))

    @staticmethod
    def _result(reply: Any) -> Result:
        message = Message.parse(bytes(reply.pack()))
        result = Result(message.rcode, message.aa)
        result.source = "python"
        result.ad = message.ad
        result.answer = gathered(message.answer)
        result.authority = gathered(message.authority)
        result.additional = gathered(message.additional)
        return result


def gathered(records: Any) -> list[RRset]:
    """Records of a message as RRsets, in the order in which they came."""
    found: dict[tuple[bytes, int, bytes], RRset] = {}
    for record in records:
        if record.rclass != rrtypes.IN:
            continue
        covered = record.data[:2] if record.type == rrtypes.RRSIG else b""
        key = (record.name.lower(), record.type, covered)
        rrset = found.get(key)
        if rrset is None:
            found[key] = RRset(record.name, record.type, min(record.ttl, 0x7FFFFFFF), [record.data])
        elif record.data not in rrset.rdatas:
            rrset.rdatas.append(record.data)
            rrset.ttl = min(rrset.ttl, record.ttl)
    return list(found.values())


def from_dnslib(resolver: Any, *, threaded: bool = False) -> FromDnslib:
    """Serve with a dnslib resolver as it is. `threaded=True` for one that blocks.

    >>> service = dns.Service(dns.from_dnslib(Old()))
    """
    return FromDnslib(resolver, threaded)
