"""DNS without sockets: services, authorities and a network between them under a fake clock.

Testing floor: imports the DNS house. The pytest fixture is `dns_net`:

    def test_a_cached_answer_ages(dns_net, clock):
        upstream = dns_net.authority("example.org", "www 60 A 192.0.2.1")
        client = dns_net.serve(dns.Service(dns.Forward(upstream)))
        assert client.ask("www.example.org", "A").ttl == 60
        clock.advance(59)
        assert client.ask("www.example.org", "A").ttl == 1 and upstream.asked == 1
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from ..address import Address
from ..dns import lookup, rrtypes
from ..dns.exchange import Attempt
from ..dns.lookup import Zones
from ..dns.message import Message, ask
from ..dns.query import parse_query
from ..dns.reply import encode_error, encode_reply, limit_of
from ..dns.service import Service
from ..dns.zone import Zone
from .clock import FakeClock

T = TypeVar("T")
LONGEST = 60.0
"""Seconds of fake time that one question may take before the test fails."""


class Reply:
    """What a client got: `message`, and short ways into it."""

    def __init__(self, message: Message, octets: bytes) -> None:
        self.message = message
        self.octets = octets

    @property
    def rcode(self) -> str:
        """The RCODE's name."""
        return rrtypes.rcode_name(self.message.rcode)

    @property
    def ttl(self) -> int:
        """The TTL of the first record of the answer."""
        return self.message.answer[0].ttl

    @property
    def data(self) -> list[str]:
        """The data of the answer's records, as text."""
        return [record.text.split(None, 4)[4] for record in self.message.answer]

    @property
    def ede(self) -> int | None:
        """The first extended error, if there is one."""
        found = self.message.options.get(15)
        return int.from_bytes(found[:2], "big") if found else None

    def __repr__(self) -> str:
        return f"<Reply {self.rcode} {self.data}>"


class Authority:
    """A server that answers from a zone. `asked` counts questions; `seen` keeps (transport, packet).

    `silent` makes it drop everything, `delay` answer late (seconds); `respond`
    may be replaced by a function of (packet, transport) that returns a list of
    octets, for servers that misbehave.
    """

    def __init__(self, zone: Zone, address: Address) -> None:
        self.zones = Zones([zone])
        self.zone = zone
        self.address = address
        self.silent = False
        self.refusing = False
        self.delay = 0.0
        self.seen: list[tuple[str, bytes]] = []
        self.respond: Callable[[bytes, str], list[bytes]] = self.answer

    @property
    def asked(self) -> int:
        return len(self.seen)

    def __str__(self) -> str:
        return f"udp://{self.address}"

    def answer(self, packet: bytes, transport: str = "udp") -> list[bytes]:
        """What a good server sends back."""
        query = parse_query(packet)
        if query.drop:
            return []
        if query.rcode >= 0:
            return [encode_error(query)]
        result = lookup.answer(self.zones, query.name, query.qtype, do=query.do)
        return [encode_reply(query, result, limit_of(query, transport != "udp"))]


class Client:
    """Asks a service in this process. A question that takes over 60 s of fake time is an error."""

    def __init__(self, net: DnsNet, service: Service, host: str) -> None:
        self.net = net
        self.service = service
        self.address = Address(host, 5353)

    def ask(self, name: str, qtype: str = "A", *, transport: str = "udp", **kw: Any) -> Reply:
        """Ask one question and wait for its reply; no reply is an `AssertionError`."""
        found = self.exchange(ask(name, qtype, id=self.net.number(), **kw).encode(), transport)
        assert found is not None, f"no reply to {name} {qtype}"
        return found

    def exchange(self, packet: bytes, transport: str = "udp") -> Reply | None:
        """Send octets; the reply, or None for silence."""
        octets = self.net.run(self.service.reply(packet, self.address, transport))
        return None if octets is None else Reply(Message.parse(octets), octets)

    def ask_all(self, questions: Iterable[tuple[str, str]]) -> list[Reply]:
        """Ask many at the same time."""
        packets = [ask(name, qtype, id=self.net.number()).encode() for name, qtype in questions]

        async def everything() -> list[bytes | None]:
            return await asyncio.gather(*[self.service.reply(p, self.address) for p in packets])

        return [Reply(Message.parse(octets), octets) for octets in self.net.run(everything()) if octets]


