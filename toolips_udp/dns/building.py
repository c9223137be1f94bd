"""A configuration made into a service: steps in order, per view, every finding named (spec O1).

Imports settings and the steps of this house. Called by `ready`, `dns check` and `dns explain`.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ..errors import StartError, ToolipsError
from . import names
from .answers import RR
from .fields import parse_ttl
from .forward import Forward
from .listen import split
from .policy import Blocklist, Local, Rebinding
from .ratelimit import RateLimit
from .service import Service
from .settings import CacheSize, Config, ForwardTable, LocalTable, Misfit, ZoneTable, line_of, octets, private
from .store import ZoneStore
from .transfers import Transfers
from .tsig import Keys
from .views import DNS64, View
from .zone import Problem, ZoneError

T = TypeVar("T")


def build(
    given: tuple[Config, Path],
    *,
    strict: bool = False,
    progress: Callable[[int], None] | None = None,
    file: Path | None = None,
) -> Service:
    """The service of a configuration: local data, lists, zones, forwarders, in this order, per view.

    Zones that cannot be read are reported and not ready; `Misfit` when none
    can, or with `strict` when one cannot, and for whatever else is wrong. `file` is
    named in the findings.
    """
    builder = Builder(given, strict, progress, file)
    service = builder.service()
    if builder.problems or (builder.unread and (strict or not builder.read)):
        raise Misfit(builder.problems + builder.unread, "bad-dns-setting" if builder.problems else "bad-zone")
    assert service is not None
    return service


class Builder:
    """Makes the parts of a service, and gathers what is wrong with them in place of stopping at the first.

    `problems` are of the configuration; `unread` are of zones, `read` says how many are there.
    """

    def __init__(
        self,
        given: tuple[Config, Path],
        strict: bool = False,
        progress: Callable[[int], None] | None = None,
        file: Path | None = None,
    ) -> None:
        self.config, self.folder = given
        self.strict = strict
        self.progress = progress
        self.file = file
        self.text = file.read_text() if file is not None else ""
        self.problems: list[Problem] = []
        self.unread: list[Problem] = []
        self.read = 0

    def _made(self, make: Callable[[], T], table: str, number: int = 0) -> T | None:
        """The value, or None and a finding at the line of the table."""
        try:
            return make()
        except ZoneError as wrong:
            self.problems += wrong.problems
        except OSError as wrong:
            self._wrong(f"{wrong.filename}: {wrong.strerror}. Check the path.", table, number)
        except LookupError as wrong:
            known = ", ".join(key.name for key in self.config.key) or "none"
            self._wrong(f"{wrong.args[0]} Keys: {known}. Add it as [[key]], or mend the name.", table, number)
        except (ToolipsError, ValueError) as wrong:
            self._wrong(str(wrong), table, number)
        return None

    def _wrong(self, text: str, table: str, number: int = 0) -> None:
        self.problems.append(
            Problem(f"[{table}] {text}", str(self.file or ""), line_of(self.text, table, number))
        )

    def service(self) -> Service | None:
        """The service; None when something that it needs is wrong."""
        config, folder, table, limit = self.config, self.folder, self.config.service, self.config.limit
        keys = self._made(lambda: Keys({key.name: (key.algorithm, key.secret) for key in config.key}), "key")
        self.transfers = Transfers(keys)
        self._cache()
        self._addresses()
        self._known_views()
        self._known_listeners()
        steps: list[Any] = []
        for number, view in enumerate(config.view):
            inner = self._steps(view.name)
            made = self._made(
                lambda view=view, inner=inner: View(  # type: ignore[misc]
                    view.name, clients=view.clients, transports=view.transports, keys=view.keys,
                    listeners=view.listeners, steps=inner,
                ),
                "view", number,
            )  # fmt: skip
            steps += [made] if made is not None else []
        steps += self._steps(None)
        if self.problems:
            return None
        return self._made(
            lambda: Service(
                *steps,
                listen=table.listen[1:],
                id=table.id,
                tls=(str(folder / table.tls.certificate), str(folder / table.tls.key)) if table.tls else None,
                access={"query": table.access.query, "recursion": table.access.recursion},
                limit=RateLimit(limit.rate, limit.burst, slip=limit.slip, trusted=limit.trusted)
                if limit.rate
                else None,
                transfers=self.transfers,
                cache_size=octets(table.cache.size),
                silent=table.access.silent,
                any=table.any,
                minimal=table.minimal,
                ecs=table.ecs,
                proxies=table.proxies,
            ),
            "service",
        )

    def _cache(self) -> None:
        """What the cache is told, which every forwarder would find wrong."""
        cache, usual = self.config.service.cache, CacheSize()
        for key, read in (("size", octets), ("stale", parse_ttl)):
            try:
                read(getattr(cache, key))
            except (ToolipsError, ValueError) as wrong:
                text = f"[service] cache.{key}: {wrong}"
                self.problems.append(Problem(text, str(self.file or ""), line_of(self.text, "cache")))
                setattr(cache, key, getattr(usual, key))

    def _addresses(self) -> None:
        """Where it listens, for what, and with which certificate."""
        table = self.config.service
        for text in table.listen:
            self._made(lambda text=text: split(text), "service")  # type: ignore[misc]
        self._made(lambda: private(table.admin), "service")
        pair = table.tls
        if pair is not None:
            try:
                files = self.folder / pair.certificate, self.folder / pair.key
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*files)
            except (OSError, ssl.SSLError) as wrong:
                self._wrong(
                    f"tls: {files[0]} and {files[1]} cannot be used: {wrong.strerror or wrong}.", "service"
                )
        elif any(text.startswith(("tls:", "https:")) for text in table.listen):
            self._wrong("listen has tls:// or https://, which need tls = { certificate, key }.", "service")
        self._twice("view", [(view.name, None) for view in self.config.view])
        zones = [((zone.name or "").rstrip(".").lower(), zone.view) for zone in self.config.zone]
        self._twice("zone", zones)

    def _twice(self, table: str, names: list[tuple[str, str | None]]) -> None:
        """What may be there only once; `names` are of each table, with the view that it is in."""
        seen: set[tuple[str, str | None]] = set()
        for number, one in enumerate(names):
            if one[0] and one in seen:
                self._wrong(f"{one[0]} is there twice. Keep one.", table, number)
            seen.add(one)

    def _known_listeners(self) -> None:
        known = set(self.config.service.listen)
        for number, view in enumerate(self.config.view):
            for text in view.listeners:
                if text not in known:
                    self._wrong(
                        f"{view.name} names the listener {text!r}. Listeners: {', '.join(sorted(known))}. "
                        "Add it to listen of [service], or mend it.",
                        "view",
                        number,
                    )

    def _known_views(self) -> None:
        known = {view.name for view in self.config.view}
        for name in ("zone", "forward", "blocklist", "local"):
            for number, table in enumerate(getattr(self.config, name)):
                if table.view is not None and table.view not in known:
                    self._wrong(
                        f"names the view {table.view!r}. Views: {', '.join(sorted(known)) or 'none'}. "
                        f'Add [[view]] name = "{table.view}", or mend the name.',
                        name,
                        number,
                    )

    def _steps(self, view: str | None) -> list[Any]:
        config, steps = self.config, list[Any]()
        for number, local in enumerate(config.local):
            if local.view == view:
                steps.append(self._made(lambda local=local: self._local(local), "local", number))  # type: ignore[misc]
        for number, lists in enumerate(config.blocklist):
            if lists.view == view:
                files = [
                    self.folder / f for f in ([lists.file] if isinstance(lists.file, str) else lists.file)
                ]
                steps.append(
                    self._made(
                        lambda lists=lists, files=files: Blocklist(  # type: ignore[misc]
                            *files, answer=lists.answer, allow=lists.allow, ede=lists.ede
                        ),
                        "blocklist", number,
                    )
                )  # fmt: skip
        if config.rebinding:
            steps.append(Rebinding())
        steps += self._zones(view)
        self._follow(view, steps)
        order = sorted(enumerate(config.forward), key=lambda pair: -len(pair[1].zone.rstrip(".")))
        for number, forward in order:
            if forward.view == view:
                steps.append(self._made(lambda forward=forward: self._forward(forward), "forward", number))  # type: ignore[misc]
        return [step for step in steps if step is not None]

    def _follow(self, view: str | None, steps: list[Any]) -> None:
        """Blocklists that take their rules from a secondary zone."""
        made = iter([step for step in steps if isinstance(step, Blocklist)])
        for number, table in enumerate(self.config.blocklist):
            if table.view != view or self.problems:
                continue
            step = next(made)
            if not table.file and table.zone is None:
                self._wrong(
                    'has no list. Write file = "lists/*.txt", or zone = "rpz.example".', "blocklist", number
                )
            if table.zone is None:
                continue
            copy = self.transfers.secondaries.get(names.fold(names.from_text(table.zone)))
            if copy is None:
                self._wrong(
                    f"{table.zone} is no zone with primaries. Add one, or write file = in place of zone =.",
                    "blocklist",
                    number,
                )
            else:
                step.follow(copy)

    def _forward(self, table: ForwardTable) -> Forward | DNS64:
        cache = self.config.service.cache
        made = Forward(
            *table.to, zone=table.zone, policy=table.policy, hedge=table.hedge,
            size=octets(cache.size), stale=parse_ttl(cache.stale),
        )  # fmt: skip
        return DNS64(made, prefix=table.dns64) if table.dns64 else made

    def _local(self, table: LocalTable) -> Local:
        records: dict[str, RR | list[RR]] = {}
        for name, lines in table.records.items():
            for line in lines:
                if len(line.split(None, 1)) != 2:
                    raise StartError(
                        f'{name}: {line!r} is no record. Expected type and data, as in "A 192.168.1.5".',
                        code="bad-dns-setting",
                    )
            records[name] = [RR(*line.split(None, 1)) for line in lines]
        hosts = [self.folder / path for path in table.hosts]
        return Local(records, hosts=hosts, transparent=table.transparent)

    def _zones(self, view: str | None) -> list[Any]:
        files: dict[str, Path] = {}
        stores: list[ZoneStore] = []
        copies: list[Any] = []
        for number, table in enumerate(self.config.zone):
            if table.view != view:
                continue
            if table.folder is not None:
                folder = self.folder / table.folder
                stores.append(ZoneStore(folder, strict=self.strict, progress=self.progress))
                if not folder.is_dir():
                    self._wrong(f"folder {folder} is not there. Make it, or mend the path.", "zone", number)
            elif table.name is None:
                self._wrong('has no name. Write name = "example.org", or folder = "zones".', "zone", number)
            elif not (table.primaries or table.file):
                self._wrong(
                    f'{table.name} has neither a file nor primaries. Write file = "{table.name}.zone".',
                    "zone",
                    number,
                )
            else:
                copy = self._made(lambda table=table: self._zone(table, files), "zone", number)  # type: ignore[misc]
                copies += [copy] if copy is not None else []
        if files:
            stores.insert(0, ZoneStore(files=files, strict=self.strict, progress=self.progress))
        for store in stores:
            report = store.load()
            store.changed.append(self.transfers.changed)
            self.read += len(report.loaded)
            self.unread += [Problem(text) for text in report.problems.values()]
        return [*stores, *copies]

    def _zone(self, table: ZoneTable, files: dict[str, Path]) -> Any:
        """A zone of other servers as a step; one of a file goes into `files`."""
        assert table.name is not None
        made = None
        if table.primaries:
            path = self.folder / table.file if table.file else None
            peers = [(p.address, p.key) for p in table.primaries]
            for _, key in peers:
                if key is not None and self.transfers.keys is not None:
                    self.transfers.keys.get(key)
            made = self.transfers.secondary(table.name, peers, path)
        elif table.file is not None:
            files[table.name] = self.folder / table.file
        if table.transfer_to:
            self.transfers.allow(table.name, [(p.address, p.key) for p in table.transfer_to])
        for target in table.notify:
            self.transfers.notify(table.name, target)
        return made


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
