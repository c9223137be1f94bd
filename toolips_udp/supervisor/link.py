"""The control channel between supervisor and worker: plain data, and descriptors.

A private SOCK_SEQPACKET pair; messages are msgpack maps, never pickled. State that
is too large for a message travels as a memory file. Imports nothing of ours.
"""

from __future__ import annotations

import os
import socket
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

    @classmethod
    def pair(cls) -> tuple[Link, socket.socket]:
        """Our end, and the socket that the child inherits."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), theirs

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, message: dict[str, Any], state: bytes | None = None) -> None:
        """Send a message, with `state` in a memory file beside it. Raises `Gone`."""
        data = msgspec.msgpack.encode(message)
        fds: list[int] = []
        try:
            if state is not None:
                fds.append(os.memfd_create("toolips_udp-state", os.MFD_CLOEXEC))
                with open(fds[0], "wb", closefd=False) as file:
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

    def receive(self) -> tuple[dict[str, Any], bytes | None]:
        """The next message and the state beside it. Raises `Gone`, or `BlockingIOError`."""
        try:
            data, fds, _flags, _peer = socket.recv_fds(self.sock, MOST + 5_000, 4)
        except ConnectionError as error:
            raise Gone(str(error)) from error
        if not data:
            raise Gone("closed")
        state = None
        for fd in fds:
            with open(fd, "rb") as file:
                file.seek(0)
                state = file.read(STATE_MOST)
        return msgspec.msgpack.decode(data, type=dict[str, Any]), state

    def close(self) -> None:
        self.sock.close()
