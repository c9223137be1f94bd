"""Why an address could not be bound, who holds it, and what to do. Below base.py."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from ..address import Address
from ..errors import BindError
from ..modes import Mode

CODES = {
    errno.EADDRINUSE: "port-in-use",
    errno.EACCES: "not-permitted",
    errno.EPERM: "not-permitted",
    errno.EADDRNOTAVAIL: "no-such-address",
    errno.EAFNOSUPPORT: "no-ipv6",
}
PRIVILEGED = "privileged-port"


def code_of(address: Address, error: OSError) -> str:
    """The stable word for the cause."""
    word = CODES.get(error.errno or 0, "cannot-bind")
    return PRIVILEGED if word == "not-permitted" and address.port < 1024 else word


def explain(datagram: bool, address: Address, error: OSError) -> str:
    """Cause and fix in one sentence each."""
    if error.errno == errno.EADDRINUSE:
        holder = find_holder(datagram, address)
        who = f" by {holder}" if holder else ""
        fix = "Fix: stop that program, or choose another port (0 picks a free one)"
        return f"the address is in use{who} (EADDRINUSE). {fix}"
    if error.errno in (errno.EACCES, errno.EPERM):
        if address.port < 1024:
            return (
                f"port {address.port} is privileged (EACCES). Fix: a port of 1024 or above, or "
                f"sudo setcap cap_net_bind_service=+ep {sys.executable}"
            )
        return "permission denied (EACCES). Fix: check the firewall and sandbox of this process"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"no network interface has {address.host} (EADDRNOTAVAIL). Fix: an address of this machine, or 127.0.0.1"
    if error.errno == errno.EAFNOSUPPORT:
        return "this system has no IPv6 (EAFNOSUPPORT). Fix: an IPv4 address"
    return f"{error.strerror} ({errno.errorcode.get(error.errno or 0, error.errno)}). Fix: check the address"


def find_holder(datagram: bool, address: Address) -> str | None:
    """`"python3 (pid 4711)"` when /proc tells it, else None."""
    kind = "udp" if datagram else "tcp"
    try:
        inodes = {
            line.split()[9]
            for table in (f"/proc/net/{kind}", f"/proc/net/{kind}6")
            for line in Path(table).read_text().splitlines()[1:]
            if int(line.split()[1].rpartition(":")[2], 16) == address.port
            and (datagram or line.split()[3] == "0A")  # 0A: a listening TCP socket
        }
    except (OSError, IndexError, ValueError):
        return None
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(fd) in wanted for fd in (process / "fd").iterdir()):
                name = (process / "comm").read_text().strip()
                mine = ", this process" if process.name == str(os.getpid()) else ""
                return f"{name} (pid {process.name}{mine})"
        except OSError:
            continue
    return None


def bind_error(what: Mode | str, address: Address, error: OSError) -> BindError:
    """The error for an address that could not be bound: cause, holder and fix."""
    datagram = isinstance(what, Mode) and what.name == "UDP"
    return BindError(
        error.errno,
        f"{what} cannot be served on {address}: {explain(datagram, address, error)}",
        code=code_of(address, error),
    )
