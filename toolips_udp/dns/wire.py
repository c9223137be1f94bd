"""Names inside a message: reading with pointers, under a work budget (spec N1-N3, M1).

Imports names and errors. `message.py` and `rdata.py` use it.
"""

from __future__ import annotations

from ..errors import FormatError
from . import names

MOST_HOPS = 256
"""Pointer hops in one client message, all names together."""


def read_name(message: bytes, at: int, end: int, budget: list[int]) -> tuple[bytes, int]:
    """The uncompressed name at `at` and where it ends; octets at or after `end` are not its own.

    A pointer goes strictly below the run of labels that holds it (N3), so no
    chain loops; `budget[0]` counts hops down over the whole message. Raises
    `FormatError`.
    """
    made = bytearray()
    labels = 0
    after = -1
    run = at
    while True:
        if at >= end:
            raise FormatError(f"name at octet {run} is cut short.")
        size = message[at]
        if size < 64:
            stop = at + 1 + size
            if stop > end:
                raise FormatError(f"name at octet {run} is cut short.")
            made += message[at:stop]
            if len(made) > names.MOST_OCTETS:
                raise FormatError("name of over 255 octets.")
            at = stop
            if not size:
                return bytes(made), after if after >= 0 else at
            labels += 1
            if labels > names.MOST_LABELS:
                raise FormatError("name of over 127 labels.")
        elif size >= 192:
            if end - at < 2:
                raise FormatError(f"pointer at octet {at} is cut short.")
            target = (size & 63) << 8 | message[at + 1]
            if target < 12 or target >= run:
                raise FormatError(f"pointer at octet {at} to {target}: expected 12 to {run - 1}.")
            budget[0] -= 1
            if budget[0] < 0:
                raise FormatError("more compression pointers than a message may hold.")
            if after < 0:
                after = at + 2
            end = len(message) if after == at + 2 else end
            at = run = target
        else:
            raise FormatError(f"label type {size >> 6} at octet {at}: expected 0 or a pointer.")
