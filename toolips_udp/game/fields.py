"""Fields of a snapshot: how a value becomes a whole number of few bits, and back.

Game floor: imports nothing of ours.
"""

from __future__ import annotations

import math
from typing import Any


class Field:
    """One quantised field. `q` makes the whole number, `x` the value.

    `raw` fields are sent whole when they change; others as a difference, which
    goes around the circle when `wraps`.
    """

    __slots__ = ("bits", "blend", "raw", "wraps")

    def __init__(self, bits: int, raw: bool = False, wraps: bool = False, blend: bool = False):
        if not 1 <= bits <= 32:
            raise ValueError(f"a field has 1 to 32 bits, this one needs {bits}")
        self.bits = bits
        self.raw = raw or bits <= 4
        self.wraps = wraps
        self.blend = blend
        """Values in between make sense."""

    def q(self, x: Any) -> int:
        """The whole number nearest to a value; values outside the range become its ends."""
        return min(max(int(x), 0), (1 << self.bits) - 1)

    def x(self, q: int) -> Any:
        """The value of a whole number."""
        return q

    def recipe(self) -> tuple[str, float, float, int]:
        """How the native core may do what `q` does: kind, lowest value, steps per unit, largest whole number."""
        return ("plain" if type(self) is Field else "other"), 0.0, 1.0, (1 << self.bits) - 1

    def between(self, a: Any, b: Any, share: float) -> Any:
        """The value `share` of the way from a to b; without sense for in-betweens, a and then b."""
        if not self.blend:
            return a if share < 1.0 else b
        return a + (b - a) * share


class _Fixed(Field):
    __slots__ = ("_inverse", "_top", "hi", "lo", "step")

    def __init__(self, lo: float, hi: float, step: float):
        if not (lo < hi and step > 0):
            raise ValueError(f"fixed({lo}, {hi}, {step}): expected lo < hi and step > 0")
        steps = (hi - lo) / step
        super().__init__(max(1, math.ceil(math.log2(steps + 1))), blend=True)
        self.lo, self.hi, self.step = lo, hi, step
        self._inverse = 1.0 / step
        self._top = math.floor(steps + 1e-9)

    def q(self, x: Any) -> int:
        q: int = math.floor((x - self.lo) * self._inverse + 0.5)
        return max(0, min(q, self._top))

    def x(self, q: int) -> float:
        return self.lo + q * self.step

    def recipe(self) -> tuple[str, float, float, int]:
        return "line", float(self.lo), self._inverse, self._top


class _Angle(Field):
    __slots__ = ("_scale", "_size")

    def __init__(self, bits: int):
        super().__init__(bits, wraps=True, blend=True)
        self._size = 1 << bits
        self._scale = self._size / math.tau

    def q(self, x: Any) -> int:
        q: int = math.floor(x * self._scale + 0.5) % self._size
        return q

    def x(self, q: int) -> float:
        return q / self._scale

    def recipe(self) -> tuple[str, float, float, int]:
        return "turn", 0.0, self._scale, self._size - 1

    def between(self, a: float, b: float, share: float) -> float:
        turn = (b - a + math.pi) % math.tau - math.pi
        return (a + turn * share) % math.tau


class _Quaternion(Field):
    """Smallest three: 2 bits name the largest component, 9 bits each for the others."""

    __slots__ = ()
    _LIMIT = 0.7072
    _STEPS = 511

    def __init__(self) -> None:
        super().__init__(29, raw=True, blend=True)

    def q(self, x: Any) -> int:
        length = math.sqrt(sum(c * c for c in x))
        if not length > 0:
            raise ValueError(f"a rotation of length 0: {x!r}")
        parts = [c / length for c in x]
        largest = max(range(4), key=lambda n: abs(parts[n]))
        sign = -1.0 if parts[largest] < 0 else 1.0
        out = largest
        for n, c in enumerate(parts):
            if n != largest:
                share = (c * sign + self._LIMIT) / (2 * self._LIMIT)
                out = out << 9 | min(max(math.floor(share * self._STEPS + 0.5), 0), self._STEPS)
        return out

    def x(self, q: int) -> tuple[float, float, float, float]:
        largest = q >> 27 & 3
        three = [(q >> shift & 511) / self._STEPS * 2 * self._LIMIT - self._LIMIT for shift in (18, 9, 0)]
        three.insert(largest, math.sqrt(max(0.0, 1.0 - sum(c * c for c in three))))
        return tuple(three)  # type: ignore[return-value]

    def between(self, a: Any, b: Any, share: float) -> Any:
        sign = 1.0 if sum(p * r for p, r in zip(a, b, strict=True)) >= 0 else -1.0
        mixed = [p + (sign * r - p) * share for p, r in zip(a, b, strict=True)]
        length = math.sqrt(sum(c * c for c in mixed)) or 1.0
        return tuple(c / length for c in mixed)


def fixed(lo: float, hi: float, step: float) -> Field:
    """A number from lo to hi in steps; the error is at most step / 2.

    >>> fixed(-64, 64, 1 / 128).bits
    15
    """
    return _Fixed(lo, hi, step)


def angle(bits: int = 10) -> Field:
    """An angle in radians, 0 to 2 pi, in 2^bits steps; differences go the short way round."""
    return _Angle(bits)


def quaternion() -> Field:
    """A rotation as four numbers (any length above 0) in 29 bits. The sign may come back turned."""
    return _Quaternion()


def number(bits: int) -> Field:
    """A whole number of so many bits, sent whole when it changes."""
    return Field(bits, raw=True)


def counter(bits: int) -> Field:
    """A whole number of so many bits that mostly changes by little."""
    return Field(bits)


def dial(bits: int) -> Field:
    """A whole number of so many bits that goes round, such as a heading in steps of a turn."""
    return Field(bits, wraps=True)


def flag() -> Field:
    """True or False (comes back as 1 or 0)."""
    return Field(1)
