"""Who may have which zone, and the service's side of transfers and NOTIFY (spec X1 to X5).

Everything is denied unless allowed for an address and, where one is named, a key. Of several worker processes
the one on duty sends NOTIFY. Imports transfer, tsig, secondary, access, colleagues.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..address import Address
from ..errors import StartError
from . import names, rrtypes, transfer
from .access import Prefixes
from .colleagues import Colleagues
from .question import Question
from .reply import encode_reply, limit_of
from .result import Result, error
from .secondary import Secondary
from .tsig import Keys, Session
from .zone import RRset, Zone

if TYPE_CHECKING:
    from .service import Service

log = logging.getLogger("toolips_udp.dns.transfer")

NOTIFY_TRIES = 5
NOTIFY_FIRST = 1.0
NOTIFY_AT_ONCE = 50
"""NOTIFY that wait for their answer at a time; a server with thousands of zones tells of all when it starts."""
Peers = Iterable[tuple[str, str | None]]


class Pace:
    """How fast transfers go out, all together: `rate` octets a second, an eighth of a second's worth at once."""

    def __init__(self, rate: float) -> None:
        if not rate > 0:
            raise StartError(
                f"transfers at {rate} octets a second: expected more than 0.", code="bad-dns-setting"
            )
        self.rate = rate
        self.free_at = 0.0

    def after(self, octets: int, now: float) -> float:
        """Seconds to wait after sending so many."""
        self.free_at = max(self.free_at, now - 0.125) + octets / self.rate
        return max(0.0, self.free_at - now)


