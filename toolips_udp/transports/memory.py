"""The memory transport: the native turn on sockets made of memory. Above the ground floor.

No system call, no port of this machine: addresses are bound in a network inside
this process, and what a server sends reaches the server or client that is bound
there. It runs the C that ships; only the table of system calls under it is
replaced. For tests and for simulated worlds (`toolips_udp.testing`), which drive
a `MemoryWire` with a clock of their own.
"""

from __future__ import annotations

import asyncio
import collections
import errno
import socket
import threading
from typing import Any

from .._native.endpoint import Endpoint, MemoryWire
from ..address import Address, AnyAddress
from ..errors import TooLong
from .native import NativeUDPConnection, connection_class

__all__ = [
    "Endpoint",
    "MemoryClient",
    "MemorySocket",
    "MemoryWire",
    "NativeUDPConnection",
    "bind",
    "connection_class",
]

_LARGEST = 65_507
_bound: dict[Address, MemorySocket | MemoryClient] = {}
_lock = threading.Lock()
_FIRST_FREE = 49_152


def _claim(address: Address, owner: MemorySocket | MemoryClient) -> Address:
    with _lock:
        if address.port == 0:
            port = next(p for p in range(_FIRST_FREE, 65_536) if Address(address.host, p) not in _bound)
            address = Address(address.host, port)
        if address in _bound:
            raise OSError(errno.EADDRINUSE, f"{address} is bound in memory already")
        _bound[address] = owner
        return address


def _release(address: Address) -> None:
    with _lock:
        _bound.pop(address, None)


def _deliver(data: bytes, source: Address, to: Address) -> None:
    owner = _bound.get(to)
    if owner is not None:  # else it is lost, as on any network
        owner.receive(data, source)


class MemorySocket:
    """A bound socket in memory, with what a mode asks of a socket. Give it to an `Endpoint`."""

    def __init__(self, address: Address) -> None:
        self._address = _claim(address, self)
        self.wire = MemoryWire(self._address, real_clock=True)
        self.wire.on_send = self._sent
        self.family = socket.AF_INET6 if ":" in self._address.host else socket.AF_INET
        self._loop: asyncio.AbstractEventLoop | None = None

    def receive(self, data: bytes, source: Address) -> None:
        """A datagram arrives, from any thread."""
        if self.wire.on_push is None:  # nobody serves it yet: it waits in the queue
            self.wire.push(data, source)
            return
        loop = self.wire.on_push.__self__.loop  # type: ignore[attr-defined]
        try:
            loop.call_soon_threadsafe(self.wire.push, data, source)
        except RuntimeError:
            pass  # that loop has ended

    def _sent(self) -> None:
        for data, to in self.wire.collect():
            _deliver(data, self._address, to)

    def fileno(self) -> int:
        """No descriptor: -1."""
        return -1

    def getsockname(self) -> tuple[Any, ...]:
        """As of a socket."""
        return self._address.sockaddr()

    def getsockopt(self, level: int, option: int) -> int:
        """A receive buffer without bound."""
        return 1 << 30

    def close(self) -> None:
        """Give the address back."""
        _release(self._address)


def bind(address: Address) -> MemorySocket:
    """A socket in memory at this address; port 0 picks one. `OSError` when it is taken."""
    return MemorySocket(address)


class MemoryClient:
    """A client in memory: sends to servers there, and keeps what they answer.

    >>> with MemoryClient() as client:
    ...     client.send(b"hello", server.address)
    ...     data, source = client.receive_from(timeout=1.0)
    """

    def __init__(self, address: AnyAddress = "127.0.0.1:0") -> None:
        self._arrived: collections.deque[tuple[bytes, Address]] = collections.deque()
        self._some = threading.Condition()
        self.address = _claim(Address.parse(address), self)

    def __enter__(self) -> MemoryClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def receive(self, data: bytes, source: Address) -> None:
        """A datagram arrives, from any thread."""
        with self._some:
            self._arrived.append((data, source))
            self._some.notify_all()

    def send(self, data: bytes, to: AnyAddress) -> None:
        """One datagram to a server in memory. More than 65,507 bytes is `TooLong`."""
        if len(data) > _LARGEST:
            raise TooLong(f"a datagram of {len(data):,} bytes is too long. Expected at most {_LARGEST:,}")
        _deliver(bytes(data), self.address, Address.parse(to))

    def receive_from(self, timeout: float = 1.0) -> tuple[bytes, Address]:
        """The oldest datagram and its sender. Raises `TimeoutError`."""
        with self._some:
            if not self._some.wait_for(lambda: self._arrived, timeout):
                raise TimeoutError(f"nothing arrived at {self.address} within {timeout} s")
            return self._arrived.popleft()

    def close(self) -> None:
        """Give the address back."""
        _release(self.address)
