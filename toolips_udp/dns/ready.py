"""The service of a configuration, ready to be served: `dns serve` and its workers.

Imports settings, control, metrics, querylog, dnstap.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from .. import __version__
from . import control, metrics
from .building import add_handlers, build
from .dnstap import Dnstap
from .querylog import QueryLog
from .service import Service
from .settings import Config

log = logging.getLogger("toolips_udp.dns")
VARIABLE = "TOOLIPS_UDP_DNS_SERVED"


def packed(config: Config, folder: Path, strict: bool) -> str:
    """A configuration as the text of the environment variable."""
    return json.dumps([msgspec.json.encode(config).decode(), str(folder.resolve()), strict])


def ready(
    config: Config, folder: Path, *, strict: bool = False, progress: Callable[[int], None] | None = None
) -> Service:
    """The service of a configuration with its handlers, log, metrics and control commands."""
    service = build((config, folder), strict=strict, progress=progress)
    table = config.service
    for zone in service.zones():
        if zone.state == "loading":
            log.error("zone %s could not be read and is answered SERVFAIL; see `dns check`", zone.name)
    if table.handlers:
        add_handlers(service, folder / table.handlers)
    if table.query_log:
        service.query_log = QueryLog(folder / table.query_log, table.query_log_sample)
    if table.dnstap:
        service.dnstap = Dnstap(
            folder / table.dnstap,
            table.dnstap_sample,
            identity=table.id or "",
            version=f"toolips_udp {__version__}",
        )
    control.install(service)
    metrics.install(service)
    return service
