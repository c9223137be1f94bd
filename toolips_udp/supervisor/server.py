"""SupervisedServer: what `start(..., workers=N)` returns. Above group.py, called by starting.

A Server whose modes hold sockets and read nothing: worker processes do.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from ..address import Address, AnyAddress
from ..counters import DROPS, QUEUE_AGES, SIZE, WORDS
from ..errors import StartError
from ..jobs import ProcessManager, Worker
from ..modes import UDP, Mode
from ..servers import further, source, systemd
from ..servers.base import ModeServer, Server
from ..servers.options import KNOWN, OBJECTS
from ..servers.udp import join
from . import hardening
from .group import Group
from .process import Process
from .sockets import open_group
from .spawner import Spawner

_SO_MEMINFO = 55
_IP_MULTICAST_ALL, _IPV6_MULTICAST_ALL = 49, 29


class GroupMode(ModeServer):
    """The sockets of one mode, one per worker, held for life."""

    def __init__(self, server: SupervisedServer, mode: Mode) -> None:
        super().__init__(server)
        self.mode = mode  # type: ignore[misc]
        self.sockets: list[socket.socket] = []
        self._drops: list[int] = []

    def bind(self, address: Address) -> None:
        """Open the group; `BindError` when somebody else holds the address."""
        server = self.server
        assert isinstance(server, SupervisedServer)
        kind = socket.SOCK_DGRAM if self.mode is UDP else socket.SOCK_STREAM
        self.sockets = open_group(
            address, server.workers, kind, server.settings.steer, server.settings.receive_buffer
        )
        self.address = Address.of(self.sockets[0].getsockname())
        if self.mode is UDP:
            self.receive_buffer = self.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        self._join(server.settings.multicast)

    def _join(self, groups: list[str]) -> None:
        """Multicast goes to the first worker: every member of a group that listens gets a copy of its own."""
        if not groups or self.name or self.mode is not UDP:
            return
        for each in self.sockets:
            if each.family == socket.AF_INET:
                each.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
            else:
                each.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
        for group in groups:
            join(self.sockets[0], group)

    def adopt(self, sock: socket.socket) -> None:
        """One socket, from systemd: all workers read it, and each datagram goes to one of them."""
        assert isinstance(self.server, SupervisedServer)
        self.sockets = [sock] * self.server.workers
        self.address = Address.of(sock.getsockname())

    def take(self, sock: socket.socket) -> None:
        """The same, and its multicast groups."""
        self.adopt(sock)
        self._join(self.server.settings.multicast)

    async def open(self) -> None:
        """Nothing: workers read."""

    def close(self) -> None:
        """Close the sockets: what is queued in them is gone."""
        self.kernel_drops()
        for each in {sock.fileno(): sock for sock in self.sockets if sock.fileno() >= 0}.values():
            each.close()

    def kernel_drops(self) -> int:
        """Datagrams that the kernel has dropped for these sockets."""
        if self.mode is not UDP:
            return 0
        if sys.platform == "linux" and all(sock.fileno() >= 0 for sock in self.sockets):
            found = []
            for sock in {sock.fileno(): sock for sock in self.sockets}.values():
                numbers = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36)
                found.append(struct.unpack("9I", numbers)[8] if len(numbers) == 36 else 0)
            self._drops = found
        return sum(self._drops)


class GroupCounts(Mapping[str, int]):
    """The counters of all workers, also of those that are gone; always of this moment."""

    def __init__(self, server: SupervisedServer) -> None:
        self._server = server

    def __getitem__(self, word: str) -> int:
        if word not in WORDS:
            raise KeyError(word)
        return self._server.count_all()[WORDS.index(word)]

    def __iter__(self) -> Iterator[str]:
        return iter(WORDS)

    def __len__(self) -> int:
        return len(WORDS)

    def items(self) -> Any:
        """All of one moment."""
        return dict(zip(WORDS, self._server.count_all(), strict=False)).items()

    def __repr__(self) -> str:
        return repr({word: number for word, number in self.items() if number})


class SupervisedServer(Server):
    """A server of several processes on one port.

    `data`, sessions and chosen handlers belong to each worker; the kernel (or
    `steer=`) sends one client always to the same one. `counters` are those of all.
    `send` uses the first socket; `broadcast` without `to` asks every worker for its
    clients. `reload()` loads the module anew in fresh workers without losing a
    datagram.
    """

    def __init__(
        self, modes: Any, manifest: Any, addresses: Any, settings: Any, threads: Any, workers: int
    ) -> None:
        if not (hasattr(os, "pidfd_open") and hasattr(os, "memfd_create")):
            raise StartError(
                "worker processes need Linux 5.3 or later. Fix: workers=1, without user= and harden=",
                code="not-here",
            )
        self.workers = workers
        self.group: Group | None = None
        self._spawner: Spawner | None = None
        self._last: list[int] | None = None
        self._source = source.describe(manifest.module)
        _check_houses(manifest, settings, workers)
        self._check_rights(settings)
        super().__init__(modes, manifest, addresses, settings, threads)
        self._hello = self._make_hello(modes)

    # ---- start ----

    def _check_rights(self, settings: Any) -> None:
        if settings.harden and os.geteuid() == 0 and not settings.user:
            raise StartError(
                "harden=True refuses to serve as root. Fix: user='nobody', or start as another user",
                code="bad-user",
            )
        if settings.user and os.geteuid() != 0 and not _is_me(settings.user):
            raise StartError(f"user={settings.user!r}: only root can become another user", code="bad-user")

    def _make_mode(self, mode: Mode) -> ModeServer:
        return GroupMode(self, mode)

    def _make_further(self, listen: further.Listen) -> ModeServer:
        return GroupMode(self, listen.mode)

    def _make_hello(self, modes: tuple[Mode, ...]) -> dict[str, Any]:
        """What every worker is told first: plain data."""
        given: dict[str, Any] = {}
        functions = []
        for name in self.settings:
            value = self.settings[name]
            if name in OBJECTS and value is not None and callable(value):
                given[name] = source.name_function(name, value)
                functions.append(name)
            elif name == "router_threads" and value is not None:
                given[name] = [value[0], value[-1]] if isinstance(value, range | tuple | list) else value
            elif name in KNOWN and self.settings.source(name) != "default" and name != "pin":
                given[name] = value
        logger = logging.getLogger()
        level = self.journal.logger.getEffectiveLevel()
        style = getattr(logger.handlers[0].formatter, "_fmt", None) if logger.handlers else None
        return {
            "source": self._source,
            "name": self.manifest.name,
            "secret": self.secret.hex(),
            "modes": [mode.name for mode in modes],
            "further": further.names(further.brought(self.manifest)),
            "settings": given,
            "functions": functions,
            "threads": self.threads,
            "pins": self._pins(),
            "user": self.settings.user or "",
            "harden": self.settings.harden,
            "exec": self.settings.kind == "process",
            "log_level": level,
            "log_format": style or "%(levelname)s %(name)s: %(message)s",
        }

    def _pins(self) -> list[int]:
        cores = list(self.settings.pin)
        return [cores[i % len(cores)] for i in range(self.workers)] if cores else []

    def _new_process(self) -> Process:
        modes = self._group_modes()
        fds = [[sock.fileno() for sock in mode.sockets] for mode in modes]
        datagrams = sum(mode.mode is UDP for mode in modes)
        counts = datagrams, len(modes) - datagrams
        user = hardening.entry_of(self.settings.user).pw_uid if self.settings.user else None
        make = partial(Process, self._hello, fds, counts, self.settings.slot, user)
        return make() if self._spawner is None else self._spawner.call(make)

    def _group_modes(self) -> list[GroupMode]:
        return [mode for mode in self._modes if isinstance(mode, GroupMode)]

    async def _open_parts(self) -> None:
        """Workers instead of extensions and modes."""
        settings = self.settings
        self._processes = ProcessManager(loop=self.loop)
        main = Worker(kind="async")
        main.main = True
        self._processes.push(main)
        self.at_stop(self._processes.close_soon)
        if settings.harden:
            self._spawner = Spawner()
            self.at_stop(self._spawner.close)
        self.group = Group(
            self.workers,
            self._new_process,
            self.journal,
            drain=settings.drain,
            max_age=settings.worker_max_age,
            max_rss=settings.worker_max_rss,
            quarantine=settings.quarantine,
            give_up=self._give_up,
        )
        await self.group.start()

    async def _open_doors(self) -> None:
        """Then, with everything open, the loop's thread gives up its rights too."""
        await super()._open_doors()
        if not self.settings.harden:
            return
        if self._thread is None:
            missing = ["the supervisor shares your event loop's thread, which keeps its rights"]
        else:
            missing = hardening.harden_this_thread(*self._own_files())
        if missing:
            self.journal.say(logging.WARNING, f"harden=True: {'; '.join(missing)}")

    def _own_files(self) -> tuple[list[str], list[str]]:
        """What the loop may read and write: as a worker, and where the program it is part of keeps logs and sockets."""
        given = [self.settings[name] for name in KNOWN]
        read, write = hardening.own_files(getattr(self.manifest.module, "__file__", None), given)
        write += hardening.written_folders()
        doors = (door.path for door in (self.control, self.admin) if door is not None)
        write += [
            str(path.absolute().parent) for path in doors if path is not None
        ]  # the socket is removed at the end
        return read, write

    def _start_line(self) -> str:
        return f"{super()._start_line()}; {self.workers} workers"

    def _feed_watchdog(self) -> None:
        if self.group is not None and self.group.beating:
            systemd.notify("WATCHDOG=1")

    def _give_up(self) -> None:
        self.exit_code = 3
        self.stop(wait=False)

    # ---- stop ----

    async def _close(self) -> None:
        self.ready = False
        systemd.notify("STOPPING=1")
        self._timers.end()
        assert self.group is not None
        code = await self.group.stop()
        self.exit_code = self.exit_code or code
        self._last = self.count_all()
        await self._finish()

    # ---- what users call ----

    def count_all(self) -> list[int]:
        """Every counter, in the order of `WORDS`; and `QUEUE_AGES`."""
        if self._last is not None:
            return self._last
        drops = sum(mode.kernel_drops() for mode in self._group_modes())
        return self.group.counters(drops) if self.group is not None else [0] * SIZE

    @property
    def counters(self) -> Mapping[str, int]:
        """Word to number, over all workers that are and were; always of this moment."""
        return GroupCounts(self)

    @property
    def queue_ages(self) -> tuple[int, ...]:
        """Over all workers that are and were, as `counters`."""
        return tuple(self.count_all()[QUEUE_AGES:])

    @property
    def refused_calls(self) -> dict[str, int]:
        """System calls that workers with `harden=True` were refused, by name."""
        return {} if self.group is None else dict(self.group.refused_calls)

    @property
    def in_flight(self) -> int:
        """Packets whose handler has not ended."""
        found = dict(zip(WORDS, self.count_all(), strict=False))
        return found["received"] - found["handled"] - sum(found[word] for word in DROPS)

    @property
    def pids(self) -> list[int]:
        """The worker processes that serve, in the order of their sockets; 0 where one is being replaced."""
        active = self.group.active if self.group is not None else []
        return [process.pid if process is not None else 0 for process in active]

    def send(self, data: Any, to: AnyAddress) -> None:
        """One datagram out of the server's first socket, from any thread."""
        mode = next((mode for mode in self._group_modes() if mode.mode is UDP), None)
        if mode is None or not self.running:
            raise StartError(f"{self!r} cannot send: it has no UDP mode, or it does not run", code="no-udp")
        raw = data.encode() if isinstance(data, str) else bytes(data)
        mode.sockets[0].sendto(raw, Address.parse(to).sockaddr(mode.sockets[0].family))

    def broadcast(
        self, data: Any, to: Iterable[AnyAddress] | None = None, exclude: Iterable[AnyAddress] = ()
    ) -> int:
        """One datagram to each of `to`, or to each client with a live session of any worker. The number queued."""
        left_out = [Address.parse(each) for each in exclude]
        raw = data.encode() if isinstance(data, str) else bytes(data)
        if to is not None:
            targets = [each for each in map(Address.parse, to) if each not in left_out]
            for each in targets:
                self.send(raw, each)
            return len(targets)
        return int(self._from_outside(self._ask_all(raw, [str(each) for each in left_out])))

    async def _ask_all(self, data: bytes, exclude: list[str]) -> int:
        assert self.group is not None
        asked = [process for process in self.group.active if process is not None]
        for process in asked:
            process.tell({"do": "broadcast", "data": data, "exclude": exclude})
        return sum([(await process.hear("broadcast", 5.0))[0]["count"] for process in asked])

    async def ask_workers(
        self, name: str, arguments: Mapping[str, Any], timeout: float = 5.0, order: str = ""
    ) -> dict[int, Any]:
        """What each worker answers to a control command, by its pid. On the server's loop.

        With `order`, workers that begin to serve later are told it too, in place of the last one of that
        kind. `StartError` when one refuses, `WorkerError` when one does not answer in `timeout` seconds.
        """
        assert self.group is not None
        asked = [process for process in self.group.active if process is not None]
        if order:
            self.group.orders.keep(order, name, arguments, known=asked)
        found = await asyncio.gather(*(each.ask(name, dict(arguments), timeout) for each in asked))
        return {each.pid: answer for each, answer in zip(asked, found, strict=True)}

    async def _reload(self) -> list[str]:
        """Fresh workers load the module, and take over socket by socket."""
        assert self.group is not None
        systemd.notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            return await self.group.reload()
        finally:
            systemd.notify("READY=1")

    def _from_outside(self, coro: Any) -> Any:
        """The result of a coroutine of the supervisor's loop, for callers in other threads."""
        if self.loop is None or not self.running:
            coro.close()
            raise StartError(f"{self!r} does not run", code="not-running")
        return asyncio.run_coroutine_threadsafe(coro, self.loop).result()


def _is_me(user: str) -> bool:
    return hardening.entry_of(user).pw_uid == os.geteuid()


def _check_houses(manifest: Any, settings: Any, workers: int) -> None:
    """Games and message servers keep their clients in one process: several need `sharded=True`."""
    if settings.sharded or workers == 1:
        return
    for extension in manifest.extensions:
        if getattr(extension, "sharded", True) is False:
            name = type(extension).__name__
            raise StartError(
                f"{manifest.name} exports {manifest.called(extension)} ({name}), whose clients live in one process, "
                f"and workers={workers}. Fix: workers=1, or {name}(sharded=True) when each worker may have clients "
                "and rooms of its own",
                code="state-in-one-process",
            )
