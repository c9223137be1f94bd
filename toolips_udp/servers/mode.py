"""ModeServer: what the server asks of UDP, TCP and HTTP. Below base.py.

How a mode joins (udp.py, tcp.py, http.py): a subclass of `ModeServer`, named in
`MODE_CLASSES`. The server makes one per mode of `start((UDP, TCP), module)` and
calls, in this order:

    bind(address)         in the thread of the caller, before anything runs: make the
                          sockets, set `self.address` to the real one; raise OSError
    await open()          on the loop, after every extension's on_start: begin to serve
    await drain(until)    on the loop: take nothing new, end what is in flight, at the
                          latest at loop time `until`; then `unfinished` names the rest
    close()               free everything; may come at any moment, also without open()

`counters` (a mapping of word to int) of all modes are added up in
`Server.counters`; `in_flight` too. With several modes on one port, `bind` of the
later ones gets the port that the first one got.
"""

from __future__ import annotations

import importlib
import socket
from collections.abc import Mapping, MutableSequence, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ..address import Address
from ..counters import WORDS, ByWord
from ..modes import Mode

if TYPE_CHECKING:
    from .base import Server

MODE_CLASSES = {
    "UDP": "toolips_udp.servers.udp:UDPMode",
    "TCP": "toolips_udp.servers.tcp:TCPMode",
    "HTTP": "toolips_udp.servers.http:HTTPMode",
}


class ModeServer:
    """One mode of a server. See the module's docstring for what is called when."""

    mode: ClassVar[Mode]
    address: Address
    swaps: ClassVar[bool] = True
    """Whether it can serve another reading of the module: see `swap`."""
    endpoint: Any = None
    """The datagram endpoint, of a mode that has one and is open."""
    receive_buffer: int = 0
    """Bytes that the kernel has granted each UDP socket; 0 of a mode that has none."""
    detail: str = ""
    """Said in the start line, as in `native`."""
    name: str = ""
    """Of an address that an extension brought (further.py): what it is called there."""
    extension: Any = None
    """And who brought it; after a reload in place, its successor."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def bind(self, address: Address) -> None:
        """Make the sockets; set `self.address`."""
        raise NotImplementedError

    def adopt(self, sock: socket.socket) -> None:
        """Instead of `bind`: serve a bound socket that was made elsewhere; set `self.address`."""
        raise NotImplementedError

    def take(self, sock: socket.socket) -> None:
        """Instead of `bind`: serve a socket of systemd, which only bound it."""
        self.adopt(sock)

    async def open(self) -> None:
        """Begin to serve."""
        raise NotImplementedError

    def count_in(self, counters: MutableSequence[int]) -> None:
        """Count in these from now on: memory that a supervisor reads. Before `open`."""

    def swap(self) -> None:
        """Serve the server's new manifest from now on; not called when `swaps` is False."""

    def press(self, level: int) -> None:
        """Memory is short: 0 not any more, 1 refuse strangers, 2 refuse all that costs memory. See pressure.py."""

    def halt(self) -> None:
        """Take nothing new from now on; what is in flight goes on. The socket belongs to another process."""

    async def drain(self, until: float) -> None:
        """Take nothing new and end what is in flight, at the latest at loop time `until`."""

    def close(self) -> None:
        """Free everything."""

    @property
    def counters(self) -> Mapping[str, int]:
        """What this mode has counted."""
        return {}

    @property
    def queue_ages(self) -> Sequence[int]:
        """How long datagrams had waited while the age drop was armed, by bucket of `AGE_BOUNDS`; or nothing."""
        return ()

    @property
    def in_flight(self) -> int:
        """Packets whose handler has not ended."""
        return 0

    @property
    def unfinished(self) -> list[str]:
        """The handlers that had not ended when the drain time was over."""
        return []

    @property
    def running_handler(self) -> Any:
        """The handler that runs right now, or None; asked from the watchdog's thread."""
        return None


class Counts(ByWord):
    """The counters of all modes of a server, added up; always of this moment."""

    def __init__(self, modes: list[ModeServer]) -> None:
        self._modes = modes

    def __getitem__(self, word: str) -> int:
        if word not in WORDS:
            raise KeyError(word)
        return sum(mode.counters.get(word, 0) for mode in self._modes)


def load_mode(mode: Mode) -> type[ModeServer]:
    """The class that serves a mode."""
    room, _, name = MODE_CLASSES[mode.name].partition(":")
    found: type[ModeServer] = getattr(importlib.import_module(room), name)
    return found
