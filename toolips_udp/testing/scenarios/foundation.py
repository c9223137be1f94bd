"""Plain handlers under bad weather and failing nodes: what every datagram server promises.

Always: no reply without a request, no request answered more often than it arrived,
both ledgers close after each event, no timer stays in the past. In the end, when the
weather has cleared: everybody is answered again.
"""

from __future__ import annotations

import asyncio
import random
import struct
import types
from collections import Counter
from collections.abc import Iterable
from typing import Any

from ...counters import DROPS
from ..knobs import Knobs
from ..trace import FATES
from ..world import Broken, World
from . import Run, weather

KINDS = ("echo", "slow", "raise", "end", "push")
_WORDS = ("handled", "handler_failed", "ended")
_FAULTS = ("crash", "pause", "skew", "rebind", "partition", "swizzle")


def module() -> Any:
    """A module with a handler of each kind. The first byte of a packet says what is asked."""
    from ...extensions.base import Extension
    from ...handlers import handler

    class Gate(Extension):
        """Ends what asks to be ended."""

        def route(self, c: Any) -> Any:
            return c.packet[:1] != b"\x03"

    @handler
    async def main(c: Any) -> None:
        kind = c.packet[0] if c.packet else 0
        if kind == 1:
            await asyncio.sleep(0.5)
        elif kind == 2:
            raise RuntimeError("asked to")
        elif kind == 4:
            c.data["pushed"] = c.data.get("pushed", 0) + 1
        c.respond(c.packet)

    made = types.ModuleType("foundation")
    made.gate, made.main = Gate(), main  # type: ignore[attr-defined]
    return made


class Asker:
    """A client that asks numbered questions at random times and keeps book of the answers."""

    def __init__(self, name: str, server: Any, dice: random.Random, exact: bool):
        self.server = server
        self.name = name
        self.dice = dice
        self.exact = exact  # no corruption: every byte can be checked
        self.due: int | None = None
        self.asked: dict[int, bytes] = {}
        self.answers: Counter[int] = Counter()
        self.answered = 0
        self.last_answer = 0

    def receive(self, now: int, data: bytes, source: Any) -> None:
        """An answer must be to something that was asked, and be right."""
        self.last_answer = now
        self.answered += 1
        if not self.exact:
            return
        number = struct.unpack_from(">xI", data)[0] if len(data) >= 5 else -1
        if self.asked.get(number) != data:
            raise Broken(f"{self.name} got {data[:20]!r}, which it never asked")
        self.answers[number] += 1
        if self.answers[number] > 4:  # a copy on each way makes four of one
            raise Broken(f"{self.name} got {self.answers[number]} answers to question {number}")

    def turn(self, now: int) -> Iterable[tuple[bytes, Any]]:
        """Ask when it is time."""
        if self.due is None:
            self.due = now + int(self.dice.random() * 1e9)
        if now < self.due:
            return ()
        self.due = now + int(self.dice.expovariate(1.0) * 1e9) + 1
        number = len(self.asked)
        body = self.dice.randbytes(self.dice.choice((0, 10, 100, 1200)))
        question = struct.pack(">BI", self.dice.randrange(len(KINDS)), number) + body
        self.asked[number] = question
        return ((question, self.server),)

    def deadline(self) -> int | None:
        """The next question."""
        return self.due


class Foundation:
    """See the module."""

    name = "foundation"
    goals = (*FATES, *_WORDS, *_FAULTS, "restart", "asked", "in flight at a crash")

    def run(self, seed: int, minutes: float, show: bool = False) -> Run:
        """One world of one server and one to three clients."""
        run, dice = Run(seed), random.Random(f"foundation/{seed}")
        up, down = weather(dice), weather(dice)
        if dice.random() < 0.3:
            up["corrupt"] = dice.uniform(0.0, 0.1)
        if dice.random() < 0.1:
            down["mtu"] = 600
        exact = "corrupt" not in up
        with World(seed, up=Knobs(**up), down=Knobs(**down), keep=100_000 if show else 1000) as world:
            server = [world.serve(module, name="server")]
            address = world.hosts["server"].address
            askers = [Asker(f"asker{n}", address, random.Random(f"{seed}/{n}"), exact) for n in range(1, 4)]
            askers = askers[: dice.randint(1, 3)]
            for asker in askers:
                world.add(asker, asker.name)
            world.check(lambda world: _books(server[-1]))
            self._trouble(run, world, dice, server, askers, minutes * 60)
            self._calm(run, world, askers)
            for made in server:
                for word in _WORDS:
                    run.goals[word] += made.counters[word]
            run.goals.update({fate: n for fate, n in world.trace.counts.items() if n})
            run.goals["asked"] += sum(len(asker.asked) for asker in askers)
            run.seconds, run.hash = world.now, world.trace.hash()
            if show:
                for entry in world.trace:
                    print(entry)
        return run

    def _trouble(
        self,
        run: Run,
        world: World,
        dice: random.Random,
        server: list[Any],
        askers: list[Asker],
        seconds: float,
    ) -> None:
        end = world.now + seconds
        while end - world.now > 1e-6:  # less would be no time at all
            world.run(min(dice.expovariate(1 / 20), end - world.now))
            fault = dice.choice(_FAULTS)
            run.goals[fault] += 1
            asker = dice.choice(askers)
            if fault == "crash":
                run.goals["in flight at a crash"] += server[-1].in_flight > 0
                world.crash("server")
                world.run(dice.uniform(0.0, 3.0))
                server.append(world.restart("server"))
                run.goals["restart"] += 1
            elif fault == "pause":
                world.pause(dice.choice(("server", asker.name)), dice.uniform(0.0, 2.0))
            elif fault == "skew":
                world.skew(asker.name, dice.uniform(0.0, 5.0), dice.uniform(-0.01, 0.01))
            elif fault == "rebind":
                world.rebind(asker.name)
            elif fault == "partition":
                link = world.link(asker.name)
                dice.choice((link, link.up, link.down)).set(cut=True)
                world.run(dice.uniform(0.0, 5.0))
                link.heal()
            else:
                off, on = world.network.swizzle(world.ns)
                for link in off:
                    link.cut()
                    world.run(dice.uniform(0.0, 1.0))
                for link in on:
                    link.heal()
                    world.run(dice.uniform(0.0, 1.0))

    def _calm(self, run: Run, world: World, askers: list[Asker]) -> None:
        """The weather clears: within half a minute everybody has an answer to something new."""
        world.network.set(**{name: getattr(Knobs(), name) for name in Knobs.__slots__})
        world.run(3.0)
        before = [asker.answered for asker in askers]
        world.run_until(lambda: all(a.answered > b for a, b in zip(askers, before, strict=True)), 30.0)


def _books(server: Any) -> None:
    """The receive ledger closes, at this very moment."""
    words = server.counters
    ended = words["handled"] + sum(words[word] for word in DROPS) + server.in_flight
    if words["received"] != ended:
        raise Broken(
            f"the receive ledger does not close: {words['received']} received, {ended} accounted for"
        )


SCENARIO = Foundation()
