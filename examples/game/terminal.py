"""Arena in a terminal: `python -m examples.game.terminal [127.0.0.1:2000] [--watch] [--svg FILE]`.

Arrows or WASD steer, space shoots, q leaves. Half blocks give two rows of points per
line, so it works over SSH; without a terminal (in a log) it prints a line a second instead.
`--watch` steers by itself, `--svg` writes the last picture. Needs the extra `cli` (rich).
"""

import argparse
import asyncio
import os
import select
import sys
import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from examples.game.bots import Bot, play
from examples.game.server import rules
from toolips_udp.game import Client, Interpolation

KEYS = dict(zip("adws DCAB", "left right thrust brake fire left right thrust brake".split(), strict=True))
HOLD = 0.25  # a terminal tells when a key goes down, never when it comes up


class View:
    """What is on the screen."""

    def __init__(self, bot):
        self.bot = bot
        self.between = Interpolation(bot.replica_fields, 20)

    def points(self, width, height):
        """The colour of each point; two rows make one line."""
        latest, found = self.bot.replica.latest, {}
        if latest is None:
            return found
        drawn = self.between.at(self.bot.replica.sync.server(self.bot.clock()))
        drawn[latest.own] = latest.entities.get(latest.own, drawn.get(latest.own))
        for id, e in drawn.items():
            if e is None or (not e["kind"] and not e["hp"]):
                continue
            x = int((e["x"] + rules.HALF) * (width - 1) / (2 * rules.HALF))
            y = int((e["y"] + rules.HALF) * (height - 1) / (2 * rules.HALF))
            found[x, y] = "green" if e["kind"] else "bright_blue" if id == latest.own else "yellow"
        return found

    def picture(self, width=78, lines=22):
        """The field as text, with a line of numbers under it."""
        points, text = self.points(width, lines * 2), Text(no_wrap=True)
        for line in range(lines):
            for x in range(width):
                above, below = points.get((x, 2 * line)), points.get((x, 2 * line + 1))
                if above and below:
                    text.append("▀", f"{above} on {below}")
                else:
                    text.append("▀" if above else "▄" if below else " ", above or below or "")
            text.append("\n")
        text.append(self.numbers(), "bright_black")
        return text

    def numbers(self):
        """One line that also suits a log."""
        replica, latest = self.bot.replica, self.bot.replica.latest
        own = latest.entities.get(latest.own) if latest else None
        if own is None:
            return f"in {self.bot.room}, waiting"
        return (
            f"score {own['score']}  hp {own['hp']}  tick {latest.tick}  lead {latest.lead}  "
            f"rtt {replica.sync.rtt * 1000:.0f} ms  {len(latest.entities)} in view"
        )


class Human(Bot):
    """A bot whose inputs come from the keyboard."""

    def __init__(self, clock, watch):
        super().__init__(0, clock)
        self.watch, self.until = watch, {}
        self.replica_fields = self.replica.fields

    def press(self, letters):
        """Keys have been pressed; an arrow is ESC [ and a letter."""
        for letter in letters:
            if letter in KEYS:
                self.until[KEYS[letter]] = self.clock() + HOLD

    def play(self, client):
        if not self.watch:
            now = self.clock()
            self.held = {name: now < end for name, end in self.until.items()}
        super().play(client)

    def steer(self, latest):
        """Bots choose; people press."""
        return super().steer(latest) if self.watch else self.held


def arguments(words=None):
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", nargs="?", default="127.0.0.1:2000")
    parser.add_argument("--watch", action="store_true", help="steer by itself")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--svg", help="write the last picture to this file")
    return parser.parse_args(words)


async def main(options):
    """Join, draw until q or the end; 0."""
    console = Console(record=bool(options.svg))
    bot = Human(time.monotonic, options.watch or not sys.stdin.isatty())
    view, until = View(bot), time.monotonic() + options.seconds
    async with Client(options.address) as client:
        client.replica = bot.replica
        bot.hello(client.send)

        async def listen():
            async for message in client:
                before = bot.snapshots
                bot.take(message.data)
                if bot.snapshots > before:
                    view.between.push(bot.replica.latest)

        listening = asyncio.create_task(listen())
        if console.is_terminal and sys.stdin.isatty():
            await on_screen(client, bot, view, console, until)
        else:
            while client.open and time.monotonic() < until:
                for _ in range(rules.HZ):
                    bot.play(client)
                    await client.sleep(1 / rules.HZ)
                print(view.numbers(), flush=True)
        listening.cancel()
    if options.svg:
        console.print(view.picture())
        console.save_svg(options.svg, title="Arena")
    return 0


async def on_screen(client, bot, view, console, until):
    """Draw twenty times a second and read the keyboard."""
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        with Live(view.picture(), console=console, auto_refresh=False, screen=True) as live:
            frame = 0
            while client.open and time.monotonic() < until:
                if select.select([sys.stdin], [], [], 0)[0]:
                    letters = os.read(sys.stdin.fileno(), 64).decode(errors="replace")
                    if letters == "q":
                        return
                    bot.press(letters)
                bot.play(client)
                frame += 1
                if frame % 3 == 0:
                    live.update(view.picture(), refresh=True)
                await client.sleep(1 / rules.HZ)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


if __name__ == "__main__":
    chosen = arguments()
    sys.exit(play(main, chosen, address=chosen.address))
