"""Say what this machine, or a running server, is weak at, and how to mend each weakness.

    toolips-udp doctor
    toolips-udp doctor --json
    toolips-udp doctor --strict           exits 1 when there is a weakness
    toolips-udp doctor 127.0.0.1:9100     a running server, by the address of its --admin
    toolips-udp doctor unix:/run/hello/admin

Without an address it is about this machine and this build: everything is tried on loopback sockets,
nothing is guessed from versions. With one it asks that server: is it ready, do both ledgers close, what
was dropped, under which word and why, is the receive buffer what was asked for, how long did datagrams
wait, did workers die, does a handler hold the loop. Exits 2 when no server answers there.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from ..errors import ToolipsError
from . import USAGE, _probes, _server, complain
from ._probes import Finding

NATIVE = Path(__file__).resolve().parent.parent / "_native"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "address",
        metavar="ADDRESS",
        nargs="?",
        help="admin address of a running server, to look at that instead",
    )
    parser.add_argument("--json", action="store_true", help="the findings as JSON")
    parser.add_argument("--strict", action="store_true", help="exit 1 when something is weak")


def python() -> Finding:
    running = f"Python {platform.python_version()}, {platform.system()} {platform.release()}"
    if sys.platform.startswith("linux"):
        return Finding("platform", True, running)
    return Finding("platform", None, f"{running}: the portable transport serves, one worker")


def loop() -> Finding:
    try:
        return Finding("event loop", True, f"uvloop {importlib.metadata.version('uvloop')}")
    except importlib.metadata.PackageNotFoundError:
        return Finding("event loop", False, "asyncio: uvloop is not installed", "pip install uvloop")


def native_core() -> Finding:
    """Which core serves, and why when it is not the native one."""
    name, rebuild = "core", "pip install --force-reinstall --no-binary toolips_udp toolips_udp"
    if (NATIVE.parent.parent / "setup.py").exists():
        rebuild = "make build"
    if os.environ.get("TOOLIPS_UDP_PURE") == "1":
        return Finding(name, False, "portable, because TOOLIPS_UDP_PURE=1 is set", "unset TOOLIPS_UDP_PURE")
    try:
        importlib.import_module("toolips_udp._native.endpoint")
    except ImportError as error:
        if not any(map(shutil.which, ("cc", "gcc", "clang"))):
            fix = f"sudo apt install gcc && {rebuild}"
            return Finding(name, False, "portable: there is no C compiler", fix)
        return Finding(name, False, f"portable: {error}", rebuild)
    stale = stale_sources()
    if stale:
        return Finding(name, False, f"native, but older than {', '.join(stale)}", rebuild)
    return Finding(name, True, "native")


def stale_sources() -> list[str]:
    """In a source tree: what was edited after the native core was built."""
    built = [path.stat().st_mtime for path in NATIVE.glob("*.so")]
    kernels = NATIVE.parent.parent / "native"
    if not built or not kernels.is_dir():
        return []
    sources = [*kernels.glob("*.[ch]"), *NATIVE.glob("*.pyx"), *NATIVE.glob("*.pxi")]
    newer = (path.name for path in sources if path.stat().st_mtime > max(built))
    return sorted(name for name in newer if not name.startswith("load."))[:3]


def findings() -> list[Finding]:
    ours = [python(), native_core(), loop()]
    if not sys.platform.startswith("linux"):
        return ours
    return [*ours, *(probe() for probe in _probes.KERNEL)]


def run(options: argparse.Namespace) -> int:
    try:
        found = findings() if options.address is None else _server.findings(options.address)
    except ToolipsError as error:
        complain(error)
        return USAGE  # 1 says that something is weak
    weak = [finding for finding in found if finding.fine is False]
    if options.json:
        print(json.dumps({"weak": len(weak), "findings": [asdict(finding) for finding in found]}, indent=1))
    else:
        wide = max(15, *(len(finding.name) for finding in found))
        for finding in found:
            mark = {True: "ok  ", False: "WEAK", None: "    "}[finding.fine]
            print(f"{mark} {finding.name:{wide}} {finding.found}")
            if finding.fix and finding.fine is not True:
                print(f"     {'':{wide}} fix: {finding.fix}")
    return 1 if weak and options.strict else 0
