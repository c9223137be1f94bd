"""The configuration of a DNS server: one set of structs, from TOML or from flags (spec section 9).

Unknown keys are refused with the nearest known one. `read` checks a file, `build`
makes a `Service` of it. Imports the steps of this house.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..errors import StartError
from .access import LOOPBACK
from .answers import RR
from .fields import parse_ttl
from .forward import Forward
from .policy import Blocklist, Local, Rebinding
from .ratelimit import RateLimit
from .service import Service
from .store import ZoneStore
from .transfers import Transfers
from .tsig import Keys
from .views import DNS64, View


class Base(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Unknown keys are refused."""


class Tls(Base):
    certificate: str
    key: str


class Access(Base):
    query: list[str] = msgspec.field(default_factory=lambda: ["any"])
    recursion: list[str] = msgspec.field(default_factory=lambda: list(LOOPBACK))
    silent: bool = False


class CacheSize(Base):
    size: str = "8MiB"
    stale: str = "1d"


class ServiceTable(Base):
    listen: list[str] = msgspec.field(default_factory=lambda: ["127.0.0.1:5300"])
    id: str | None = None
    workers: int = 1
    tls: Tls | None = None
    access: Access = msgspec.field(default_factory=Access)
    cache: CacheSize = msgspec.field(default_factory=CacheSize)
    handlers: str | None = None
    admin: str | None = None
    query_log: str | None = None
    query_log_sample: float = 1.0
    any: Literal["minimal", "all"] = "minimal"
    minimal: bool = True
    ecs: bool = False


class Peer(Base):
    address: str
    key: str | None = None


class ZoneTable(Base):
    name: str | None = None
    file: str | None = None
    folder: str | None = None
    primaries: list[Peer] = []
    transfer_to: list[Peer] = []
    notify: list[str] = []
    view: str | None = None


class KeyTable(Base):
    name: str
    secret: str
    algorithm: str = "hmac-sha256"


class ForwardTable(Base):
    to: list[str]
    zone: str = "."
    policy: str = "fastest"
    hedge: float | None = None
    dns64: str | None = None
    view: str | None = None


class BlocklistTable(Base):
    file: list[str] | str
    answer: str = "nxdomain"
    allow: list[str] = []
    view: str | None = None


class LocalTable(Base):
    hosts: list[str] = []
    records: dict[str, list[str]] = {}
    view: str | None = None


class ViewTable(Base):
    name: str
    clients: list[str] = msgspec.field(default_factory=lambda: ["any"])
    transports: list[str] = []


class LimitTable(Base):
    rate: float = 50.0
    burst: float = 125.0
    slip: int = 2
    trusted: list[str] = msgspec.field(default_factory=lambda: list(LOOPBACK))


class Config(Base):
    """A whole configuration. `where` is the folder that relative paths start from."""

    service: ServiceTable = msgspec.field(default_factory=ServiceTable)
    zone: list[ZoneTable] = []
    key: list[KeyTable] = []
    forward: list[ForwardTable] = []
    blocklist: list[BlocklistTable] = []
    local: list[LocalTable] = []
    view: list[ViewTable] = []
    limit: LimitTable = msgspec.field(default_factory=LimitTable)
    rebinding: bool = False


