"""UDP: links on reliable peers (ENet) over datagrams; the default carrier.

Imports peers, addresses and the link. `UdpCarrier` is the server's half: a native stage of its own, or a rider on
the module's Game. `open_udp` is the client's: one socket, one peer.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

from ...address import Address, AnyAddress, is_loopback
from ...modes import UDP
from ...peers.drive import Drive
from ...peers.enet import Enet, caps_of
from ...peers.peer import AT_ONCE, CODE_OF, CODES, DRAINED
from ...peers.vigil import Vigil
from ...peers.wire import Wire
from ..errors import ConnectError
from .link import Link

RIDER = 0x54554D31
"""The 32 bits of CONNECT by which a shared host knows clients of messages: TUM1."""
OVERHEAD = 256
"""Bytes of a carrier's message around the frame."""
_LOOK = 32 * 1024


def settings_of(max_message: int) -> dict[str, Any]:
    """An ENet host for messages of this length. Rates are those of the house, which knows who is logged in."""
    return {**caps_of(max_message + OVERHEAD, rate=0, byte_rate=0, queue_age=30.0), "ping": 1000}


class PeerLink(Link):
    """A link on one peer."""

    def __init__(self, peer: Any, vigil: Vigil) -> None:
        super().__init__()
        self.peer = peer
        self.vigil = vigil
        self.address = peer.address
        self.host = peer.address.host
        self.near = is_loopback(self.host)
        self._since = 0
        self._unsent = 0

    def send(self, data: bytes) -> bool:
        """See `Link.send`."""
        self._since += len(data) + 48
        if not self.vigil.waits:
            self.vigil.said(self.peer.id)
        sent: bool = self.peer.send(data)
        return sent

    @property
    def unsent(self) -> int:
        """See `Link.unsent`. Looked at every few bytes only: a look costs more than a message."""
        if self._since + self._unsent > _LOOK:
            view = self.peer.view()
            self._unsent = 0 if view is None else view["queued_bytes"]
            self._since = 0
        return self._unsent + self._since

    def progress(self) -> tuple[int, int]:
        """Bytes that wait to be taken by the other side, and bytes of a long message that is arriving."""
        view = self.peer.view()
        return (0, 0) if view is None else (view["queued_bytes"], view["fragment_bytes"])

    def close(self) -> None:
        """See `Link.close`."""
        self.peer.close(DRAINED, 0, "kicked")

    def abort(self, word: str = "kicked") -> None:
        """See `Link.abort`."""
        self.peer.close(AT_ONCE, CODE_OF.get(word, CODE_OF["kicked"]), "kicked")


def _word(word: str, code: int, by_peer: bool) -> str:
    if by_peer:
        return CODES.get(code, "left")
    return {"timeout": "lost", "kicked": "closed", "left": "closed"}.get(word, word)


class Riders:
    """Peers to links: what a host tells, handed to who serves the links. The callbacks of a host, or of a Game."""

    def __init__(self, accept: Callable[[Link], None], vigil: Vigil) -> None:
        self._accept = accept
        self._vigil = vigil

    def joined(self, peer: Any) -> None:
        """A peer has connected."""
        peer.rider = link = PeerLink(peer, self._vigil)
        self._accept(link)

    def received(self, peer: Any, message: Any) -> None:
        """A peer has sent a message."""
        link = peer.rider
        vigil = link.vigil
        if vigil.waits:
            vigil.heard(peer.id, message.now)
        else:
            vigil.fast = 0
        link.on_message(message.data)

    def left(self, peer: Any, word: str, code: int, by_peer: bool, seconds: float) -> None:
        """A peer has gone."""
        link = getattr(peer, "rider", None)
        if link is not None:
            link.ended(_word(word, code, by_peer))


