"""A zone kept from other servers: checked, fetched, expired (spec X4).

A step of a service, with one task. Of several worker processes one has the duty to check and to fetch; the
others take what it gives them. Imports transfer, tsig, zone, store, colleagues.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..address import Address
from ..errors import FormatError, ToolipsError
from . import lookup, names, rrtypes, transfer, zonemd
from .colleagues import Colleagues, unpacked
from .lookup import Zones
from .message import Message, Record, ask
from .store import write_whole
from .tsig import Checker, Keys, signed
from .zone import Zone

if TYPE_CHECKING:
    from .question import Question
    from .result import Result
    from .service import Service

log = logging.getLogger("toolips_udp.dns.secondary")

CHECK_TIMEOUT = 3.0
MESSAGE_TIMEOUT = 30.0
WHOLE_TIMEOUT = 3600.0
MOST_OCTETS = 2 << 30
FIRST_RETRY, MOST_RETRY = 5.0, 3600.0
LEAST_GAP = 1.0


async def exchange(packet: bytes, to: Address, timeout: float) -> bytes | None:
    """One datagram there and its reply back; None when none came."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in to.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect((to.host, to.port))
            await loop.sock_sendall(sock, packet)
            async with asyncio.timeout(timeout):
                while True:
                    data = await loop.sock_recv(sock, 65_535)
                    if data[:2] == packet[:2] and len(data) >= 12 and data[2] & 0x80:
                        return data
        except (OSError, TimeoutError):
            return None


def tsig_place(data: bytes) -> int:
    """Where the TSIG of a message begins; 0 without one. It is the last record."""
    from .wire import read_name

    counts = [int.from_bytes(data[at : at + 2], "big") for at in (4, 6, 8, 10)]
    at, budget, last = 12, [65_536], 0
    for _ in range(counts[0]):
        _, at = read_name(data, at, len(data), budget)
        at += 4
    for _ in range(sum(counts[1:])):
        last = at
        _, at = read_name(data, at, len(data), budget)
        if len(data) - at < 10:
            raise FormatError("a record is cut short.")
        rtype = int.from_bytes(data[at : at + 2], "big")
        at += 10 + int.from_bytes(data[at + 8 : at + 10], "big")
    return last if sum(counts[1:]) and rtype == rrtypes.TSIG else 0


def _speaks_dot(writer: asyncio.StreamWriter, primary: Primary) -> None:
    """Over TLS, a zone is taken only from who agreed to speak DNS there (RFC 9103 section 7.1)."""
    tls = writer.get_extra_info("ssl_object")
    if tls is not None and tls.selected_alpn_protocol() != "dot":
        raise FormatError(f"{primary.text} does not speak DNS over TLS: it did not agree to ALPN dot.")


class Primary:
    """One server that has the zone: address, key name, and whether over TLS."""

    def __init__(self, text: str, key: str | None) -> None:
        self.text = text
        self.tls = text.startswith("tls://")
        plain, _, self.name = text.removeprefix("tls://").partition("#")
        port = 853 if self.tls else 53
        self.address = (
            Address.parse(plain)
            if plain.count(":") == 1 or "]:" in plain
            else Address(plain.strip("[]"), port)
        )
        self.key = names.fold(names.from_text(key)) if key else None


