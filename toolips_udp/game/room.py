"""Rooms: some of a game's peers, together, with a state and a tick of their own.

Game floor: imports the agenda, presence and the errors. A room knows its game
only as a `Hall` sees it, so rooms run in a test without a network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from ..errors import ToolipsError
from .presence import Presences
from .tick import Agenda, Repeating, Schedule, Timer

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T", bound=Timer)


class RoomFull(ToolipsError):
    """A room has no place left, or a peer may not be in more rooms or open more of them."""

    code = "room-full"


class Sender(Protocol):
    """What rooms need of their game."""

    agenda: Agenda

    def broadcast(self, data: Any, channel: int = 0, delivery: Any = ..., **more: Any) -> int: ...

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a handler; an exception is logged and counted, never raised."""
        ...


class Handlers:
    """What a room's decorators collected."""

    __slots__ = ("message", "on_join", "on_leave", "presence", "ticks", "typed")

    def __init__(self) -> None:
        self.on_join: list[Callable[..., Any]] = []
        self.on_leave: list[Callable[..., Any]] = []
        self.message: Callable[..., Any] | None = None
        self.presence: list[Callable[..., Any]] = []
        self.typed: dict[type, Callable[..., Any]] = {}
        self.ticks: list[tuple[float, Callable[..., Any]]] = []


class _Decorated:
    """The decorators, the same for a room and for a kind of rooms."""

    name: str
    handlers: Handlers

    def on_join(self, function: F) -> F:
        """`f(room, peer)` when a peer has joined."""
        self.handlers.on_join.append(function)
        return function

    def on_leave(self, function: F) -> F:
        """`f(room, peer)` when a peer has left, of itself or because it is gone."""
        self.handlers.on_leave.append(function)
        return function

    def on_message(self, function: F) -> F:
        """`f(room, peer, message)` for what no typed handler of the room took."""
        if self.handlers.message is not None:
            raise ValueError(f"room {self.name!r} already has an on_message; it can have one")
        self.handlers.message = function
        return function

    def on(self, kind: type) -> Callable[[F], F]:
        """`f(room, peer, value)` for typed messages of this type whose sender's `room` this is."""

        def add(function: F) -> F:
            if kind in self.handlers.typed:
                raise ValueError(
                    f"room {self.name!r} already has a handler for {kind.__name__}; it can have one"
                )
            self.handlers.typed[kind] = function
            return function

        return add

    def on_presence(self, function: F) -> F:
        """`f(room, peer, presence)` when a member's presence has changed."""
        self.handlers.presence.append(function)
        return function

    def tick(self, hz: float = 60) -> Callable[[F], F]:
        """`f(room, tick)`, `hz` times a second, without drift; see `Tick`.

        >>> @arena.tick(hz=60)
        ... def step(room, tick): ...
        """

        def add(function: F) -> F:
            self._add_tick(hz, function)
            return function

        return add

    def _add_tick(self, hz: float, function: Callable[..., Any]) -> None:
        self.handlers.ticks.append((hz, function))


class RoomKind(_Decorated):
    """Rooms whose names begin alike, such as `match:*`. Its decorators apply to each of them.

    `state` is called for each room (`dict`, or a class of yours). An empty room
    closes after `linger` seconds.
    """

    def __init__(self, hall: Rooms, name: str, capacity: int | None, state: Any, linger: float):
        self.name = name
        self.hall = hall
        self.capacity = capacity
        self.state = state
        self.linger = linger
        self.handlers = Handlers()

    @property
    def rooms(self) -> list[Room]:
        """Those that are open, oldest first."""
        return [room for room in self.hall.values() if room.kind is self]

    def _add_tick(self, hz: float, function: Callable[..., Any]) -> None:
        super()._add_tick(hz, function)
        for room in self.rooms:
            room.start_tick(hz, function)


