"""Hearing: a client's listeners run, in the order in which messages come. Above listeners and messages.

Plain listeners run at once; a task begins with the first that waits, and what comes meanwhile waits its turn.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import Counter
from typing import Any

from .errors import ContentError
from .listeners import Listener
from .log import Lines
from .message import Message


class Hearing:
    """Runs listeners on the running loop; what they raise is logged and counted `handler_failed`."""

    def __init__(self, lines: Lines, counts: Counter[str]) -> None:
        self._lines = lines
        self._counts = counts
        self._tasks: set[asyncio.Task[Any]] = set()

    def hear(self, listeners: list[Listener], message: Message) -> asyncio.Task[None] | None:
        """Run these with a message. The task of those that are not done when this returns."""
        begun, rest = None, listeners
        if (
            not self._tasks
        ):  # else those of the message before have not begun, and messages are heard in order
            begun, rest = self._run_plain(listeners, message)
        if begun is None and not rest:
            return None
        task = asyncio.get_running_loop().create_task(self._run(begun, rest, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def end(self) -> None:
        """Cancel what runs, but not who calls this."""
        for task in list(self._tasks):
            if task is not asyncio.current_task():
                task.cancel()

    def _run_plain(self, listeners: list[Listener], message: Message) -> tuple[Any, list[Listener]]:
        """Call plain listeners, up to the first that waits; what it gave and the rest need a task."""
        for at, listener in enumerate(listeners):
            if listener.is_async:
                return None, listeners[at:]
            said = self._call(listener, message)
            if said is not None and inspect.isawaitable(said):
                return (said, listener), listeners[at + 1 :]
        return None, []

    def _call(self, listener: Listener, message: Message) -> Any:
        """What a listener gives; None when the data does not fit, or it raised."""
        try:
            given = listener.arguments(message)
        except ContentError as error:
            self._lines.event("listener", f"{listener!r} was passed over, for {error}", logging.WARNING)
            return None
        try:
            return listener.fn(*given)
        except Exception as error:
            self._raised(listener, error)
            return None

    def _raised(self, listener: Listener, error: BaseException) -> None:
        self._counts["handler_failed"] += 1
        self._lines.event("error", f"{listener!r} raised {type(error).__name__}", logging.ERROR, None, error)

    async def _run(self, begun: Any, rest: list[Listener], message: Message) -> None:
        """Wait for what a listener began, then run the rest, one after the other."""
        waiting: list[tuple[Any, Listener]] = [] if begun is None else [begun]
        for listener in [None, *rest]:
            if listener is not None:
                waiting.append((self._call(listener, message), listener))
            while waiting:
                said, who = waiting.pop()
                try:
                    if inspect.isawaitable(said):
                        await said
                except Exception as error:
                    self._raised(who, error)
