"""What the processes of one server tell one another about zones: control commands between workers (spec X4, X5).

One of them has the duty: it checks and fetches secondary zones and sends NOTIFY. The others take what it has
fetched, and pass on to it the NOTIFY that they hear. Imports zone and names; `Transfers` and `Secondary` use it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import FormatError
from ..servers.control import command
from . import names
from .zone import Zone

if TYPE_CHECKING:
    from .secondary import Secondary
    from .transfers import Transfers

HAS_IT = 30.0
"""Seconds that the others get to have a version of a zone before secondaries are told of it."""
LOOK = 0.05
Records = list[tuple[bytes, int, int, bytes]]


def packed(zone: Zone) -> bytes:
    """The records of a zone, for another process."""
    return msgspec.msgpack.encode(list(zone.records()))


def unpacked(origin: bytes, content: bytes) -> Zone:
    """The zone that `packed` was given."""
    zone = Zone(origin)
    for record in msgspec.msgpack.decode(content, type=Records):
        zone.add(*record)
    zone.prune()
    return zone


class Colleagues:
    """The other processes of a server; there are none beside a server of one process, or without a server."""

    def __init__(self, server: Any) -> None:
        self._server = server

    @property
    def on_duty(self) -> bool:
        """Whether this process has the duty."""
        return self._server is None or bool(self._server.duty.held)

    async def _ask(self, name: str, arguments: dict[str, Any], *rest: Any, **more: Any) -> list[Any]:
        if self._server is None:
            return []
        found: list[Any] = await self._server.ask_others(f"dns-{name}", arguments, *rest, **more)
        return found

    async def give(self, zone: Zone, checked_at: float) -> None:
        """The zone, as it was fetched, to all, and to those that begin later."""
        loop = asyncio.get_running_loop()
        content = await loop.run_in_executor(None, packed, zone) if self._server is not None else b""
        await self._ask(
            "copy-take",
            {"of": zone.name, "checked_at": checked_at},
            content,
            timeout=HAS_IT,
            order=f"zone {zone.name}",
        )

    async def checked(self, name: str, checked_at: float) -> None:
        """The primary has said at that time that the zone is current."""
        order = f"checked {name}"
        await self._ask("copy-checked", {"of": name, "checked_at": checked_at}, order=order)

    async def pass_on(self, name: str) -> None:
        """Somebody wants the zone checked: to the one who does."""
        await self._ask("copy-check", {"of": name})

    async def have(self, name: str, serial: int) -> None:
        """Wait until all have this version of a zone, or a later one, for a while."""
        await self._ask("zone-has", {"of": name, "serial": serial}, timeout=HAS_IT)

    async def told(self, name: str, serial: int) -> None:
        """Secondaries know of this version: nobody need tell them again."""
        await self._ask("zone-told", {"of": name, "serial": serial}, order=f"told {name}")


def _transfers(server: Any) -> Iterator[Transfers]:
    for extension in server.extensions:
        found: Any = getattr(extension, "transfers", None)
        if hasattr(found, "secondaries"):
            yield found


def _copies(server: Any, of: str) -> Iterator[Secondary]:
    key = names.fold(names.from_text(of))
    for transfers in _transfers(server):
        if key in transfers.secondaries:
            yield transfers.secondaries[key]


@command("dns-copy-take")
async def _take(server: Any, of: str, checked_at: float, content: bytes) -> None:
    if not isinstance(content, bytes):
        raise FormatError(
            "dns-copy-take: expected the records of a zone, from another process of this server."
        )
    for copy in _copies(server, of):
        await asyncio.get_running_loop().run_in_executor(None, copy.take, content, checked_at)


@command("dns-copy-checked")
def _checked(server: Any, of: str, checked_at: float) -> None:
    for copy in _copies(server, of):
        copy.heard_of(checked_at)


@command("dns-copy-check")
def _check(server: Any, of: str) -> None:
    for copy in _copies(server, of):
        if copy.colleagues.on_duty:
            copy.check_soon()


@command("dns-zone-has")
async def _has(server: Any, of: str, serial: int) -> bool:
    key = names.fold(names.from_text(of))
    loop = asyncio.get_running_loop()
    until = loop.time() + HAS_IT
    while loop.time() < until:
        if any(transfers.has(key, serial) for transfers in _transfers(server)):
            return True
        await asyncio.sleep(LOOK)
    return False


@command("dns-zone-told")
def _told(server: Any, of: str, serial: int) -> None:
    for transfers in _transfers(server):
        transfers.told[names.fold(names.from_text(of))] = serial
