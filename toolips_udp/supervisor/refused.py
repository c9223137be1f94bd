"""System calls that a hardened worker was refused: the supervisor is told of each, refuses it, and counts.

Imports calls only. One thread per hardened worker, which ends with it; the worker waits in
its call until it is answered here, some microseconds.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import select
import struct
import threading
from collections.abc import Callable

from . import calls

_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_NOTICE, _ANSWER = struct.Struct("=QIIiI14I"), struct.Struct("=Qqii")


def name_of(number: int) -> str:
    """What the log calls a system call."""
    return calls.TOLD.get(platform.machine(), {}).get(number, f"number {number}")


def listen(listener: int, refused: Callable[[str], object]) -> threading.Thread:
    """Answer each call told on `listener` with EPERM and give its name to `refused`, in a thread; closes it."""
    thread = threading.Thread(
        target=_listen, args=(listener, refused), name="toolips_udp refused", daemon=True
    )
    thread.start()
    return thread


def _listen(listener: int, refused: Callable[[str], object]) -> None:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    try:
        while True:
            [(_, event)] = poll.poll()
            if not event & select.POLLIN:
                return  # nobody has this filter any more
            notice = bytearray(_NOTICE.size)
            try:
                fcntl.ioctl(listener, _RECEIVE, notice)
                mark, _pid, _flags, number, *_ = _NOTICE.unpack(notice)
                fcntl.ioctl(listener, _SEND, bytearray(_ANSWER.pack(mark, 0, -errno.EPERM, 0)))
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR):
                    continue  # who called is gone
                return
            refused(name_of(number))
    finally:
        os.close(listener)
