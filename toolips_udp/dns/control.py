"""What `dns ctl` can do to a running server: commands on its control socket (spec O6).

With several workers the supervisor has the socket; it asks every worker and puts their
answers together (`told`). Imports the steps' shapes only. `install` is called before the
server starts.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FormatError
from ..servers.control import command
from . import names, rrtypes, told
from .cache import AnswerCache, StageCache
from .querylog import QueryLog, Tally

if TYPE_CHECKING:
    from .service import Service

TOLD_OF_TOP = 1000
"""Texts of each field that one process tells of."""


def _caches(service: Service) -> list[AnswerCache | StageCache]:
    """The stage's cache, which has what all forwarders said; without it, those of the forwarders."""
    if service.half is not None and service.half.cache is not None:
        return [StageCache(service.half.cache)]
    return [step.cache for step in service.every_step() if hasattr(step, "cache")]


def status(service: Service) -> dict[str, Any]:
    """How the service is: zones, upstreams, caches, lists."""
    return {
        "workers": 1,
        "zones": {"ready": sum(z.state == "ready" for z in service.zones()), "all": len(service.zones())},
        "handlers": len(service.handlers.exact) + len(service.handlers.wild),
        "cache": _cache_facts(service),
        "upstreams": upstreams(service),
        "lists": [line for step in service.every_step() if hasattr(step, "lists") for line in step.told()],
        "blocked": [step.hits() for step in service.every_step() if hasattr(step, "lists")],
        "query_log": _log(service),
        "dnstap": _dnstap(service),
        "native": _native(service),
        "reloads": service.reloads,
    }


def _cache_facts(service: Service) -> list[dict[str, Any]]:
    return [{"entries": len(c), "octets": c.used, **c.counters} for c in _caches(service)]


def _native(service: Service) -> dict[str, Any] | str:
    """What C answered, by source, and what it passed on."""
    if service.half is None:
        return "Python answers"
    counters = service.half.stage.counters
    return {**counters["sources"], **{word: counters[word] for word in ("passed", "limited", "slipped")}}


def upstreams(service: Service) -> list[dict[str, Any]]:
    """What is known of each upstream."""
    return [
        {"url": u.url, "down": u.down, "held": u.held, "rtt": u.rtt, "asked": u.asked, "failed": u.failed}
        for step in service.every_step()
        for u in getattr(getattr(step, "group", None), "upstreams", ())
    ]


def hold(service: Service, url: str, out: bool) -> str:
    """Take an upstream out, or ask it again."""
    found = [
        u for step in service.every_step() for u in getattr(getattr(step, "group", None), "upstreams", ())
    ]
    wanted = [u for u in found if url in (u.url, str(u.address), u.address.host)]
    if not wanted:
        raise FormatError(
            f"there is no upstream {url}. Upstreams: {', '.join(u.url for u in found) or 'none'}."
        )
    for upstream in wanted:
        upstream.hold() if out else upstream.release()
    return "\n".join(f"{u.url} is {'down until you say up' if out else 'asked again'}" for u in wanted)


def _log(service: Service) -> dict[str, Any]:
    log = service.query_log
    if log is None or log.path is None:
        return {"path": None, "sample": 0.0, "lost": 0}
    return {"path": str(log.path), "sample": log.sample, "lost": log.lost}


def _dnstap(service: Service) -> dict[str, Any]:
    tap = service.dnstap
    return (
        {"path": str(tap.path), "sample": tap.sample, "lost": tap.lost} if tap is not None else {"path": None}
    )


async def switch_log(service: Service, of: str, path: str | None, sample: float) -> dict[str, Any]:
    """Begin or end the query log while the server runs."""
    if of not in ("on", "off"):
        raise FormatError(f"dns ctl log {of}: expected log on [FILE] or log off.")
    before = service.query_log
    if of == "on":
        kept = before.path if before is not None else service.log_path
        if path is None and kept is None:
            raise FormatError("dns ctl log on: no file was configured. Name one: dns ctl log on FILE.")
        service.log_to(QueryLog(Path(path) if path is not None else kept, sample))
    else:
        service.log_to(None)
    if before is not None:
        service.log_path = before.path
        await asyncio.get_running_loop().run_in_executor(None, before.close)
    return _log(service)


async def top(service: Service, seconds: float = 1.0) -> dict[str, Any]:
    """What answers are about, watched for a moment: the most frequent names, clients, types, RCODEs and sources."""
    log = service.query_log
    own = None
    if log is None:
        own = log = QueryLog()
        service.log_to(log)
    tally = Tally()
    log.tallies.append(tally)
    try:
        await asyncio.sleep(min(seconds, 10.0))
    finally:
        if own is not None and service.query_log is own:
            service.log_to(None)
        await asyncio.get_running_loop().run_in_executor(None, own.close if own is not None else log.settle)
        log.tallies.remove(tally)
    return {
        "seconds": seconds,
        "answers": tally.answers,
        "sample": log.sample or 1.0,
        "counts": {field: dict(counts) for field, counts in tally.most(TOLD_OF_TOP).items()},
    }


