"""A worker process: one fresh interpreter that serves one socket of the group.

Runs `main(fd)` with the control channel it inherited; everything else comes over
that. Says `ready` when the module is read, `prepared` when its extensions have
started, `serving` when the first reader is there. When the supervisor is gone
it drains and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import importlib
import itertools
import json
import logging
import os
import signal
import socket
import sys
import traceback
from typing import TYPE_CHECKING, Any

from .. import transports
from ..address import Address
from ..errors import StartError, ToolipsError
from ..manifest import read
from ..modes import UDP, mode_of
from ..servers import control, further, options, plain, source
from ..servers.base import Server, new_loop, pin_to
from ..servers.duty import Duty
from ..servers.mode import load_mode
from . import hardening, memory
from .handover import changed, endpoints, export, restore, settle
from .link import MOST, Gone, Link

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..manifest import Manifest
    from ..modes import Mode
    from ..servers.mode import ModeServer
    from ..servers.options import Options

LATER = ("..servers.pool", "..servers.watchdog", "..asking")
BEAT = 0.5
"""Seconds between heartbeats of a transport that does not stamp its turns."""


class WorkerServer(Server):
    """The server of a worker: its sockets were made by the supervisor, which also says when to read."""

    hands_over = True

    def __init__(self, manifest: Manifest, settings: Options, hello: dict[str, Any]) -> None:
        self._hello = hello
        modes = tuple(mode_of(name) for name in hello["modes"])
        super().__init__(modes, manifest, (), settings, hello["threads"])
        self.secret = bytes.fromhex(hello["secret"])
        self.index = -1
        self.shared = memory.attach(hello["region"])
        self.wanted = modes
        self.made: list[ModeServer] = []
        self.quarantine: Any = None
        self.duty = Duty(False)
        self.say: Callable[[dict[str, Any], bytes | None], None]
        """Tell the supervisor."""
        self.asked: dict[int, asyncio.Future[list[Any]]] = {}
        self._numbers = itertools.count(1)
        self._given: list[dict[str, Any]] = []
        """What the next worker was given of the clients' state, by endpoint."""

    def _bind(self, modes: tuple[Mode, ...], addresses: tuple[Address, ...]) -> None:
        """Nothing to bind: see `prepare`."""

    def make_modes(self) -> None:
        """What will serve the sockets; it reads keys and certificates while it still may."""
        listens = further.check_same(self._hello["further"], self.manifest)
        self.made = [load_mode(mode)(self) for mode in self.wanted]
        self.made += [further.made(listen, listen.make(self)) for listen in listens]

    async def prepare(self, index: int) -> None:
        """Start as worker `index`, but read nothing yet."""
        self.index = index
        hello = self._hello
        for serving, fds in zip(self.made, hello["sockets"], strict=True):
            serving.adopt(socket.socket(fileno=os.dup(fds[index])))
            self._modes.append(serving)
            datagrams = len(endpoints(self))
            if serving.mode is UDP:
                self._share(serving, memory.part(self.shared, datagrams - 1, self.settings.slot))
            else:
                serving.count_in(memory.stream_counters(self.shared, len(self._modes) - datagrams - 1))
        for fds in hello["sockets"]:
            for fd in set(fds):
                os.close(fd)
        await self._open()

    async def ask_others(
        self,
        name: str,
        arguments: Mapping[str, Any],
        content: bytes | None = None,
        *,
        timeout: float = 5.0,
        order: str = "",
    ) -> list[Any]:
        """What each other worker answers to a control command; see `Server`."""
        number = next(self._numbers)
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self.asked[number] = future
        message = {"is": "asks", "number": number, "name": name, "arguments": dict(arguments)}
        self.say({**message, "timeout": timeout, "order": order}, content)
        try:
            async with asyncio.timeout(timeout + 1.0):
                return await future
        except TimeoutError:
            return []
        finally:
            del self.asked[number]

    def _share(self, serving: Any, part: memoryview) -> None:
        """Let the endpoint count in the memory that the supervisor reads."""
        if serving.detail == "native":
            from .._native.quarantine import Quarantine

            self.quarantine = self.quarantine or Quarantine()
            self.first_stages = [self.quarantine]
            serving.endpoint_options = {"shared": part}
        else:
            serving.endpoint_options = {"counters": memory.counters_of(part)}

    def _pin(self) -> None:
        pins = self._hello["pins"]
        if pins:
            pin_to(pins[self.index])

    async def _open_modes(self) -> None:
        for mode in self._modes:
            if mode.mode is UDP:
                await mode.open()
                mode.endpoint.detach()  # in the same step: nothing was read

    def _announce(self) -> None:
        self.journal.say(logging.DEBUG, f"worker {self.index + 1}: {self._start_line()}")

    def _tell_systemd(self) -> None:
        """Nothing: the supervisor does."""

    async def _open_doors(self) -> None:
        """None: the supervisor has the admin listener and the control socket."""

    async def begin(self, carried: bytes | None) -> None:
        """Take over the state of the worker before, and read from now on."""
        if carried is not None:
            restore(self, plain.decode(carried))
        for mode in self._modes:
            if mode.mode is UDP:
                mode.endpoint.attach(asyncio.get_running_loop())
            else:
                await mode.open()

    async def give_away(self) -> tuple[bytes, list[str]]:
        """Stop reading, and give what the next worker goes on with."""
        self.duty.set(False)
        for mode in self._modes:
            mode.halt()
        await settle(self.extensions, self.settings.drain)
        data, lost = export(self)
        self._given = plain.decode(data)["endpoints"]
        return data, lost

    async def _finish(self) -> None:
        """Before the end: count what handlers changed in state that had been given away by then."""
        for mode, given in zip(endpoints(self), self._given, strict=False):
            clients = changed(given, mode.endpoint.export())
            mode.endpoint.count("stale_effects", len(clients))
            if clients:
                text = f"handlers changed the state of {len(clients)} clients after it was handed over; "
                text += f"these changes are refused: {', '.join(clients[:10])}"
                self.journal.say(logging.WARNING, text)
        await super()._finish()


