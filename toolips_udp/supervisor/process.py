"""One worker process, as the supervisor sees it. Below group.py."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import StartError, WorkerError
from . import refused
from .link import Gone, Link
from .memory import Region

_ROOT = str(Path(__file__).parents[2])
_CODE = "import sys; sys.path.insert(0, {root!r}); from toolips_udp.supervisor.worker import main; main({fd})"


class Process:
    """A child: its control channel, its memory, and what it said."""

    def __init__(
        self,
        hello: dict[str, Any],
        sockets: list[list[int]],
        counts: tuple[int, int],
        slot_room: int,
        user: int | None,
    ) -> None:
        """`sockets` are the descriptors of each mode; `counts` says how many are of UDP, and how many are not."""
        self.index = -1
        """The socket that it serves, -1 for a spare."""
        self.region = Region(slot_room, *counts)
        self.began = time.monotonic()
        self.started = False
        """Its extensions were told to start."""
        self.leaving = False
        """It was told to end: its end is no loss."""
        self.deadline: float | None = None
        self.status: int | None = None
        self._said: deque[tuple[dict[str, Any], bytes | None]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self.orders_told: set[int] = set()
        """The numbers of the standing orders that it has been told."""
        self.parting: dict[str, Any] = {}
        """What it told of itself at its end, by name."""
        self._listener: threading.Thread | None = None
        self.ended = asyncio.Event()
        self.link, theirs = Link.pair()
        if user is not None:
            os.fchown(self.region.fd, user, -1)
        fds = [fd for group in sockets for fd in group]
        try:
            self.popen = subprocess.Popen(
                [
                    sys.executable,
                    *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]
                    "-c",
                    _CODE.format(root=_ROOT, fd=theirs.fileno()),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno(), self.region.fd, *fds],
            )
        except OSError as error:
            self.link.close()
            self.region.close()
            raise WorkerError(
                f"a worker process could not be started: {error}", code="worker-not-started"
            ) from error
        finally:
            theirs.close()
        self.pid = self.popen.pid
        self.link.sock.setblocking(False)
        self.link.send({**hello, "region": self.region.fd, "sockets": sockets})

    def watch(
        self,
        loop: asyncio.AbstractEventLoop,
        ended: Any,
        told: Callable[[Process, str], None],
        asks: Callable[[Process, dict[str, Any], bytes | None], None],
    ) -> None:
        """Listen to it from now on; `ended(process)` is called once, after its last word.

        `told(process, name)` is called for each system call that a hardened worker was refused,
        `asks(process, message, content)` for each question that it has for the others.
        """
        self._loop = loop
        self._told = told
        self._asks = asks
        self._pidfd = os.pidfd_open(self.pid)
        loop.add_reader(self.link.fileno(), self._hear)
        loop.add_reader(self._pidfd, self._end, ended)

    def tell(self, message: dict[str, Any], state: bytes | None = None) -> None:
        """Send a message. Nothing happens when it is gone: its end is seen elsewhere."""
        try:
            self.link.post(message, state)
        except Gone:
            pass

    async def hear(self, wanted: str, timeout: float) -> tuple[dict[str, Any], bytes | None]:
        """The next message of that kind. `StartError` with its words when it failed, `WorkerError` when it ended."""
        until = time.monotonic() + timeout
        while True:
            while self._said:
                message, state = self._said.popleft()
                if message["is"] == wanted:
                    return message, state
                if message["is"] == "failed":
                    raise StartError(message["error"], code=message["code"])
            if self.ended.is_set():
                raise WorkerError(
                    f"worker process {self.pid} ended ({self.how}) before it was {wanted}", code="worker-lost"
                )
            self._waiter = self._loop.create_future()
            try:
                async with asyncio.timeout(max(0.0, until - time.monotonic())):
                    await self._waiter
            except TimeoutError:
                raise WorkerError(
                    f"worker process {self.pid} was not {wanted} within {timeout:g} s",
                    code="worker-late",
                ) from None
            finally:
                self._waiter = None

    async def ask(
        self, name: str, arguments: dict[str, Any], timeout: float, content: bytes | None = None
    ) -> Any:
        """The result of a control command there. `StartError` with its words when it refuses, `WorkerError` when
        it ends or takes longer than `timeout` seconds."""
        number = next(self._numbers)
        future = self._asked[number] = self._loop.create_future()
        self.tell({"do": "command", "number": number, "name": name, "arguments": arguments}, content)
        try:
            async with asyncio.timeout(timeout):
                found = await future
        except TimeoutError:
            raise WorkerError(
                f"worker process {self.pid} did not answer {name} within {timeout:g} s", code="worker-late"
            ) from None
        finally:
            self._asked.pop(number, None)
        if not found["ok"]:
            raise StartError(found["error"].partition(": ")[2] or found["error"], code="control-refused")
        return found["result"]

    @property
    def how(self) -> str:
        """How it ended, in words."""
        if self.status is None:
            return "still runs"
        if self.status < 0:
            return f"killed by {signal.Signals(-self.status).name}"
        return f"exit status {self.status}"

    @property
    def rss(self) -> float:
        """MiB of memory that it holds."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal."""
        if self.status is None:
            self.popen.send_signal(number)

    def close(self) -> None:
        """Let go of what is left of an ended process."""
        self.link.close()
        self.region.close()
        if self._listener is not None:
            self._listener.join(0.5)

    def _tell_refused(self, name: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._told, self, name)

    def _hear(self) -> None:
        try:
            while True:
                message, state = self.link.receive()
                if "given" in message:
                    self._listener = refused.listen(message["given"], self._tell_refused)
                if message["is"] == "answer":
                    self._answered(message["number"], json.loads(state or b"null"))
                elif message["is"] == "asks":
                    self._asks(self, message, state)
                elif message["is"] == "parting":
                    self.parting = json.loads(state or b"{}")
                else:
                    self._said.append((message, state))
        except BlockingIOError:
            pass
        except Gone:
            self._loop.remove_reader(self.link.fileno())
        self._wake()

    def _answered(self, number: int, answer: dict[str, Any]) -> None:
        future = self._asked.get(number)
        if future is not None and not future.done():
            future.set_result(answer)

    def _end(self, ended: Any) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._hear()
        self._loop.remove_reader(self.link.fileno())
        self.status = self.popen.wait()
        self.ended.set()
        self._wake()
        for number in list(self._asked):
            self._answered(number, {"ok": False, "error": f"worker process {self.pid} ended ({self.how})"})
        ended(self)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
