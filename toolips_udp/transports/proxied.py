"""The header of the PROXY protocol, version 2: for whom a proxy asks.

It stands in front of a datagram, or of all that a connection carries. Read it only from
sources that are known to be proxies, and expect it from each of these: what is optional
can be forged. The twin of `native/dns_proxied.c`. Imports the ground floor.
"""

from __future__ import annotations

import asyncio
import socket
from typing import NamedTuple

from ..address import Address

MARK = b"\r\n\r\n\0\r\nQUIT\n"
LEAST = 16
_LOCAL, _PROXY = 0x20, 0x21
_FAMILIES = {1: (socket.AF_INET, 4), 2: (socket.AF_INET6, 16)}


class Header(NamedTuple):
    """`size` octets, and the client; None when the proxy asks for itself or does not say."""

    size: int
    client: Address | None


def rest_of(first: bytes) -> int | None:
    """How many octets follow the first 16 of a header; None when they are none."""
    if len(first) < LEAST or first[:12] != MARK or first[12] not in (_LOCAL, _PROXY):
        return None
    return int.from_bytes(first[14:16], "big")


def read(data: bytes) -> Header | None:
    """The header that `data` begins with; None when there is none or it is broken.

    >>> read(header(Address("192.0.2.7", 5353)) + b"question").client
    Address('192.0.2.7', 5353)
    """
    rest = rest_of(data)
    if rest is None or rest > len(data) - LEAST:
        return None
    size = LEAST + rest
    if data[12] == _LOCAL:
        return Header(size, None)
    family, kind = data[13] >> 4, data[13] & 15
    if data[13] == 0:
        return Header(size, None)
    if family not in _FAMILIES or kind not in (1, 2):
        return None
    number, length = _FAMILIES[family]
    if rest < 2 * length + 4:
        return None
    host = socket.inet_ntop(number, data[LEAST : LEAST + length])
    port = int.from_bytes(data[LEAST + 2 * length : LEAST + 2 * length + 2], "big")
    return Header(size, Address(host.removeprefix("::ffff:") if "." in host else host, port))


async def take(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> Header | None:
    """The header at the beginning of a connection, and not one octet more: what follows is its owner's to read.

    None when it is none. `OSError` when it does not come whole.
    """
    data = await _exactly(loop, sock, LEAST)
    return read(data + await _exactly(loop, sock, rest_of(data) or 0))


async def _exactly(loop: asyncio.AbstractEventLoop, sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await loop.sock_recv(sock, size - len(data))
        if not more:
            raise ConnectionResetError("ended within its PROXYv2 header")
        data += more
    return data


def header(client: Address, to: Address | None = None, *, stream: bool = False) -> bytes:
    """What a proxy writes for a client that asked at `to`."""
    family = 2 if ":" in client.host else 1
    number, length = _FAMILIES[family]
    target = to if to is not None else Address("::" if family == 2 else "0.0.0.0", 0)
    hosts = socket.inet_pton(number, client.host) + socket.inet_pton(number, target.host)
    ports = client.port.to_bytes(2, "big") + target.port.to_bytes(2, "big")
    kind = bytes((_PROXY, family << 4 | (1 if stream else 2)))
    return MARK + kind + (2 * length + 4).to_bytes(2, "big") + hosts + ports
