"""What can be wrong with one direction of a link: the knobs and the profiles.

Testing floor: imports the errors only. `network.py` turns these numbers into
weather; the command line and the Arena page read them as text.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ..errors import suggestion

SHAPES = ("uniform", "normal", "long")
"""How added delay is spread: `long` has a long tail (half of it below a twelfth of `jitter`)."""

_CHANCES = ("loss", "duplicate", "corrupt", "reorder")
_SECONDS = ("duplicate_gap", "latency", "jitter", "reorder_gap")


@dataclass(frozen=True, slots=True)
class Knobs:
    """The settings of one direction of one link. All off: a perfect wire.

    Promises: a value that makes no sense raises `ValueError` here, never later.
    Chances are 0 to 1, times are seconds, `rate` is bytes per second.

    >>> Knobs(loss=0.1, latency=0.05, jitter=0.02)
    """

    mtu: int | None = None
    """Larger datagrams vanish."""
    loss: float = 0.0
    """Chance to be lost, independent of the others."""
    burst: tuple[float, float, float] | None = None
    """Per datagram: chance to enter the bad state, chance to leave it, loss inside."""
    corrupt: float = 0.0
    """Chance to have 1 to 4 bits flipped."""
    duplicate: float = 0.0
    """Chance of a second copy."""
    duplicate_gap: float = 0.01
    """The copy comes up to this much later."""
    rate: float | None = None
    """Bytes per second that the link carries; a burst of 1,500 passes at once."""
    queue: int = 65_536
    """Bytes that wait for a `rate`; what does not fit is lost."""
    latency: float = 0.0
    """Constant delay."""
    jitter: float = 0.0
    """Most that is added to the delay."""
    jitter_shape: str = "uniform"
    overtake: bool = False
    """Let jitter change the order."""
    reorder: float = 0.0
    """Chance to be held back, so that later ones pass."""
    reorder_gap: float = 0.02
    """How long it is held back."""
    cut: bool = False
    """Nothing passes."""

    def __post_init__(self) -> None:
        for name in _CHANCES:
            _within(name, getattr(self, name), 0.0, 1.0)
        for name in _SECONDS:
            _within(name, getattr(self, name), 0.0, 3600.0)
        if self.burst is not None:
            if len(self.burst) != 3:
                raise ValueError(f"burst is {self.burst!r}; expected (enter, leave, loss), each 0 to 1")
            for value in self.burst:
                _within("burst", value, 0.0, 1.0)
        if self.jitter_shape not in SHAPES:
            raise ValueError(f"jitter_shape is {self.jitter_shape!r}; expected one of {', '.join(SHAPES)}")
        if self.rate is not None:
            _within("rate", self.rate, 1.0, 1e12)
        if self.mtu is not None:
            _within("mtu", self.mtu, 1, 65_535)
        _within("queue", self.queue, 0, 1 << 40)

    def changed(self, profile: str | None = None, **knobs: Any) -> Knobs:
        """A copy with these knobs turned; a profile is applied first and resets the rest."""
        base = PROFILES[profile_name(profile)] if profile is not None else self
        try:
            return dataclasses.replace(base, **knobs)
        except TypeError:
            unknown = next(name for name in knobs if name not in NAMES)
            raise ValueError(
                f"no knob is called {unknown!r}; there are {', '.join(NAMES)}, "
                f"and the weathers {', '.join(PROFILES)}.{suggestion(unknown, (*NAMES, *PROFILES))}"
            ) from None

    @classmethod
    def parse(cls, text: str) -> Knobs:
        """Read `loss=0.1,latency=0.05`, `wifi` or `wifi,loss=0.2`; a burst is `0.01:0.25:0.9`."""
        profile: str | None = None
        knobs: dict[str, Any] = {}
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            name, sign, value = part.partition("=")
            if not sign and name in PROFILES:
                profile = name
            elif not sign:
                knobs[name] = True
            else:
                knobs[name] = _value(name, value)
        return cls().changed(profile, **knobs)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; expected {low:g} to {high:g}")


def _value(name: str, text: str) -> Any:
    try:
        if name == "burst":
            return tuple(float(piece) for piece in text.split(":"))
        if name == "jitter_shape":
            return text
        if name in ("overtake", "cut"):
            return {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}[
                text.lower()
            ]
        if name in ("mtu", "queue"):
            return int(text)
        return float(text)
    except (ValueError, KeyError):
        raise ValueError(f"{name} is {text!r}, which is not a value for it; for example {name}=0.1") from None


def profile_name(name: str) -> str:
    """The name itself if a profile is called so, else a `ValueError` with the nearest."""
    if name not in PROFILES:
        raise ValueError(
            f"no profile is called {name!r}; there are {', '.join(PROFILES)}.{suggestion(name, PROFILES)}"
        )
    return name


NAMES: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(Knobs))


def _burst(mean: float) -> tuple[float, float, float]:
    """A burst that lasts four datagrams, loses nine of ten, and loses `mean` of all."""
    bad = mean / 0.9
    return (0.25 * bad / (1 - bad), 0.25, 0.9)


PROFILES: dict[str, Knobs] = {
    "lan": Knobs(latency=0.0005),
    "cable": Knobs(latency=0.012, jitter=0.006, loss=0.001),
    "wifi": Knobs(latency=0.008, jitter=0.052, jitter_shape="long", burst=_burst(0.01)),
    "mobile": Knobs(latency=0.035, jitter=0.050, loss=0.01, rate=500_000.0, queue=256 * 1024),
    "bad": Knobs(latency=0.075, jitter=0.150, burst=_burst(0.10), reorder=0.02, duplicate=0.01),
    "awful": Knobs(latency=0.100, jitter=0.400, loss=0.30, duplicate=0.10, reorder=0.10),
}
"""Links as they are met, from a cable in one room to a train in a tunnel. Figures are for one direction."""
