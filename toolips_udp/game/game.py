"""Game: an extension and native stage whose clients are peers.

Game floor: imports peers, rooms, the agenda and extensions. The ENet host does
the protocol; here its events become handler calls, and rooms get theirs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..counters import DROPS
from ..errors import StartError
from ..extensions.base import Extension
from ..peers.delivery import Delivery
from ..peers.drive import Drive
from ..peers.enet import Enet, caps_of
from ..peers.peer import AT_ONCE, CODE_OF, Leave, Peer, Refuse
from ..peers.typed import TypedMessages, encode
from ..peers.websocket import WebSocket
from ..typed import Malformed
from . import carrying, feedback, inputs
from .admission import Bans, Vanished
from .browsers import Browsers
from .godot3 import Godot3
from .room import Member, Room, RoomKind, Rooms
from .tick import Agenda
from .tickdriver import TickDriver

if TYPE_CHECKING:
    from ..servers.base import Server

F = TypeVar("F", bound=Callable[..., Any])


def _report(peer: Any, data: bytes, now: float) -> None:
    if len(data) == 1 + feedback.FEEDBACK:
        feedback.feedback_of(peer).take(data[1:], now)
    else:
        peer.malformed("a report of snapshots that is none")


TAKERS: dict[bytes, Callable[[Any, bytes, float], None]] = {
    bytes((inputs.CODE,)): inputs.hold,
    bytes((feedback.CODE,)): _report,
}
"""Messages of our own, by first byte. Only games with rooms have them."""


class Game(Extension):
    """Peers over ENet (and other transports), with handlers for what they do.

    `max_peers` connections; `max_message` bytes of one message; `codec` of typed messages; `ping` seconds of
    silence before a peer is asked whether it is there; `resume` seconds that a vanished peer is kept; `caps`
    are the limits of a peer, see `peers.enet.caps_of`. `dialect="godot3"` speaks Godot 3's high-level packets.

    >>> game = Game(channels=2)
    >>> @game.on_message
    ... def echo(peer, m):
    ...     peer.send(m.data, m.channel, m.delivery)
    """

    answers = True

    @property
    def member(self) -> type:
        """What every peer of a game has."""
        return GamePeer

    def __init__(
        self,
        *transports: Any,
        channels: int = 2,
        max_peers: int = 10_000,
        max_message: int = 65_536,
        codec: str = "msgpack",
        dialect: str | None = None,
        ping: float = 5.0,
        sharded: bool = False,
        resume: float = 0.0,
        **caps: Any,
    ) -> None:
        if not 1 <= channels <= 255:
            raise ValueError(f"a game has 1 to 255 channels, found {channels!r}")
        if max_peers < 1 or ping <= 0 or resume < 0:
            raise ValueError(
                f"max_peers and ping are above 0, resume 0 or more; {max_peers=} {ping=} {resume=}"
            )
        if dialect not in (None, "godot3"):
            raise ValueError(f"dialect is None or 'godot3', found {dialect!r}")
        self.transports = transports or (Enet(),)
        self.types = TypedMessages(codec)
        self.sharded = sharded
        self.host: Any = None
        self.server: Server | None = None
        self.bans = Bans(self)
        self.agenda = Agenda(self._clock, self.call)
        self.rooms = Rooms(cast(Any, self))
        self._settings = {
            **caps_of(max_message, **caps),
            "channels": max(channels, 3) if dialect else channels,
            "max_peers": max_peers,
            "ping": round(ping * 1000),
        }
        self._dialect = Godot3() if dialect else None
        self.hall = Browsers(self)
        self._peers: dict[int, Any] = {}
        self.peers: Mapping[int, Any] = MappingProxyType(self._peers)
        """Everybody, by id. Take `list(game.peers.values())` before peers may leave in a loop that awaits."""
        self._riders: dict[int, Any] = {}
        self._on: dict[str, Callable[..., Any]] = {}
        self._typed: dict[type, Callable[..., Any]] = {}
        self._vanished = Vanished(self, resume)
        self._driver: TickDriver | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self.drive = Drive(self, 2 * max_peers)
        self._now: Callable[[], int] = time.monotonic_ns

    # ---- decorators ----

    def on_join(self, function: F) -> F:
        """`f(peer)` when a peer has joined."""
        return self._one("on_join", function)

    def on_message(self, function: F) -> F:
        """`f(peer, message)` for what no typed handler and no room took."""
        return self._one("on_message", function)

    def on_leave(self, function: F) -> F:
        """`f(peer, leave)`: exactly one for each join."""
        return self._one("on_leave", function)

    def on_resume(self, function: F) -> F:
        """`f(peer)` when a vanished peer is back on a new connection."""
        return self._one("on_resume", function)

    def admit(self, function: F) -> F:
        """`f(peer)` before `on_join`: True lets it in; `Refuse(code)` or False does not. Not `async`."""
        if asyncio.iscoroutinefunction(function):
            raise TypeError("@game.admit decides at once; it cannot be async")
        return self._one("admit", function)

    def message(self, code: int) -> Callable[[type], type]:
        """Make a msgspec Struct a typed message with this code, 0 to 253.

        >>> @game.message(1)
        ... class Say(Struct):
        ...     text: str
        """

        def add(kind: type) -> type:
            self.types.add(code, kind)
            self._fold()
            return kind

        return add

    def on(self, kind: type) -> Callable[[F], F]:
        """`f(peer, value)` for typed messages of this type that the sender's room did not take."""

        def add(function: F) -> F:
            if kind in self._typed:
                raise ValueError(f"there is already a handler for {kind.__name__}; a game can have one")
            self._typed[kind] = self._plain(function)
            return function

        return add

    # ---- verbs ----

    def ride(self, data: int, rider: Any) -> int:
        """Give the peers whose CONNECT has these 32 bits to another house that shares this port.

        `rider` has `joined`, `received` and `left`, as an ENet host calls them. Its peers are no peers of the game,
        but the game's caps hold for them. Returns the bytes of the longest message.
        """
        self._riders[data] = rider
        self._fold()
        return int(self._settings["max_message"])

    def room(self, name: str, capacity: int | None = None, state: Any = None, **more: Any) -> Any:
        """The room of this name, made at its first use; with a `*` at the end a kind of rooms. See `Rooms.room`."""
        room: Room | RoomKind = self.rooms.room(name, capacity, state, **more)
        self._fold()
        return room

    def broadcast(
        self,
        data: Any,
        channel: int = 0,
        delivery: Any = Delivery.RELIABLE,
        fragment: bool = False,
        to: Iterable[Any] | None = None,
        exclude: Any = (),
    ) -> int:
        """Send to everybody, a room, or any peers but `exclude`; encoded once. Returns the number queued.

        From another thread it is queued on the server's loop, and the number is of those it will go to.
        """
        if isinstance(exclude, Peer):
            exclude = (exclude,)
        peers: Collection[Any] = list(self._peers.values() if to is None else to)
        if self._thread and threading.get_ident() != self._thread:
            assert self.server is not None
            self.server.call_soon(self._broadcast, data, channel, delivery, fragment, peers, exclude)
            return sum(peer.open and peer not in exclude for peer in peers)
        return self._broadcast(data, channel, delivery, fragment, peers, exclude)

    def _broadcast(
        self,
        data: Any,
        channel: int,
        delivery: Delivery,
        fragment: bool,
        peers: Collection[Any],
        exclude: Any,
    ) -> int:
        if self.host is None:
            return 0
        if self._dialect is not None:
            return sum(peer.send(data, channel, delivery) for peer in peers if peer not in exclude)
        queued: int = self.host.broadcast(peers, data, channel, delivery, fragment, exclude)
        if self.hall.carried:
            return queued + self.hall.broadcast(peers, data, channel, delivery, exclude)
        return queued

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a handler; an exception is logged and counted, never raised. A coroutine becomes a task."""
        try:
            result = function(*args)
        except Exception as error:
            self.failed(args[1] if len(args) > 1 and isinstance(args[1], Peer) else None, error)
            return None
        if asyncio.iscoroutine(result):
            self._spawn(result, None)
        return result

    def failed(self, peer: Any, error: BaseException) -> None:
        """A handler raised: say it with the peer."""
        name = error.__traceback__
        while name is not None and name.tb_next is not None:
            name = name.tb_next
        where = f"{name.tb_frame.f_code.co_qualname}" if name is not None else "a handler"
        address = getattr(peer, "address", None)
        if self.server is not None:
            text = f"{where} raised {type(error).__name__}"
            self.server.journal.event(f"game {where}", logging.ERROR, text, address, error, "handler_failed")
        else:
            logging.getLogger("toolips_udp.game").error("%s raised for %s", where, address, exc_info=error)

    # ---- life ----

    def on_start(self, server: Server) -> None:
        """Makes the host; called by the server."""
        if getattr(server.settings, "workers", 1) > 1 and not self.sharded:
            raise StartError(
                "a Game has one world, and workers above 1 would make several. Fix: workers=1, or "
                "Game(sharded=True), which says that rooms and broadcasts are per worker",
                code="state-in-one-process",
            )
        self.server = server
        self._thread = threading.get_ident()
        loop = self._loop = asyncio.get_running_loop()
        self.drive.begin(server)
        self._now = self.drive.clock
        self.agenda.begin()
        dice = getattr(server, "random", None)
        secret = dice.randbytes(16) if dice is not None else os.urandom(16)
        self._vanished.random = dice.randbytes if dice is not None else os.urandom
        self.open_host(secret)
        self._driver = TickDriver(self.agenda, loop, self._flush)

    def open_host(self, secret: bytes) -> Any:
        """Make the ENet host of this game. Servers do it at their start; worlds of your own may."""
        bases: tuple[type, ...] = (Godot3.Peer,) if self._dialect else ()
        mixin = type("GamePeer", (*bases, GamePeer), {"game": self, "hall": self.rooms, "__slots__": ()})
        self.host = self._enet().host(secret, mixin, **self._settings)
        self._hear()
        self.bans.apply()
        return self.host

    def _enet(self) -> Enet:
        return next((t for t in self.transports if isinstance(t, Enet)), None) or Enet()

    def _hear(self) -> None:
        """The host tells this game what happens."""
        self.host.joined, self.host.left, self.host.failed = self._joined, self._left, self.failed
        self.host.encode = encode
        self.host.wake = self._flush
        self._fold()

    def stages(self) -> list[Any]:
        """The ENet host, when it is the native one."""
        return self.drive.stages()

    def route(self, c: Any) -> Any:
        """Where no native stage runs, packets come here: False when the host took it, or the word of its end."""
        failed = 0 if self.host is None else self.host.messages_failed
        word = self.drive.take(c)
        if word is None:
            return None
        cast(Any, c).answered = True
        return "handler_failed" if self.host.messages_failed > failed else word if word in DROPS else False

    @property
    def page_routes(self) -> list[Any]:
        """Where HTTP mode finds the WebSockets of this game."""
        return [t.route(cast(Any, self.hall)) for t in self.transports if isinstance(t, WebSocket)]

    def on_stop(self, server: Server) -> None:
        """Tell everybody, flush, end rooms and ticks."""
        carrying.withdraw(self)
        if self._driver is not None:
            self._driver.close()
        for peer in list(self._peers.values()):
            peer.close(AT_ONCE, CODE_OF["stopping"], "stopping")
        self.drive.push()
        self._vanished.end()
        for task in self._tasks:
            task.cancel()
        self.drive.end()
        self._thread = 0

    async def settle(self, seconds: float) -> None:
        """Let the async handlers that run end, before a reload takes their peers away."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=seconds)

    def export(self) -> Any:
        """The bans and the connections, for whoever goes on: of this process, or of the next one."""
        return {"bans": self.bans.export(), "peers": carrying.offer(self)}

    def restore(self, state: Any) -> None:
        """Go on with the bans and the connections of the game before.

        A peer keeps its id, its data and its token, and `on_join` runs for it, as the rooms are new. From another
        process come only those of its data that are plain, and the native core is needed on both sides.
        """
        self.bans.restore(state.get("bans", {}))
        for peer in carrying.take_over(self, state.get("peers", {})):
            self._peers[peer.id] = peer
            peer.rooms, peer.room, peer._presence = (), None, None
            feedback.feedback_of(peer).carried()
            self._vanished.known(peer)
            handler = self._on.get("on_join")
            if handler is not None:
                self.call(handler, peer)
        self._hear()
        self.bans.apply()

    def _language(self) -> Any:
        """What two games must share for one host to serve both."""
        enet = self._enet()
        return enet.checksum, enet.mtu, self._dialect is None

    def _part(self, peer: Any) -> None:
        """This peer belongs to the game that takes over."""
        self._peers.pop(peer.id, None)
        self._vanished.disown(peer)

    def _let_go(self, peers: Iterable[Any]) -> None:
        """These peers and their host belong to the game that takes over."""
        for peer in peers:
            self._part(peer)
        self.drive.rest()
        self.host = None

    # ---- the host's events ----

    def _joined(self, peer: Any) -> None:
        if peer.user_data in self._riders:
            self._riders[peer.user_data].joined(peer)
            return
        admit = self._on.get("admit")
        if admit is not None:
            answer = admit(peer)
            if answer is not True:
                code = answer.code if isinstance(answer, Refuse) else CODE_OF["refused"]
                peer.close(AT_ONCE, code, "refused")
                return
        self._peers[peer.id] = peer
        self._vanished.joined(peer)
        handler = self._on.get("on_join")
        if handler is not None:
            handler(peer)

    def _left(self, peer: Any, word: str, code: int, by_peer: bool, seconds: float) -> None:
        if peer.id not in self._peers:
            if peer.user_data in self._riders:
                self._riders[peer.user_data].left(peer, word, code, by_peer, seconds)
            return  # a rider's, or never admitted
        leave = Leave(word, code, "peer" if by_peer else "server", seconds)
        if word == "timeout" and self._vanished.keep(peer, leave):
            return
        self.gone(peer, leave)

    def gone(self, peer: Any, leave: Leave) -> None:
        """Out of the game and its rooms, then `on_leave`."""
        if self._peers.pop(peer.id, None) is None:
            return
        self._vanished.forget(peer)
        self.rooms.gone(peer)
        handler = self._on.get("on_leave")
        if handler is not None:
            handler(peer, leave)

    def _received(self, peer: Any, message: Any) -> None:
        if peer.id not in self._peers:
            if peer.user_data in self._riders:
                self._riders[peer.user_data].received(peer, message)
            return
        if self._dialect is not None:
            message = self._dialect.open(peer, message)
            if message is None:
                return
        if self._vanished.seconds and self._vanished.take(peer, message):
            return
        rooms = self.rooms
        if rooms and (take := TAKERS.get(message.data[:1])) is not None:
            take(peer, message.data, message.now)
            return
        rooms.acting = peer
        try:
            value = self.types.decode(message.data) if self.types else None
            room = peer.room
            if room is not None and room.take(peer, message, value):
                return
            handler = self._typed.get(type(value)) if value is not None else None
            if handler is not None:
                handler(peer, value)
            elif "on_message" in self._on:
                self._on["on_message"](peer, message)
        except Malformed as error:
            peer.malformed(str(error))
        finally:
            rooms.acting = None

    # ---- inside ----

    def _one(self, name: str, function: F) -> F:
        if name in self._on:
            raise ValueError(f"this game already has an {name}; it can have one")
        self._on[name] = function if name == "admit" else self._plain(function)
        self._fold()
        return function

    def _plain(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A handler to call: an `async def` becomes one that starts a task."""
        if not asyncio.iscoroutinefunction(function):
            return function

        def run(peer: Any, *args: Any) -> None:
            self._spawn(function(peer, *args), peer)

        return run

    def _spawn(self, coroutine: Any, peer: Any) -> None:
        if self._loop is None:
            coroutine.close()
            raise StartError("an async handler needs a running server", code="not-running")
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)

        def ended(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            error = None if task.cancelled() else task.exception()
            if error is not None:
                self.failed(peer, error)

        task.add_done_callback(ended)

    def _fold(self) -> None:
        """Without rooms, types, resuming and dialect a message goes straight from C to its handler."""
        if self.host is None:
            return
        direct = self._on.get("on_message")
        busy = (
            self.rooms
            or self.rooms.kinds
            or self.types
            or self._vanished.seconds
            or self._dialect
            or self._riders
        )
        self.host.received = (
            direct if direct is not None and not busy and "admit" not in self._on else self._received
        )

    def _clock(self) -> int:
        return self._now()

    def _flush(self) -> None:
        """What was queued outside a turn leaves soon."""
        if self.server is not None and self._thread:
            self.drive.flush()


class GamePeer(Member):
    """What a game's peers have beside `Peer`: rooms, presence, and a count of nonsense."""

    _nonsense = 0
    _nonsense_since = 0.0

    def malformed(self, why: str = "") -> None:
        """Count a message that is not what it should be; 16 in 10 s end the connection."""
        peer: Any = self
        if peer.now - self._nonsense_since > 10.0:
            self._nonsense, self._nonsense_since = 0, peer.now
        self._nonsense += 1
        if self._nonsense >= (peer.game._settings["max_malformed"] or 1 << 62):
            peer.close(AT_ONCE, CODE_OF["malformed"], "malformed")
