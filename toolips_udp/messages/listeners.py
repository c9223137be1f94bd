"""Listeners: functions that take messages; which of them, in which order, with how many arguments.

Imports schemas and operations' hints. Sans-io: nothing here runs a listener.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from .operations import hints_of
from .schemas import Check, checker

F = TypeVar("F", bound=Callable[..., Any])


class Listener:
    """One function. It takes nothing, the message, or the message and its data, bound by position.

    `parameter` (or the hint of the second parameter) says what the data must be.
    """

    __slots__ = ("_check", "count", "fn", "is_async")

    def __init__(self, fn: Callable[..., Any], parameter: Any, names: Mapping[str, Any] | None) -> None:
        places = [
            p
            for p in inspect.signature(fn).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)
        ]
        required = [p for p in places if p.default is p.empty and p.kind != p.VAR_POSITIONAL]
        if len(required) > 2:
            raise TypeError(
                f"listener {getattr(fn, '__qualname__', fn)} takes {len(required)} arguments. Expected none, the "
                "message, or the message and its data"
            )
        self.fn = fn
        self.is_async = inspect.iscoroutinefunction(fn)
        self.count = 2 if any(p.kind == p.VAR_POSITIONAL for p in places) else min(len(places), 2)
        if parameter is None and self.count == 2 and len(places) > 1:
            hint = hints_of(fn, names).get(places[1].name, Any)
            parameter = None if isinstance(hint, str) else hint
        self._check: Check | None = None if parameter is None or parameter is Any else checker(parameter)

    def arguments(self, message: Any) -> tuple[Any, ...]:
        """What to call `fn` with. Raises `ContentError` when the data does not fit."""
        if self._check is None:
            return (message, message.data)[: self.count]
        data = self._check(message.data)
        return (message, data)[: self.count]

    def __repr__(self) -> str:
        return f"listener {getattr(self.fn, '__qualname__', self.fn)}"


class Listeners:
    """The listeners of a server, a client or one message, by text; `receive` adds."""

    def __init__(self) -> None:
        self._by_text: dict[str, list[Listener]] = {}
        self._all: list[Listener] = []

    def __bool__(self) -> bool:
        return bool(self._by_text or self._all)

    def add(
        self,
        message: str | Iterable[str] | None,
        fn: Callable[..., Any],
        parameter: Any,
        names: Mapping[str, Any] | None,
    ) -> None:
        """Add one for a text, several texts, or (None) every message."""
        listener = Listener(fn, parameter, names)
        if message is None:
            self._all.append(listener)
            return
        texts = (message,) if isinstance(message, str) else tuple(message)
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(f"a listener is for a text, several, or all (nothing); found {text!r}")
        for text in dict.fromkeys(texts):
            self._by_text.setdefault(text, []).append(listener)

    def decorator(
        self, who: str, message: Any, several: Any, parameter: Any, names: Mapping[str, Any]
    ) -> Callable[[F], F]:
        """What `@who.receive(message, several, parameter=...)` is; `names` are the local ones where it stands."""
        if callable(message):
            raise TypeError(f"@{who}.receive is written with its parentheses: @{who}.receive('hello')")
        if several is not None:
            texts = [message] if isinstance(message, str) else list(message or ())
            message = [*texts, *([several] if isinstance(several, str) else several)]

        def add(fn: F) -> F:
            self.add(message, fn, parameter, names)
            return fn

        return add

    def find(self, text: str) -> list[Listener]:
        """Those for this text, then those for every message."""
        named = self._by_text.get(text)
        if named is None:
            return self._all
        return named + self._all


def in_order(of_replied: Listeners | None, registered: Listeners, text: str) -> list[Listener]:
    """Whom a message goes to: listeners of the message it replies to, by text, then all; each at most once."""
    if of_replied is None or not of_replied:
        return registered.find(text)
    return list(dict.fromkeys(of_replied.find(text) + registered.find(text)))
