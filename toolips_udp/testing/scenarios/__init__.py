"""What the seed farm runs: one file per scenario, each drawn from a seed.

Testing floor. A scenario is a class with `name`, `goals` (the rare things that a
set of runs must have met) and `run(seed, minutes)`, which returns a `Run` or
raises when something that must hold does not.
"""

from __future__ import annotations

import importlib
import random
from collections import Counter
from typing import Any, Protocol

NAMES = ("foundation", "peers")


class Run:
    """What one seed did."""

    def __init__(self, seed: int):
        self.seed = seed
        self.goals: Counter[str] = Counter()
        self.seconds = 0.0
        """Simulated."""
        self.hash = ""
        """Of the trace; the same each time for one seed."""


class Scenario(Protocol):
    """See the module."""

    name: str
    goals: tuple[str, ...]

    def run(self, seed: int, minutes: float, show: bool = False) -> Run:
        """Run one seed; with `show`, print the trace."""
        ...


def scenario(name: str) -> Scenario:
    """The scenario of this name."""
    if name not in NAMES:
        raise ValueError(f"there is no scenario {name!r}; there are {', '.join(NAMES)}")
    made: Scenario = importlib.import_module(f"{__name__}.{name}").SCENARIO
    return made


def weather(dice: random.Random) -> dict[str, Any]:
    """Knobs of one direction: calm, ordinary or extreme, as the dice say."""
    kind = dice.random()
    if kind < 0.2:
        return {"latency": dice.uniform(0.0, 0.02)}
    hard = kind > 0.7
    knobs: dict[str, Any] = {
        "latency": dice.uniform(0.001, 0.3 if hard else 0.08),
        "jitter": dice.choice((0.0, dice.uniform(0.0, 0.2 if hard else 0.03))),
        "jitter_shape": dice.choice(("uniform", "normal", "long")),
        "overtake": dice.random() < 0.2,
        "loss": dice.choice((0.0, dice.uniform(0.0, 0.3 if hard else 0.05))),
        "duplicate": dice.choice((0.0, dice.uniform(0.0, 0.1))),
        "duplicate_gap": dice.uniform(0.0, 0.5),
        "reorder": dice.choice((0.0, dice.uniform(0.0, 0.1))),
        "reorder_gap": dice.uniform(0.0, 0.3),
    }
    if dice.random() < 0.3:
        knobs["burst"] = (dice.uniform(0.001, 0.03), dice.uniform(0.1, 0.5), dice.uniform(0.5, 1.0))
    if dice.random() < 0.2:
        knobs["rate"], knobs["queue"] = dice.uniform(300, 20_000), dice.randint(300, 4_000)
    return knobs
