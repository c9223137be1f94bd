"""Who visits: sessions of HTTP clients, known by a cookie nobody can guess.

Kept like the sessions of UDP clients: they expire after silence and are capped.
Only a digest of the cookie is kept. Imports the ground floor; used by `site.py`.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from typing import TYPE_CHECKING, Any

from ..clients import ClientTable
from ..clock import Clock

if TYPE_CHECKING:
    from ..connections.http import Connection


class Visitor:
    """One client of HTTP mode, over all its requests."""

    __slots__ = ("key", "values")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.values: dict[str, Any] = {}


class Visitors:
    """All visitors of one server. From any thread."""

    def __init__(self, ttl: float, most: int, clock: Clock, cookie: str) -> None:
        self._table = ClientTable(ttl, most)
        self._clock = clock
        self._cookie = cookie
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._table)

    def known(self, c: Connection) -> Visitor | None:
        """Who sent this request, or None for somebody new."""
        token = c.cookies.get(self._cookie)
        if not token:
            return None
        with self._lock:
            found: Visitor | None = self._table.lookup(digest(token), self._clock())
            return found

    def of(self, c: Connection) -> Visitor:
        """Who sent this request; somebody new gets a cookie with the answer."""
        if c.visitor is None:
            c.visitor = self.known(c)
        if c.visitor is None:
            token = secrets.token_urlsafe(32)
            c.visitor = Visitor(digest(token))
            with self._lock:
                self._table.place(c.visitor.key, c.visitor, self._clock())
            c.set_cookie(self._cookie, token)
        visitor: Visitor = c.visitor
        return visitor


def digest(token: str) -> bytes:
    """What is kept of a secret: enough to know it again, so that a lookup tells nothing by its time."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
