"""What systemd says and hears: inherited sockets, and notifications.

Imports errors and address. Nothing here happens unless systemd (or a test) set the
environment variables.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, MutableMapping

from ..address import Address
from ..errors import StartError

FIRST_FD = 3


def inherited(environment: MutableMapping[str, str] | None = None) -> list[socket.socket]:
    """The sockets that systemd passed to this process, in its order; none when it passed none.

    Takes the variables out of the environment, so that children do not believe
    that the sockets are theirs. A count that is not a number is a `StartError`.
    """
    env = os.environ if environment is None else environment
    pid, count = env.get("LISTEN_PID"), env.get("LISTEN_FDS")
    if pid is None or count is None or pid != str(os.getpid()):
        return []
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        env.pop(name, None)
    try:
        number = int(count)
    except ValueError:
        raise StartError(
            f"LISTEN_FDS is {count!r}, expected the number of inherited sockets", code="bad-systemd-socket"
        ) from None
    found = []
    for fd in range(FIRST_FD, FIRST_FD + number):
        os.set_inheritable(fd, False)
        try:
            found.append(socket.socket(fileno=fd))
        except OSError as error:
            raise StartError(
                f"descriptor {fd}, which systemd passed, is not a socket: {error}", code="bad-systemd-socket"
            ) from error
    return found


_given: list[socket.socket] | None = None
"""Inherited sockets that no server has taken yet; None: nobody looked."""


def take(address: Address, kind: int) -> socket.socket | None:
    """The inherited socket of this type that is bound to this address, not blocking; None when there is none.

    The first call takes the sockets from the environment. What no server asked for stays open, as
    systemd keeps it too.
    """
    global _given
    if _given is None:
        _given = inherited()
    for each in _given:
        name = each.getsockname()
        same_host = address.host in (name[0], "0.0.0.0", "::")
        if each.type & 0xF == kind and isinstance(name, tuple) and name[1] == address.port and same_host:
            _given.remove(each)
            each.setblocking(False)
            return each
    return None


def left_over() -> list[str]:
    """The addresses of inherited sockets that nobody has taken."""
    return [str(each.getsockname()) for each in _given or []]


def notify(*lines: str, environment: Mapping[str, str] | None = None) -> bool:
    """Send one notification, such as `READY=1`. False when nobody listens; never raises."""
    path = (os.environ if environment is None else environment).get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return False
    if path.startswith("@"):
        path = "\0" + path[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.connect(path)
            to.send("\n".join(lines).encode())
    except OSError:
        return False
    return True


def watchdog_pause(environment: Mapping[str, str] | None = None) -> float | None:
    """Seconds between two `WATCHDOG=1`: half of what systemd allows; None when it does not watch us."""
    env = os.environ if environment is None else environment
    if env.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        return int(env["WATCHDOG_USEC"]) / 2e6
    except (KeyError, ValueError):
        return None