class Worker:
    """The conversation of one worker with its supervisor."""

    def __init__(self, link: Link, hello: dict[str, Any]) -> None:
        self.link = link
        self.hello = hello
        self.server: WorkerServer | None = None
        self.listener = -1
        """Where the kernel tells of refused system calls; the supervisor listens there."""
        self._inbox: asyncio.Queue[tuple[dict[str, Any], bytes | None]] = asyncio.Queue()
        self._commands: set[asyncio.Task[None]] = set()

    def load(self) -> None:
        """Import and check the module: all that a spare can do in advance."""
        hello = self.hello
        module = source.load(hello["source"])
        given = {
            name: source.find_function(value) if name in hello["functions"] else value
            for name, value in hello["settings"].items()
        }
        values = options.read(given, environ={})
        manifest = read(module)
        manifest.name = hello["name"]
        self.server = WorkerServer(manifest, values, hello)
        self.server.say = self._say
        self.server.make_modes()
        for room in LATER:  # what the start needs, while everything can still be read
            importlib.import_module(room, __package__)
        if values.transport != "portable":
            with contextlib.suppress(ImportError):
                importlib.import_module(".._native.quarantine", __package__)
        transports.choose(values.transport)
        if hello["harden"]:
            hardening.drop_bounding_set()
        if hello["user"]:
            hardening.become(hello["user"])
        if hello["harden"]:
            read_from, write_to = hardening.own_files(getattr(module, "__file__", None), given.values())
            missing, self.listener = hardening.harden(
                exec_allowed=hello["exec"], readable=read_from, writable=write_to
            )
            if missing:
                self.server.journal.say(logging.WARNING, f"harden=True: {'; '.join(missing)}")

    async def live(self) -> int:
        """Do what the supervisor says until it says stop, or is gone. The exit code."""
        server = self.server
        assert server is not None
        loop = asyncio.get_running_loop()
        self.link.sock.setblocking(False)
        loop.add_reader(self.link.fileno(), self._arrived)
        loop.add_signal_handler(signal.SIGTERM, self._inbox.put_nowait, ({"do": "stop"}, None))
        beating = loop.create_task(self._beat(server))
        try:
            while True:
                message, carried = await self._inbox.get()
                if message["do"] in ("stop", "finish"):
                    break
                await self._do(message, carried)
        finally:
            beating.cancel()
        return await self._end(server, message["do"] == "stop")

    async def _end(self, server: WorkerServer, read_on: bool) -> int:
        if server.loop is None:
            return 0  # a spare that was never used
        if not read_on:
            for mode in server.modes:
                mode.halt()
        await server._close()
        if control.PARTING:
            told = {name: tell(server) for name, (tell, _) in control.PARTING.items()}
            self._say({"is": "parting"}, json.dumps(told).encode())
        self._say({"is": "stopped", "code": server.exit_code})
        return server.exit_code

    async def _beat(self, server: WorkerServer) -> None:
        while True:
            memory.beat(server.shared)
            await asyncio.sleep(BEAT)

    def _arrived(self) -> None:
        try:
            while True:
                self._inbox.put_nowait(self.link.receive())
        except BlockingIOError:
            pass
        except Gone:
            asyncio.get_running_loop().remove_reader(self.link.fileno())
            self._inbox.put_nowait(({"do": "stop"}, None))

    async def _do(self, message: dict[str, Any], carried: bytes | None) -> None:
        server = self.server
        assert server is not None
        do = message["do"]
        try:
            if do in ("prepare", "serve"):
                if server.index < 0:
                    await server.prepare(message["index"])
                    self._keep_out(message)
                if do == "serve":
                    await server.begin(carried)
                self._say({"is": "serving" if do == "serve" else "prepared"})
            elif do == "export":
                data, lost = await server.give_away()
                self.link.send({"is": "state", "lost": lost}, data)
            elif do == "keep_out":
                self._keep_out(message)
            elif do == "duty":
                server.duty.set(True)
            elif do == "answers":
                future = server.asked.get(message["number"])
                if future is not None and not future.done():
                    future.set_result(json.loads(carried or b"[]"))
            elif do == "command" and not message["number"]:  # a standing order, before it serves
                await control.perform(server, message["name"], with_content(message, carried))
            elif do == "command":
                task = asyncio.get_running_loop().create_task(self._command(server, message, carried))
                self._commands.add(task)
                task.add_done_callback(self._commands.discard)
            elif do == "broadcast":
                count = server.broadcast(message["data"], None, message["exclude"])
                self._say({"is": "broadcast", "count": count})
        except Exception as error:
            self._say({"is": "failed", "error": explain(error), "code": code_of(error)})

    async def _command(self, server: WorkerServer, message: dict[str, Any], content: bytes | None) -> None:
        """A control command for all workers; its answer may be large."""
        answer = await control.perform(server, message["name"], with_content(message, content))
        self._say({"is": "answer", "number": message["number"]}, json.dumps(answer).encode())

    def _keep_out(self, message: dict[str, Any]) -> None:
        assert self.server is not None
        if self.server.quarantine is not None:
            self.server.quarantine.set(message["packets"])

    def _say(self, message: dict[str, Any], state: bytes | None = None) -> None:
        try:
            self.link.post(message, state)
        except Gone:
            pass


