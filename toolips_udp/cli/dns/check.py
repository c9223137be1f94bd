"""Check zone files and configuration: every finding with file, line, cause and fix.

    toolips-udp dns check example.test.zone
    toolips-udp dns check server.toml --strict --json

Exits 1 when there is an error, or with --strict a warning.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ...dns.settings import Misfit
from ...dns.zone import Problem, Zone, ZoneError
from ...errors import ToolipsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="zone file, NAME=FILE, or a .toml configuration"
    )
    parser.add_argument("--strict", action="store_true", help="warnings count as errors")
    parser.add_argument("--json", action="store_true", help="one JSON document")


def examined(text: str, strict: bool) -> tuple[dict[str, Any], list[Problem]]:
    """What is in one file, and what was found."""
    name, equals, path = text.partition("=")
    if not equals:
        name, path = "", text
    try:
        if path.endswith(".toml"):
            return configured(Path(path), strict)
        zone = Zone.load(path, name or None, strict=strict)
        return {"file": path, "zone": zone.name, "serial": zone.serial, "records": len(zone)}, zone.warnings
    except (ZoneError, Misfit) as error:
        return {"file": path}, error.problems
    except ToolipsError as error:
        return {"file": path}, [Problem(str(error), path)]
    except OSError as error:
        return {"file": path}, [Problem(f"cannot be read: {error.strerror}. Check the path.", path)]


def configured(path: Path, strict: bool) -> tuple[dict[str, Any], list[Problem]]:
    """What a configuration has, and everything that is wrong in it and in the files it names."""
    from ...dns.building import Builder, add_handlers
    from ...dns.settings import read

    given = read(path)
    builder = Builder(given, strict, file=path)
    service = builder.service()
    problems = builder.problems + builder.unread
    zones = service.zones() if service is not None else []
    steps = service.every_step() if service is not None else []
    handlers = given[0].service.handlers
    if service is not None and handlers:
        try:
            add_handlers(service, given[1] / handlers)
        except ToolipsError as error:
            problems.append(Problem(str(error), str(path)))
    lists = [line for step in steps if hasattr(step, "lists") for line in step.told()]
    facts = {"file": path.as_posix(), "zones": [zone.name for zone in zones], "lists": lists}
    return facts, problems + [problem for zone in zones for problem in zone.warnings]


def run(options: argparse.Namespace) -> int:
    bad = False
    shown: list[dict[str, Any]] = []
    for text in options.files:
        facts, problems = examined(text, options.strict)
        wrong = any(problem.error for problem in problems)
        bad = bad or wrong
        if options.json:
            found = [
                {"file": p.file, "line": p.line, "column": p.column, "error": p.error, "text": p.text}
                for p in problems
            ]
            shown.append({**facts, "ok": not wrong, "problems": found})
            continue
        for problem in problems:
            print(problem)
        for line in facts.get("lists", ()):
            print(line)
        if not wrong and "zone" in facts:
            print(
                f"{facts['file']}: zone {facts['zone']} serial {facts['serial']}, {facts['records']} records: OK"
            )
        elif not wrong:
            count = len(facts.get("zones", []))
            print(f"{facts['file']}: {count} zone{'' if count == 1 else 's'}: OK")
    if options.json:
        print(json.dumps(shown, indent=2))
    return 1 if bad else 0
