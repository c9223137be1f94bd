"""Workers of kind "process": a fresh interpreter each, behind a private socket pair.

Never a fork of this process: it may have threads and loops. A child that dies is
replaced at once; the job it ran fails with `WorkerError`, the next ones go on.
"""

from __future__ import annotations

import os
import pickle
import queue
import select
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import spawn
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..errors import JobError, WorkerError
from .child import ASKED, DONE, JOB, SAID, TALK, Main
from .job import Job, JobFuture, pack
from .kinds import Broken, Engine
from .worker import IDLE, RemoteError, logger

_ROOT = str(Path(__file__).parents[2])
_CODE = "import sys; sys.path.insert(0, {root!r}); from toolips_udp.jobs.child import main; main({fd})"


class Talk(Job[bytes]):
    """A job for a process worker that speaks with us while it runs: bytes only, nothing is pickled.

    `function` is `"module:name"` of a function `f(data, line) -> bytes` that the child imports; it may
    `line.say(bytes)`, which calls `heard(bytes)` in the worker's thread, in order, and
    `line.ask(bytes)`, which gives it what `asked(bytes)` returns.
    """

    __slots__ = ("asked", "data", "function", "heard")

    def __init__(
        self, function: str, data: bytes, heard: Callable[[bytes], object], asked: Callable[[bytes], bytes]
    ) -> None:
        super().__init__(_only_in_a_process)
        self.function = function
        self.data = data
        self.heard = heard
        self.asked = asked

    @property
    def name(self) -> str:
        return self.function


def _only_in_a_process() -> bytes:
    raise JobError("a Talk runs on workers of kind 'process' only", code="wrong-kind")


