"""The child process of a process worker: takes jobs from its socket, one at a time.

A fresh interpreter runs `main(fd)`. The socket is one end of a private pair that
only parent and child hold, so what comes in is the parent's own pickling. When
the parent is gone the child ends, in the middle of a job too.
"""

from __future__ import annotations

import importlib
import io
import os
import pickle
import select
import signal
import sys
import threading
import traceback
from multiprocessing import spawn
from multiprocessing.connection import Connection
from typing import Any

from .job import ByName, run_here
from .sharing import values_here

DONE, FAILED, SAID, ASKED = b"\0", b"\1", b"\2", b"\3"
JOB, TALK = b"\0", b"\1"


class Main:
    """The parent's main script, imported when the first job names something in it."""

    source: dict[str, Any] | None = None
    importing = False

    @classmethod
    def load(cls) -> None:
        source, cls.source = cls.source, None
        if source:
            cls.importing = True
            try:
                spawn.prepare(source)
            except BaseException:
                cls.source = source
                raise
            finally:
                cls.importing = False


class Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in ("__main__", "__mp_main__"):
            Main.load()
        return super().find_class(module, name)


class Line:
    """How a talking job speaks with the parent while it runs."""

    def __init__(self, channel: Connection[Any, Any]) -> None:
        self._channel = channel

    def say(self, data: bytes) -> None:
        """Tell the parent something. Returns at once; what is said arrives in order."""
        self._channel.send_bytes(SAID + data)

    def ask(self, data: bytes) -> bytes:
        """Ask the parent something, and wait for its answer."""
        self._channel.send_bytes(ASKED + data)
        return bytes(self._channel.recv_bytes())


def talk(data: bytes, line: Line) -> bytes:
    """Run one talking job: bytes in and out, by the name of a function; nothing is unpickled."""
    size = data[0]
    module, _, name = data[1 : 1 + size].decode().partition(":")
    try:
        result = getattr(importlib.import_module(module), name)(data[1 + size :], line)
        return DONE + bytes(result)
    except BaseException as error:
        return FAILED + _pack_error(error)


def perform(data: bytes) -> bytes:
    """Run one packed job; its result or its error, packed."""
    try:
        fn, args, kwargs = Unpickler(io.BytesIO(data)).load()
        if type(fn) is ByName:
            if fn.module == "__main__":
                Main.load()
            fn = fn.find()
        return DONE + pickle.dumps(run_here(lambda: fn(*args, **kwargs)), 5)
    except BaseException as error:
        return FAILED + _pack_error(error)


def _pack_error(error: BaseException) -> bytes:
    text = "".join(traceback.format_exception(error))
    try:
        data = pickle.dumps((error, text), 5)
        pickle.loads(data)  # some errors pickle and cannot be made again
        return data
    except Exception:
        return pickle.dumps((RuntimeError(f"{type(error).__qualname__}: {error}"), text), 5)


def main(fd: int) -> None:
    """Serve jobs from the inherited socket `fd` until the parent closes it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes us
    channel = Connection(fd)
    prepared = pickle.loads(channel.recv_bytes())
    Main.source = {key: value for key, value in prepared.items() if key.startswith("init_main")}
    spawn.prepare({key: value for key, value in prepared.items() if not key.startswith("init_main")})
    threading.Thread(target=_leave_with_parent, args=(fd,), daemon=True).start()
    values_here.set({})
    line = Line(channel)
    try:
        while True:
            data = channel.recv_bytes()
            kind, data = data[:1], data[1:]
            channel.send_bytes(perform(data) if kind == JOB else talk(data, line))
    except (EOFError, OSError):
        pass


def _leave_with_parent(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, 0)  # nothing but hang-up
    poll.poll()
    sys.stdout.flush()
    os._exit(0)
