"""What `dns ctl` can do to a running server: commands on its control socket (spec O6).

Imports the steps' shapes only. `install` is called before the server starts.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FormatError
from ..servers.control import command
from . import names, rrtypes
from .cache import AnswerCache, StageCache
from .querylog import QueryLog, Tally

if TYPE_CHECKING:
    from .service import Service


def _caches(service: Service) -> list[AnswerCache | StageCache]:
    """The stage's cache, which has what all forwarders said; without it, those of the forwarders."""
    if service.half is not None and service.half.cache is not None:
        return [StageCache(service.half.cache)]
    return [step.cache for step in service.every_step() if hasattr(step, "cache")]


def status(service: Service) -> dict[str, Any]:
    """How the service is: zones, upstreams, caches, lists."""
    return {
        "zones": {"ready": sum(z.state == "ready" for z in service.zones()), "all": len(service.zones())},
        "handlers": len(service.handlers.exact) + len(service.handlers.wild),
        "cache": [{"entries": len(c), "octets": c.used, **c.counters} for c in _caches(service)],
        "upstreams": upstreams(service),
        "blocked": [step.hits() for step in service.every_step() if hasattr(step, "lists")],
        "query_log": _log(service),
        "native": _native(service),
        "reloads": service.reloads,
    }


def _native(service: Service) -> dict[str, Any] | str:
    """What C answered, by source, and what it passed on."""
    if service.half is None:
        return "Python answers"
    counters = service.half.stage.counters
    return {**counters["sources"], **{word: counters[word] for word in ("passed", "limited", "slipped")}}


def upstreams(service: Service) -> list[str]:
    """One line for each upstream."""
    found = []
    for step in service.every_step():
        for u in getattr(getattr(step, "group", None), "upstreams", ()):
            held = ", taken out by hand" if u.held else ""
            rtt = f"{u.rtt * 1000:.1f} ms" if u.rtt is not None else "not asked yet"
            found.append(
                f"{u.url} {'down' if u.down else 'up'}, {rtt}, {u.asked} asked, {u.failed} failed{held}"
            )
    return found


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


def _log(service: Service) -> str:
    log = service.query_log
    if log is None or log.path is None:
        return "off"
    return f"{log.path}, {log.sample:.0%} of the answers, {log.lost} lost"


async def switch_log(service: Service, of: str, path: str | None, sample: float) -> str:
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


async def top(service: Service, seconds: float = 1.0, number: int = 10) -> list[str]:
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
    rate = tally.answers / seconds / (log.sample or 1.0)
    lines = [f"{rate:.0f} answers a second"]
    for field, counts in tally.most(number).items():
        lines += [f"{field:9} {count / max(tally.answers, 1):6.1%} {text}" for text, count in counts]
    return lines


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


def flush(service: Service, name: str | None, tree: bool, rtype: str | None) -> str:
    """Forget cached answers."""
    wire = names.from_text(name) if name is not None else None
    number = rrtypes.type_number(rtype) if rtype else None
    count = sum(c.flush(wire, tree=tree, qtype=number) for c in _caches(service))
    for step in service.every_step():
        if hasattr(step, "cache"):
            step.cache.flush(wire, tree=tree, qtype=number)
    return f"{count} entries forgotten"


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
    command("dns-status")(lambda server: status(service))
    command("dns-reload")(lambda server: _reload(service))
    command("dns-cache-flush")(lambda server, of=None, tree=False, type=None: flush(service, of, tree, type))
    command("dns-cache-dump")(
        lambda server: [line for c in _caches(service) for line in c.dump(service.clock())]
    )
    command("dns-cache-stats")(
        lambda server: [c.counters for c in _caches(service)] and status(service)["cache"]
    )
    command("dns-zone-list")(lambda server: zones(service))
    command("dns-zone-show")(lambda server, of: _zone(service, of).to_text().splitlines())
    command("dns-zone-transfer")(lambda server, of: _transfer(service, of))
    command("dns-upstream-list")(lambda server: upstreams(service))
    command("dns-upstream-down")(lambda server, of: hold(service, of, True))
    command("dns-upstream-up")(lambda server, of: hold(service, of, False))
    command("dns-zone-reload")(lambda server, of: _reload_zone(service, of))
    command("dns-log")(lambda server, of, file=None, sample=1.0: switch_log(service, of, file, float(sample)))
    command("dns-top")(lambda server, seconds=1.0: top(service, float(seconds)))
    command("dns-block-test")(lambda server, of: blocked(service, of))


async def _reload(service: Service) -> dict[str, Any]:
    problems = await asyncio.get_running_loop().run_in_executor(None, service.reload)
    return {"reloaded": True, "problems": problems}


async def _reload_zone(service: Service, name: str) -> str:
    """Read one zone's file again."""
    zone = _zone(service, name)
    report = await _reload(service)
    wrong = report["problems"].get(zone.name.lower())
    if wrong:
        raise FormatError(f"{zone.name} keeps its old state: {wrong}")
    return f"{zone.name} serial {_zone(service, name).serial}"


def _transfer(service: Service, name: str) -> str:
    wanted = names.fold(names.from_text(name))
    secondary = service.transfers.secondaries.get(wanted) if service.transfers is not None else None
    if secondary is None:
        raise FormatError(f"{name} is no secondary zone here.")
    secondary.check_soon()
    return f"{name} is being checked"
