"""Serve a module and load it anew whenever one of its files is saved; zones and lists of `dns` count as well.

    toolips-udp dev hello.py --udp 127.0.0.1:2000

Takes what `run` takes. The socket and the clients' sessions stay; a file that cannot be
loaded leaves the old code serving, and its error is shown. With the extra `cli` changes are
told by the system, without it the files are looked at three times per second.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import StartError
from . import run as run_command

SETTINGS = run_command.SETTINGS
EVERY = 0.3
"""Seconds between two looks at the files, without watchfiles."""

add_arguments = run_command.add_arguments


def read() -> list[Path]:
    """The zones and lists that DNS services of this process were made of."""
    from ..starting import running

    if "toolips_udp.dns.service" not in sys.modules:
        return []
    kind = sys.modules["toolips_udp.dns.service"].Service
    return [
        path
        for server in running()
        for each in server.extensions
        if isinstance(each, kind)
        for path in each.files()
    ]


def files() -> dict[Path, int]:
    """The files of the process and when each was changed (ns): Python ones below this folder, and `read`."""
    here = Path.cwd()
    found: dict[Path, int] = {}
    for each in read():
        try:
            found[each] = each.stat().st_mtime_ns
        except OSError:
            continue
    for module in list(sys.modules.values()):
        name = getattr(module, "__file__", None)
        path = Path(name) if isinstance(name, str) else None
        if path and path.suffix == ".py" and path.is_relative_to(here) and "site-packages" not in path.parts:
            try:
                found[path] = path.stat().st_mtime_ns
            except OSError:
                continue  # being replaced by an editor; the next look sees the new one
    return found


def looks(over: threading.Event) -> Iterator[None]:
    """A turn whenever it is time to look at the files, the first at once, until `over`."""
    yield
    try:
        import watchfiles
    except ImportError:
        while not over.wait(EVERY):
            yield
        return
    logging.getLogger("watchfiles").setLevel(
        logging.WARNING
    )  # it would tell of every file, and of the log's own too
    # The system tells only what is saved once its watch stands; the look at each second finds the rest.
    watch = watchfiles.watch(
        Path.cwd(),
        stop_event=over,
        debounce=100,
        rust_timeout=1000,
        yield_on_timeout=True,
        raise_interrupt=False,
    )
    for _ in watch:
        yield


def changes(over: threading.Event, since: int) -> Iterator[set[Path]]:
    """Sets of loaded files that were saved after `since` (ns since the epoch), until `over`.

    A file seen for the first time counts as changed when it was saved after `since`: nothing saved
    between the start and the first look is missed.
    """
    before: dict[Path, int] = {}
    for _ in looks(over):
        now = files()
        changed = {path for path, at in now.items() if before.get(path, min(at, since)) != at}
        before |= now
        if changed:
            yield changed


def reload_on_change(over: threading.Event, since: int) -> None:
    from ..servers import control
    from ..starting import running

    for changed in changes(over, since):
        names = ", ".join(sorted(os.path.relpath(path) for path in changed))
        for server in running():
            if server.control is None or server.control.path is None:
                continue
            try:
                control.ask(server.control.path, "reload", 120.0)
            except (StartError, OSError) as error:
                print(f"{names} changed, the old code serves on: {error}", file=sys.stderr, flush=True)
            else:
                print(f"{names} changed: loaded anew", file=sys.stderr, flush=True)


def run(options: argparse.Namespace) -> int:
    over = threading.Event()
    threading.Thread(
        target=reload_on_change, args=(over, time.time_ns()), name="toolips_udp dev", daemon=True
    ).start()
    try:
        return run_command.run(options)
    finally:
        over.set()