class Room(_Decorated):
    """Some peers together. Made by `game.room(name)`, never directly.

    A peer that is gone never raises anywhere: sending to it, or removing it
    again, does nothing.
    """

    def __init__(self, hall: Rooms, name: str, capacity: int | None, state: Any, kind: RoomKind | None):
        self.hall = hall
        self.name = name
        self.capacity = capacity
        """Most members; None: no bound but the game's."""
        self.state = state
        """Yours."""
        self.kind = kind
        self.open = True
        self.handlers = Handlers()
        self.schedules: list[Schedule] = []
        """The running ticks, with what was late and skipped."""
        self._chain = (self.handlers, kind.handlers) if kind is not None else (self.handlers,)
        self._members: dict[int, Any] = {}
        self._tuple: tuple[Any, ...] | None = ()
        self._timers: list[Timer] = []
        self._linger: Timer | None = None
        if kind is not None:
            for hz, function in kind.handlers.ticks:
                self.start_tick(hz, function)
            self._maybe_linger()

    # Members.

    @property
    def members(self) -> tuple[Any, ...]:
        """The peers inside, in order of joining. A copy: they may leave while you go through it."""
        if self._tuple is None:
            self._tuple = tuple(self._members.values())
        return self._tuple

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, peer: object) -> bool:
        return getattr(peer, "id", None) in self._members

    def __iter__(self) -> Any:
        return iter(self.members)

    def __bool__(self) -> bool:
        return True

    def join(self, peer: Any) -> None:
        """Let a peer in. `RoomFull` when it is full or the peer is in too many; being in is fine."""
        if peer.id in self._members or not peer.open:
            return
        if not self.open:
            raise RoomFull(f"room {self.name!r} is closed; game.room({self.name!r}) opens it again")
        if self.capacity is not None and len(self._members) >= self.capacity:
            raise RoomFull(f"room {self.name!r} is full: {len(self._members)} of {self.capacity}")
        if len(peer.rooms) >= self.hall.most_rooms:
            raise RoomFull(
                f"peer {peer.id} is in {len(peer.rooms)} rooms and may not join {self.name!r} too; "
                f"peer.enter(room) leaves the others"
            )
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        self._members[peer.id] = peer
        self._tuple = None
        self.hall.joined(peer, self)
        self.hall.presences.joined(self, peer)
        for handlers in self._chain:
            for function in handlers.on_join:
                self.hall.game.call(function, self, peer)

    def leave(self, peer: Any) -> None:
        """Let a peer out. One that is not inside is fine."""
        if self._members.pop(peer.id, None) is None:
            return
        self._tuple = None
        self.hall.left(peer, self)
        self.hall.presences.left(self, peer)
        for handlers in self._chain:
            for function in handlers.on_leave:
                self.hall.game.call(function, self, peer)
        self._maybe_linger()

    def close(self, code: int = 0) -> None:
        """Let everybody out and end its ticks and timers. `code` is yours, kept as `closed_with`."""
        if not self.open:
            return
        self.open = False
        self.closed_with = code
        for peer in self.members:
            self.leave(peer)
        for timer in (*self._timers, *self.schedules):
            timer.cancel()
        self._timers.clear()
        if self._linger is not None:
            self._linger.cancel()
        self.hall.forget(self)

    # Sending.

    def broadcast(self, data: Any, channel: int = 0, delivery: Any = None, **more: Any) -> int:
        """Send to all members but `exclude` (a peer or several); see `Game.broadcast`."""
        if delivery is not None:
            more["delivery"] = delivery
        return self.hall.game.broadcast(data, channel, to=self.members, **more)

    def send(self, peer: Any, data: Any, *args: Any, **more: Any) -> bool:
        """Send to one member. False when it is not one (any more) or its queue dropped it."""
        if peer.id not in self._members or not peer.open:
            return False
        return peer.send(data, *args, **more) is not False

    @property
    def presence(self) -> dict[int, dict[str, Any]]:
        """The presence of each member that has one, by peer id."""
        return {peer.id: peer.presence for peer in self.members if peer.presence}

    # Time.

    def every(self, seconds: float, function: Callable[[], Any]) -> Repeating:
        """Call `function()` each `seconds` until `.cancel()` or the room's end."""
        return self._own(self.hall.game.agenda.every(seconds, function))

    def after(self, seconds: float, function: Callable[[], Any]) -> Timer:
        """Call `function()` once, unless `.cancel()` or the room's end comes first."""
        return self._own(self.hall.game.agenda.after(seconds, function))

    def start_tick(self, hz: float, function: Callable[..., Any]) -> None:
        """Begin a tick in this room. Users write `@room.tick(hz)`."""
        self.schedules.append(self.hall.game.agenda.tick(hz, lambda tick: function(self, tick)))

    # Messages.

    def take(self, peer: Any, message: Any, value: Any = None) -> bool:
        """Give a message of a member to the room's handlers, typed first; False: none wanted it."""
        for handlers in self._chain:
            function = handlers.typed.get(type(value)) if value is not None else None
            if function is not None:
                self.hall.game.call(function, self, peer, value)
                return True
        for handlers in self._chain:
            if handlers.message is not None:
                self.hall.game.call(handlers.message, self, peer, message)
                return True
        return False

    def typed(self) -> Iterable[type]:
        """The types that have a handler here."""
        return [kind for handlers in self._chain for kind in handlers.typed]

    def _add_tick(self, hz: float, function: Callable[..., Any]) -> None:
        super()._add_tick(hz, function)
        self.start_tick(hz, function)

    def _own(self, timer: T) -> T:
        if len(self._timers) >= 64:
            self._timers = [timer for timer in self._timers if timer.active]
        self._timers.append(timer)
        return timer

    def _maybe_linger(self) -> None:
        if self.kind is not None and self.open and not self._members and self._linger is None:
            self._linger = self.hall.game.agenda.after(self.kind.linger, self.close)

    def __repr__(self) -> str:
        return f"<Room {self.name!r} {len(self._members)} members{'' if self.open else ', closed'}>"


