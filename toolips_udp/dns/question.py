"""`q`: the question as a handler sees it (spec section 10).

Imports query, names, rrtypes; dnslib and dnspython only when asked for.
"""

from __future__ import annotations

import importlib
import ipaddress
from typing import TYPE_CHECKING, Any

from ..errors import missing_extra
from . import edns, names, rrtypes
from .query import Query

if TYPE_CHECKING:
    from .service import Service


class QuestionVerbs:
    """What a question can do, whoever parsed it."""

    __slots__ = ()

    query: Any
    client: Any
    transport: Any
    service: Any
    name: Any

    @property
    def type(self) -> str:
        return rrtypes.type_name(self.query.qtype)

    @property
    def subnet(self) -> Any:
        """The client's network as it says (RFC 7871), an `ipaddress` network; None unless `Service(ecs=True)`."""
        data = self.query.options.get(edns.ECS) if self.service.ecs else None
        if data is None:
            return None
        family, source, _, octets = edns.parse_ecs(data)
        if family not in (1, 2):
            return None
        return ipaddress.ip_network((octets.ljust(4 if family == 1 else 16, b"\0"), source))

    @property
    def message(self) -> Any:
        """The client's message as a `dnslib.DNSRecord`, made when first asked for."""
        import dnslib  # type: ignore[import-untyped]

        return dnslib.DNSRecord.parse(self.query.packet)

    @property
    def message_dnspython(self) -> Any:
        """The client's message as a dnspython message (extra `dnssec`)."""
        try:
            message = importlib.import_module("dns.message")
        except ImportError:
            raise missing_extra("q.message_dnspython", "dnssec") from None
        return message.from_wire(self.query.packet)

    async def resolve(self, name: str, rtype: str | int) -> Any:
        """Ask the steps of this service another question, under the same work budget.

        Returns a `Result`; raises `RecursionError` when the budget (50 questions
        for one client question) is used up.
        """
        self.work -= 1  # type: ignore[attr-defined]
        if self.work < 0:  # type: ignore[attr-defined]
            self.service.over_budget += 1
            raise RecursionError("over 50 questions for one question of a client")
        return await self.service.resolve(self, names.from_text(name), rrtypes.type_number(rtype))

    def __repr__(self) -> str:
        return f"<Question {self.name} {self.type} from {self.client} over {self.transport}>"


class Question(QuestionVerbs):
    """One question of one client.

    `name` is the name as text with its final dot, in lower case; `labels` its
    labels as text (`\\DDD` escapes); `type` the type as text. `client` is an
    Address, `transport` one of "udp", "tcp", "tls", "https". `verified` is true
    when the client's address is no forgery (a stream, or a valid cookie). `now`
    and `deadline` are monotonic seconds.
    """

    __slots__ = (
        "client", "connection", "deadline", "encrypted", "key", "log", "most", "now", "query", "recurses", "server",
        "service", "stream", "transport", "verified", "view", "work",
    )  # fmt: skip

    def __init__(self, query: Query, client: Any, transport: str, now: float, service: Service) -> None:
        self.query = query
        self.client = client
        self.transport = transport
        self.now = now
        self.deadline = now + 5.0
        self.service = service
        self.server: Any = service.server
        self.connection: Any = None
        self.view = ""
        self.most = 0  # octets that the rate limit lets the reply have, 0: as many as the client takes
        self.recurses = service.recursive  # whether whom it is asked of can ask others
        self.key = b""  # of the TSIG that signed it
        self.stream = transport != "udp"
        self.encrypted = transport in ("tls", "https", "quic")
        self.verified = self.stream
        self.work = 50
        self.log: dict[str, Any] = {}

    @property
    def name(self) -> str:
        return names.to_text(self.query.key)

    @property
    def labels(self) -> tuple[str, ...]:
        return names.texts(self.query.key)

    @property
    def wants_dnssec(self) -> bool:
        return bool(self.query.do)


def derived(q: Question, name: bytes, qtype: int) -> Question:
    """Another question on behalf of the same client: its view, its budget."""
    query = Query(q.query.packet)
    query.name, query.key, query.qtype, query.qclass = name, name.lower(), qtype, rrtypes.IN
    query.rd, query.do, query.cd = True, q.query.do, q.query.cd
    made = Question(query, q.client, q.transport, q.now, q.service)
    made.work, made.view, made.connection, made.log = q.work, q.view, q.connection, q.log
    made.key = getattr(q, "key", b"")
    return made
