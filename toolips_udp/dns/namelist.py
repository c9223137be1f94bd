"""A million names in little memory: which rule covers a name (spec P5, in Python).

Names are kept as 64-bit hashes in sorted arrays, 12 octets each with the line
they came from. The hash is keyed anew in each process. Imports names only.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left


class NameSet:
    """Folded names and a number for each. `add` all, then `seal`, then `find`."""

    __slots__ = ("hashes", "numbers", "pending")

    def __init__(self) -> None:
        self.hashes = array("q")
        self.numbers = array("I")
        self.pending: list[tuple[int, int]] = []

    def add(self, name: bytes, number: int) -> None:
        self.pending.append((hash(name), number))

    def seal(self) -> None:
        """Sort what was added; of equal names the first stays."""
        old = zip(self.hashes, self.numbers, strict=True)
        found = sorted([*old, *self.pending])
        self.pending = []
        self.hashes, self.numbers = array("q"), array("I")
        last = None
        for number, line in found:
            if number != last:
                self.hashes.append(number)
                self.numbers.append(line)
                last = number

    def find(self, name: bytes) -> int | None:
        """The number of this very name, or None."""
        wanted = hash(name)
        at = bisect_left(self.hashes, wanted)
        if at < len(self.hashes) and self.hashes[at] == wanted:
            return self.numbers[at]
        return None

    def __len__(self) -> int:
        return len(self.hashes)

    @property
    def octets(self) -> int:
        return self.hashes.itemsize * len(self.hashes) + self.numbers.itemsize * len(self.numbers)
