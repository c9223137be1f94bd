"""Load the module of a running server anew, without losing a datagram.

    toolips-udp reload                 the one server of this user
    toolips-udp reload hello           the one that serves this module
    toolips-udp reload --pid 4711

Sessions, chosen handlers and what extensions export are carried over. A module that
cannot be loaded or started leaves the old one serving; its error is shown, exit status 1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

PATIENCE = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("module", metavar="MODULE", nargs="?", help="name of the module that is served")
    parser.add_argument("--pid", type=int, help="the server's process")


def found(module: str | None, pid: int | None) -> list[tuple[Path, dict[str, Any]]]:
    """The control sockets of the servers meant, and what those servers are."""
    from ..servers import control

    servers = []
    for path in control.find():
        try:
            status = control.ask(path, "status")
        except OSError:
            continue  # it stops right now
        if pid in (None, status["pid"]) and module in (None, status["module"]):
            servers.append((path, status))
    return servers


def run(options: argparse.Namespace) -> int:
    from ..errors import StartError, ToolipsError
    from ..servers import control

    servers = found(options.module, options.pid)
    if len(servers) != 1:
        listed = "".join(
            f"\n  {status['module']}, pid {status['pid']}: {', '.join(status['addresses'].values())}"
            for _, status in servers
        )
        if not servers:
            wanted = (
                f" {options.module or ''}"
                if options.module
                else f" with pid {options.pid}"
                if options.pid
                else ""
            )
            text = f"found no running server{wanted} of this user. Fix: start one with toolips-udp run"
        else:
            text = f"found several servers. Fix: name one by its module, or with --pid{listed}"
        raise ToolipsError(text, code="not-running")
    path, status = servers[0]
    try:
        lost = control.ask(path, "reload", PATIENCE)
    except StartError as error:
        print(f"{status['module']} was not reloaded, the old one serves on: {error}", file=sys.stderr)
        return 1
    left = f"; not carried over: {', '.join(lost)}" if lost else ""
    print(f"{status['module']} was reloaded{left}", file=sys.stderr)
    return 0
