"""The control channel between supervisor and worker: plain data, and descriptors.

A private SOCK_SEQPACKET pair; messages are msgpack maps, never pickled. State that
is too large for a message travels as a memory file. Imports nothing of ours.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from typing import Any

import msgspec

MOST = 60_000
"""Bytes of one message; errors and logs are cut to fit."""
STATE_MOST = 1 << 30


class Gone(ConnectionError):
    """The other side has closed its end."""


class Link:
    """One end of the channel."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._late: deque[tuple[dict[str, Any], bytes | None]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def pair(cls) -> tuple[Link, socket.socket]:
        """Our end, and the socket that the child inherits."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), theirs

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, message: dict[str, Any], state: bytes | None = None, given: int = -1) -> None:
        """Send a message, with `state` in a memory file beside it. Raises `Gone`.

        A descriptor `given` goes along and is closed here; it arrives as `message["given"]`.
        """
        data = msgspec.msgpack.encode(message if given < 0 else {**message, "given": given})
        fds: list[int] = [] if given < 0 else [given]
        try:
            if state is not None:
                fds.append(os.memfd_create("toolips_udp-state", os.MFD_CLOEXEC))
                with open(fds[-1], "wb", closefd=False) as file:
                    file.write(state)
            socket.send_fds(self.sock, [data], fds, socket.MSG_NOSIGNAL)
        except ConnectionError as error:
            raise Gone(str(error)) from error
        except OSError as error:
            if self.sock.fileno() < 0:  # we have closed it: the other side is dead
                raise Gone("closed") from error
            raise
        finally:
            for fd in fds:
                os.close(fd)

    def post(self, message: dict[str, Any], state: bytes | None = None) -> None:
        """`send`, now or, in order, when the other side has read enough. On a loop. Raises `Gone`."""
        if not self._late:
            try:
                self.send(message, state)
                return
            except BlockingIOError:
                self._loop = asyncio.get_running_loop()
                self._loop.add_writer(self.sock.fileno(), self._go_on)
        self._late.append((message, state))

    def _go_on(self) -> None:
        try:
            while self._late:
                self.send(*self._late[0])
                self._late.popleft()
        except BlockingIOError:
            return
        except Gone:
            self._late.clear()
        self._stop_writing()

    def _stop_writing(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.remove_writer(self.sock.fileno())

    def receive(self) -> tuple[dict[str, Any], bytes | None]:
        """The next message and the state beside it. Raises `Gone`, or `BlockingIOError`."""
        try:
            data, fds, _flags, _peer = socket.recv_fds(self.sock, MOST + 5_000, 4)
        except ConnectionError as error:
            raise Gone(str(error)) from error
        if not data:
            raise Gone("closed")
        message = msgspec.msgpack.decode(data, type=dict[str, Any])
        if message.pop("given", -1) >= 0 and fds:
            message["given"] = fds.pop(0)
        state = None
        for fd in fds:
            with open(fd, "rb") as file:
                file.seek(0)
                state = file.read(STATE_MOST)
        return message, state

    def close(self) -> None:
        self._stop_writing()
        self.sock.close()