class UdpCarrier:
    """The server's half. `begin` on the server's loop; then `stages` and `route` are those of an extension."""

    def __init__(self, accept: Callable[[Link], None], max_message: int, max_clients: int) -> None:
        self._accept = accept
        self._settings = {**settings_of(max_message), "channels": 1, "max_peers": max_clients}
        self.host: Any = None
        self.game: Any = None
        self.longest = max_message
        """Bytes of the longest frame: of a module's Game, what that lets through."""
        self._own = Drive(self, 2 * max_clients)

    def begin(self, server: Any, failed: Callable[[Any, BaseException], None]) -> None:
        """Make the host, or ride on the module's Game."""
        self._own.begin(server)
        self.vigil = Vigil(asyncio.get_running_loop())
        riders = Riders(self._accept, self.vigil)
        self.game = next((e for e in server.extensions if hasattr(e, "ride")), None)
        if self.game is not None:
            self.longest = min(self.longest, self.game.ride(RIDER, riders) - OVERHEAD)
            return
        if all(mode.mode is not UDP for mode in server.modes):
            return
        self.host = Enet().host(os.urandom(16), **self._settings)
        self.host.joined, self.host.received, self.host.left = riders.joined, riders.received, riders.left
        self.host.failed = failed
        self.host.wake = self._own.flush

    @property
    def drive(self) -> Drive:
        """What brings datagrams to the host and away from it: our own, or the Game's."""
        if self.game is None:
            return self._own
        found: Drive = self.game.drive
        return found

    def stages(self) -> list[Any]:
        """The host as a native stage, where one runs."""
        return self._own.stages()

    def route(self, c: Any) -> bool | None:
        """Where no stage runs, packets come here: False when the host took it."""
        return None if self._own.take(c) is None else False

    def push(self) -> None:
        """Send what is queued once, though nothing is read any more."""
        self.drive.push()

    def hurry(self) -> None:
        """Let what is queued leave while more is queued, so that others can begin with it."""
        host = self.host if self.game is None else self.game.host
        endpoint = self.drive.endpoint
        if endpoint is not None and hasattr(host, "flush") and not host.flush():
            endpoint.flush()

    def end(self) -> None:
        """Send what is queued and let go of everything."""
        self.push()
        self._own.end()
        self.host = None


# -- the client -----------------------------------------------------------------------------------


class UdpClientLink(PeerLink):
    """The client's end: a host with a socket of its own, on the running loop."""

    def __init__(self, address: Address, max_message: int) -> None:
        host = Enet(checksum=False).host(os.urandom(16), accept=0, channels=1, **settings_of(max_message))
        host.joined, host.received, host.left = self._joined, self._received, self._left
        self.joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wire = Wire(host, address)
        vigil = Vigil(asyncio.get_running_loop())
        super().__init__(host.connect(address, 1, RIDER, now=time.monotonic_ns()), vigil)

    def before_leaving(self, call: Callable[[], None]) -> None:
        """See `Link.before_leaving`."""
        self._wire.first = call
        self._wire.soon()

    def hurry(self) -> None:
        """See `Link.hurry`."""
        self._wire.hurry()

    def close(self) -> None:
        """See `Link.close`."""
        super().close()
        self._wire.soon()

    def abort(self, word: str = "kicked") -> None:
        """See `Link.abort`."""
        super().abort(word)
        self._wire.turn()
        self._shut("closed")

    def _joined(self, peer: Any) -> None:
        if not self.joined.done():
            self.joined.set_result(None)

    def _received(self, peer: Any, message: Any) -> None:
        vigil = self.vigil
        if vigil.waits:
            vigil.heard(peer.id, message.now)
        else:
            vigil.fast = 0
        self.on_message(message.data)

    def _left(self, peer: Any, word: str, code: int, by_peer: bool, seconds: float) -> None:
        self._shut(_word(word, code, by_peer))

    def _shut(self, word: str) -> None:
        if not self._wire.open:
            return
        self._wire.close()
        if not self.joined.done():
            self.joined.set_exception(ConnectError(f"{self.address} did not take the connection: {word}"))
            self.joined.exception()  # somebody may have stopped waiting
        self.ended(word)


async def open_udp(address: AnyAddress, timeout: float, max_message: int) -> UdpClientLink:
    """Connect a peer. `ConnectError` when nobody takes it within `timeout` seconds."""
    try:
        where = Address.resolve(address)
        link = UdpClientLink(where, max_message)
    except (OSError, ValueError) as error:
        raise ConnectError(f"{address} cannot be reached: {error}") from None
    try:
        async with asyncio.timeout(timeout):
            await link.joined
    except TimeoutError:
        raise ConnectError(
            f"nobody answered at {where} in {timeout} s. Is a messages server running there?"
        ) from None
    finally:
        if not link.joined.done() or link.joined.cancelled() or link.joined.exception() is not None:
            link.abort()
    return link
