"""Serve zones and forward questions, from flags or from a TOML file. Ctrl-C drains and exits 0.

    toolips-udp dns serve --zone example.test=example.test.zone --listen 127.0.0.1:5300
    toolips-udp dns serve --forward 192.0.2.1 --forward tls://9.9.9.9#dns.quad9.net
    toolips-udp dns serve server.toml

Every flag is an environment variable too, named behind it; several values there have commas between them.
A flag wins over the variable, the variable over the file. SIGHUP reads zones, lists and
certificates again; a bad file keeps the old state and is reported.
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
from ..run import log_to_stderr
from . import _keys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", metavar="FILE.toml", help="configuration; flags add to it")
    _keys.add_arguments(parser)
    parser.add_argument(
        "--recursive", action="store_true", help="refused: the resolver is not here yet; use --forward"
    )
    parser.add_argument(
        "--strict", action="store_true", help="any zone that does not load is an error, warnings too"
    )
    parser.add_argument(
        "--schema", action="store_true", help="print the JSON Schema of the configuration and exit"
    )


def configuration(options: argparse.Namespace) -> tuple[Any, Path]:
    """The file's configuration with the flags put in."""
    from ...dns import settings
    from ...dns.listen import split

    config, folder = (
        (settings.Config(), Path()) if options.file is None else settings.read(Path(options.file))
    )
    _keys.put(config, _keys.given(options, os.environ), Path.cwd())
    # the first address is the server's own, and that is one of datagrams or plain streams
    config.service.listen.sort(key=lambda text: not {"udp", "tcp"} & set(split(text)[0]))
    if options.recursive:
        raise StartError(
            "--recursive needs the resolver, which is not here yet. Use --forward ADDR.",
            code="bad-dns-setting",
        )
    if not (config.zone or config.forward or config.local or config.service.handlers):
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
            f"listen is {', '.join(table.listen)}: expected an address for UDP or TCP among them.",
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
