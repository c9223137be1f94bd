"""Master-file text into words: quotes, escapes, parentheses, comments (RFC 1035 5.1).

Imports fields (for `Quoted`) and errors. Used by the zone-file reader and by
`rdata.from_text`.
"""

from __future__ import annotations

import re

from ..errors import FormatError
from .fields import Quoted

_TOKEN = re.compile(r'"((?:[^"\\\n]|\\.)*)"|((?:[^\s"();\\]|\\.)+)|([()])|(;[^\n]*)|(["\\])|(\n)', re.S)

SPECIAL = re.compile(r'["();\\$]').search
"""Whether a line needs the scanner; lines without these characters split at blanks."""

MOST_OCTETS = 65_535
"""The longest record, all its lines together."""


class Entry:
    """The words of one record, with the place of each for messages."""

    __slots__ = ("closed", "places", "words")

    def __init__(self) -> None:
        self.words: list[str] = []
        self.places: list[tuple[int, int]] = []
        self.closed = True


def scan(text: str) -> Entry:
    """Words of one record, which may span lines within parentheses.

    `closed` is False when a parenthesis is still open. Raises `FormatError` for
    a quote that does not end on its line and for `)` without `(`.
    """
    entry, depth, line, start = Entry(), 0, 0, 0
    for match in _TOKEN.finditer(text):
        kind = match.lastindex
        if kind == 2:
            entry.words.append(match[2])
            entry.places.append((line, match.start() - start))
        elif kind == 1:
            entry.words.append(Quoted(match[1]))
            entry.places.append((line, match.start() - start))
        elif kind == 3:
            depth += 1 if match[3] == "(" else -1
            if depth < 0:
                raise FormatError("')' without '(' before it.")
        elif kind == 6:
            line, start = line + 1, match.end()
        elif kind == 5:
            raise FormatError(
                "a quote that does not end on its line." if match[5] == '"' else "a backslash at the end."
            )
    entry.closed = depth == 0
    return entry


def words_of(text: str) -> list[str]:
    """The words of a whole text. Raises `FormatError` when a parenthesis stays open.

    >>> words_of('10 "two words" ; comment')
    ['10', 'two words']
    """
    entry = scan(text)
    if not entry.closed:
        raise FormatError("'(' without ')' after it.")
    return entry.words
