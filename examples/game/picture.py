"""The picture of Arena: `python -m examples.game.picture FOLDER` writes arena.png and arena.gif.

Twelve simulated seconds from seed 1 at 200 ms and 5 % loss. Left, a player without
prediction, right with it; the grey outline is the server's ship, the circle what the player is told
about. The same seed gives the same bytes. Needs Pillow (the extra `test`).
"""

import importlib.util
import math
import sys
from pathlib import Path

try:
    from PIL import Image, ImageDraw
except ImportError:
    sys.exit("the picture is drawn with Pillow, which is not installed. Fix: pip install -e '.[test]'")

from examples.game import rules
from examples.game.bots import Bot
from toolips_udp.game import Interpolation, Prediction, simulate

SIZE, SECONDS, FRAMES, PER_SECOND = 300, 12, 72, 6
FIELDS = ("x", "y", "turn", "vx", "vy")
COLOURS = {"back": 0, "line": 1, "own": 2, "other": 3, "gem": 4, "ghost": 5, "text": 6, "circle": 7}
PALETTE = [
    13,
    17,
    23,
    48,
    54,
    61,
    88,
    166,
    255,
    240,
    136,
    62,
    63,
    185,
    80,
    139,
    148,
    158,
    201,
    209,
    217,
    31,
    60,
    110,
]


class Player:
    """One player of the match and what its screen would show."""

    def __init__(self, world, server, number):
        self.world, self.server = world, server
        self.client = world.client()
        host = world.host(self.client)
        self.bot = Bot(number, lambda: host.local(world.ns) / 1e9)
        self.client.replica = self.bot.replica
        self.client.on_message = self.take
        self.between = Interpolation(server.ships.fields, server.ships.hz)
        self.me, self.bytes = None, 0
        self.bot.hello(self.client.send)

    def take(self, message):
        """Snapshots put the prediction right."""
        self.bytes += len(message.data)
        before = self.bot.snapshots
        self.bot.take(message.data)
        latest = self.bot.replica.latest
        if self.bot.snapshots == before or latest.own not in latest.entities:
            return
        self.between.push(latest)
        own = tuple(latest.entities[latest.own][f] for f in FIELDS)
        if self.me is None:
            self.me = Prediction(rules.steer, lambda s: (s[0], s[1]), own)
        self.me.reconcile(latest.tick, own, self.world.now)

    def play(self):
        """A frame: the bot's inputs, applied at once."""
        before = self.bot.last
        self.bot.play(self.client)
        if self.me is not None and before is not None and self.bot.last - before < 30:
            i = self.server.keys.unpack(self.server.keys.pack(**self.bot.held))
            for tick in range(before + 1, self.bot.last + 1):
                self.me.apply(tick, i)


def ship(draw, place, x, y, turn, colour, outline=False):
    """One ship on a panel."""
    a, points = turn * math.tau / rules.TURNS, []
    for r, b in ((2.4, 0), (1.8, 2.4), (0.8, math.pi), (1.8, -2.4)):
        points.append(place(x + math.cos(a + b) * r * rules.UNIT, y + math.sin(a + b) * r * rules.UNIT))
    draw.polygon(points, fill=None if outline else COLOURS[colour], outline=COLOURS[colour])


def panel(draw, left, player, predicted):
    """What this player sees now."""

    def place(x, y):
        return left + SIZE / 2 + x * SIZE / 2 / rules.HALF, SIZE / 2 + y * SIZE / 2 / rules.HALF

    draw.rectangle((left, 0, left + SIZE - 1, SIZE - 1), outline=COLOURS["line"])
    latest = player.bot.replica.latest
    if latest is None or latest.own not in latest.entities or player.me is None:
        return
    own = latest.entities[latest.own]
    x, y = place(own["x"], own["y"])
    r = 30 * rules.UNIT * SIZE / 2 / rules.HALF
    draw.ellipse((x - r, y - r, x + r, y + r), outline=COLOURS["circle"])
    for id, e in player.between.at(player.bot.replica.sync.server(player.bot.clock())).items():
        if e["kind"]:
            x, y = place(e["x"], e["y"])
            draw.rectangle((x - 2, y - 2, x + 2, y + 2), fill=COLOURS["gem"])
        elif id != latest.own and e["hp"]:
            ship(draw, place, e["x"], e["y"], e["turn"], "other")
    truth = player.server.game.room("arena:1").state.match.state["ships"][player.client_id]["body"]
    ship(draw, place, *truth[:3], "ghost", outline=True)
    body = player.me.state if predicted else tuple(own[f] for f in FIELDS)
    ship(draw, place, *body[:3], "own")
    words = "with prediction" if predicted else "without prediction"
    draw.text((left + 6, 4), words, fill=COLOURS["text"])
    rate = player.bytes / max(player.world.now, 1)
    draw.text((left + 6, SIZE + 4), f"{rate:5.0f} bytes/s down", fill=COLOURS["text"])


def frames(seed=1):
    """The frames of the match."""
    spec = importlib.util.spec_from_file_location("arena_server", Path(__file__).parent / "server.py")
    server = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(server)
    server.stopwatch = lambda: 0.0
    made = []
    with simulate.World(seed=seed, latency=0.1, loss=0.05, jitter=0.01) as world:
        world.serve(server, name="arena")
        players = [Player(world, server, n) for n in range(6)]
        for player in players:
            player.client_id = player.client.peer and next(
                p.id for p in server.game.peers.values() if p.address == world.host(player.client).address
            )
        world.run(1.0)
        begin = world.now
        for frame in range(SECONDS * rules.HZ):
            for player in players:
                player.play()
            world.run(begin + (frame + 1) / rules.HZ - world.now)
            if frame % (rules.HZ // PER_SECOND) == 0:
                image = Image.new("P", (2 * SIZE + 10, SIZE + 20), COLOURS["back"])
                image.putpalette(PALETTE)
                draw = ImageDraw.Draw(image)
                panel(draw, 0, players[0], predicted=False)
                panel(draw, SIZE + 10, players[0], predicted=True)
                made.append(image)
    return made


def write(folder, seed=1):
    """arena.png (the last frame) and arena.gif in a folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    made = frames(seed)
    made[-1].save(folder / "arena.png", optimize=True)
    made[0].save(
        folder / "arena.gif",
        save_all=True,
        append_images=made[1:],
        duration=1000 // PER_SECOND,
        loop=0,
        optimize=False,
    )
    return folder / "arena.png", folder / "arena.gif"


if __name__ == "__main__":
    for path in write(sys.argv[1] if len(sys.argv) > 1 else "."):
        print(path, path.stat().st_size, "bytes")
