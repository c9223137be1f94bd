"""Serve zones and forward questions, from flags or from a TOML file. Ctrl-C drains and exits 0.

    toolips-udp dns serve --zone example.test=example.test.zone --listen 127.0.0.1:5300
    toolips-udp dns serve --forward 192.0.2.1 --forward tls://9.9.9.9#dns.quad9.net
    toolips-udp dns serve server.toml

SIGHUP reads zones, lists and certificates again; a bad file keeps the old state and is reported.
Exits 3 when no zone loads, or with --strict when one does not, or when an address is taken.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ...errors import StartError
from .. import counted
from ..run import log_to_stderr


def add_arguments(parser: argparse.ArgumentParser) -> None:
    many: dict[str, Any] = {"action": "append", "default": []}
    parser.add_argument("file", nargs="?", metavar="FILE.toml", help="configuration; flags add to it")
    parser.add_argument("--zone", metavar="NAME=FILE", help="a zone; repeatable", **many)
    parser.add_argument("--zones-dir", metavar="DIR", help="every *.zone file in it; repeatable", **many)
    parser.add_argument(
        "--forward", metavar="ADDR", help="an upstream: address, tls://, https://; repeatable", **many
    )
    parser.add_argument(
        "--listen", metavar="ADDR", help="repeatable; without scheme UDP and TCP [127.0.0.1:5300]", **many
    )
    parser.add_argument("--blocklist", metavar="FILE", help="a list of names to block; repeatable", **many)
    parser.add_argument(
        "--allow", metavar="PREFIX", help="who may have questions forwarded; repeatable [loopback]", **many
    )
    parser.add_argument(
        "--recursive", action="store_true", help="resolve from the root (comes with the resolver)"
    )
    parser.add_argument("--id", metavar="TEXT", help="told to clients that ask for NSID or id.server")
    parser.add_argument("--workers", type=counted, metavar="N", help="processes that serve [1]")
    parser.add_argument("--admin", metavar="ADDR", help="health and Prometheus metrics, on loopback")
    parser.add_argument(
        "--strict", action="store_true", help="any zone that does not load is an error, warnings too"
    )
    parser.add_argument(
        "--schema", action="store_true", help="print the JSON Schema of the configuration and exit"
    )


def configuration(options: argparse.Namespace) -> tuple[Any, Path]:
    """The file's configuration with the flags put in."""
    from ...dns import settings

    config, folder = (
        (settings.Config(), Path()) if options.file is None else settings.read(Path(options.file))
    )
    here = Path.cwd()
    for text in options.zone:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise StartError(
                f"--zone {text!r}: expected NAME=FILE, as in example.test=example.test.zone.",
                code="bad-dns-setting",
            )
        config.zone.append(settings.ZoneTable(name=name, file=str(here / path)))
    config.zone += [settings.ZoneTable(folder=str(here / text)) for text in options.zones_dir]
    if options.forward:
        config.forward.append(settings.ForwardTable(to=options.forward))
    if options.blocklist:
        config.blocklist.append(
            settings.BlocklistTable(file=[str(here / path) for path in options.blocklist])
        )
    service = config.service
    service.listen = options.listen or service.listen
    service.access.recursion += options.allow
    service.id = options.id or service.id
    service.workers = options.workers or service.workers
    service.admin = options.admin or service.admin
    if options.recursive:
        raise StartError(
            "--recursive needs the resolver, which is not here yet. Use --forward ADDR.",
            code="bad-dns-setting",
        )
    if not (config.zone or config.forward or config.local or service.handlers):
        raise StartError(
            "nothing to serve. Give --zone NAME=FILE, --zones-dir DIR, --forward ADDR or a FILE.toml.",
            code="no-handler",
        )
    return config, folder


def progress(records: int) -> None:
    """Tell how far the loading of a large zone is."""
    if sys.stderr.isatty():
        print(f"\r{records:,} records", end="", file=sys.stderr, flush=True)


def run(options: argparse.Namespace) -> int:
    from ...dns import ready, settings
    from ...dns.listen import split
    from ...modes import TCP, UDP
    from ...starting import start

    if options.schema:
        print(json.dumps(settings.schema(), indent=2))
        return 0
    log_to_stderr()
    config, folder = configuration(options)
    table = config.service
    kinds, address, _ = split(table.listen[0])
    modes = tuple({"udp": UDP, "tcp": TCP}[kind] for kind in kinds if kind in ("udp", "tcp"))
    if not modes:
        raise StartError(
            f"the first listen address is {table.listen[0]}: expected an address for UDP and TCP first.",
            code="bad-address",
        )
    extra: dict[str, Any] = {"admin": table.admin} if table.admin else {}
    service = ready.ready(config, folder, strict=options.strict, progress=progress)
    for zone in service.zones():
        for warning in zone.warnings[:20]:
            print(warning, file=sys.stderr)
    module: Any = SimpleNamespace(__name__="dns", service=service)
    if table.workers > 1:
        os.environ[ready.VARIABLE] = ready.packed(config, folder, options.strict)
        module = "toolips_udp.dns.served"
    start(modes, module, str(address), workers=table.workers, block=True, **extra)
    return 0
