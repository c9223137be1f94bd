"""Address: a host and a port. Ground floor: imports errors alone.

An `Address` is a tuple `(host, port)` underneath, so it hashes, compares and
orders at the speed of a tuple and can be handed to a socket as it is.
"""

from __future__ import annotations

import re
import socket
from collections import namedtuple
from typing import Any, Union

from .errors import FormatError

_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")

_MAPPED = bytes(10) + b"\xff\xff"


class Address(namedtuple("Address", "host port")):
    """A host and a port, IPv4 or IPv6. Immutable, hashable, ordered.

    `host` is text without brackets: an IP literal (made canonical, so that one
    peer has one spelling; an IPv4 peer of a dual-stack socket is plain IPv4) or
    a host name. `port` is 0 to 65535; port 0 prints without a port.

    >>> str(Address("::1", 53))
    '[::1]:53'

    Raises `FormatError`, a `ValueError`, for a port out of range or a host that is
    neither a literal nor a host name.
    """

    __slots__ = ()
    host: str
    port: int

    def __new__(cls, host: str, port: int = 0) -> Address:
        if isinstance(port, bool) or not isinstance(port, int):
            raise TypeError(f"the port of an Address is a whole number, found {port!r}")
        if not 0 <= port <= 65535:
            raise _bad(f"port {port} of {host!r} is outside 0..65535")
        return tuple.__new__(cls, (_canonical(host), port))

    @classmethod
    def of(cls, sockaddr: tuple[Any, ...]) -> Address:
        """The address in what `recvfrom` or `getsockname` gave. Nothing is checked."""
        host = sockaddr[0]
        if ":" in host:
            if host[:7].lower() == "::ffff:" and "." in host:
                host = host[7:]
            elif len(sockaddr) == 4 and sockaddr[3] and "%" not in host:
                host = f"{host}%{_scope_name(sockaddr[3])}"
        return tuple.__new__(cls, (host, sockaddr[1]))

    @classmethod
    def parse(cls, text: AnyAddress) -> Address:
        """Read `"127.0.0.1:53"`, `"[::1]:53"`, `(host, port)` or an `Address`.

        Literals only: a name would need a question to a resolver, which is not
        for a packet's path; `Address.resolve` does that. Raises `FormatError`.

        >>> Address.parse("[::1]:53").host
        '::1'
        """
        if isinstance(text, Address):
            return text
        if isinstance(text, tuple):
            return cls(text[0], text[1])
        host, port = _split(text)
        address = cls(host, port)
        if not address.is_literal:
            raise _bad(
                f"{text!r} holds the name {host!r}, but an IP literal is needed here. "
                f"Fix: Address.resolve({text!r}), once, outside the handlers"
            )
        return address

    @classmethod
    def resolve(cls, text: AnyAddress, datagram: bool = True) -> Address:
        """Like `parse`, but asks the system's resolver for a name. May block."""
        if isinstance(text, Address):
            address = text
        else:
            address = cls(text[0], text[1]) if isinstance(text, tuple) else cls(*_split(text))
        if address.is_literal:
            return address
        kind = socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM
        try:
            found = socket.getaddrinfo(address.host, address.port, type=kind)
        except OSError as error:
            raise _bad(f"the host name {address.host!r} cannot be resolved: {error.strerror}") from None
        return cls.of(found[0][4])

    @property
    def is_literal(self) -> bool:
        """Whether the host is an IP literal rather than a name."""
        return ":" in self.host or (self.host[-1:].isdigit() and self.host.count(".") == 3)

    @property
    def family(self) -> socket.AddressFamily:
        """`AF_INET6` for an IPv6 literal, else `AF_INET`."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    def sockaddr(self, family: int | None = None) -> tuple[Any, ...]:
        """The tuple for a socket call; an IPv4 host is mapped when `family` is `AF_INET6`."""
        if ":" in self.host:
            host, _, scope = self.host.partition("%")
            return (host, self.port, 0, _scope_id(scope) if scope else 0)
        if family == socket.AF_INET6:
            return ("::ffff:" + self.host, self.port, 0, 0)
        return (self.host, self.port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else host

    def __repr__(self) -> str:
        return f"Address({self.host!r}, {self.port})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Address, (self.host, self.port))


IP4 = Address
"""The older name of `Address`."""

AnyAddress = Union[Address, str, "tuple[str, int]"]
"""What every verb accepts as an address."""


def _canonical(host: str) -> str:
    if not isinstance(host, str):
        raise TypeError(f"the host of an Address is text, found {host!r}")
    if ":" in host:
        literal, percent, scope = host.partition("%")
        try:
            packed = socket.inet_pton(socket.AF_INET6, literal)
        except (OSError, ValueError):
            raise _not_a_host(host) from None
        if packed[:12] == _MAPPED:
            return socket.inet_ntop(socket.AF_INET, packed[12:])
        if percent and not scope.isalnum():
            raise _not_a_host(host)
        return socket.inet_ntop(socket.AF_INET6, packed) + percent + scope
    try:
        return socket.inet_ntop(socket.AF_INET, socket.inet_pton(socket.AF_INET, host))
    except (OSError, ValueError):
        last = host.rstrip(".").rpartition(".")[2]
        if len(host) <= 253 and _NAME.fullmatch(host) and not last.isdigit():
            return host.lower()
        raise _not_a_host(host) from None


def _bad(text: str) -> FormatError:
    return FormatError(text, code="bad-address")


def _not_a_host(host: str) -> FormatError:
    return _bad(
        f"{host!r} is neither an IP literal nor a host name. Expected for example 127.0.0.1, ::1 or localhost"
    )


def _split(text: str) -> tuple[str, int]:
    if not isinstance(text, str):
        raise TypeError(f"an address is 'host:port', an Address or (host, port), found {text!r}")
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise _bad(f"{text!r} is not an address. Expected for example [::1]:53")
        digits = rest[1:] if rest else "0"
        if ":" not in host:
            raise _bad(f"{text!r} is not an address: brackets hold an IPv6 literal, found {host!r}")
    elif text.count(":") > 1:
        raise _bad(f"{text!r} is not an address: an IPv6 host stands in brackets, as in [::1]:53")
    else:
        host, colon, digits = text.partition(":")
        digits = digits if colon else "0"
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 6):
        raise _bad(
            f"{text!r} is not an address: the port is {digits!r}. Expected for example 127.0.0.1:2000"
        )
    return host, int(digits)


def _scope_name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return str(index)


def _scope_id(name: str) -> int:
    if name.isdigit():
        return int(name)
    try:
        return socket.if_nametoindex(name)
    except OSError:
        raise _bad(f"no network interface is called {name!r}") from None


def is_loopback(host: str) -> bool:
    """Whether a host, written as in an `Address`, is this machine."""
    return host.startswith("127.") or host == "::1"