def with_content(message: dict[str, Any], content: bytes | None) -> dict[str, Any]:
    """The arguments of a command, those in a memory file too."""
    arguments: dict[str, Any] = message["arguments"]
    return arguments if content is None else {**arguments, "content": content}


def code_of(error: BaseException) -> str:
    """The error's own word, or the one for a module that cannot be loaded."""
    return error.code if isinstance(error, ToolipsError) else "worker-not-started"


def explain(error: BaseException) -> str:
    """What went wrong, with the place in the user's code, short enough for one message."""
    if isinstance(error, ToolipsError):
        return f"{error}"[:MOST]
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if os.sep + "toolips_udp" + os.sep not in frame.filename and "importlib" not in frame.filename:
            place = f" ({frame.filename}:{frame.lineno})"
    if isinstance(error, SyntaxError) and error.filename:
        place = f" ({error.filename}:{error.lineno})"
    return f"{type(error).__name__}: {error}{place}"[:MOST]


def main(fd: int) -> None:
    """The life of a worker process, from its first message to its exit."""
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    hardening.die_with_parent(signal.SIGTERM)
    link = Link(socket.socket(fileno=fd))
    try:
        hello, _ = link.receive()
        worker = Worker(link, hello)
        logging.basicConfig(stream=sys.stderr, level=hello["log_level"], format=hello["log_format"])
        logging.getLogger("toolips_udp").setLevel(hello["log_level"])  # else each journal begins at INFO
        try:
            worker.load()
        except BaseException as error:
            if isinstance(error, StartError | Exception | SystemExit):
                link.send({"is": "failed", "error": explain(error), "code": code_of(error)})
            sys.exit(3)
        link.send({"is": "ready"}, given=worker.listener)
        with asyncio.Runner(loop_factory=new_loop) as runner:
            code = runner.run(worker.live())
    except Gone:
        code = 0
    except KeyboardInterrupt:
        code = 130
    logging.shutdown()
    sys.stdout.flush()
    sys.exit(code)
