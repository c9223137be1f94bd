"""A deadline that costs nothing to a coroutine which never waits. Imports nothing of the package.

`asyncio.timeout` takes a timer of the loop for everything that it guards. Most
routes answer without waiting for anything, and a coroutine that does not wait
cannot be cut by a timer anyway. Called by `servers/site.py`.
"""

from __future__ import annotations

import asyncio
import inspect
import types
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


async def within(seconds: float | None, work: Awaitable[T]) -> T:
    """`await work`; `TimeoutError` when it waits longer than `seconds`, counted from its first wait.

    >>> answer = await within(2.0, fetch())
    """
    if not inspect.iscoroutine(work):
        async with asyncio.timeout(seconds):
            return await work
    try:
        waited = work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    async with asyncio.timeout(seconds):
        return await _rest(work, waited)


@types.coroutine
def _rest(work: Coroutine[Any, Any, T], waited: Any) -> Generator[Any, Any, T]:
    """What follows the first wait of `work`, as `await work` would go on."""
    try:
        while True:
            try:
                got = yield waited
            except BaseException as error:
                waited = work.throw(error)
            else:
                waited = work.send(got)
    except StopIteration as end:
        result: T = end.value
        return result
