"""DNS: serve zones and forward, check them, ask questions, control a running server.

    toolips-udp dns serve --zone example.test=example.test.zone --listen 127.0.0.1:5300
    toolips-udp dns check example.test.zone
    toolips-udp dns query www.example.test A @127.0.0.1:5300
    toolips-udp dns zone import old.json > new.zone
    toolips-udp dns ctl status

`toolips-udp dns COMMAND --help` tells more of each.
"""

from __future__ import annotations

import argparse
import importlib

from . import _keys

HELP = "Serve, check and query DNS; control a running DNS server."
VARIABLES = _keys.KEYS
COMMANDS = ("serve", "check", "query", "explain", "ctl", "zone")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="dns_command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"{__name__}.{name}")
        text = module.__doc__ or ""
        below = commands.add_parser(
            name,
            help=text.split("\n", 1)[0].rstrip("."),
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(below)


def run(options: argparse.Namespace) -> int:
    code: int = importlib.import_module(f"{__name__}.{options.dns_command}").run(options)
    return code
