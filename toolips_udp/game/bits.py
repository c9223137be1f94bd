"""Bits of a snapshot: writing, reading, and differences in few of them.

Game floor: imports nothing of ours. Most significant bit first. A difference d
is zig-zag coded (0, -1, 1, -2 ... are 0, 1, 2, 3 ...) and then Exp-Golomb of
order 3: 0 to 7 take 4 bits, 8 to 23 six, 24 to 55 eight.
"""

from __future__ import annotations

ORDER = 3

Bits = tuple[int, int]
"""The bits as a whole number, and how many there are."""


def golomb(value: int, order: int = ORDER) -> Bits:
    """A whole number from 0 up in few bits."""
    coded = value + (1 << order)
    size = coded.bit_length()
    return coded, 2 * size - order - 1


def zigzag(d: int) -> int:
    """Small numbers of either sign as small numbers from 0 up."""
    return (d << 1) ^ (d >> 63)


class Reader:
    """Reads bits. `ValueError` at the end of them."""

    __slots__ = ("_left", "_value")

    def __init__(self, data: bytes):
        self._value = int.from_bytes(data, "big")
        self._left = len(data) * 8

    def bits(self, count: int) -> int:
        """The next `count` bits."""
        self._left -= count
        if self._left < 0:
            raise ValueError("the snapshot ends too early")
        return self._value >> self._left & ((1 << count) - 1)

    def golomb(self, order: int = ORDER) -> int:
        """The inverse of `golomb`; refuses what would be more than 32 bits."""
        zeros = 0
        while not self.bits(1):
            zeros += 1
            if zeros > 32:
                raise ValueError("a difference of more than 32 bits")
        return ((1 << (zeros + order)) | self.bits(zeros + order)) - (1 << order)

    def zigzag(self) -> int:
        """The inverse of `zigzag` over `golomb`."""
        value = self.golomb()
        return (value >> 1) ^ -(value & 1)


def packed(value: int, count: int) -> bytes:
    """The bits as bytes, the last one filled with zeros."""
    return (value << (-count & 7)).to_bytes((count + 7) // 8, "big")
