"""`shared`: the values that `put` gave to the worker a job runs in.

Imports nothing of ours. Each worker has a dictionary of its own; a context
variable says which one is meant, in threads, tasks and child processes alike.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

values_here: ContextVar[dict[str, Any]] = ContextVar("toolips_udp_shared")
"""Set by whatever runs jobs, once per worker."""


class Shared(Mapping[str, Any]):
    """The named values of the worker that asks. Read-only: give values with `put`.

    A name that was not put is a `KeyError`, and so is any name outside a job.

    >>> put(manager, greeting="hello ")
    >>> waitfor(manager, *assign(manager, 1, new_job(lambda: shared["greeting"] + "world")))
    ['hello world']
    """

    def __getitem__(self, name: str) -> Any:
        values = values_here.get(None)
        if values is None:
            raise KeyError(f"{name!r}: shared values exist only inside a job that a worker runs")
        if name not in values:
            there = sorted(values) or "no values"
            raise KeyError(f"{name!r}: put on this worker are {there}; use put(manager, ...)")
        return values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(values_here.get({}))

    def __len__(self) -> int:
        return len(values_here.get({}))

    def __repr__(self) -> str:
        return f"shared({values_here.get({})!r})"


shared = Shared()


def keep_value(name: str, value: Any) -> None:
    """The job behind `put`: runs inside the worker."""
    values_here.get()[name] = value


def run_once(fn: Callable[[], object]) -> None:
    """The job behind `everywhere(fn)`: what the function returns is dropped."""
    fn()


def import_once(module: str) -> None:
    """The job behind `everywhere("module")`."""
    importlib.import_module(module)
