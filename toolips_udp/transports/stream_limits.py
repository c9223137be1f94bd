"""What stream clients may cost, and by which address they are counted. Imports nothing of ours; read by stream.py."""

from __future__ import annotations

import socket
from collections.abc import Container
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What one client, and all of them together, may cost. Times in seconds, sizes in bytes.

    Every stream transport takes the same object. `idle_timeout` counts while
    the handler waits for the client and nothing moves; `message_timeout` from
    the first byte of a message to its last.
    """

    max_connections: int = 1024
    max_per_address: int = 128  # IPv6: per /64
    exempt_loopback: bool = True  # from max_per_address
    idle_timeout: float = 60.0
    message_timeout: float = 5.0
    close_timeout: float = 5.0  # to take what is unsent after the handler ended
    max_buffer: int = 64 * 1024  # received and unread; above it, reading pauses
    max_unsent: int = 1024 * 1024  # written and not taken by the client; above it, the client is dropped
    proxies: Container[str] = ()  # hosts whose connections begin with a PROXYv2 header, and must

    def __post_init__(self) -> None:
        for name in (
            "idle_timeout",
            "message_timeout",
            "close_timeout",
            "max_connections",
            "max_per_address",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a number above 0")

    @property
    def sweep_period(self) -> float:
        """How often the deadlines are looked at: a fifth of the shortest, between 10 ms and 1 s."""
        return min(1.0, max(0.01, min(self.idle_timeout, self.message_timeout, self.close_timeout) / 5))


def place_of(host: str) -> str | bytes:
    """What `max_per_address` counts: an IPv4 address, or the /64 of an IPv6 one.

    >>> place_of("10.1.2.3")
    '10.1.2.3'
    >>> place_of("2001:db8::1") == place_of("2001:db8::ffff")
    True
    """
    if ":" not in host:
        return host
    return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:8]


def keep_alive(sock: socket.socket) -> None:
    """Find out within two minutes that a silent peer is gone. Accepted sockets inherit it."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