class Rooms(dict[str, Room]):
    """All rooms of a game, by name."""

    most_rooms = 16
    """Rooms that one peer may be in."""
    creations = 1.0
    """Rooms a second that one peer may open, with a burst of five."""

    def __init__(self, game: Sender):
        super().__init__()
        self.game = game
        self.kinds: dict[str, RoomKind] = {}
        self.presences = Presences(game)
        self.acting: Any = None
        """The peer whose message is being handled, to whom new rooms are charged."""

    def room(
        self, name: str, capacity: int | None = None, state: Any = None, linger: float = 30.0
    ) -> Room | RoomKind:
        """The room of this name, made at its first use; or a kind, when the name ends with `*`.

        Capacity and state count when it is made; later calls only find it.
        """
        if not isinstance(name, str) or not 1 <= len(name) <= 128:
            raise ValueError(f"a room's name is text of 1 to 128 characters, found {name!r:.150}")
        if name.endswith("*"):
            kind = self.kinds.get(name)
            if kind is None:
                kind = self.kinds[name] = RoomKind(self, name, capacity, state, linger)
            return kind
        room = self.get(name)
        if room is not None:
            return room
        if self.acting is not None:
            self._charge(self.acting, name)
        of = self._kind_of(name)
        if of is not None:
            capacity = of.capacity if capacity is None else capacity
            state = (
                of.state() if state is None and callable(of.state) else (of.state if state is None else state)
            )
        elif isinstance(state, type):
            state = state()
        room = self[name] = Room(self, name, capacity, state, of)
        return room

    def enter(self, peer: Any, room: Room) -> None:
        """Join one room and leave all others. When it is full, the peer stays where it was."""
        if room not in peer.rooms:
            if len(peer.rooms) >= self.most_rooms:
                peer.rooms[0].leave(peer)
            room.join(peer)
        for other in tuple(peer.rooms):
            if other is not room:
                other.leave(peer)

    def gone(self, peer: Any) -> None:
        """A peer has left the game: out of every room, last entered first."""
        for room in reversed(tuple(peer.rooms)):
            room.leave(peer)
        self.presences.gone(peer)

    def joined(self, peer: Any, room: Room) -> None:
        """Called by a room."""
        peer.rooms = (*peer.rooms, room)
        peer.room = room

    def left(self, peer: Any, room: Room) -> None:
        """Called by a room."""
        peer.rooms = tuple(other for other in peer.rooms if other is not room)
        peer.room = peer.rooms[-1] if peer.rooms else None

    def forget(self, room: Room) -> None:
        """Called by a room that closed."""
        if self.get(room.name) is room:
            del self[room.name]

    def _kind_of(self, name: str) -> RoomKind | None:
        """The kind with the longest matching beginning."""
        fits = [kind for kind in self.kinds.values() if name.startswith(kind.name[:-1])]
        return max(fits, key=lambda kind: len(kind.name), default=None)

    def _charge(self, peer: Any, name: str) -> None:
        now = self.game.agenda.clock() / 1e9
        tokens, at = getattr(peer, "room_tokens", (5.0, now))
        tokens = min(5.0, tokens + (now - at) * self.creations)
        if tokens < 1.0:
            peer.room_tokens = (tokens, now)
            raise RoomFull(
                f"peer {peer.id} opens rooms faster than {self.creations:g} a second; {name!r} not opened"
            )
        peer.room_tokens = (tokens - 1.0, now)


class Member:
    """What a peer has because of rooms. A game's peers inherit it.

    Class attributes stand for the empty state, so that a peer that never enters
    a room holds nothing.
    """

    hall: Rooms
    rooms: tuple[Room, ...] = ()
    """The rooms it is in, in order of joining."""
    room: Room | None = None
    """The one entered last."""
    _presence: dict[str, Any] | None = None

    def enter(self, room: Room) -> None:
        """Join one room and leave all others. `RoomFull` leaves everything as it was."""
        self.hall.enter(self, room)

    @property
    def presence(self) -> dict[str, Any]:
        """What the members of its rooms are told about it; set it to change it.

        Small: at most 1,024 bytes as msgpack, else `TooLong`. Changes reach the
        members at most ten times a second.
        """
        return self._presence or {}

    @presence.setter
    def presence(self, value: dict[str, Any]) -> None:
        self.hall.presences.set(self, value)
