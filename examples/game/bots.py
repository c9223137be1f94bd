"""Bots for Arena over the real network: `python -m examples.game.bots 200 [127.0.0.1:2000] [seconds]`.

Each is a client like any other: it keeps the server's time, sends an input each tick
and acknowledges snapshots. The first ten look at what they are sent and hunt gems;
the others wander.
"""

import argparse
import asyncio
import math
import random
import signal
import sys
import time

from examples.game.server import Go, Hello, keys, rules, ships
from toolips_udp.game import Client, InputClock, Replica

CLEVER = 10


def aim(own, entities, dice):
    """Turn towards the nearest gem, shoot now and then."""
    gems = [e for e in entities.values() if e["kind"]]
    if not gems:
        return {"thrust": 1, "left": dice.random() < 0.3}
    near = min(gems, key=lambda e: (e["x"] - own["x"]) ** 2 + (e["y"] - own["y"]) ** 2)
    want = math.atan2(near["y"] - own["y"], near["x"] - own["x"]) * rules.TURNS / math.tau
    off = (want - own["turn"] + rules.TURNS / 2) % rules.TURNS - rules.TURNS / 2
    return {
        "left": off < -10,
        "right": off > 10,
        "thrust": abs(off) < 150,
        "brake": 0,
        "fire": dice.random() < 0.1,
    }


class Bot:
    """One bot, apart from its socket."""

    def __init__(self, number, clock, room="arena:1"):
        self.dice = random.Random(number)
        self.clever = number < CLEVER
        self.replica = Replica(ships, clock)
        self.ahead = InputClock(self.replica.sync, rules.HZ)
        self.room, self.number, self.clock = room, number, clock
        self.held, self.last, self.snapshots = {}, None, 0

    def hello(self, send):
        """After joining."""
        send(Hello(f"bot {self.number}"))
        send(Go(self.room))

    def take(self, data):
        """A message from the server."""
        if data[:1] == bytes((ships.code,)):
            snapshot = self.replica.receive(data)
            if snapshot is not None:
                self.snapshots += 1
                self.ahead.snapshot(snapshot.tick, snapshot.time, snapshot.lead)

    def steer(self, latest):
        """What to press for the next tenth of a second."""
        own = latest.entities.get(latest.own)
        if self.clever and own is not None:
            return aim(own, latest.entities, self.dice)
        return {name: self.dice.random() < 0.3 for name in keys.buttons}

    def play(self, client):
        """Send the inputs that are due."""
        latest = self.replica.latest
        if latest is None:
            return
        tick = self.ahead.tick(self.clock())
        if self.last is None or abs(tick - self.last) > 30:
            self.last = tick - 1
        while self.last < tick:
            self.last += 1
            if self.last % 6 == 0:
                self.held = self.steer(latest)
            keys.send(client, self.last, **self.held)


async def run(number, address, until, room="arena:1"):
    """One bot over a socket of its own, to the end of time; the bot."""
    bot = Bot(number, time.monotonic, room)
    async with Client(address, channels=2) as client:
        client.replica = bot.replica
        bot.hello(client.send)

        async def listen():
            async for message in client:
                bot.take(message.data)

        listening = asyncio.create_task(listen())
        while client.open and time.monotonic() < until:
            bot.play(client)
            await client.sleep(1 / rules.HZ)
        listening.cancel()
    return bot


async def main(many, address="127.0.0.1:2000", seconds=math.inf):
    until = time.monotonic() + seconds

    async def later(number):
        await asyncio.sleep(number * 0.005)  # not all at once
        return await run(number, address, until, f"arena:{1 + number // 60 % 2}")

    return await asyncio.gather(*map(later, range(many)))


def play(main, *words, address):
    """Run `main(*words)` to its end or Ctrl-C; what it gave. Ends the program with one line when nobody answers."""
    stopped = []
    signal.signal(signal.SIGINT, lambda *_: stopped.append(True))
    print(f"playing on {address}; Ctrl-C ends it", file=sys.stderr, flush=True)

    async def until_stopped():
        playing = asyncio.create_task(main(*words))
        while not (playing.done() or stopped):
            await asyncio.wait({playing}, timeout=0.1)
        if playing.done():
            return playing.result()
        playing.cancel()
        await asyncio.wait({playing})  # the clients say goodbye
        return None

    try:
        return asyncio.run(until_stopped())
    except (TimeoutError, ConnectionRefusedError) as error:
        why = "refuses" if isinstance(error, ConnectionRefusedError) else "does not answer"
        start = f"python -m toolips_udp run examples/game/server.py --udp {address}"
        sys.exit(f"{address} {why}. Start Arena first: {start}")


def arguments(words=None):
    """How many, where, how long."""
    parser = argparse.ArgumentParser(prog="python -m examples.game.bots", description=__doc__)
    parser.add_argument("many", nargs="?", type=int, default=20, help="how many bots (20)")
    parser.add_argument("address", nargs="?", default="127.0.0.1:2000", help="of the server (127.0.0.1:2000)")
    parser.add_argument("seconds", nargs="?", type=float, default=math.inf, help="until they leave (never)")
    return parser.parse_args(words)


if __name__ == "__main__":
    options = arguments()
    bots = play(main, options.many, options.address, options.seconds, address=options.address)
    if bots is not None:
        print(f"{len(bots)} bots, {sum(bot.snapshots for bot in bots)} snapshots")
