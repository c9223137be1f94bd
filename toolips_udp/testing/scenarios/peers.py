"""A game's peers under bad weather and failing nodes: what each delivery promises.

Always: reliable messages arrive exactly once and in order per channel, both ways;
sequenced ones never late and never twice; unsequenced ones never twice; whatever a
sender has seen acknowledged was delivered; bytes to addresses that proved nothing are
never more than came from them; both ledgers close. In the end, when the weather has
cleared: everything reliable that was sent on a connection that still stands is there.
"""

from __future__ import annotations

import random
import struct
import types
from collections.abc import Callable
from typing import Any

from ...peers.delivery import Delivery
from ..knobs import Knobs
from ..trace import FATES
from ..world import Broken, World
from . import Run, weather
from .foundation import _books

CHANNELS = 3
_HEAD = struct.Struct(">BBI")
_FAULTS = ("vanish", "leave", "kick", "pause", "rebind", "partition", "swizzle", "crash")
_MET = (
    "resent", "duplicates", "window full", "fragments", "number wrap", "clock wrap", "lost VERIFY", "lost ACK",
    "resume", "timeout", "left", "kicked", "connections", "acked is delivered",
)  # fmt: skip


class Book:
    """What was sent and what has come, one way along one connection."""

    def __init__(self, name: str):
        self.name = name
        self.sent = [[0] * len(Delivery) for _ in range(CHANNELS)]
        self.expected = [0] * CHANNELS
        self.newest = [-1] * CHANNELS
        self.seen: list[set[int]] = [set() for _ in range(CHANNELS)]
        self.closing = False
        """One end said goodbye: what still comes is acknowledged and thrown away."""

    def next(self, channel: int, delivery: Delivery, body: bytes) -> bytes:
        """The next message of its kind."""
        return _HEAD.pack(channel, delivery, self.sent[channel][delivery]) + body

    def took(self, channel: int, delivery: Delivery) -> None:
        """It was queued."""
        self.sent[channel][delivery] += 1

    def came(self, message: Any) -> None:
        """One has arrived: it must be one that may."""
        channel, delivery, number = _HEAD.unpack_from(message.data)
        what = f"{self.name}: {Delivery(delivery).name} {number} on channel {channel}"
        if channel != message.channel or delivery != message.delivery:
            raise Broken(f"{what} came as {message.delivery.name} on channel {message.channel}")
        if number >= self.sent[channel][delivery] + 1:
            raise Broken(f"{what} was never sent")
        if delivery == Delivery.RELIABLE:
            if number != self.expected[channel]:
                raise Broken(f"{what} came when {self.expected[channel]} was next")
            self.expected[channel] += 1
        elif delivery == Delivery.SEQUENCED:
            if number <= self.newest[channel]:
                raise Broken(f"{what} came after {self.newest[channel]}")
            self.newest[channel] = number
        else:
            if number in self.seen[channel]:
                raise Broken(f"{what} came twice")
            self.seen[channel].add(number)

    @property
    def complete(self) -> bool:
        """All that was sent reliably has come."""
        return all(e == s[Delivery.RELIABLE] for e, s in zip(self.expected, self.sent, strict=True))


class Meeting:
    """One connection, seen from both ends."""

    def __init__(self, number: int):
        self.number = number
        self.up = Book(f"connection {number} up")
        self.down = Book(f"connection {number} down")
        self.player: Any = None
        self.peer: Any = None


class Peers:
    """See the module."""

    name = "peers"
    goals = (*(fate for fate in FATES if fate not in ("mtu", "corrupted")), *_FAULTS, *_MET)

    def run(self, seed: int, minutes: float, show: bool = False) -> Run:
        """One world of one game and one or two clients."""
        return _Match(seed, show).run(minutes * 60)