class DnsNet:
    """The network between services and authorities; also the `Network` that services send on."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.loop = asyncio.new_event_loop()
        self.hosts: dict[tuple[str, int], Authority] = {}
        self.timers: list[tuple[float, int, Callable[[], Any]]] = []
        self.cancelled: set[int] = set()
        self.count = itertools.count(1)
        self.services: list[Service] = []

    def number(self) -> int:
        return next(self.count) & 0xFFFF

    def authority(self, origin: str, text: str = "", host: str | None = None) -> Authority:
        """A server for a zone; SOA and NS are made unless the text has them."""
        host = host or f"192.0.2.{len(self.hosts) + 1}"
        if " SOA " not in text:
            text = f"@ 300 SOA ns hostmaster 1 7200 900 1209600 60\n@ 300 NS ns\nns 300 A {host}\n{text}"
        made = Authority(Zone.from_text(text, origin), Address(host, 53))
        self.hosts[(host, 53)] = made
        return made

    def serve(self, service: Service, host: str = "127.0.0.1") -> Client:
        """Start a service on this network and clock; a client of it with this address."""
        service.clock = self.clock
        service.wall = lambda: 1_700_000_000 + self.clock()
        service._network = self
        self.run(service.on_start(None))
        self.services.append(service)
        return Client(self, service, host)

    # -- Network

    def send(
        self, attempt: Attempt, report: Callable[[bytes], Any], lost: Callable[[str], Any]
    ) -> Callable[[], Any]:
        address = attempt.upstream.address
        found = self.hosts.get((address.host, address.port))
        if found is None or found.refusing:
            return self.later(0.0, lambda: lost("Connection refused"))
        found.seen.append((attempt.transport, attempt.packet))
        if found.silent:
            return lambda: None
        replies = found.respond(attempt.packet, attempt.transport)
        cancels = [self.later(found.delay, lambda data=data: report(data)) for data in replies]  # type: ignore[misc]
        return lambda: [cancel() for cancel in cancels]

    def later(self, delay: float, fn: Callable[[], Any]) -> Callable[[], Any]:
        number = next(self.count)
        heapq.heappush(self.timers, (self.clock() + delay, number, fn))
        return lambda: self.cancelled.add(number)

    async def close(self) -> None:
        self.timers.clear()

    # -- time

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run to the end, letting fake time pass only when everything waits for it."""
        task = self.loop.create_task(coroutine)
        until = self.clock() + LONGEST
        while True:
            for _ in range(20):
                self.loop.run_until_complete(asyncio.sleep(0))
                if task.done():
                    return task.result()
            if not self._step(until):
                task.cancel()
                raise AssertionError(f"nothing happened any more, or for {LONGEST} s of fake time")

    def settle(self) -> None:
        """Let what is under way go on, without time passing."""
        while self.timers and self.timers[0][0] <= self.clock():
            self._step(self.clock())
        for _ in range(20):
            self.loop.run_until_complete(asyncio.sleep(0))

    def _step(self, until: float) -> bool:
        while self.timers:
            when, number, fn = heapq.heappop(self.timers)
            if number in self.cancelled:
                self.cancelled.discard(number)
                continue
            if when > until:
                return False
            if when > self.clock():
                self.clock.advance(when - self.clock())
            fn()
            return True
        return False

    def stop(self) -> None:
        """Stop the services and close the loop."""
        for service in self.services:
            self.loop.run_until_complete(service.on_stop(None))
        self.loop.close()
