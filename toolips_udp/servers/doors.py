"""The doors of a running server besides its modes: the admin listener and the control socket. Below base.py."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from ..address import Address
from ..errors import StartError

if TYPE_CHECKING:
    from .base import Server


async def open_admin(server: Server) -> None:
    """Listen at `admin=`, if it was given. `StartError` for what is no address, `BindError` for one that is taken."""
    if server.settings.admin is None:
        return
    from .admin import UNIX, Admin

    if server.settings.admin.startswith(UNIX):
        server.admin = Admin(server)
        server.at_stop(server.admin.close)
        await server.admin.open_path(Path(server.settings.admin.removeprefix(UNIX)))
        return
    try:
        address = Address.resolve(server.settings.admin, datagram=False)
    except ValueError as error:
        raise StartError(f"admin={server.settings.admin!r}: {error}", code="bad-address") from None
    server.admin = Admin(server)
    server.at_stop(server.admin.close)
    await server.admin.open(address)


async def open_control(server: Server) -> None:
    """The socket by which commands find this server, unless `control=False`. It serves without one too."""
    if not server.settings.control or not hasattr(socket, "AF_UNIX"):
        return
    from .control import Control

    server.control = Control(server)
    server.at_stop(server.control.close)
    try:
        await server.control.open()
    except (OSError, StartError) as error:
        server.journal.say(
            logging.WARNING, f"no control socket, so commands cannot find this server: {error}"
        )
