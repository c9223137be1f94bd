"""The history of zones when one process takes over from another, at a reload (spec X3).

The old process gives its journals; of a zone whose files have changed also the records that it served, so that
the new one knows the step to what it has read. All of it is bounded: what is left out is transferred whole, once.
A history is taken only when it ends at what is served. Imports transfer, zone, colleagues; called by `Service`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from . import transfer
from .colleagues import packed, unpacked
from .transfer import Delta, Journal
from .zone import Zone, changes

if TYPE_CHECKING:
    from .service import Service
    from .transfers import Transfers

CARRIED_HISTORY = 100_000
CARRIED_CONTENT = 20_000
"""Records of all zones together that a process gives to the next: some 20 ms in which it reads no question, and the
kernel keeps what comes."""


def _given_out(service: Service, transfers: Transfers) -> Iterator[Zone]:
    """The zones that somebody may fetch, as they are served now."""
    for zone in service.zones():
        if zone.key in transfers.rules and zone.state == "ready" and zone.soa is not None:
            yield zone


def _as_read(service: Service, transfers: Transfers, zone: Zone) -> bool:
    """Whether the next process has the same records for this serial: of a primary, or of files that did not change."""
    stores = (getattr(step, "is_as_read", None) for step in service.every_step())
    return zone.key in transfers.secondaries or any(asked(zone) for asked in stores if asked is not None)


def export(service: Service, transfers: Transfers) -> dict[str, Any]:
    """The history of each zone, by name, as plain data."""
    room, left, found = CARRIED_CONTENT, CARRIED_HISTORY, {}
    for zone in _given_out(service, transfers):
        journal = transfers.journals.get(zone.key)
        content = None
        if not _as_read(service, transfers, zone):
            size = len(zone)
            if size > room:
                continue  # transferred whole, and smaller ones are not
            room -= size
            content = packed(zone)
        deltas: list[Delta] = []
        for delta in reversed(journal.deltas if journal is not None else []):
            if delta.size > left:
                break
            left -= delta.size
            deltas.insert(0, delta)
        if deltas or content is not None:
            encoded = msgspec.msgpack.encode(deltas)
            found[zone.name] = {"serial": zone.serial, "deltas": encoded, "content": content}
    return found


def restore(service: Service, transfers: Transfers, state: dict[str, Any]) -> None:
    """Go on with it. Where files have changed the step is found in a thread, while we serve."""
    changed: list[tuple[Zone, bytes, list[Delta]]] = []
    for zone in _given_out(service, transfers):
        given = state.get(zone.name)
        if given is None:
            continue
        deltas = msgspec.msgpack.decode(given["deltas"], type=list[Delta])
        if given["content"] is None:
            precede(transfers, zone, deltas, given["serial"])
        else:
            changed.append((zone, given["content"], deltas))
    if changed:
        transfers.joining = asyncio.ensure_future(_join(transfers, changed))


async def _join(transfers: Transfers, changed: list[tuple[Zone, bytes, list[Delta]]]) -> None:
    loop = asyncio.get_running_loop()
    for zone, content, deltas in changed:
        whole = await loop.run_in_executor(None, _with_step, zone, content, deltas)
        precede(transfers, zone, whole, zone.serial)


def _with_step(zone: Zone, content: bytes, deltas: list[Delta]) -> list[Delta]:
    """The deltas and the step from what was served then to the zone; none of them when it does not follow."""
    before = unpacked(zone.origin, content)
    if zone.serial == before.serial:
        return deltas if changes(before, zone) == ([], []) else []
    step = transfer.step(before, zone)
    return [*deltas, step] if step is not None else []


def precede(transfers: Transfers, zone: Zone, deltas: list[Delta], serial: int) -> None:
    """Put deltas that end at `serial` before the history that we have by now, where the two fit together."""
    journal = transfers.journals.setdefault(zone.key, Journal())
    begins = transfer.serial_of(journal.deltas[0].old[3]) if journal.deltas else zone.serial
    if deltas and transfer.serial_of(deltas[-1].new[3]) == serial == begins:
        journal.put_before(deltas)
