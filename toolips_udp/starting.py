"""start and kill. Above servers."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .address import Address, AnyAddress
from .errors import StartError
from .manifest import find, name_of, read
from .modes import UDP, AnyMode, Mode, modes_of
from .servers import options, source
from .servers.base import Server
from .servers.signals import Answering, keep_serving_after_main

DEFAULT = "127.0.0.1:2000"

_servers: list[Server] = []
_lock = threading.Lock()


def start(
    mode: AnyMode,
    module: Any,
    ip: AnyAddress | tuple[Any, ...] = DEFAULT,
    *,
    workers: int | str = 1,
    threads: int | None = None,
    block: bool = False,
    **settings: Any,
) -> Server:
    """Serve a module and return its `Server` once the socket is bound and read.

    `mode` is `UDP`, `TCP`, `HTTP`, their names, or a tuple of them, which shares
    one port (or `ip` is a tuple, one address per mode). `module` is a module, its
    dotted name, the path of its .py file, or any object with attributes; a script
    passes `__name__`. `block=True` returns when the server has stopped, and from
    the main thread answers SIGINT and SIGTERM. A script that ends after `start`
    keeps serving until one of them, drains and exits 0.

    `workers=N` (or "auto": one per core) serves one port with N processes: data,
    sessions and chosen handlers are then each worker's own. `threads=N` gives the
    server a pool: workers 2 to N of `server.processes`, dealt packets by `router_threads`.

    `async with start(...)` serves on the running loop; every other form in a
    thread of its own. Raises `StartError`, `BindError` and `ValueError`.

    >>> server = start(UDP, __name__, "127.0.0.1:0")
    """
    server = prepare(mode, module, ip, workers=workers, threads=threads, settings=settings)
    if not block and _enters_async_with(sys._getframe(1)):
        _remember(server)
        return server
    if not block:
        keep_serving_after_main(server)  # before the start: a SIGTERM in the middle of it drains too
        server.run_in_thread()
        _remember(server)
        return server
    with Answering(server) as signals:  # before the start, so that no signal finds the default answer
        server.run_in_thread()
        _remember(server)
        if signals.asked:
            server.stop(wait=False)
        signals.wait_for(server)
    server.stop()
    return server


def prepare(
    mode: AnyMode,
    module: Any,
    ip: Any,
    *,
    workers: int | str = 1,
    threads: int | None = None,
    settings: dict[str, Any],
) -> Server:
    """A server whose sockets are bound and that does not serve yet."""
    modes = modes_of(mode)
    addresses = _addresses(modes, ip)
    values = options.read(settings)
    if values.tls and modes == (UDP,):
        raise StartError(
            f"tls (from the {values.source('tls')}) is for TCP and HTTP, and this server has UDP alone: its datagrams "
            "would go in the clear. Fix: leave it out; Messages seal with secure=True, and a dns.Service takes tls= "
            "itself",
            code="bad-tls",
        )
    if isinstance(threads, bool) or (threads is not None and (not isinstance(threads, int) or threads < 1)):
        raise StartError(
            f"threads={threads!r}: expected a number of workers, 1 or more, or None", code="bad-setting"
        )
    _refuse_inside_a_worker()
    count = _count_workers(workers)
    if count == 1 and not (values.user or values.harden or values.worker_max_age or values.worker_max_rss):
        return Server(modes, read(module), addresses, values, threads)
    from .supervisor import SupervisedServer

    return SupervisedServer(modes, read(module), addresses, values, threads, count)


def _count_workers(workers: int | str) -> int:
    if workers == "auto":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(workers, str) and workers.isdigit():
        workers = int(workers)
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise StartError(
            f"workers={workers!r}: expected a number of processes, 1 or more, or 'auto'", code="bad-setting"
        )
    return workers


def _refuse_inside_a_worker() -> None:
    if source.importing:
        raise StartError(
            "a worker imports this module, and the module starts a server while it is imported, which would never "
            'end. Put start(...) under  if __name__ == "__main__":',
            code="guard-main",
        )


def kill(target: Any) -> None:
    """Stop a server, or the servers of a module: the inverse of `start`.

    Killing twice does nothing; a module that is not served logs a warning.

    >>> kill(server)
    """
    if isinstance(target, Server):
        target.stop()
        return
    found = _servers_of(target)
    if not found:
        logging.getLogger("toolips_udp").warning(
            "%s is not being served, so there is nothing to kill", _title(target)
        )
    for server in found:
        server.stop()


def server_of(module: Any) -> Server | None:
    """The latest running server of a module, or None."""
    found = _servers_of(module)
    return found[-1] if found else None


def running() -> list[Server]:
    """All servers of this process that run."""
    with _lock:
        _servers[:] = [server for server in _servers if server.running]
        return list(_servers)


def _remember(server: Server) -> None:
    with _lock:
        _servers[:] = [each for each in _servers if not each.ended.is_set()]
        _servers.append(server)


def _servers_of(module: Any) -> list[Server]:
    try:
        module = find(module)
    except StartError:
        return []
    return [server for server in running() if module in (server.module, server.manifest.module)]


def _title(target: Any) -> str:
    return str(target) if isinstance(target, str | Path) else name_of(target)


def _addresses(modes: tuple[Mode, ...], ip: Any) -> tuple[Address, ...]:
    several = isinstance(ip, tuple) and not isinstance(ip, Address) and not _is_pair(ip)
    wanted: Iterable[Any] = ip if several else (ip,) * len(modes)
    try:
        found = tuple(Address.resolve(each) for each in wanted)
    except (ValueError, TypeError) as error:
        raise StartError(f"ip={ip!r}: {error}", code="bad-address") from None
    if len(found) != len(modes):
        raise StartError(
            f"ip={ip!r} has {len(found)} addresses for the modes {', '.join(map(str, modes))}. "
            "Expected one, or one per mode",
            code="bad-address",
        )
    return found


def _is_pair(ip: tuple[Any, ...]) -> bool:
    return len(ip) == 2 and isinstance(ip[0], str) and isinstance(ip[1], int)


def _enters_async_with(frame: Any) -> bool:
    """Whether the caller's next step is `async with` on what `start` returns.

    `async with start(...)` serves on the running loop, so it must not have been
    started elsewhere when `__aenter__` comes. Where this cannot be told, the
    server runs in a thread of its own, which works too.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    import dis

    steps = [step for step in dis.get_instructions(frame.f_code) if step.offset > frame.f_lasti]
    names = [step.opname for step in steps[:4] if step.opname not in ("CACHE", "COPY", "NOP")]
    if names[:1] == ["BEFORE_ASYNC_WITH"]:
        return True
    return names[:1] == ["LOAD_SPECIAL"] and any("aexit" in str(step.argrepr) for step in steps[:4])
