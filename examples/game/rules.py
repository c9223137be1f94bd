"""The rules of Arena: move, turn, shoot, pick up, score.

Everything is whole numbers, so that a server, a browser and a bot come to the
same state. The file stands alone and can be changed while a match runs: the
state is plain lists and dicts, and a new version of the file takes them over.
`steer` is also the client's prediction; page/rules.js says the same in JavaScript.
"""

import hashlib
import math
import random

VERSION = "1"
HZ = 60
UNIT = 128  # steps of a position in one unit of length
HALF = 60 * UNIT  # the arena goes from -HALF to HALF both ways
TURNS = 1024  # steps of a full turn
TURN_SPEED = 14
THRUST = 14
FASTEST = 400  # sixteenths of a position step per tick
REACH = 45.0  # units that a shot goes
RADIUS = 1.2  # of a ship, in units
RELOAD = 15  # ticks between two shots
DAMAGE = 34
AWAY = 90  # ticks between destruction and return
GEMS = 14
TOUCH = 2 * UNIT  # how near a gem must be

COS = [round(math.cos(n * math.tau / TURNS) * 1024) for n in range(TURNS)]
SIN = [round(math.sin(n * math.tau / TURNS) * 1024) for n in range(TURNS)]


def toward_zero(value, up, down):
    """value * up / down without the remainder, the same in every language."""
    return value * up // down if value >= 0 else -(-value * up // down)


def steer(ship, i):
    """One tick of one ship: (x, y, turn, vx, vy) and an input give the next five."""
    x, y, turn, vx, vy = ship
    turn = (turn + (i.right - i.left) * TURN_SPEED) % TURNS
    push = (i.thrust - i.brake) * THRUST
    vx = toward_zero(vx, 31, 32) + toward_zero(COS[turn] * push, 1, 1024)
    vy = toward_zero(vy, 31, 32) + toward_zero(SIN[turn] * push, 1, 1024)
    vx, vy = max(-FASTEST, min(FASTEST, vx)), max(-FASTEST, min(FASTEST, vy))
    x, y = x + toward_zero(vx, 1, 16), y + toward_zero(vy, 1, 16)
    if not -HALF <= x <= HALF:
        x, vx = max(-HALF, min(HALF, x)), -toward_zero(vx, 1, 2)
    if not -HALF <= y <= HALF:
        y, vy = max(-HALF, min(HALF, y)), -toward_zero(vy, 1, 2)
    return (x, y, turn, vx, vy)


class Match:
    """One arena's state. Everything follows from the seed and what is done to it."""

    def __init__(self, seed, state=None):
        self.version, self.seed = VERSION, seed
        self.state = state or {"tick": 0, "dice": seed, "ships": {}, "gems": {}, "next": 1}
        while len(self.state["gems"]) < GEMS:
            self._gem()

    def join(self, player):
        """A ship for this player, somewhere."""
        x, y = self._somewhere()
        self.state["ships"][player] = {
            "body": (x, y, self._die(TURNS), 0, 0), "hp": 100, "score": 0, "reload": 0, "away": 0, "shots": 0,
            "jump": True,
        }  # fmt: skip

    def leave(self, player):
        """The player's ship is gone."""
        self.state["ships"].pop(player, None)

    def play(self, player, i, past):
        """One player's tick. `past(player)` tells what a shot met: it knows what the shooter saw."""
        ship = self.state["ships"][player]
        ship["jump"] = False
        ship["reload"] = max(0, ship["reload"] - 1)
        if ship["away"]:
            self._return(ship)
            return
        ship["body"] = steer(ship["body"], i)
        self._collect(ship)
        if i.fire and not ship["reload"]:
            ship["reload"], ship["shots"] = RELOAD, (ship["shots"] + 1) % 16
            self._hit(ship, self.state["ships"].get(past(player)))

    def end_tick(self):
        """After all have played."""
        self.state["tick"] += 1

    def hash(self):
        """A digest of the whole state."""
        return hashlib.sha256(repr(sorted(self.state.items(), key=str)).encode()).hexdigest()

    def _hit(self, shooter, target):
        if target is None or target is shooter or target["away"]:
            return
        target["hp"] -= DAMAGE
        if target["hp"] <= 0:
            target["hp"], target["away"] = 0, AWAY
            shooter["score"] += 5

    def _return(self, ship):
        ship["away"] -= 1
        if not ship["away"]:
            x, y = self._somewhere()
            ship.update(body=(x, y, self._die(TURNS), 0, 0), hp=100, jump=True)

    def _collect(self, ship):
        x, y = ship["body"][:2]
        for name, (gx, gy) in list(self.state["gems"].items()):
            if abs(gx - x) <= TOUCH and abs(gy - y) <= TOUCH:
                del self.state["gems"][name]
                self._gem()
                ship["score"] += 1

    def _gem(self):
        self.state["gems"][self.state["next"]] = self._somewhere()
        self.state["next"] += 1

    def _somewhere(self):
        return self._die(2 * HALF - 8 * UNIT) - HALF + 4 * UNIT, self._die(
            2 * HALF - 8 * UNIT
        ) - HALF + 4 * UNIT

    def _die(self, sides):
        """The next die of this match; its state is one number, so that it can be handed on."""
        dice = random.Random(self.state["dice"])
        self.state["dice"] = dice.getrandbits(62)
        return dice.randrange(sides)
