"""Serve a module until Ctrl-C: drain, then exit 0. A second Ctrl-C ends at once.

    toolips-udp run hello.py --udp 127.0.0.1:2000
    toolips-udp run game.server --udp 0.0.0.0:7777 --tcp 0.0.0.0:7777 --workers 4

MODULE is a dotted name or the path of a .py file. Without an address it serves UDP on
127.0.0.1:2000. With --live it shows what to try, from the module's own docstring, and the
counters as they move. Exits 3 when the server cannot start.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
from typing import Any

from ..address import Address
from ..errors import StartError
from ..modes import HTTP, TCP, UDP, Mode
from ..servers.options import KNOWN
from ..settings import Setting
from . import _live

ADDRESSES = (
    Setting("udp", "serve UDP here", unit="ADDR"),
    Setting("tcp", "serve TCP here", unit="ADDR"),
    Setting("http", "serve HTTP here", unit="ADDR"),
)
SETTINGS = (
    *ADDRESSES,
    Setting("workers", "processes that serve: a number, or auto", str, "1"),
    Setting("threads", "threads of the job pool", int),
    Setting("live", "show what to try, and the counters once per second", bool, False),
    *KNOWN.values(),
)
DEFAULT = "127.0.0.1:2000"
MODES = {"udp": UDP, "tcp": TCP, "http": HTTP}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("module", metavar="MODULE", help="dotted name, or path of a .py file")


def places(options: argparse.Namespace) -> tuple[tuple[Mode, ...], tuple[str, ...]]:
    """The modes asked for and an address for each; UDP on the default address when none was."""
    given = [(MODES[s.key], getattr(options, s.key)) for s in ADDRESSES if getattr(options, s.key)]
    given = given or [(UDP, DEFAULT)]
    return tuple(mode for mode, _ in given), tuple(address for _, address in given)


def chosen(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of `start` that were given anywhere, by name."""
    names = ["threads", "workers", *KNOWN]
    return {name: getattr(options, name) for name in names if options.sources[name] != "default"}


def log_to_stderr() -> None:
    """The command line owns the process, so it may say where logs go: to stderr, as plain lines."""
    logger = logging.getLogger("toolips_udp")
    if not logger.handlers:
        logging.basicConfig(
            stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s"
        )


def run(options: argparse.Namespace) -> int:
    from ..starting import start

    sys.path.insert(0, os.getcwd())
    log_to_stderr()
    modes, addresses = places(options)
    for mode, address in zip(modes, addresses, strict=True):
        try:
            Address.resolve(address)
        except ValueError as error:
            raise StartError(f"--{mode.name.lower()} {address}: {error}", code="bad-address") from None
    over = threading.Event()
    if options.live:
        threading.Thread(target=_live.show, args=(over,), daemon=True).start()
    try:
        server = start(modes, options.module, addresses, block=True, **chosen(options))
    finally:
        over.set()
    return server.exit_code
