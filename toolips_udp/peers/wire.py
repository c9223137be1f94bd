"""Wire: a client's host on a socket of its own, read on the running loop. Below messages' carrier.

Imports addresses and asyncio. The native host reads and sends by itself (`Wired`); beside the Python one stands
`Loose`, which does the same with a socket object.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

from ..address import Address

_BATCH = 64
_GRAIN = 0.001
"""Loops ring up to a millisecond early; a timer that rings too early only costs a turn."""


class Loose:
    """A Python host on a connected socket."""

    def __init__(self, host: Any, sock: socket.socket, address: Address) -> None:
        self._host = host
        self._address = address
        self._sock: socket.socket | None = sock

    def pull(self, now: int) -> int:
        """Take what has arrived at `now` (ns). Returns how many datagrams it was."""
        count = 0
        for _ in range(_BATCH):
            if self._sock is None:
                break
            try:
                data = self._sock.recv(65536)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                continue  # refused: nobody listens (yet); the timers know what to do
            count += 1
            self._host.receive(now, self._address, data)
        return count

    def push(self, now: int) -> int | None:
        """Run the timers that are due at `now` (ns) and send what is to leave. Returns the host's deadline."""
        self._host.advance(now)
        for data, _ in self._host.outgoing():
            try:
                if self._sock is not None:
                    self._sock.send(data)
            except OSError:
                pass  # lost, as datagrams are
        due: int | None = self._host.deadline()
        return due

    def close(self) -> None:
        """Neither read nor send any more; the socket's owner closes it."""
        self._sock = None


class Wire:
    """A host's socket, reader and timer. What is queued leaves once a turn of the loop, after those who wait for
    what came have run: their next question travels with our acknowledgement.

    `OSError` when the address cannot be reached.
    """

    def __init__(self, host: Any, address: Address) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0
        self._soon = False
        self.first: Callable[[], None] | None = None
        """Called once at the next turn, before what is queued leaves; it may queue more."""
        self._host = host
        self._sock: socket.socket | None = socket.socket(address.family, socket.SOCK_DGRAM)
        try:
            self._sock.setblocking(False)
            self._sock.connect(address.sockaddr())
        except BaseException:
            self._sock.close()
            raise
        wired = getattr(host, "wired", None)
        self._wired: Any = (
            Loose(host, self._sock, address) if wired is None else wired(self._sock.fileno(), address)
        )
        host.wake = self.soon
        self._loop.add_reader(self._sock.fileno(), self._readable)

    @property
    def open(self) -> bool:
        """Whether the socket is."""
        return self._sock is not None

    def soon(self) -> None:
        """Ask for a turn."""
        if not self._soon and self._sock is not None:
            self._soon = True
            self._loop.call_soon(self.turn)

    def _readable(self) -> None:
        self._wired.pull(time.monotonic_ns())
        if not self._soon and self._sock is not None:
            self._soon = True
            self._loop.call_soon(self.turn)

    def turn(self) -> None:
        """Send what is to leave; run what is due."""
        self._soon = False
        if self.first is not None:
            first, self.first = self.first, None
            first()
        if self._sock is None:
            return
        now = time.monotonic_ns()
        due = self._wired.push(now)
        if due is None or (self._timer is not None and due >= self._timer_at) or self._sock is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_later(max(0.0, (due - now) / 1e9) + _GRAIN, self._ring)

    def hurry(self) -> None:
        """Send what is to leave before the turn that was asked for."""
        if self._sock is not None:
            self._wired.push(time.monotonic_ns())

    def _ring(self) -> None:
        self._timer = None
        if not self._soon:  # else there is a turn in a moment
            self.turn()

    def close(self) -> None:
        """Close the socket. Twice is harmless."""
        if self._sock is None:
            return
        self._loop.remove_reader(self._sock.fileno())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wired.close()
        self._sock.close()
        self._sock = None
        self._host.wake = None
