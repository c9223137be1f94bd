"""Zone files: check, format, compare, import, fetch; list, add and remove in a folder.

    toolips-udp dns zone check example.test.zone
    toolips-udp dns zone format example.test.zone
    toolips-udp dns zone diff old.zone new.zone
    toolips-udp dns zone import chins.json > example.test.zone
    toolips-udp dns zone fetch example.test @192.0.2.53 > example.test.zone
    toolips-udp dns zone list zones/
    toolips-udp dns zone add zones/ example.test.zone
    toolips-udp dns zone remove zones/ example.test
    toolips-udp dns zone serial example.test.zone
    toolips-udp dns zone digest example.test.zone

`sign` is not here yet: sign the file with dnssec-signzone or ldns-signzone; a signed zone is served as it is.
Exits 1 when something is wrong with a file, or when two zones differ.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from ...dns import rdata, rrtypes, zonemd
from ...dns.importing import from_chins
from ...dns.names import to_text
from ...dns.store import ZoneStore
from ...dns.zone import Zone, changes
from ...errors import FormatError, ToolipsError
from . import check as checking

ACTIONS = ("check", "format", "diff", "import", "fetch", "serial", "digest", "list", "add", "remove", "sign")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("words", nargs="*", metavar="WORD", help="files, names, folders: see above")
    parser.add_argument("--origin", metavar="NAME", help="the zone's name, where the file does not say it")
    parser.add_argument("--strict", action="store_true", help="warnings count as errors")
    parser.add_argument("--json", action="store_true", help="JSON instead of text")


def run(options: argparse.Namespace) -> int:
    action: Callable[[argparse.Namespace], int] = globals()[f"_{options.action}"]
    try:
        return action(options)
    except LookupError as error:
        raise ToolipsError(str(error), code="bad-zone") from None
    except OSError as error:
        if error.filename is None:
            raise  # of what is printed, not of a file
        raise ToolipsError(f"{error.filename}: {error.strerror}", code="no-such-file") from None


def _words(options: argparse.Namespace, *wanted: str) -> list[str]:
    if len(options.words) != len(wanted):
        raise FormatError(f"dns zone {options.action} takes {' '.join(wanted)}.", code="bad-argument")
    words: list[str] = options.words
    return words


def _check(options: argparse.Namespace) -> int:
    return checking.run(SimpleNamespace(files=options.words, strict=options.strict, json=options.json))  # type: ignore[arg-type]


def _format(options: argparse.Namespace) -> int:
    (path,) = _words(options, "FILE")
    return _whole(options, Zone.load(path, options.origin, strict=options.strict))


def _whole(options: argparse.Namespace, zone: Zone) -> int:
    """The zone as a file, or as JSON."""
    if options.json:
        lines = [line for line in zone.to_text().splitlines() if line and not line.startswith("$")]
        print(json.dumps({"zone": zone.name, "serial": zone.serial, "records": lines}, indent=2))
    else:
        print(zone.to_text(), end="")
    return 0


def _said(options: argparse.Namespace, text: str, facts: dict[str, object]) -> int:
    """One line, or the same as JSON."""
    print(json.dumps(facts) if options.json else text)
    return 0


def _sign(options: argparse.Namespace) -> int:
    raise ToolipsError(
        "dns zone sign is not here yet. Sign the file with dnssec-signzone or ldns-signzone; "
        "a signed zone is served as it is.",
        code="unknown-command",
    )


def _diff(options: argparse.Namespace) -> int:
    old, new = (Zone.load(path, options.origin) for path in _words(options, "OLD", "NEW"))
    removed, added = changes(old, new)

    def line(entry: tuple[bytes, int, int, bytes]) -> str:
        owner, rtype, ttl, data = entry
        return f"{to_text(owner)} {ttl} IN {rrtypes.type_name(rtype)} {rdata.show(rtype, data)}"

    if options.json:
        print(
            json.dumps(
                {
                    "old": old.serial,
                    "new": new.serial,
                    "removed": [*map(line, removed)],
                    "added": [*map(line, added)],
                }
            )
        )
    else:
        print(f"; serial {old.serial} -> {new.serial}")
        for sign, entries in (("-", removed), ("+", added)):
            for entry in entries:
                print(sign, line(entry))
    return 1 if removed or added else 0


def _import(options: argparse.Namespace) -> int:
    (path,) = _words(options, "FILE.json")
    return _whole(options, from_chins(Path(path).read_bytes(), options.origin or Path(path).stem))


def _fetch(options: argparse.Namespace) -> int:
    from ...dns.names import from_text
    from ...dns.secondary import Primary, Secondary
    from ...dns.tsig import Keys

    name, server = _words(options, "NAME", "@SERVER")
    secondary = Secondary(from_text(name), [], Keys())
    secondary.wall = time.time
    zone = asyncio.run(secondary.fetch(Primary(server.removeprefix("@"), None), None))
    assert zone is not None
    return _whole(options, zone)


def _serial(options: argparse.Namespace) -> int:
    (path,) = _words(options, "FILE")
    zone = Zone.load(path, options.origin)
    return _said(options, str(zone.serial), {"zone": zone.name, "serial": zone.serial})


def _digest(options: argparse.Namespace) -> int:
    """The zone's ZONEMD as a record, and whether the one it has holds."""
    (path,) = _words(options, "FILE")
    zone = Zone.load(path, options.origin)
    held = zonemd.check(zone)
    data = rdata.show(zonemd.ZONEMD, zonemd.record(zone))
    line = f"{zone.name} {zone.soa.ttl if zone.soa else 0} IN ZONEMD {data}"
    _said(options, line, {"zone": zone.name, "zonemd": data, "held": held})
    if held is False:
        raise ToolipsError(
            f"{path}: the zone does not fit the ZONEMD it has. Put the record above in its place.",
            code="bad-zone",
        )
    return 0


def _list(options: argparse.Namespace) -> int:
    (folder,) = _words(options, "FOLDER")
    if not Path(folder).is_dir():
        raise ToolipsError(f"{folder}: there is no such folder", code="no-such-file")
    store = ZoneStore(folder, strict=options.strict)
    report = store.load()
    facts = [
        {"zone": z.name, "serial": z.serial, "records": len(z)} for z in store.zones if z.state == "ready"
    ]
    if options.json:
        print(json.dumps({"zones": facts, "problems": report.problems}))
    else:
        for fact in sorted(facts, key=lambda f: str(f["zone"])):
            print(f"{fact['zone']} serial {fact['serial']}, {fact['records']} records")
        for problem in report.problems.values():
            print(problem)
    return 1 if report.problems else 0


def _add(options: argparse.Namespace) -> int:
    folder, path = _words(options, "FOLDER", "FILE")
    zone = Zone.load(path, options.origin, strict=options.strict)
    file = ZoneStore(folder).save(zone)
    return _said(options, str(file), {"zone": zone.name, "file": str(file)})


def _remove(options: argparse.Namespace) -> int:
    folder, name = _words(options, "FOLDER", "NAME")
    store = ZoneStore(folder)
    store.load()
    store.remove(name)
    return _said(options, f"{name} removed", {"zone": name, "removed": True})