class _Match:
    """One run of the scenario."""

    def __init__(self, seed: int, show: bool):
        self.result = Run(seed)
        self.seed = seed
        self.show = show
        self.dice = random.Random(f"peers/{seed}")
        self.meetings: dict[int, Meeting] = {}
        self.count = 0
        self.taken_over: Any = None
        self.flood = self.dice.random() < 0.04  # enough messages for the 16-bit numbers to wrap
        calm = self.flood or self.dice.random() < 0.2
        up, down = (
            ({"latency": 0.02}, {"latency": 0.02}) if calm else (weather(self.dice), weather(self.dice))
        )
        self.world = World(seed, up=Knobs(**up), down=Knobs(**down), keep=100_000 if show else 2000)
        self.resume = self.dice.choice((0.0, 15.0))
        self.clients = self.dice.randint(1, 2)

    def module(self) -> Any:
        """A game that keeps the books."""
        from ...game.game import Game

        game = Game(channels=CHANNELS, resume=self.resume, ping=5.0)
        goals = self.result.goals

        @game.on_join
        def joined(peer: Any) -> None:
            meeting = self.meetings[peer.user_data]
            meeting.peer = peer
            peer["meeting"] = meeting

        @game.on_message
        def came(peer: Any, message: Any) -> None:
            if len(message.data) >= _HEAD.size and message.data[0] < CHANNELS:
                peer["meeting"].up.came(message)

        @game.on_leave
        def left(peer: Any, leave: Any) -> None:
            goals[leave.word] += 1
            if leave.word == "replaced":  # by one that vanished and is back: what comes next is `resumed`
                self.taken_over = peer["meeting"]

        @game.on_resume
        def resumed(peer: Any) -> None:
            goals["resume"] += 1
            peer["meeting"].peer = None
            peer["meeting"] = self.taken_over
            self.taken_over.peer = peer

        made = types.ModuleType("peers_scenario")
        made.game = game  # type: ignore[attr-defined]
        return made

    def run(self, seconds: float) -> Run:
        """Play, calm down, and look at the books."""
        goals, world = self.result.goals, self.world
        with world:
            server = world.serve(self.module, name="server")
            self.server = server
            world.check(self._always)
            for _ in range(self.clients):
                self._connect()
            end = world.now + seconds
            while end - world.now > 1e-6:  # less would be no time at all
                self._talk(min(self.dice.expovariate(1 / 15), end - world.now))
                self._fault(self.dice.choice(_FAULTS))
                self._tend()
            self._calm()
            goals.update({fate: n for fate, n in world.trace.counts.items() if n})
        self.result.seconds, self.result.hash = world.now, world.trace.hash()
        if self.show:
            for entry in world.trace:
                print(entry)
        return self.result

    # What must hold.

    def _always(self, world: World) -> None:
        if world.events % 16:
            return
        _books(self.server)
        totals = self.server.game.host.totals if self.server.game.host is not None else None
        if totals and totals["unproven_out"] > totals["unproven_in"]:
            raise Broken(
                f"{totals['unproven_out']} bytes to addresses without proof for {totals['unproven_in']}"
            )
        for meeting in self.meetings.values():
            self._acked(meeting.up, meeting.player and meeting.player.peer)

    def _acked(self, book: Book, sender: Any) -> None:
        """When a sender has nothing under way, all of it was acknowledged, and so it has been delivered."""
        if sender is None or not sender.open:
            return
        view = sender.view()
        if view is None or view["in_flight_commands"] or view["queued_reliable"]:
            self.result.goals["window full"] += bool(view and view["in_flight_bytes"] > 30_000)
            return
        if not book.closing and not book.complete:
            raise Broken(f"{book.name}: everything is acknowledged, {book.expected} came of {book.sent}")
        self.result.goals["acked is delivered"] += 1

    # What happens.

    def _connect(self) -> None:
        self.count += 1
        meeting = self.meetings[self.count] = Meeting(self.count)
        goals, dice = self.result.goals, self.dice
        near_wrap = dice.random() < 0.2
        clock = (1 << 32) - dice.randrange(1, 30_000) if near_wrap else dice.randrange(1 << 31)
        # The clock of the world shows 1,000 s at its begin; what is added brings it near the wrap.
        clock = (clock - int((self.world.now + 1000) * 1000)) & 0xFFFFFFFF
        name = f"player{self.count}"
        lost = self.world.trace.length
        try:
            player = self.world.client(
                name=name, data=self.count, channels=CHANNELS, clock=clock, token=self._token(),
                checksum=dice.random() < 0.3, compress=dice.random() < 0.3,
            )  # fmt: skip
        except (ConnectionRefusedError, TimeoutError):
            self.world.crash(name)
            del self.meetings[self.count]
            return
        goals["connections"] += 1
        goals["clock wrap"] += near_wrap
        self._handshake(name, lost)
        meeting.player = player
        player.on_message = lambda message: meeting.down.came(message)

    def _token(self) -> bytes | None:
        """Sometimes the token of somebody who has vanished."""
        gone = [
            m for m in self.meetings.values() if m.player is not None and m.player.token and not m.player.open
        ]
        if not gone or self.dice.random() < 0.3:
            return None
        token: bytes = gone[-1].player.token
        gone[-1].player.token = None
        return token

    def _handshake(self, name: str, since: int) -> None:
        """Which of its datagrams were lost: VERIFY is 48 bytes down (52 with checksum), its ACK the second up."""
        goals, trace = self.result.goals, self.world.trace
        for entry in list(trace)[-(trace.length - since) :] if trace.length > since else []:
            if entry.link.startswith(f"{name}-") and entry.fate in ("lost", "burst", "cut"):
                goals["lost VERIFY"] += entry.direction == "down" and entry.size in (48, 52)
                goals["lost ACK"] += entry.direction == "up" and entry.size in (12, 16, 20)

    def _talk(self, seconds: float) -> None:
        """Messages both ways at random times."""
        world, dice = self.world, self.dice
        end = world.now + seconds
        while end - world.now > 1e-6:  # less would be no time at all
            world.run(min(dice.expovariate(1.0 if not self.flood else 4.0), end - world.now))
            for meeting in list(self.meetings.values()):
                many = 400 if self.flood else dice.choice((1, 1, 2, 30))
                for book, sender in ((meeting.up, meeting.player), (meeting.down, meeting.peer)):
                    if sender is not None and sender.open:
                        for _ in range(dice.randrange(many + 1)):
                            self._send(book, sender.send)

    def _send(self, book: Book, send: Callable[..., Any]) -> None:
        dice = self.dice
        channel = 0 if self.flood else dice.randrange(CHANNELS)
        delivery = Delivery.RELIABLE if self.flood else dice.choice(tuple(Delivery))
        size = dice.choice((0, 1, 40, 200) if self.flood else (0, 10, 100, 1000))
        if delivery == Delivery.RELIABLE and dice.random() < 0.05 and not self.flood:
            size = dice.randrange(1400, 30_000)
            self.result.goals["fragments"] += 1
        if send(book.next(channel, delivery, bytes(size)), channel, delivery):
            book.took(channel, delivery)
        if book.sent[channel][Delivery.RELIABLE] == 65_536:
            self.result.goals["number wrap"] += 1

    def _fault(self, fault: str) -> None:
        world, dice = self.world, self.dice
        meetings = [m for m in self.meetings.values() if m.player is not None and m.player.open]
        if not meetings or (self.flood and fault not in ("pause",)):
            return
        meeting = dice.choice(meetings)
        name = f"player{meeting.number}"
        self.result.goals[fault] += 1
        if fault == "vanish":
            world.crash(name)
            meeting.player.leave = _Gone
        elif fault == "leave":
            meeting.down.closing = True
            meeting.player.close(7)
        elif fault == "kick":
            if meeting.peer is not None:
                meeting.up.closing = True
                meeting.peer.kick(5, drain=dice.random() < 0.5)
                world.touch("server")
        elif fault == "pause":
            world.pause(dice.choice(("server", name)), dice.uniform(0.0, 3.0))
        elif fault == "rebind":
            world.rebind(name)
        elif fault == "partition":
            link = world.link(name)
            dice.choice((link, link.up, link.down)).set(cut=True)
            self._talk(dice.uniform(0.0, 20.0))
            link.heal()
        elif fault == "swizzle":
            off, on = world.network.swizzle(world.ns)
            for link in off:
                link.cut()
                world.run(dice.uniform(0.0, 1.0))
            for link in on:
                link.heal()
                world.run(dice.uniform(0.0, 1.0))
        elif dice.random() < 0.3:
            self._crash()

    def _crash(self) -> None:
        """The server forgets everybody; they find out by its silence."""
        for meeting in self.meetings.values():
            meeting.peer = None
        self.world.crash("server")
        self.world.run(self.dice.uniform(0.0, 5.0))
        self.server = self.world.restart("server")
        self.world.run(0.0)

    def _tend(self) -> None:
        """Note the figures, and bring somebody new for each who has gone."""
        goals = self.result.goals
        for number, meeting in list(self.meetings.items()):
            player = meeting.player
            if player is not None and player.open:
                goals["resent"] += player.stats.resent > 0
                goals["duplicates"] += player.stats.duplicates > 0
                continue
            over = (
                player is not None
                and player.leave is not None
                and (meeting.peer is None or not meeting.peer.open)
            )
            if over and len(self.meetings) > 8:
                del self.meetings[number]
        open_now = sum(m.player is not None and m.player.open for m in self.meetings.values())
        for _ in range(self.clients - open_now):
            self._connect()

    def _calm(self) -> None:
        """The weather clears; within a minute everything has come on what still stands."""
        self.world.network.set(**{name: getattr(Knobs(), name) for name in Knobs.__slots__})
        standing = [
            m for m in self.meetings.values() if m.player is not None and m.player.open and m.peer is not None
        ]

        def all_there() -> bool:
            return all(
                (m.up.complete and m.down.complete) or not (m.player.open and m.peer.open) for m in standing
            )

        self.world.run_until(all_there, 90.0)


class _Vanished:
    """How a connection ends whose client crashed: without a word."""

    word, code, by, seconds = "vanished", 0, "peer", 0.0


_Gone: Any = _Vanished()
SCENARIO = Peers()