class ProcessEngine(Engine):
    """One child process and the socket to it."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._channel: Connection[Any, Any] | None = None
        self._inbox: _WatchingInbox | None = None
        self._setups: Callable[[], list[Job[Any]]] = list
        self._closed = False
        self._running: JobFuture[Any] | None = None
        self._killing = threading.Lock()
        """Held while a job begins or ends and while one is killed, so that no other job is hit."""

    @property
    def pid(self) -> int | None:  # type: ignore[override]
        return self._child.pid if self._child is not None else None

    def start(self, setups: Callable[[], list[Job[Any]]]) -> None:
        if Main.importing:
            raise WorkerError(
                "the main script makes process workers while one of them imports it, which would never end. "
                'Put what should run only once under  if __name__ == "__main__":',
                code="guard-main",
            )
        self._setups = setups
        self._spawn()

    def inbox(self) -> _WatchingInbox:
        self._inbox = _WatchingInbox(self._channel.fileno() if self._channel else -1)
        return self._inbox

    def accept(self, job: Job[Any]) -> bytes:
        if isinstance(job, Talk):
            name = job.function.encode()
            return TALK + bytes([len(name)]) + name + job.data
        return JOB + pack(job)

    # The child --------------------------------------------------------------------------

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            self._child = subprocess.Popen(
                [
                    sys.executable,
                    *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]
                    "-c",
                    _CODE.format(root=_ROOT, fd=theirs.fileno()),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        except OSError as error:
            ours.close()
            raise WorkerError(
                f"a process worker could not be started: {error}", code="worker-not-started"
            ) from error
        finally:
            theirs.close()
        self._channel = Connection(ours.detach())
        data = spawn.get_preparation_data("toolips_udp-worker")
        del data["authkey"], data["log_to_stderr"]
        with suppress(OSError):  # dead already: the first job finds out
            self._channel.send_bytes(pickle.dumps(data, 5))

    def _replace(self) -> str:
        """A new child for the dead one; says how the old one ended."""
        code = self._stop(1.0)
        if self._closed:
            return code
        self._spawn()
        if self._inbox is not None and self._channel is not None:
            self._inbox.watch(self._channel.fileno())
        for job in self._setups():
            try:
                self._exchange(job, self.accept(job))
            except Exception as error:
                logger.error("%r failed while a process worker was replaced: %s", job, error)
        return code

    def _stop(self, timeout: float) -> str:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        child, self._child = self._child, None
        if child is None:
            return "closed"
        try:
            code = child.wait(timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            code = child.wait()
        return f"killed by signal {-code}" if code < 0 else f"exit status {code}"

    # Jobs -------------------------------------------------------------------------------

    def run(self, future: JobFuture[Any]) -> Any:
        with self._killing:
            self._running = future
        try:
            return self._exchange(future.job, future.payload, again=True)
        finally:
            with self._killing:
                self._running = None

    def abandon(self, future: JobFuture[Any]) -> bool:
        """Kill the child in the middle of its job: the waiting thread makes a new one."""
        with self._killing:
            if self._running is future and (child := self._child) is not None:
                child.kill()
        return False

    def _exchange(self, job: Job[Any], payload: bytes, again: bool = False) -> Any:
        pid = self.pid
        try:
            self._send(payload)
        except OSError as error:  # it was dead before it could see the job
            code = self._replace()
            if not again:
                raise Broken(
                    f"process worker {pid} ended ({code}) before the job began", code="worker-lost"
                ) from error
            return self._exchange(job, payload)
        try:
            answer = self._hear(job)
        except (EOFError, OSError, AttributeError) as error:
            code = self._replace()
            raise Broken(
                f"process worker {pid} ended while it ran the job ({code}); a new one took its place. "
                "The job may have run in part and is not repeated: assign it again if that is safe."
            ) from error
        if answer[:1] == DONE:
            return answer[1:] if isinstance(job, Talk) else pickle.loads(memoryview(answer)[1:])
        raise RemoteError(*pickle.loads(memoryview(answer)[1:]))

    def _hear(self, job: Job[Any]) -> bytes:
        """The child's last word on this job; a Talk may have more before it."""
        channel = self._channel
        if channel is None:
            raise EOFError
        answer = channel.recv_bytes()
        while answer[:1] in (SAID, ASKED) and isinstance(job, Talk):
            if answer[:1] == SAID:
                job.heard(answer[1:])
            else:
                channel.send_bytes(job.asked(answer[1:]))
            answer = channel.recv_bytes()
        return answer

    def _send(self, payload: bytes) -> None:
        if self._channel is None:
            raise BrokenPipeError("no child")
        self._channel.send_bytes(payload)

    def idle(self) -> None:
        """The child said something unasked: it can only be its end."""
        pid = self.pid
        code = self._replace()
        logger.warning("process worker %s ended while idle (%s); a new one took its place", pid, code)

    def interrupt(self) -> None:
        self._closed = True
        if (child := self._child) is not None:
            child.kill()  # the waiting thread sees the end of its socket, the job gets a WorkerError

    def close(self, timeout: float) -> None:
        self._closed = True
        self._stop(timeout)
        if self._inbox is not None:
            self._inbox.close()


class _WatchingInbox:
    """A queue whose waiting side also sees the child's end (no extra thread for that)."""

    def __init__(self, fd: int) -> None:
        self._items: deque[Any] = deque()
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._poll = select.poll()
        self._poll.register(self._read, select.POLLIN)
        self._fd = -1
        self.watch(fd)

    def watch(self, fd: int) -> None:
        if self._fd >= 0:
            with suppress(KeyError):
                self._poll.unregister(self._fd)
        self._fd = fd
        self._poll.register(fd, select.POLLIN)

    def put(self, item: Any, /) -> None:
        self._items.append(item)
        with suppress(BlockingIOError):  # full of wake-ups already
            os.write(self._write, b"\0")

    def get(self) -> Any:
        while not self._items:
            for fd, _event in self._poll.poll():
                if fd != self._read:
                    return IDLE
                os.read(self._read, 4096)
        return self._items.popleft()

    def get_nowait(self) -> Any:
        try:
            return self._items.popleft()
        except IndexError:
            raise queue.Empty from None

    def close(self) -> None:
        for fd in (self._read, self._write):
            if fd >= 0:
                os.close(fd)
        self._read = self._write = -1
