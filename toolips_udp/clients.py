"""A table of clients that cannot grow: the Python twin of native/clients.c.

Ground floor: imports nothing of ours. Endpoints keep the positions of
`MultiHandler` and the sessions of clients in one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any


class ClientTable:
    """Remembers a value per client; forgets clients that are silent for `ttl` seconds.

    At most `most` clients are held: the longest silent one makes room. Every
    call takes the time, so that a fake clock tests it exactly. `gone(key,
    value)` is called for each entry that expires or makes room, not for those
    removed on purpose.
    """

    __slots__ = ("_entries", "gone", "most", "ttl")

    def __init__(self, ttl: float, most: int, gone: Callable[[Hashable, Any], None] | None = None) -> None:
        if ttl <= 0 or most < 1:
            raise ValueError(
                f"a client table needs a time above 0 and room for 1, found ttl={ttl}, most={most}"
            )
        self.ttl = ttl
        self.most = most
        self.gone = gone
        self._entries: dict[Hashable, list[Any]] = {}  # in order of silence: the longest silent first

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Hashable]:
        return iter(tuple(self._entries))

    def place(self, key: Hashable, value: Any, now: float) -> None:
        """Remember `value` for this client, who was heard just now."""
        self._entries.pop(key, None)
        self.expire(now)
        if len(self._entries) >= self.most:
            self._drop(next(iter(self._entries)))
        self._entries[key] = [now, value]

    def lookup(self, key: Hashable, now: float) -> Any:
        """The client's value, or None. The client was heard just now."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        if now - entry[0] > self.ttl:
            if self.gone is not None:
                self.gone(key, entry[1])
            return None
        entry[0] = now
        self._entries[key] = entry
        return entry[1]

    def peek(self, key: Hashable) -> Any:
        """The client's value, or None. Asking does not count as hearing the client."""
        entry = self._entries.get(key)
        return None if entry is None else entry[1]

    def remove(self, key: Hashable) -> Any:
        """Forget this client; its value, or None when it was not known."""
        entry = self._entries.pop(key, None)
        return None if entry is None else entry[1]

    def expire(self, now: float) -> None:
        """Forget everybody who is silent for too long. Costs nothing when nobody is."""
        limit = now - self.ttl
        while self._entries:
            key = next(iter(self._entries))
            if self._entries[key][0] >= limit:
                return
            self._drop(key)

    def items(self) -> list[tuple[Hashable, Any]]:
        """Every client and its value, the longest silent first."""
        return [(key, entry[1]) for key, entry in self._entries.items()]

    def _drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key)
        if self.gone is not None:
            self.gone(key, entry[1])
