"""`dns.start` and `dns.serve`: zones on a port in one call. Above service, like the front door's own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from .. import starting
from ..errors import StartError
from ..modes import TCP, UDP
from ..serving import serve as _serve
from .service import Service
from .store import Reloaded, ZoneStore
from .zone import Zone

DEFAULT = "127.0.0.1:5300"
Zonish = str | os.PathLike[str] | Zone | Mapping[str, str | os.PathLike[str]]


def service_of(zones: Zonish | Iterable[Zonish], **settings: Any) -> Service:
    """A service for zones given as a folder, files, a mapping of name to file, or `Zone` objects.

    Raises `StartError` when none of the zones can be read.
    """
    given = [zones] if isinstance(zones, str | os.PathLike | Zone | Mapping) else list(zones)
    steps: list[Any] = []
    for each in given:
        if isinstance(each, Zone):
            steps.append(each)
        elif isinstance(each, Mapping):
            steps.append(ZoneStore(files=each))
        else:
            path = Path(each)
            steps.append(ZoneStore(path) if path.is_dir() else Zone.load(path))
    for step in steps:
        if isinstance(step, ZoneStore):
            check_loaded(step.load())
    return Service(*steps, **settings)


def check_loaded(report: Reloaded) -> None:
    """`StartError` with every finding when there were zones and none could be read."""
    if report.problems and not report.loaded:
        raise StartError("no zone could be read:\n" + "\n".join(report.problems.values()), code="bad-zone")


def start(
    zones: Zonish | Iterable[Zonish],
    ip: str = DEFAULT,
    *,
    workers: int = 1,
    block: bool = False,
    **settings: Any,
) -> Any:
    """Serve zones on UDP and TCP; returns the `Server`.

    >>> server = dns.start("zones", "127.0.0.1:5300")
    """
    service = service_of(zones, **settings)
    return starting.start((UDP, TCP), SimpleNamespace(service=service), ip, workers=workers, block=block)


def serve(zones: Zonish | Iterable[Zonish], ip: str = DEFAULT, **settings: Any) -> Any:
    """The same for the length of a `with` block.

    >>> with dns.serve("zones", "127.0.0.1:0") as server:
    ...     print(server.address)
    """
    return _serve((UDP, TCP), SimpleNamespace(service=service_of(zones, **settings)), ip)
