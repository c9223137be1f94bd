"""The counters of the portable endpoint, as users read them. Imports the ground floor; made by portable.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..counters import WORDS

if TYPE_CHECKING:
    from .portable import Endpoint

NUMBER = {word: number for number, word in enumerate(WORDS)}


class Counters(Mapping[str, int]):
    """The counters of an endpoint: a read-only mapping of word to int."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def __getitem__(self, word: str) -> int:
        number = NUMBER[word]
        if word in ("received", "kernel"):
            self._endpoint.refresh()
        return self._endpoint.words[number]

    def __iter__(self) -> Iterator[str]:
        return iter(WORDS)

    def __len__(self) -> int:
        return len(WORDS)

    def __repr__(self) -> str:
        return repr({word: number for word, number in self.items() if number})
