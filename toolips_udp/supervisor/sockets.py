"""The sockets of a group of workers: opened once, in order, and held for life.

Imports errors and address. A worker is never the only holder of a socket: what is
queued in it survives the worker.
"""

from __future__ import annotations

import socket

from ..address import Address
from ..errors import StartError
from .steering import steer as steer_by

BUFFER = 4 * 1024 * 1024
"""Bytes asked for the receive buffer; the kernel gives what it allows."""


def open_group(
    address: Address,
    members: int,
    kind: int = socket.SOCK_DGRAM,
    steer: int | None = None,
    receive_buffer: int = BUFFER,
) -> list[socket.socket]:
    """`members` sockets of one SO_REUSEPORT group, bound in order, not blocking.

    Port 0 picks a free one, the same for all. A port that anybody else holds, a
    group of the same user too, is an `OSError`: it is neither shared nor stolen.
    `steer` is the offset of the payload byte that chooses the member.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    if address.port:
        _refuse_a_foreign_holder(family, kind, address)
    group: list[socket.socket] = []
    try:
        for _ in range(members):
            port = group[0].getsockname()[1] if group else address.port
            group.append(_open(family, kind, address, port, receive_buffer))
        if steer is not None and kind == socket.SOCK_DGRAM:
            steer_by(group[0], steer, members)
    except BaseException:
        for each in group:
            each.close()
        raise
    return group


def _refuse_a_foreign_holder(family: int, kind: int, address: Address) -> None:
    with socket.socket(family, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(probe, address, address.port)


def _open(family: int, kind: int, address: Address, port: int, receive_buffer: int) -> socket.socket:
    made = socket.socket(family, kind)
    try:
        if not hasattr(socket, "SO_REUSEPORT"):
            raise StartError(
                "this system has no SO_REUSEPORT, so one port cannot have several workers; workers=1",
                code="not-here",
            )
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address.host == "::" else 1)
        _bind(made, address, port)
        if kind == socket.SOCK_STREAM:
            made.listen(1024)
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made


def _bind(sock: socket.socket, address: Address, port: int) -> None:
    sock.bind(Address(address.host, port).sockaddr(sock.family))
