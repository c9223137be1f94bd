"""Questions: what a client has asked and has no answer to yet, each with a deadline. Imports frames and errors."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from .errors import OF_CODE, MessagesError, OperationFailed
from .frames import Done, Failed, Result


class Question:
    """An operation or a message on its way."""

    __slots__ = ("deadline", "frame", "future", "replies")

    def __init__(self, frame: Any, future: asyncio.Future[Any], deadline: float) -> None:
        self.frame = frame
        self.future = future
        self.deadline = deadline
        self.replies: list[asyncio.Task[Any]] = []
        """What runs for replies to this message."""


class Questions(dict[int, Question]):
    """Questions by id. An answer to none of them is counted `late`."""

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self._counts = counts

    def answered(self, frame: Result | Done | Failed) -> None:
        """Give an answer to who waits for it."""
        question = self.pop(frame.id, None)
        if question is None or question.future.done():
            self._counts["late"] += 1
        elif frame.__class__ is Result:
            question.future.set_result(frame.value)
        elif frame.__class__ is Done:
            question.future.set_result(None)
        else:
            question.future.set_exception(_error_of(frame))  # type: ignore[arg-type]

    def expire(self, now: float, who: Any) -> None:
        """Those whose deadline is over raise `TimeoutError`."""
        for id in [id for id, each in self.items() if each.deadline <= now]:
            future = self.pop(id).future
            if not future.done():
                future.set_exception(TimeoutError(f"{who} did not answer in time"))

    def end(self, error: MessagesError) -> None:
        """All of them raise this."""
        all_of_them = list(self.values())
        self.clear()
        for each in all_of_them:
            if not each.future.done():
                each.future.set_exception(type(error)(error.message))


def _error_of(frame: Failed) -> MessagesError:
    kind = OF_CODE.get(frame.code, OperationFailed)
    return kind(frame.text, id=frame.error, path=frame.path)
