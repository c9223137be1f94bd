"""Versions: compared number by number, so that 1.10 is newer than 1.9. Imports nothing of ours."""

from __future__ import annotations

import re

_VERSION = re.compile(r"(\d{1,9}(?:\.\d{1,9}){0,7})(?:[-.+]?[a-z][a-z0-9.+-]*)?", re.ASCII)
LONGEST = 32


def read(version: str) -> tuple[int, ...] | None:
    """The numbers of a version without zeros at the end; None for what is none."""
    found = _VERSION.fullmatch(version) if isinstance(version, str) and len(version) <= LONGEST else None
    if found is None:
        return None
    numbers = [int(part) for part in found[1].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def is_older(version: str, minimum: str) -> bool:
    """Whether `version` is below `minimum`, or no version at all.

    >>> is_older("1.9", "1.10")
    True
    """
    found, wanted = read(version), read(minimum)
    return found is None or wanted is None or found < wanted


def check(minimum: str | None) -> str | None:
    """A `minimum_version` that can be compared. `ValueError` for one that cannot."""
    if minimum is not None and read(minimum) is None:
        raise ValueError(f"minimum_version is {minimum!r}, expected numbers with dots, as '1.2.0'")
    return minimum