def zones(service: Service) -> list[str]:
    """One line for each zone."""
    return sorted(f"{z.name} serial {z.serial} {z.state}, {len(z)} records" for z in service.zones())


def _zone(service: Service, name: str) -> Any:
    key = names.fold(names.from_text(name))
    for zone in service.zones():
        if zone.key == key:
            return zone
    raise FormatError(
        f"there is no zone {name}. Zones: {', '.join(z.name for z in service.zones()) or 'none'}."
    )


def flush(service: Service, name: str | None, tree: bool, rtype: str | None) -> int:
    """Forget cached answers; how many."""
    wire = names.from_text(name) if name is not None else None
    number = rrtypes.type_number(rtype) if rtype else None
    count = sum(c.flush(wire, tree=tree, qtype=number) for c in _caches(service))
    for step in service.every_step():
        if hasattr(step, "cache"):
            step.cache.flush(wire, tree=tree, qtype=number)
    return count


def blocked(service: Service, name: str) -> str:
    """What the lists say about a name."""
    key = names.fold(names.from_text(name))
    for step in service.every_step():
        rule = step.find(key, rrtypes.A, "127.0.0.1") if hasattr(step, "lists") else None
        if rule is not None:
            return f"{name}: {rule.action} by {rule}"
    return f"{name}: no rule"


def install(service: Service) -> None:
    """Put the commands of one service into the table of this process."""
    add = partial(_install, service)
    add("dns-status", status, told.status)
    add("dns-reload", _reload, told.reloaded, patience=120.0)
    add("dns-cache-flush", _flush, told.flushed)
    add("dns-cache-dump", lambda s: [line for c in _caches(s) for line in c.dump(s.clock())], told.every_line)
    add("dns-cache-stats", _cache_facts, told.added)
    add("dns-zone-list", zones, told.lines)
    add("dns-zone-show", lambda s, of: _zone(s, of).to_text().splitlines(), told.first)
    add("dns-zone-transfer", _transfer, told.lines)
    add("dns-zone-reload", _reload_zone, told.lines, patience=120.0)
    add("dns-upstream-list", upstreams, told.upstreams)
    add("dns-upstream-down", lambda s, of: hold(s, of, True), told.lines, order="upstream {of}")
    add("dns-upstream-up", lambda s, of: hold(s, of, False), told.lines, order="upstream {of}")
    add("dns-log", _switch_log, told.log, order="log")
    add("dns-top", lambda s, seconds=1.0: top(s, float(seconds)), told.top, patience=15.0)
    add("dns-block-test", lambda s, of: blocked(s, of), told.lines)


def _install(
    service: Service,
    name: str,
    local: Callable[..., Any],
    merged: Callable[[list[Any]], Any],
    *,
    patience: float = 5.0,
    order: str = "",
) -> None:
    """A command that acts on every process that serves, and answers for them all.

    `local(service, **arguments)` is what one of them does, `merged` makes one answer of all of theirs.
    `order` names what holds for workers that begin to serve later as well.
    """

    async def run(server: Any, *, raw: bool = False, **arguments: Any) -> Any:
        if hasattr(server, "ask_workers"):
            kind = order.format_map(arguments) if order else ""
            found = await server.ask_workers(name, {**arguments, "raw": True}, patience, kind)
            if name.endswith("reload"):
                server.group.fresh_spare()  # the one that waits has read what was there before
            return merged(list(found.values()))
        result = local(service, **arguments)
        if inspect.isawaitable(result):
            result = await result
        return result if raw else merged([result])

    command(name)(run)


def _flush(service: Service, of: str | None = None, tree: bool = False, type: str | None = None) -> int:
    return flush(service, of, tree, type)


def _switch_log(service: Service, of: str, file: str | None = None, sample: float = 1.0) -> Any:
    return switch_log(service, of, file, float(sample))


async def _reload(service: Service) -> dict[str, Any]:
    problems = await asyncio.get_running_loop().run_in_executor(None, service.reload)
    return {"reloaded": True, "problems": problems}


async def _reload_zone(service: Service, of: str) -> str:
    """Read one zone's file again."""
    zone = _zone(service, of)
    report = await _reload(service)
    wrong = report["problems"].get(zone.name.lower())
    if wrong:
        raise FormatError(f"{zone.name} keeps its old state: {wrong}")
    return f"{zone.name} serial {_zone(service, of).serial}"


def _transfer(service: Service, of: str) -> list[str]:
    wanted = names.fold(names.from_text(of))
    secondary = service.transfers.secondaries.get(wanted) if service.transfers is not None else None
    if secondary is None:
        raise FormatError(f"{of} is no secondary zone here.")
    if not secondary.colleagues.on_duty:
        return []  # the process that is says so
    secondary.check_soon()
    return [f"{of} is being checked"]
