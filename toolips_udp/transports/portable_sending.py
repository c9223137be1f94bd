"""The sending half of the portable endpoint: what is queued, what leaves, what waits for the kernel.

Imports connections and the ground floor; `portable.py` builds on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from ..address import Address
from ..clock import Clock
from ..connections.udp import LARGEST, too_long
from ..counters import WORDS
from ..typed import encode, is_json

if TYPE_CHECKING:
    from ..handlers import UDPHandler

BYTES_OUT = WORDS.index("bytes_out")
SEND_CALLS = WORDS.index("send_calls")
SEND_DROPPED_FULL = WORDS.index("send_dropped_full")
SEND_QUEUED = WORDS.index("send_queued")
SEND_REFUSED = WORDS.index("send_refused")
SEND_REFUSED_LATE = WORDS.index("send_refused_late")
SENT = WORDS.index("sent")
BACKLOG = 1024
"""Messages that wait when the kernel takes no more; or 50 ms."""
BACKLOG_AGE = 0.05

_TRY_AGAIN = {errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, errno.ENOMEM}


class Sending:
    """The part of `Endpoint` that sends."""

    if TYPE_CHECKING:
        loop: asyncio.AbstractEventLoop | None
        sock: socket.socket
        words: memoryview[int]
        running_handler: UDPHandler | None
        _clock: Clock
        _closed: bool
        _family: int
        _in_turn: bool
        _out: list[tuple[Any, Any, Any]]
        _retrying: bool
        _scheduled: bool
        _thread: int
        _waiting: deque[tuple[float, Any, Any, Any]]

    def push(self, data: Any, to: Address, c: Any, local: Any) -> None:
        """Queue one datagram, from the local address in `local`. Raises `TooLong`, `TypeError`, `ValueError`."""
        if type(data) is not bytes:
            data = self._encode(data, c)
        if len(data) > LARGEST:
            raise too_long(len(data), to, LARGEST)
        if ":" in to[0] and self._family != socket.AF_INET6:
            raise ValueError(
                f"cannot send to {to}: this server's socket is IPv4. Fix: listen on [::] or another IPv6 address"
            )
        if threading.get_ident() != self._thread:
            if self.loop is None:
                raise RuntimeError("this endpoint is not attached to a loop")
            with contextlib.suppress(RuntimeError):  # the loop has ended, and the server with it
                self.loop.call_soon_threadsafe(self._queue, data, to, local)
            return
        self._queue(data, to, local)

    def _queue(self, data: bytes, to: Address, local: Any) -> None:
        self.words[SEND_QUEUED] += 1
        if self._closed:
            self.words[SEND_REFUSED] += 1
            return
        self._out.append((data, to.sockaddr(self._family), local))
        if not self._in_turn:
            self.wake()

    def _encode(self, data: Any, c: Any) -> bytes:
        if isinstance(data, str):
            return data.encode()
        if isinstance(data, bytes | bytearray | memoryview):
            return bytes(data)
        if hasattr(data, "__struct_fields__"):
            return encode(data, c is not None and is_json(c.packet))
        where = f" in {self.running_handler!r}" if self.running_handler is not None else ""
        raise TypeError(
            f"cannot send {type(data).__name__}{where}. Expected bytes, bytearray, memoryview, str or a msgspec Struct"
        )

    def wake(self) -> None:
        """Ask for an empty turn soon. From the loop's thread."""
        if not self._scheduled and not self._closed and self.loop is not None:
            self._scheduled = True
            self.loop.call_soon(self.pulse)

    def pulse(self) -> None:
        """A turn without receiving: what is queued leaves."""
        self._scheduled = False
        if not self._in_turn and not self._closed:
            self._in_turn = True
            self._flush()
            self._in_turn = False

    flush = pulse

    def _flush(self) -> None:
        out, self._out = self._out, []
        for at, (data, to, local) in enumerate(out):
            if self._waiting:  # the order of datagrams to one client is never changed
                self._keep(out[at:])
                break
            error = self._send_one(data, to, local)
            if error is None:
                continue
            if error.errno in _TRY_AGAIN:
                self._keep(out[at:])
                break
            self.words[SEND_REFUSED] += 1
        if self._waiting and not self._retrying and self.loop is not None:
            self._retrying = True
            self.loop.call_later(0.001, self._retry)

    def _send_one(self, data: bytes, to: Any, local: Any) -> OSError | None:
        self.words[SEND_CALLS] += 1
        try:
            if local is None:
                self.sock.sendto(data, to)
            else:
                self.sock.sendmsg([data], local, 0, to)
        except InterruptedError:
            return self._send_one(data, to, local)
        except OSError as error:
            return error
        except (
            ValueError,
            OverflowError,
            TypeError,
        ) as error:  # the socket module refuses it before the kernel does
            return OSError(errno.EINVAL, str(error))
        self.words[SENT] += 1
        self.words[BYTES_OUT] += len(data)
        return None

    @property
    def waiting(self) -> int:
        """Messages that the kernel would not take yet."""
        return len(self._waiting)

    @property
    def queued(self) -> int:
        """Messages that leave at the end of the turn."""
        return len(self._out)

    def _keep(self, messages: list[tuple[Any, Any, Any]]) -> None:
        now = self._clock()
        for data, to, local in messages:
            if len(self._waiting) < BACKLOG:
                self._waiting.append((now, data, to, local))
            else:
                self.words[SEND_DROPPED_FULL] += 1

    def _retry(self) -> None:
        self._retrying = False
        if self._closed:
            return
        now = self._clock()
        while self._waiting:
            since, data, to, local = self._waiting[0]
            if now - since > BACKLOG_AGE:
                self.words[SEND_REFUSED_LATE] += 1
            else:
                error = self._send_one(data, to, local)
                if error is not None and error.errno in _TRY_AGAIN:
                    self._retrying = True
                    if self.loop is not None:
                        self.loop.call_later(0.001, self._retry)
                    return
                if error is not None:
                    self.words[SEND_REFUSED_LATE] += 1
            self._waiting.popleft()
