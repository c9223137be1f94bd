"""The control socket: how commands find a running server. Below base.py.

A Unix stream socket, mode 0600, in a folder of the user's own (mode 0700), named
by process and server: `4711-0.sock`. One request is one line of JSON, `{"command":
"counters"}`, one answer one line of JSON, `{"ok": true, "result": ...}` or `{"ok":
false, "error": "..."}`. `COMMANDS` maps names to functions; rooms add their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import json
import os
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import StartError, ToolipsError, suggestion

if TYPE_CHECKING:
    from .base import Server

MOST = 65_536
PATIENCE = 60.0

Command = Callable[..., Any]
"""`f(server, **arguments)`, plain or `async def`; its result must be JSON."""

COMMANDS: dict[str, Command] = {}
PARTING: dict[str, tuple[Command, Callable[[Any], None]]] = {}
"""Last words of worker processes, by name: `f(server)` in the worker, its result JSON, and `g(process)` in the
supervisor when it has ended, which finds it in `process.parting[name]`, if there was time for it."""
_numbers = itertools.count()


def command(name: str) -> Callable[[Command], Command]:
    """Decorator: add a command to the table of every server in this process."""

    def add(fn: Command) -> Command:
        COMMANDS[name] = fn
        return fn

    return add


@command("status")
def status(server: Server) -> dict[str, Any]:
    """Who this is and how it is."""
    return {
        "module": server.manifest.name,
        "pid": os.getpid(),
        "ready": server.takes_work,
        "in_flight": server.in_flight,
        "addresses": {mode.name: str(address) for mode, address in server.addresses.items()},
    }


@command("counters")
def counters(server: Server) -> dict[str, int]:
    """Both ledgers."""
    return {**server.counters, "in_flight": server.in_flight}


@command("settings")
def settings(server: Server) -> dict[str, Any]:
    """Each setting with its value and where it came from."""
    found = server.settings
    return {name: {"value": _plain(found[name]), "source": found.source(name)} for name in found}


@command("reload")
async def reload(server: Server) -> list[str]:
    """Load the module anew, without losing a datagram. What could not be carried over."""
    try:
        return await server.reload_async()
    except (ToolipsError, OSError):
        raise
    except Exception as error:  # what the user's module raised
        raise StartError(f"{type(error).__name__}: {error}", code="reload-failed") from error


@command("stop")
def stop(server: Server) -> str:
    """Drain and stop."""
    assert server.loop is not None
    server.loop.call_later(0.05, server.stop, False)  # the answer leaves first
    return "stopping"


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | list | None) else repr(value)


def folder() -> Path:
    """This user's folder of control sockets. `TOOLIPS_UDP_RUNTIME` names another."""
    given = os.environ.get("TOOLIPS_UDP_RUNTIME") or os.environ.get("XDG_RUNTIME_DIR")
    if given:
        return Path(given) / "toolips_udp"
    return Path(tempfile.gettempdir()) / f"toolips_udp-{os.getuid()}"


def made_folder() -> Path:
    """The folder, made if need be; `StartError` when somebody else could read or change it."""
    path = folder()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise StartError(
            f"{path} is not a folder of this user alone, so no control socket is made there. "
            f"Fix: chmod 700 {path}, or remove it, or set TOOLIPS_UDP_RUNTIME",
            code="unsafe-folder",
        )
    return path


class Control:
    """The control socket of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._listener: asyncio.Server | None = None
        self._open: set[asyncio.Task[Any]] = set()
        self.path: Path | None = None

    async def open(self) -> None:
        """Listen; raises `OSError` or `StartError` when that cannot be."""
        path = made_folder() / f"{os.getpid()}-{next(_numbers)}.sock"
        with contextlib.suppress(FileNotFoundError):
            path.unlink()  # of a process that had our pid and was killed
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(str(path))
            path.chmod(0o600)
            self._listener = await asyncio.start_unix_server(self._answer, sock=sock, limit=MOST)
        except BaseException:
            sock.close()
            raise
        self.path = path

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._listener is not None:
            self._listener.close()
            for task in self._open:
                task.cancel()
            if self._open:
                await asyncio.wait(self._open, timeout=1.0)
            await self._listener.wait_closed()
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            while line := await reader.readline():
                async with asyncio.timeout(PATIENCE):
                    writer.write((json.dumps(await self._run(line)) + "\n").encode())
                    await writer.drain()
        except (TimeoutError, ConnectionError, ValueError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.close()
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await writer.wait_closed()

    async def _run(self, line: bytes) -> dict[str, Any]:
        try:
            asked = json.loads(line)
            name, arguments = asked.pop("command"), asked
        except (ValueError, KeyError, AttributeError, TypeError):
            return {"ok": False, "error": 'expected one line of JSON, as in {"command": "counters"}'}
        return await perform(self._server, name, arguments)


async def perform(server: Any, name: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Run a command on a server: `{"ok": true, "result": ...}`, or the error in words."""
    fn = COMMANDS.get(name) if isinstance(name, str) else None
    if fn is None:
        known = ", ".join(sorted(COMMANDS))
        hint = suggestion(str(name), COMMANDS)
        return {"ok": False, "error": f"there is no command {name!r}.{hint} Known: {known}"}
    try:
        inspect.signature(fn).bind(server, **arguments)
        result = fn(server, **arguments)
        return {"ok": True, "result": await result if inspect.isawaitable(result) else result}
    except (ToolipsError, TypeError, ValueError, LookupError, OSError) as error:
        return {"ok": False, "error": f"{type(error).__name__}: {error}"}


def find() -> Iterator[Path]:
    """The control sockets of this user whose process lives. Those of dead ones are removed."""
    with contextlib.suppress(OSError):
        for path in sorted(folder().glob("*.sock")):
            pid = path.name.partition("-")[0]
            if pid.isdigit() and _alive(int(pid)):
                yield path
            else:
                path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def ask(path: Path, name: str, timeout: float = 5.0, **arguments: Any) -> Any:
    """Run a command on a server and return its result. Raises `StartError` with what the server said."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        sock.connect(str(path))
        sock.sendall((json.dumps({"command": name, **arguments}) + "\n").encode())
        with sock.makefile("rb") as answer:
            line = answer.readline(16 << 20)
    if not line:
        raise StartError(
            f"{path} closed without an answer to {name}: the server is stopping", code="no-answer"
        )
    found = json.loads(line)
    if not found["ok"]:
        raise StartError(found["error"], code="control-refused")
    return found["result"]