class Transfers:
    """Keys, rules, secondaries and whom to notify; given to `Service(transfers=...)`.

    `rate` bounds what all transfers out send together, octets a second.

    >>> transfers = Transfers(Keys({"xfr": ("hmac-sha256", secret)}))
    >>> transfers.allow("example.org", [("192.0.2.53", "xfr")])
    >>> service = Service(zone, transfers=transfers)
    """

    def __init__(self, keys: Keys | None = None, *, rate: float = 32 << 20) -> None:
        self.keys = keys or Keys()
        self.pace = Pace(rate)
        self.rules: dict[bytes, list[tuple[Prefixes, bytes | None]]] = {}
        self.targets: dict[bytes, list[Address]] = {}
        self.secondaries: dict[bytes, Secondary] = {}
        self.journals: dict[bytes, transfer.Journal] = {}
        self.counters = {"out": 0, "refused": 0, "notified": 0}
        self.told: dict[bytes, int] = {}
        """The serial of each zone of which the targets were told last."""
        self.colleagues = Colleagues(None)
        self.gate = asyncio.Semaphore(NOTIFY_AT_ONCE)
        self.service: Service | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.joining: asyncio.Task[None] | None = None
        """Finds the steps from what the process before served."""

    # -- configuration

    def allow(self, zone: str, peers: Peers) -> None:
        """Let peers fetch a zone: an address or prefix, and the name of a key or None."""
        rules = self.rules.setdefault(_key(zone), [])
        for address, key in peers:
            rules.append((Prefixes([address]), _key(key) if key else None))
            if key:
                self.keys.get(key)

    def notify(self, zone: str, target: str) -> None:
        """Tell a server when the zone changes."""
        address = Address.parse(target) if target.count(":") == 1 or "]:" in target else Address(target, 53)
        self.targets.setdefault(_key(zone), []).append(address)

    def secondary(self, zone: str, primaries: Peers, path: Path | None = None) -> Secondary:
        """Keep a copy of a zone of other servers; `path` is where it is kept over restarts."""
        made = Secondary(names.from_text(zone), list(primaries), self.keys, path)
        made.changed.append(self.changed)
        self.secondaries[made.key] = made
        return made

    def steps(self) -> Sequence[Any]:
        """The secondaries as steps of a service."""
        return list(self.secondaries.values())

    # -- life

    def start(self, service: Service) -> None:
        self.service = service
        self.loop = asyncio.get_running_loop()
        self.colleagues = Colleagues(service.server)

    def relieve(self, held: bool) -> None:
        """This process has the duty now, or not any more. With it: who is to be told of a zone and was not, is told."""
        for secondary in self.secondaries.values():
            secondary.relieve()
        if not held:
            self._quit()
        elif self.service is not None and self.targets:
            for zone in self.service.zones():
                if zone.state == "ready" and zone.soa is not None and self.told.get(zone.key) != zone.serial:
                    self._tell(zone)

    def _quit(self) -> None:
        for task in list(self.tasks):
            task.cancel()

    async def stop(self) -> None:
        self._quit()
        waiting = set(self.tasks)
        if self.joining is not None:
            self.joining.cancel()
            waiting.add(self.joining)
        if waiting:
            await asyncio.wait(waiting, timeout=1.0)

    def has(self, key: bytes, serial: int) -> bool:
        """Whether this version of a zone is served here, or a later one."""
        zones = self.service.zones() if self.service is not None else []
        found = [zone for zone in zones if zone.key == key and zone.soa is not None]
        return bool(found) and not any(transfer.newer(serial, zone.serial) for zone in found)

    # -- what changed

    def changed(self, zone: Zone, before: Zone | None) -> None:
        """A zone has a new version: remember the step, tell the others. From any thread."""
        if before is not None and before.state == "ready" and before.soa is not None:
            self.journals.setdefault(zone.key, transfer.Journal()).note(before, zone)
        loop = self.loop
        if loop is not None and self.targets.get(zone.key):
            loop.call_soon_threadsafe(self._tell, zone)

    def _tell(self, zone: Zone) -> None:
        if self.targets.get(zone.key) and self.colleagues.on_duty:
            task = asyncio.ensure_future(self._tell_all(zone))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _tell_all(self, zone: Zone) -> None:
        """The targets of a zone, as soon as whoever they ask has what they are told of."""
        async with self.gate:
            await self.colleagues.have(zone.name, zone.serial)
            self.told[zone.key] = zone.serial
            await asyncio.gather(*(self._notify(zone, target) for target in self.targets[zone.key]))
            await self.colleagues.told(zone.name, zone.serial)

    async def _notify(self, zone: Zone, target: Address) -> None:
        """NOTIFY until it is answered, at most five times."""
        from .secondary import exchange

        packet = transfer.notify(zone.origin, secrets.randbits(16), zone.soa)
        wait = NOTIFY_FIRST
        for _ in range(NOTIFY_TRIES):
            if await exchange(packet, target, wait) is not None:
                self.counters["notified"] += 1
                return
            wait *= 2
        log.warning("NOTIFY of %s to %s was not answered", zone.name, target)

    # -- answering

    def may_ask(self, key: bytes, host: str) -> bool:
        """Whether a rule for the zone has this address, whatever key it wants."""
        return any(host in prefixes for prefixes, _ in self.rules.get(key, ()))

    def may_fetch(self, key: bytes, host: str, session: Session | None) -> bool:
        """X1: an address that is allowed, with the key that its rule names."""
        name = session.name if session is not None and session.valid else None
        return any(
            host in prefixes and (wanted is None or wanted == name)
            for prefixes, wanted in self.rules.get(key, ())
        )

    def answer(self, q: Question, session: Session | None) -> Result | Iterator[bytes]:
        """The reply to AXFR or IXFR: a Result, or the messages of a stream."""
        query = q.query
        if not self.may_fetch(query.key, q.client.host, session) or q.transport == "https":
            self.counters["refused"] += 1
            return error(rrtypes.REFUSED, 18)
        zone = next((z for z in zones_for(q) if z.key == query.key), None)
        if zone is None:
            return error(rrtypes.NOTAUTH)
        if zone.state != "ready" or zone.soa is None:
            return error(rrtypes.SERVFAIL, 24)
        if query.qtype == rrtypes.AXFR and not q.stream:
            return error(rrtypes.FORMERR)
        if query.qtype == rrtypes.IXFR:
            return self._incremental(q, zone, session)
        return self._stream(q, transfer.full(zone), session)

    def _incremental(self, q: Question, zone: Zone, session: Session | None) -> Result | Iterator[bytes]:
        serial = q.query.serial
        if serial is None:
            return error(rrtypes.FORMERR)
        assert zone.soa is not None
        one = Result(aa=True)
        one.answer.append(zone.soa)
        if not transfer.newer(zone.serial, serial):
            return one
        journal = self.journals.get(zone.key)
        deltas = journal.since(serial) if journal else None
        entries = list(transfer.incremental(zone, deltas)) if deltas else None
        if not q.stream:
            if entries is None:
                return one
            whole = Result(aa=True)
            whole.answer = [RRset(owner, rtype, ttl, [data]) for owner, rtype, ttl, data in entries]
            room = len(encode_reply(q.query, whole, 65_535))
            return whole if room <= limit_of(q.query, False) - 200 else one
        return self._stream(q, entries if entries is not None else transfer.full(zone), session)

    def _stream(
        self, q: Question, entries: Iterable[transfer.Entry], session: Session | None
    ) -> Iterator[bytes]:
        self.counters["out"] += 1
        question = (q.query.name, q.query.qtype, rrtypes.IN)
        log.info("%s %s goes to %s", rrtypes.type_name(q.query.qtype), q.name, q.client)
        for message in transfer.messages(q.query.id, question, entries):
            if session is not None and session.valid:
                yield session.sign(message, int(q.service.wall()), multi=True)
            else:
                yield message

    def notified(self, q: Question, session: Session | None) -> Result:
        """A NOTIFY has come: believed only from a primary of the zone."""
        secondary = self.secondaries.get(q.query.key)
        name = session.name if session is not None and session.valid else b""
        if secondary is None or not secondary.knows(q.client.host, name):
            return error(rrtypes.REFUSED, 18)
        secondary.check_soon()
        return Result(aa=True)


def zones_for(q: Question) -> list[Zone]:
    """The zones that this client's steps have: of views, only those of the first that fits."""
    found: list[Zone] = []
    waiting = list(q.service.steps)
    while waiting:
        step = waiting.pop(0)
        fits = getattr(step, "fits", None)
        if fits is None or fits(q):
            found += list(getattr(step, "zones", ()))
            waiting = [*getattr(step, "steps", ()), *([] if fits else waiting)]
    return found


def _key(name: str) -> bytes:
    return names.fold(names.from_text(name))
