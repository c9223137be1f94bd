"""Control a running DNS server of this user: status, reload, cache, zones, upstreams, log.

    toolips-udp dns ctl status
    toolips-udp dns ctl reload
    toolips-udp dns ctl cache flush example.org --tree
    toolips-udp dns ctl cache dump
    toolips-udp dns ctl zone list
    toolips-udp dns ctl zone reload example.org
    toolips-udp dns ctl upstream list
    toolips-udp dns ctl upstream down tls://9.9.9.9#dns.quad9.net
    toolips-udp dns ctl block test ads.example.net
    toolips-udp dns ctl log on queries.jsonl --sample 0.01
    toolips-udp dns ctl log off
    toolips-udp dns ctl top --seconds 5

Of a server with several workers every command is for all of them.
Exits 1 when no server answers, or when it reports a problem.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ...errors import StartError, ToolipsError
from ...servers.control import ask, find
from ...settings import SettingError
from .. import positive

ACTIONS = {
    ("status",): "dns-status", ("reload",): "dns-reload", ("cache", "flush"): "dns-cache-flush",
    ("cache", "dump"): "dns-cache-dump", ("cache", "stats"): "dns-cache-stats", ("zone", "list"): "dns-zone-list",
    ("zone", "show"): "dns-zone-show", ("zone", "transfer"): "dns-zone-transfer",
    ("zone", "reload"): "dns-zone-reload", ("upstream", "list"): "dns-upstream-list",
    ("upstream", "down"): "dns-upstream-down", ("upstream", "up"): "dns-upstream-up",
    ("log",): "dns-log", ("top",): "dns-top",
    ("block", "test"): "dns-block-test",
}  # fmt: skip


LATER = {
    "anchor": "comes with the resolver, which is not here yet",
    "zone sign": "is not here yet: sign the file (dnssec-signzone, ldns-signzone), then dns ctl zone reload",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="+", metavar="WORD", help="what to do: see above")
    parser.add_argument("--pid", type=int, help="the process, where several serve DNS")
    parser.add_argument("--tree", action="store_true", help="cache flush: names below as well")
    parser.add_argument("--type", metavar="TYPE", help="cache flush: this type only")
    parser.add_argument(
        "--sample", type=float, default=1.0, metavar="SHARE", help="log on: the share of answers [1.0]"
    )
    parser.add_argument(
        "--seconds", type=positive, default=1.0, metavar="SECONDS", help="top: how long to watch [1]"
    )
    parser.add_argument("--json", action="store_true", help="JSON instead of text")


def run(options: argparse.Namespace) -> int:
    words = tuple(options.words)
    for size in (2, 1):
        name = ACTIONS.get(words[:size])
        if name is not None:
            break
    else:
        later = LATER.get(words[0]) or LATER.get(" ".join(words[:2]))
        if later is not None:
            raise SettingError(f"dns ctl {' '.join(words)} {later}.", code="unknown-command")
        known = ", ".join(" ".join(action) for action in ACTIONS)
        raise SettingError(
            f"dns ctl does not know {' '.join(words)!r}. It knows: {known}.", code="unknown-command"
        )
    arguments: dict[str, Any] = {}
    if words[size:]:
        arguments["of"] = words[size]
    if name == "dns-cache-flush":
        arguments |= {"tree": options.tree} | ({"type": options.type} if options.type else {})
    if name == "dns-log":
        arguments["sample"] = options.sample
        if words[size + 1 :]:
            arguments["file"] = str(Path(words[size + 1]).absolute())
    if name == "dns-top":
        arguments["seconds"] = options.seconds
    result = _ask(name, options.pid, arguments)
    lines = [result] if isinstance(result, str) else result
    if options.json or not (isinstance(lines, list) and all(isinstance(line, str) for line in lines)):
        print(json.dumps(result, indent=2))
    else:
        print("\n".join(lines))
    return 1 if isinstance(result, dict) and result.get("problems") else 0


def _ask(name: str, pid: int | None, arguments: dict[str, Any]) -> Any:
    """Ask the one server that knows the command."""
    failure = "there is no DNS server of this user. Start one: toolips-udp dns serve ..."
    for path in find():
        if pid is not None and not path.name.startswith(f"{pid}-"):
            continue
        try:
            return ask(path, name, 5.0 + float(arguments.get("seconds", 0.0)), **arguments)
        except (OSError, StartError) as error:
            if "there is no command" not in str(error):
                failure = str(error)
    raise ToolipsError(failure, code="control-refused")
