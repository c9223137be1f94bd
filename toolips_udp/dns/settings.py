"""The configuration of a DNS server: one set of structs, from TOML or from flags (spec section 9).

Unknown keys are refused with the nearest known one. `read` checks a file; `building.build`
makes a `Service` of it. Imports zone and errors.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from ..address import Address
from ..errors import StartError
from .access import LOOPBACK, Prefixes
from .zone import Problem

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Amount = Annotated[float, msgspec.Meta(ge=0)]


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
    listen: Annotated[list[str], msgspec.Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: ["127.0.0.1:5300"]
    )
    id: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    workers: Annotated[int, msgspec.Meta(ge=1)] = 1
    tls: Tls | None = None
    access: Access = msgspec.field(default_factory=Access)
    cache: CacheSize = msgspec.field(default_factory=CacheSize)
    proxies: list[str] = []
    handlers: str | None = None
    admin: str | None = None
    query_log: str | None = None
    query_log_sample: Share = 1.0
    dnstap: str | None = None
    dnstap_sample: Share = 1.0
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

    def __repr__(self) -> str:
        """Without the secret: configurations are shown in logs and reports."""
        return f"KeyTable(name={self.name!r}, secret=..., algorithm={self.algorithm!r})"


class ForwardTable(Base):
    to: list[str]
    zone: str = "."
    policy: str = "fastest"
    hedge: Amount | None = None
    dns64: str | None = None
    view: str | None = None


class BlocklistTable(Base):
    file: list[str] | str = []
    zone: str | None = None
    answer: str = "nxdomain"
    allow: list[str] = []
    ede: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 15
    view: str | None = None


class LocalTable(Base):
    hosts: list[str] = []
    records: dict[str, list[str]] = {}
    transparent: bool = False
    view: str | None = None


class ViewTable(Base):
    name: str
    clients: list[str] = msgspec.field(default_factory=lambda: ["any"])
    transports: list[Literal["udp", "tcp", "tls", "https"]] = []
    keys: list[str] = []
    listeners: list[str] = []


class LimitTable(Base):
    rate: Amount = 50.0
    burst: Amount = 125.0
    slip: Count = 2
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


class Misfit(StartError):
    """A configuration that cannot be served. `problems` lists every finding with its place."""

    def __init__(self, problems: list[Problem], code: str) -> None:
        self.problems = problems
        wrong = [str(problem) for problem in problems if problem.error]
        more = f"\n... and {len(wrong) - 20} more; `dns check` shows all" if len(wrong) > 20 else ""
        super().__init__("\n".join(wrong[:20]) + more, code=code)


def read(path: Path) -> tuple[Config, Path]:
    """The configuration in a TOML file and its folder.

    `StartError` when it cannot be read as TOML; `Misfit` with every finding, by line, when keys or
    values do not fit.
    """
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise StartError(
            f"{path} cannot be read: {error.strerror}. Check the path.", code="no-such-file"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise StartError(f"{path} is no TOML: {error}.", code="bad-toml") from None
    problems = findings(table, path)
    if problems:
        raise Misfit(problems, "unknown-setting")
    return msgspec.convert(table, Config), path.parent


def findings(table: dict[str, Any], path: Path) -> list[Problem]:
    """What does not fit in a configuration, each with its line, what was expected and the nearest key."""
    text = path.read_text()
    found: list[Problem] = []
    hints = get_type_hints(Config)
    for key, value in table.items():
        if key not in hints:
            found.append(_unknown(text, path, key, hints, "the configuration"))
            continue
        many = isinstance(value, list) and get_origin(hints[key]) is list
        kind = get_args(hints[key])[0] if many else hints[key]
        for number, one in enumerate(value if many else [value]):
            try:
                msgspec.convert(one, kind)
            except msgspec.ValidationError as error:
                found.append(_misfit(text, path, key, number, kind, str(error)))
    return found


def _unknown(text: str, path: Path, key: str, known: Iterable[str], where: str) -> Problem:
    near = difflib.get_close_matches(key, list(known), 1)
    advice = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(sorted(known))}."
    return Problem(f"{where} has no key {key!r}. {advice}", str(path), line_of(text, key))


def _misfit(text: str, path: Path, table: str, number: int, kind: Any, error: str) -> Problem:
    """The text of msgspec as one of ours."""
    said, _, at = error.partition(" - at `$")
    place = at.rstrip("`").lstrip(".")
    start = line_of(text, table, number)
    wrong = re.search(r"unknown field `(.+?)`", said)
    if wrong:
        for part in [part for part in place.split(".") if part and "[" not in part]:
            kind = get_type_hints(kind).get(part, kind)
        owner = f"[{table}{'.' + place if place else ''}]"
        if hasattr(kind, "__struct_fields__"):
            return _unknown(text, path, wrong[1], kind.__struct_fields__, owner)
    key = place.split(".")[-1].partition("[")[0]
    line = line_of(text, key, 0, start) if key else start
    wanted = get_args(get_type_hints(kind).get(key)) if hasattr(kind, "__struct_fields__") else ()
    expected = f" Expected: {', '.join(map(repr, wanted))}." if "enum" in said else ""
    return Problem(f"{table}{'.' + place if place else ''}: {said}.{expected}", str(path), line or start)


def line_of(text: str, key: str, number: int = 0, after: int = 0) -> int:
    """The line of a table (its `number`-th) or of a key in TOML text, behind a line; 0 when it is not found."""
    word = re.escape(key)
    places = [
        at
        for at, line in enumerate(text.splitlines(), 1)
        if at > after and re.match(rf"\s*(\[+\s*{word}\s*\]|{word}\s*=|\"{word}\"\s*=)", line)
    ]
    return places[number] if number < len(places) else 0


def private(admin: str | None) -> None:
    """The page with the metrics is for this machine (O4), else `StartError`."""
    if admin is None or admin.startswith("unix:"):
        return
    try:
        mine = Address.parse(admin).host in Prefixes(LOOPBACK)
    except ValueError:
        mine = admin.partition(":")[0] == "localhost"
    if not mine:
        raise StartError(
            f"admin = {admin!r}: expected an address of loopback, as in 127.0.0.1:9353, or unix:PATH. "
            "Metrics have no login: let a proxy with one show them elsewhere.",
            code="bad-dns-setting",
        )


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
