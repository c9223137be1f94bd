"""Steps: what a service asks in order, and zones as one of them.

A step has `ask(q)`, which returns a `Result`, None to pass, `"drop"`, or an awaitable
of these; and maybe `check(q, result)`, which looks at the answers of steps behind it.
Imports lookup, zone, result.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Iterable
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import StartError
from . import lookup
from .forward import Forward
from .lookup import Zones
from .result import Result
from .zone import Zone

if TYPE_CHECKING:
    from .question import Question


class Step(Protocol):
    """What a service asks, in order."""

    def ask(self, q: Question) -> Result | Awaitable[Result | None] | None: ...


class Authority:
    """The step made of zones that stand next to one another."""

    recursive = False

    def __init__(self, zones: Iterable[Zone]) -> None:
        self.zones = Zones(zones)

    def ask(self, q: Question) -> Result | None:
        return lookup.asked(self.zones, q)


async def walk(steps: Iterable[Any], q: Question) -> Any:
    """The first answer of these steps, looked at by the lists before it; None when none answers."""
    checks: list[Any] = []
    for step in steps:
        given = step.ask(q)
        if inspect.isawaitable(given):
            given = await given
        if given is None:
            if hasattr(step, "check"):
                checks.append(step.check)
            continue
        if given != "drop":
            for check in checks:
                other = check(q, given)
                if inspect.isawaitable(other):
                    other = await other
                if other is not None:
                    return other
        return given
    return None


def grouped(steps: Iterable[Any]) -> list[Any]:
    """Zones next to one another become one step; of forwarders side by side the most specific is asked first."""
    made: list[Any] = []
    zones: list[Zone] = []
    for step in steps:
        if isinstance(step, Zone):
            zones.append(step)
            continue
        if zones:
            made.append(Authority(zones))
            zones = []
        if not callable(getattr(step, "ask", None)):
            raise StartError(
                f"dns.Service got {step!r} as a step. Expected a Zone, Forward, Blocklist, View, "
                "or an object with ask(q).",
                code="bad-dns-setting",
            )
        made.append(step)
    if zones:
        made.append(Authority(zones))
    return [step for alike, run in groupby(made, _is_forwarder) for step in (specific(run) if alike else run)]


def _is_forwarder(step: Any) -> bool:
    return isinstance(step, Forward)


def specific(forwarders: Iterable[Forward]) -> list[Forward]:
    """Those of the longest names first: a zone within another is asked before it (F1)."""
    return sorted(forwarders, key=lambda forward: -len(forward.zone))
