"""An asyncio loop whose time is handed in: what runs on it runs in a world.

Testing floor: imports nothing of ours. There is no selector and no pipe; a
world calls `spin` after each event, and asks `deadline` for the next timer.
"""

from __future__ import annotations

import asyncio
from asyncio import events
from collections.abc import Callable
from typing import Any

_MOST_ROUNDS = 100_000


class _Nothing:
    """The selector of a loop that watches no file."""

    def select(self, timeout: float | None) -> list[Any]:
        return []

    def close(self) -> None:
        pass


class VirtualLoop(asyncio.BaseEventLoop):
    """Tasks, futures and timers under a clock that only moves when the world moves it.

    `clock` gives nanoseconds. Readers are noted and never called: the world hands
    datagrams in by itself.

    >>> loop.create_task(handler(c)); loop.spin()
    """

    def __init__(self, clock: Callable[[], int]):
        super().__init__()
        self._clock = clock
        self._selector = _Nothing()
        self._clock_resolution = 1e-10  # finer than a nanosecond, coarser than the rounding of a float
        self.readers: dict[Any, Any] = {}

    def time(self) -> float:
        """Seconds of the handed-in clock."""
        return self._clock() / 1e9

    def nanoseconds(self) -> int:
        """The handed-in clock itself: what has timers of its own asks here."""
        return self._clock()

    def deadline(self) -> int | None:
        """When the next timer rings, in nanoseconds; None: none is set."""
        if self._ready:  # type: ignore[attr-defined]
            return self._clock()
        scheduled = self._scheduled  # type: ignore[attr-defined]
        # A cancelled timer at the front costs one turn more and nothing else.
        return int(scheduled[0]._when * 1e9 + 0.5) if scheduled else None

    def spin(self) -> None:
        """Run everything that is ready or due, until nothing is."""
        outer = events._get_running_loop()
        events._set_running_loop(None)
        events._set_running_loop(self)
        try:
            for _ in range(_MOST_ROUNDS):
                self._run_once()  # type: ignore[attr-defined]
                if not self._ready and not self._due():  # type: ignore[attr-defined]
                    return
            raise RuntimeError(
                f"after {_MOST_ROUNDS} rounds there is still something to run at {self.time()} s"
            )
        finally:
            events._set_running_loop(outer)

    def _due(self) -> bool:
        scheduled = self._scheduled  # type: ignore[attr-defined]
        return bool(scheduled) and scheduled[0]._when <= self.time() + self._clock_resolution

    def _process_events(self, event_list: Any) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:  # type: ignore[override]
        """Noted, never called."""
        self.readers[fd] = (callback, args)

    def remove_reader(self, fd: Any) -> bool:
        """Forgotten."""
        return self.readers.pop(fd, None) is not None

    def add_writer(self, fd: Any, callback: Any, *args: Any) -> None:  # type: ignore[override]
        """A wire of memory can always be written to."""

    def remove_writer(self, fd: Any) -> bool:
        """See `add_writer`."""
        return False
