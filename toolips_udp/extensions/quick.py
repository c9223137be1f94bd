"""QuickExtension: an extension without a class. Above connections, below the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from .base import HOOKS, Extension

F = TypeVar("F", bound="Callable[..., Any]")


class QuickExtension(Extension):
    """An extension whose hooks are attached by decorators, which return the function unchanged.

    Two of one name in a module are a `StartError`; so is nothing else: hooks that
    are not attached cost nothing. A second function for one hook replaces the first.

    >>> load = QuickExtension("load")
    >>> @load.on_start
    ... def started(server):
    ...     print("started")
    """

    def __init__(self, name: str, *, answers: bool = False) -> None:
        if not isinstance(name, str) or not name:
            raise TypeError(f"the name of a QuickExtension is text, found {name!r}")
        self.name = name
        self.answers = answers
        self._quick_hooks: dict[str, Callable[..., Any]] = {}

    def __repr__(self) -> str:
        return f"QuickExtension({self.name!r})"

    def _attach(self, hook: str, fn: F) -> F:
        if not callable(fn):
            raise TypeError(f"@{self.name}.{hook} decorates a function, found {fn!r}")
        self._quick_hooks[hook] = fn
        return fn


def _decorator(hook: str) -> Any:
    def attach(self: QuickExtension, fn: F) -> F:
        return self._attach(hook, fn)

    attach.__name__ = hook
    attach.__doc__ = f"Decorator: this function is the hook `{hook}`. {getattr(Extension, hook).__doc__}"
    return attach


for _hook in HOOKS:
    setattr(QuickExtension, _hook, _decorator(_hook))
