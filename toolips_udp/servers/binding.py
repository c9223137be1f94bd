"""The sockets of a server: made, or taken from systemd, before anything runs. Below base.py."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, cast

from ..address import Address
from ..modes import UDP, Mode
from . import further, systemd
from .holder import bind_error
from .mode import ModeServer, load_mode

if TYPE_CHECKING:
    from ..manifest import Manifest
    from .base import Server


class Binding:
    """The part of `Server` that opens its sockets, all or none."""

    if TYPE_CHECKING:
        manifest: Manifest
        _modes: list[ModeServer]

    def _bind(self, modes: tuple[Mode, ...], addresses: tuple[Address, ...]) -> None:
        """Make the sockets of all modes; with one port 0 for several modes, find a port that is free for all."""
        shared = len(modes) > 1 and len(set(addresses)) == 1 and addresses[0].port == 0
        for attempt in range(20):
            port = 0
            for mode, wanted in zip(modes, addresses, strict=True):
                serving = self._make_mode(mode)
                self._modes.append(serving)
                address = Address(wanted.host, port) if shared and port else wanted
                try:
                    _open_socket(serving, mode, address)
                except OSError as error:
                    self._unbind()
                    if shared and port and attempt < 19:
                        break  # the port is free for the first mode only: try another
                    raise bind_error(mode, address, error) from error
                except BaseException:
                    self._unbind()
                    raise
                port = port or serving.address.port
            else:
                break
        try:
            self._bind_further()
        except BaseException:
            self._unbind()
            raise

    def _bind_further(self) -> None:
        """The sockets of the addresses that extensions bring."""
        for listen in further.brought(self.manifest):
            serving = further.made(listen, self._make_further(listen))
            self._modes.append(serving)
            try:
                _open_socket(serving, listen.mode, listen.address)
            except OSError as error:
                raise bind_error(listen.mode, listen.address, error) from error

    def _make_mode(self, mode: Mode) -> ModeServer:
        return load_mode(mode)(cast("Server", self))

    def _make_further(self, listen: further.Listen) -> ModeServer:
        return listen.make(self)

    def _unbind(self) -> None:
        for mode in self._modes:
            mode.close()
        self._modes.clear()


def _open_socket(serving: ModeServer, mode: Mode, address: Address) -> None:
    """The socket that systemd gave for this address, or else a new one."""
    given = systemd.take(address, socket.SOCK_DGRAM if mode is UDP else socket.SOCK_STREAM)
    if given is not None:
        serving.take(given)
    else:
        serving.bind(address)
