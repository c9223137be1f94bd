"""Addresses that extensions bring with them, beside those of `start`. Below base.py.

An extension with a method `listens()` gives a list of `Listen`. The server opens their sockets with its
own, before anything runs, and keeps them open: a reload, in place or into fresh workers, serves the same
sockets, so the new module must bring the same addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..address import Address
from ..errors import StartError
from ..modes import Mode

if TYPE_CHECKING:
    from ..manifest import Manifest
    from .mode import ModeServer


class Listen(NamedTuple):
    """One address. `name` is what its extension calls it, as in `tls://127.0.0.1:853`."""

    name: str
    mode: Mode
    """What its socket is: UDP, or TCP for everything else."""
    address: Address
    make: Callable[[Any], ModeServer]
    """`make(server)`: what serves it, in the process that reads."""
    extension: Any


def brought(manifest: Manifest) -> list[Listen]:
    """The addresses that the extensions of a module bring, in order."""
    found: list[Listen] = []
    for extension in manifest.extensions:
        listens = getattr(extension, "listens", None)
        if listens is not None:
            found += listens()
    return found


def made(listen: Listen, serving: ModeServer) -> ModeServer:
    """`serving`, which knows now for whom it serves."""
    serving.name, serving.extension = listen.name, listen.extension
    return serving


def names(listens: Sequence[Listen]) -> list[str]:
    """Plain data that is equal for equal addresses."""
    return [f"{listen.mode.name} {listen.name}" for listen in listens]


def check_same(before: Sequence[str], fresh: Manifest) -> list[Listen]:
    """What a module that is loaded anew brings. `StartError` when that is not what is being served."""
    found = brought(fresh)
    if names(found) != list(before):
        raise StartError(
            f"{fresh.name} listens on {', '.join(names(found)) or 'no further address'} now, and the server holds "
            f"{', '.join(before) or 'none'}. A reload keeps the addresses. Fix: the old addresses, or start anew",
            code="other-addresses",
        )
    return found
