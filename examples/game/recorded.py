"""Replay of a recorded match: `python -m examples.game.recorded arena-1.rec [TICK]`.

Start the server with ARENA_RECORDS=FOLDER to record. Each second of the record holds the
hash of the state, so a replay that ends is proof that the rules still give the same match.
"""

import sys

from examples.game import rules
from toolips_udp.game import InputMap
from toolips_udp.game.record import read, replay

keys = InputMap(buttons=("left", "right", "thrust", "brake", "fire"))


class Recorded:
    """The rules as `record.replay` runs them."""

    def __init__(self, seed):
        self.version, self.seed = rules.VERSION, seed
        self.match = rules.Match(seed)
        self.held = {}

    def step(self, tick, events):
        """One tick: who came and went, what was pressed, what shots met; then everybody plays."""
        hits = {}
        for player, what, data in events:
            if what == "join":
                self.match.join(player)
                self.held[player] = keys.idle
            elif what == "leave":
                self.match.leave(player)
            elif what == "input":
                self.held[player] = data
            else:
                hits[player] = int.from_bytes(data, "big")
        for player in list(self.match.state["ships"]):
            self.match.play(player, keys.unpack(self.held[player]), lambda player: hits.get(player, 0))
        self.match.end_tick()

    def hash(self):
        return self.match.hash()


if __name__ == "__main__":
    _, seed, _ = read(sys.argv[1])
    match = Recorded(seed)
    tick = replay(sys.argv[1], match, int(sys.argv[2]) if len(sys.argv) > 2 else None)
    print(f"tick {tick}, state {match.hash()}")
    for player, ship in match.match.state["ships"].items():
        print(f"player {player}: score {ship['score']}, at {ship['body'][0]}, {ship['body'][1]}")
