"""History: messages that were sent and may be replied to. Bounded; the oldest are forgotten first.

Imports messages. Of the message that one replies to, only the id goes over the wire, so a side finds it here.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from typing import Any

from .message import Message


class History:
    """At most `most` messages, each for one receiver or (None) for all. May be used on any thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._all: OrderedDict[int, tuple[Message, weakref.ref[Any] | None]] = OrderedDict()
        self._lock = threading.Lock()
        self._ids = 0

    def __len__(self) -> int:
        return len(self._all)

    def next_id(self) -> int:
        """An id for a message of this side."""
        with self._lock:
            self._ids += 1
            return self._ids

    def add(self, message: Message, to: Any = None) -> None:
        """Keep a message."""
        with self._lock:
            self._all[message.id] = (message, None if to is None else weakref.ref(to))
            while len(self._all) > self._most:
                self._all.popitem(last=False)

    def find(self, id: int, by: Any = None) -> Message | None:
        """The message of this id, when it was for `by` or for all."""
        with self._lock:
            found = self._all.get(id)
        if found is None:
            return None
        message, to = found
        return message if to is None or to() is by else None
