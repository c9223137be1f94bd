"""Show what a module serves: its extensions and handlers, in the order a packet meets them.

    toolips-udp routes hello.py
    toolips-udp routes hello.py --json
    toolips-udp routes hello.py --graph     Mermaid text

Nothing is bound and no `on_start` runs.
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import Any

from ..manifest import Manifest, read


@dataclass(frozen=True)
class Stop:
    """One thing a packet meets: an extension, the handler of all or a named one, or a route."""

    what: str
    name: str
    kind: str
    note: str
    place: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("module", metavar="MODULE", help="dotted name, or path of a .py file")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--graph", action="store_true", help="as a Mermaid graph")


def place_of(thing: Any) -> str:
    """file:line of a function or of an object's class; empty for what is not below this folder."""
    thing = inspect.unwrap(thing) if callable(thing) and hasattr(thing, "__code__") else type(thing)
    try:
        place = f"{os.path.relpath(inspect.getsourcefile(thing) or '?')}:{inspect.getsourcelines(thing)[1]}"
    except (OSError, TypeError, ValueError):
        return ""
    return "" if place.startswith("..") else place


def hooks(extension: Any) -> str:
    """The hooks an extension has, `native` for its stages."""
    from ..extensions.base import Extension

    names = ("on_start", "route", "on_stop", "stream")
    found = [n for n in names if getattr(type(extension), n, None) is not getattr(Extension, n, None)]
    return ", ".join([*found, *(["answers"] if getattr(extension, "answers", False) else [])])


def stops(manifest: Manifest) -> list[Stop]:
    """What a packet meets, in order."""
    found = [
        Stop("extension", manifest.called(e), type(e).__name__, hooks(e), place_of(e))
        for e in manifest.extensions
    ]
    handlers = [manifest.main] if manifest.main else []
    for handler in [*handlers, *manifest.handlers.values()]:
        what = "main" if handler.name is None else "named"
        notes = []
        if handler.struct is not None:
            notes.append(f"takes {handler.struct.__name__}")
        if handler.timeout is not None:
            notes.append(f"timeout {handler.timeout:g} s")
        name = handler.name if handler.name is not None else manifest.called(handler)
        found.append(Stop(what, name, handler.kind, ", ".join(notes), place_of(handler.fn)))
    for route in manifest.routes:
        found.append(Stop("route", str(route), "", "", ""))
    return found


def graph(found: list[Stop]) -> str:
    chain = ["packet", *(f"{s.name}[{s.name}: {s.kind}]" for s in found if s.what == "extension")]
    ends = [s for s in found if s.what in ("main", "named")]
    lines = ["flowchart LR"]
    lines += [f"    {a.split('[')[0]} --> {b}" for a, b in itertools.pairwise(chain)]
    last = chain[-1].split("[")[0]
    for stop in ends:
        arrow = "-->" if stop.what == "main" else f"-. set_handler {stop.name} .->"
        lines.append(f"    {last} {arrow} {stop.what}_{stop.name}(({stop.name}))")
    return "\n".join(lines)


def run(options: argparse.Namespace) -> int:
    sys.path.insert(0, os.getcwd())
    manifest = read(options.module)
    found = stops(manifest)
    if options.json:
        print(json.dumps({"module": manifest.name, "stops": [asdict(stop) for stop in found]}, indent=1))
    elif options.graph:
        print(graph(found))
    else:
        print(manifest.name)
        for number, stop in enumerate(found, 1):
            note = f"  ({stop.note})" if stop.note else ""
            print(f"{number:3}. {stop.what:9} {stop.name:20} {stop.kind:12} {stop.place}{note}".rstrip())
    return 0
