"""Python handlers of a service: which one a name goes to, and what its return value means.

Imports answers, names, result, zone (RRset). Used by `service`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from ..errors import StartError
from . import names, rrtypes
from .answers import DROP, PASS, RR, Answer, Verdict
from .question import Question
from .result import Result
from .zone import RRset

MOST_IN_FLIGHT = 1000
MADE_UP_TTL = 60


class HandlerFailed(Exception):
    """A handler raised, hung or returned what is no answer: SERVFAIL for this question."""


class Deadlines:
    """The time limits of one handler's questions. All are as long, so they end in the order they began: one timer."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.waiting: deque[tuple[float, Any]] = deque()
        self.timer: asyncio.TimerHandle | None = None

    def add(self, waiting: Any) -> None:
        """`waiting.expire()` is called after the timeout, unless it is `done`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self.timeout
        self.waiting.append((until, waiting))
        if self.timer is None:
            self.timer = loop.call_at(until, self._expire, loop)

    def trim(self) -> None:
        """Forget those that are over, as far as they are next."""
        while self.waiting and self.waiting[0][1].done:
            self.waiting.popleft()

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        self.timer = None
        now = loop.time()
        while self.waiting and self.waiting[0][0] <= now:
            self.waiting.popleft()[1].expire()
        self.trim()
        if self.waiting:
            self.timer = loop.call_at(self.waiting[0][0], self._expire, loop)


class Handler:
    """One function under `@service.answers(pattern, type)`."""

    __slots__ = (
        "at_most",
        "base",
        "deadlines",
        "fn",
        "in_flight",
        "is_async",
        "name",
        "threaded",
        "timeout",
        "types",
        "wild",
    )

    def __init__(
        self,
        fn: Callable[[Question], Any],
        pattern: str,
        types: Iterable[str | int],
        timeout: float,
        at_most: int,
        threaded: bool,
    ) -> None:
        self.fn = fn
        self.name = getattr(fn, "__qualname__", repr(fn))
        self.is_async = inspect.iscoroutinefunction(fn)
        self.wild = pattern == "*" or pattern.startswith("*.")
        self.base = names.fold(names.from_text(pattern[2:] if self.wild else pattern))
        if self.is_async and threaded:
            raise StartError(
                f"DNS handler {self.name} is async def and threaded=True. Choose one.", code="wrong-signature"
            )
        self.types = frozenset(rrtypes.ANY if t in ("*", "ANY") else rrtypes.type_number(t) for t in types)
        self.timeout = timeout
        self.at_most = at_most
        self.threaded = threaded
        self.in_flight = 0
        self.deadlines = Deadlines(timeout)

    def takes(self, qtype: int) -> bool:
        return qtype in self.types or rrtypes.ANY in self.types

    def call(self, q: Question) -> Any:
        """Its value, or an awaitable of it. Raises `HandlerFailed` when too many are in flight."""
        if not (self.is_async or self.threaded):
            return self.fn(q)
        if self.in_flight >= self.at_most:
            raise self.too_many()
        return self._wait(q)

    def too_many(self) -> HandlerFailed:
        return HandlerFailed(f"{self.name}: {self.at_most} questions are waiting already")

    async def _wait(self, q: Question) -> Any:
        self.in_flight += 1
        try:
            async with asyncio.timeout(self.timeout):
                if self.threaded:
                    return await asyncio.get_running_loop().run_in_executor(None, self.fn, q)
                return await self.fn(q)
        except TimeoutError:
            raise HandlerFailed(f"{self.name} took over {self.timeout} s") from None
        finally:
            self.in_flight -= 1


class Handlers:
    """All handlers, found by name: an exact one first, then the longest wildcard."""

    def __init__(self) -> None:
        self.exact: dict[bytes, list[Handler]] = {}
        self.wild: dict[bytes, list[Handler]] = {}

    def add(self, handler: Handler) -> None:
        table = self.wild if handler.wild else self.exact
        table.setdefault(handler.base, []).append(handler)

    def __bool__(self) -> bool:
        return bool(self.exact or self.wild)

    def find(self, key: bytes, qtype: int) -> tuple[list[Handler], Handler | None]:
        """Those that take the question, in order; and one that takes the name alone."""
        found: list[Handler] = []
        named: Handler | None = None
        for handler in self.exact.get(key, ()):
            named = handler
            if handler.takes(qtype):
                found.append(handler)
        if self.wild:
            at = 0
            while key[at]:
                at += 1 + key[at]
                for handler in self.wild.get(key[at:], ()):
                    named = named or handler
                    if handler.takes(qtype):
                        found.append(handler)
        return found, named


def to_result(
    value: Any, q: Question, handler: Handler, soa: Callable[[], RRset | None]
) -> Result | str | None:
    """A handler's value as a Result; None to pass, `"drop"` for no reply. Raises `HandlerFailed`."""
    answer: Answer
    if type(value) is RR:
        answer = Answer(value)
    elif isinstance(value, Answer):
        answer = value
    elif isinstance(value, Verdict):
        if value is PASS:
            return None
        if value is DROP:
            return "drop"
        answer = Answer(rcode=value.rcode)
    elif isinstance(value, (list, tuple)) and value and all(type(each) is RR for each in value):
        answer = Answer(*value)
    else:
        raise HandlerFailed(
            f"{handler.name} returned {value!r}: expected records, dns.Answer or a verdict. "
            "To let the next step answer, return dns.PASS"
        )
    result = Result(answer.rcode, aa=True)
    result.source = "python"
    owner = q.query.name
    result.answer = rrsets(answer.records, owner)
    result.authority = rrsets(answer.authority, owner)
    result.additional = rrsets(answer.additional, owner)
    if answer.ede:
        result.ede.append(answer.ede)
    result.share = answer.share
    result.scope = answer.scope
    if answer.rcode in (rrtypes.NXDOMAIN, rrtypes.NOERROR):
        if not result.answer and not result.authority:
            result.authority = (
                rrsets((answer.soa,), owner) if answer.soa else [soa() or made_up_soa(handler.base)]
            )
    elif answer.rcode in (rrtypes.REFUSED, rrtypes.SERVFAIL):
        result.aa = False
    return result


def rrsets(records: Iterable[RR], owner: bytes) -> list[RRset]:
    """Records gathered by owner and type, in order; one TTL each, the lowest."""
    found: dict[tuple[bytes, int], RRset] = {}
    for record in records:
        name = record.owner or owner
        key = (name.lower(), record.type)
        rrset = found.get(key)
        if rrset is None:
            found[key] = RRset(name, record.type, record.ttl, [record.data])
        elif record.data not in rrset.rdatas:
            rrset.rdatas.append(record.data)
            rrset.ttl = min(rrset.ttl, record.ttl)
    return list(found.values())


def made_up_soa(base: bytes) -> RRset:
    """The SOA for negative answers where no zone of ours encloses the name."""
    numbers = (1).to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in (3600, 600, 86400, MADE_UP_TTL))
    data = base + b"\x0ahostmaster" + base + numbers
    return RRset(base, rrtypes.SOA, MADE_UP_TTL, [data if len(base) < 240 else names.ROOT * 2 + numbers])


def no_data(soa: RRset) -> Result:
    """NOERROR without records."""
    result = Result(aa=True)
    ttl = min(soa.ttl, int.from_bytes(soa.rdatas[0][-4:], "big"))
    result.authority.append(soa.at(soa.owner, ttl))
    result.source = "python"
    return result