def read(path: Path) -> tuple[Config, Path]:
    """The configuration in a TOML file and its folder. `StartError` says file, key, found and expected."""
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise StartError(
            f"{path} cannot be read: {error.strerror}. Check the path.", code="no-such-file"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise StartError(f"{path} is no TOML: {error}.", code="bad-toml") from None
    try:
        return msgspec.convert(table, Config), path.parent
    except msgspec.ValidationError as error:
        raise StartError(
            f"{path}: {error}. See `dns serve --schema` for the keys.", code="unknown-setting"
        ) from None


def schema() -> dict[str, Any]:
    """The JSON Schema of a configuration."""
    return msgspec.json.schema(Config)


_SIZES = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def octets(text: str) -> int:
    """`8MiB` as a number."""
    digits = text.rstrip("KMGiB")
    unit = text[len(digits) :]
    if not digits.isdigit() or unit not in _SIZES:
        raise StartError(
            f"size {text!r}: expected a number with KiB, MiB or GiB, as in 8MiB.", code="bad-dns-setting"
        )
    return int(digits) * _SIZES[unit]


def build(
    given: tuple[Config, Path], *, strict: bool = False, progress: Callable[[int], None] | None = None
) -> Service:
    """The service of a configuration: local data, lists, zones, forwarders, in this order, per view.

    Zones that cannot be read are reported and not ready; `StartError` when none
    can, or with `strict` when one cannot.
    """

    config, folder = given
    keys = Keys({key.name: (key.algorithm, key.secret) for key in config.key})
    transfers = Transfers(keys)
    steps: list[Any] = []
    for view in config.view:
        inner = _steps(config, folder, view.name, strict, progress, transfers)
        steps.append(View(view.name, clients=view.clients, transports=view.transports, steps=inner))
    steps += _steps(config, folder, None, strict, progress, transfers)
    table = config.service
    limit = config.limit
    return Service(
        *steps,
        listen=table.listen[1:],
        id=table.id,
        tls=(str(folder / table.tls.certificate), str(folder / table.tls.key)) if table.tls else None,
        access={"query": table.access.query, "recursion": table.access.recursion},
        limit=RateLimit(limit.rate, limit.burst, slip=limit.slip, trusted=limit.trusted)
        if limit.rate
        else None,
        transfers=transfers,
        cache_size=octets(table.cache.size),
        silent=table.access.silent,
        any=table.any,
        minimal=table.minimal,
        ecs=table.ecs,
    )


def _steps(
    config: Config,
    folder: Path,
    view: str | None,
    strict: bool,
    progress: Callable[[int], None] | None,
    transfers: Any,
) -> list[Any]:
    steps: list[Any] = []
    for local in config.local:
        if local.view == view:
            steps.append(_local(local, folder))
    for table in config.blocklist:
        if table.view == view:
            files = [table.file] if isinstance(table.file, str) else table.file
            steps.append(Blocklist(*[folder / f for f in files], answer=table.answer, allow=table.allow))
    if config.rebinding:
        steps.append(Rebinding())
    steps += _zones([z for z in config.zone if z.view == view], folder, strict, progress, transfers)
    size, stale = octets(config.service.cache.size), parse_ttl(config.service.cache.stale)
    for forward in sorted(config.forward, key=lambda f: -len(f.zone.rstrip("."))):
        if forward.view == view:
            made: Any = Forward(
                *forward.to,
                zone=forward.zone,
                policy=forward.policy,
                hedge=forward.hedge,
                size=size,
                stale=stale,
            )
            steps.append(DNS64(made, prefix=forward.dns64) if forward.dns64 else made)
    return steps


def _local(table: LocalTable, folder: Path) -> Local:
    records: dict[str, RR | list[RR]] = {}
    for name, lines in table.records.items():
        records[name] = [RR(*line.split(None, 1)) for line in lines]
    return Local(records, hosts=[folder / path for path in table.hosts])


def _zones(
    tables: list[ZoneTable],
    folder: Path,
    strict: bool,
    progress: Callable[[int], None] | None,
    transfers: Any,
) -> list[Any]:
    files: dict[str, Path] = {}
    stores: list[ZoneStore] = []
    for table in tables:
        if table.folder is not None:
            stores.append(ZoneStore(folder / table.folder, strict=strict, progress=progress))
            continue
        if table.name is None:
            raise StartError(
                'a [[zone]] has no name. Write name = "example.org", or folder = "zones".',
                code="bad-dns-setting",
            )
        if table.primaries:
            path = folder / table.file if table.file else None
            transfers.secondary(table.name, [(p.address, p.key) for p in table.primaries], path)
        elif table.file is None:
            raise StartError(f"zone {table.name} has neither a file nor primaries.", code="bad-dns-setting")
        else:
            files[table.name] = folder / table.file
        if table.transfer_to:
            transfers.allow(table.name, [(p.address, p.key) for p in table.transfer_to])
        for target in table.notify:
            transfers.notify(table.name, target)
    if files:
        stores.insert(0, ZoneStore(files=files, strict=strict, progress=progress))
    for store in stores:
        report = store.load()
        store.changed.append(transfers.changed)
        if report.problems and (strict or not report.loaded):
            raise StartError(
                "zones could not be read:\n" + "\n".join(report.problems.values()), code="bad-zone"
            )
    return [*stores, *transfers.steps()]


def add_handlers(service: Service, path: Path) -> None:
    """Take the Python handlers of a module's own `service` into this one."""
    from ..manifest import find

    module = find(str(path))
    found = [value for value in vars(module).values() if isinstance(value, Service)]
    if not found:
        raise StartError(
            f"{path} has no dns.Service. Expected service = dns.Service() with @service.answers functions.",
            code="no-handler",
        )
    for other in found:
        for table in (*other.handlers.exact.values(), *other.handlers.wild.values()):
            for handler in table:
                service.handlers.add(handler)