class Secondary:
    """Keeps one zone as its primaries have it.

    SOA is asked at REFRESH, again at RETRY after a failure; after EXPIRE without
    contact the zone answers SERVFAIL. A bad transfer leaves the old version.
    """

    recursive = False

    def __init__(
        self, origin: bytes, primaries: list[tuple[str, str | None]], keys: Keys, path: Path | None = None
    ) -> None:
        self.origin = origin
        self.key = names.fold(origin)
        self.primaries = [Primary(text, key) for text, key in primaries]
        self.keys = keys
        self.path = path
        waiting = Zone(origin)
        waiting.state = "expired"
        self.zone = waiting
        self.zones = Zones([waiting])
        self.changed: list[Callable[[Zone, Zone | None], None]] = []
        self.checked_at = 0.0
        self.colleagues = Colleagues(None)
        self.passing = False
        """A NOTIFY waits to be passed on to the process that has the duty."""
        self.failures = 0
        self.counters = {"axfr": 0, "ixfr": 0, "current": 0, "failed": 0}
        self.last_error = ""
        self.task: asyncio.Task[None] | None = None
        self.hurry = asyncio.Event()
        self.clock: Callable[[], float] = lambda: 0.0
        self.wall: Callable[[], float] = lambda: 0.0
        if path is not None and path.exists():
            with contextlib.suppress(ToolipsError, OSError):
                self._serve(Zone.load(path, names.to_text(origin)))

    def ask(self, q: Question) -> Result | None:
        return lookup.asked(self.zones, q)

    def _serve(self, zone: Zone) -> None:
        before, self.zone = self.zone, zone
        self.zones = Zones([zone])
        for tell in self.changed:
            tell(zone, before if before.soa is not None else None)

    def knows(self, host: str, key: bytes) -> bool:
        """Whether a NOTIFY from here is believed: the address of a primary, or its key."""
        return any(p.address.host == host or (key and p.key == key) for p in self.primaries)

    @property
    def expires_in(self) -> float:
        """Seconds until the zone expires without contact."""
        if self.zone.soa is None:
            return 0.0
        return max(0.0, self.checked_at + self.zone.timers()[2] - self.clock())

    # -- life

    def start(self, service: Service) -> None:
        self.clock, self.wall = service.clock, service.wall
        self.checked_at = self.checked_at or self.clock()  # a colleague may have said more by now
        self.colleagues = Colleagues(service.server)
        self.task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task

    def relieve(self) -> None:
        """The duty has come or gone: what is under way ends, and the task begins anew."""
        if self.task is not None:
            self.task.cancel()
            self.task = asyncio.ensure_future(self._run())

    def check_soon(self) -> None:
        """Have the primaries asked now; several calls are one check, at most one per second."""
        self.passing = not self.colleagues.on_duty
        self.hurry.set()

    async def _run(self) -> None:
        while True:
            self.hurry.clear()
            wait = await (self._check() if self.colleagues.on_duty else self._follow())
            if self.zone.soa is not None:
                if self.expires_in <= 0:
                    self.zone.state = "expired"
                wait = min(wait, max(1.0, self.expires_in))
            await asyncio.sleep(LEAST_GAP)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self.hurry.wait()

    async def _check(self) -> float:
        """On duty: ask the primaries; the seconds until the next time."""
        if await self.refresh():
            self.failures = 0
            return float(self.zone.timers()[0])
        self.failures += 1
        known = self.zone.soa is not None
        wait = float(self.zone.timers()[1]) if known else FIRST_RETRY * 2.0 ** min(self.failures - 1, 10)
        return min(wait, MOST_RETRY)

    async def _follow(self) -> float:
        """Not on duty: pass on what was heard, and see to the zone's end."""
        if self.passing:
            self.passing = False
            await self.colleagues.pass_on(names.to_text(self.origin))
        return MOST_RETRY

    # -- from the process on duty

    def take(self, content: bytes, checked_at: float) -> None:
        """The zone as it has fetched it. From any thread."""
        self.checked_at = checked_at
        self._serve(unpacked(self.origin, content))

    def heard_of(self, checked_at: float) -> None:
        """A primary has said then that the zone is current."""
        self.checked_at = checked_at
        if self.zone.soa is not None:
            self.zone.state = "ready"
        self.hurry.set()  # its end is later now

    async def refresh(self) -> bool:
        """Ask each primary until one has the zone or says that ours is current."""
        before = self.zone
        for primary in self.primaries:
            try:
                await self._from(primary)
            except (OSError, EOFError, TimeoutError, ToolipsError, LookupError) as error:
                self.counters["failed"] += 1
                self.last_error = f"{primary.text}: {error or type(error).__name__}"
                log.warning("zone %s from %s: %s", names.to_text(self.origin), primary.text, self.last_error)
                continue
            self.checked_at = self.clock()
            self.zone.state = "ready"
            if self.zone is not before:
                await self.colleagues.give(self.zone, self.checked_at)
            await self.colleagues.checked(names.to_text(self.origin), self.checked_at)
            return True
        return False

    async def _from(self, primary: Primary) -> None:
        have = self.zone if self.zone.soa is not None else None
        if have is not None and not primary.tls:
            serial = await self._serial(primary)
            if serial is not None and not transfer.newer(serial, have.serial):
                self.counters["current"] += 1
                return
        try:
            zone = await self.fetch(primary, have)
        except FormatError:
            if have is None:
                raise
            zone = await self.fetch(primary, None)  # the changes did not fit: take all of it
        if zone is not None:
            if zonemd.check(zone) is False:
                raise FormatError("the zone does not fit its own digest (ZONEMD).")
            if self.path is not None:
                write_whole(self.path, zone.to_text())
            self._serve(zone)

    async def _serial(self, primary: Primary) -> int | None:
        """The primary's serial by UDP; None when it must be asked over TCP."""
        number = secrets.randbits(16)
        packet, checker = self._signed(
            ask(self.origin, rrtypes.SOA, id=number, rd=False, size=0).encode(), primary
        )
        data = await exchange(packet, primary.address, CHECK_TIMEOUT)
        if data is None:
            return None
        message = Message.parse(data)
        if checker is not None:
            checker.check(data, tsig_place(data), int(self.wall()), False)
        for record in message.answer:
            if record.type == rrtypes.SOA and names.fold(record.name) == self.key:
                return transfer.serial_of(record.data)
        return None

    def _signed(self, packet: bytes, primary: Primary) -> tuple[bytes, Checker | None]:
        if primary.key is None:
            return packet, None
        key = self.keys.get(primary.key)
        wire, _, mac = signed(packet, key, int(self.wall()))
        return wire, Checker(key, mac)

    async def fetch(self, primary: Primary, have: Zone | None) -> Zone | None:
        """Transfer the zone: the changes since `have`, or all of it. None when ours is current."""
        number = secrets.randbits(16)
        question = ask(self.origin, rrtypes.IXFR if have else rrtypes.AXFR, id=number, rd=False, size=0)
        if have is not None and have.soa is not None:
            question.authority.append(
                Record(have.origin, rrtypes.SOA, rrtypes.IN, have.soa.ttl, have.soa.rdatas[0])
            )
        packet, checker = self._signed(question.encode(), primary)
        context: Any = None
        if primary.tls:
            context = ssl.create_default_context()
            context.set_alpn_protocols(["dot"])
        async with asyncio.timeout(WHOLE_TIMEOUT):
            reader, writer = await asyncio.open_connection(
                primary.address.host, primary.address.port, ssl=context, server_hostname=primary.name or None
            )
            try:
                _speaks_dot(writer, primary)
                writer.write(len(packet).to_bytes(2, "big") + packet)
                incoming = transfer.Incoming(self.origin, have)
                await self._receive(reader, incoming, number, checker)
            finally:
                writer.close()
        self.counters[incoming.kind or "current"] += 1
        return incoming.zone

    async def _receive(
        self, reader: asyncio.StreamReader, incoming: transfer.Incoming, number: int, checker: Checker | None
    ) -> None:
        octets, done = 0, False
        while not done:
            async with asyncio.timeout(MESSAGE_TIMEOUT):
                size = int.from_bytes(await reader.readexactly(2), "big")
                data = await reader.readexactly(size)
            octets += size
            if octets > MOST_OCTETS:
                raise FormatError(f"over {MOST_OCTETS} octets.")
            message = Message.parse(data)
            if checker is not None:
                checker.check(data, tsig_place(data), int(self.wall()), True)
            done = incoming.take(message, number)
            await asyncio.sleep(0)
