"""Ticks and timers that do not drift: the agenda of a game.

Game floor: imports nothing but the standard library. Sans-io: the time is
handed in as whole nanoseconds and `advance` runs what is due. On a server a
timerfd calls it (`tickdriver.py`), in a world the world does.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import TypeVar

SECOND = 1_000_000_000
MOST_BEHIND = 5
"""A schedule further behind than this many periods skips to the newest."""

Run = Callable[..., object]


class Tick:
    """What a tick function is told.

    `dt` is always 1/hz, whatever the clock says, so that a simulation is the
    same on every machine. `late` is how much after its due time the tick began.
    """

    __slots__ = ("dt", "late", "now", "number", "schedule", "skipped")

    def __init__(self, number: int, now: float, dt: float, late: float, skipped: int, schedule: Schedule):
        self.number = number
        """Counts from 0; number n is due at start + n/hz. A skipped tick leaves a gap."""
        self.now = now
        """Seconds, monotonic: when this tick was due."""
        self.dt = dt
        self.late = late
        """Seconds."""
        self.skipped = skipped
        """Ticks left out just before this one."""
        self.schedule = schedule

    def __repr__(self) -> str:
        return f"<Tick {self.number} at {self.now:.6f}, {self.late * 1e3:.3f} ms late>"


class Timer:
    """Something that will be called. `cancel()` ends it; ending it twice is fine."""

    __slots__ = ("active", "due", "function", "wait")

    def __init__(self, now: int, wait: int, function: Run):
        self.wait = wait
        """Nanoseconds from the beginning to the first call."""
        self.due = now + wait
        """Nanoseconds, monotonic."""
        self.function: Run | None = function
        self.active = True

    def cancel(self) -> None:
        """Never call it again."""
        self.active = False
        self.function = None

    def begin(self, now: int) -> None:
        """Start from here, as if it had been made now."""
        self.due = now + self.wait

    def run(self, now: int, call: Run) -> int | None:
        """Call it; the next due time, or None when it is over."""
        function, self.active, self.function = self.function, False, None
        call(function)
        return None


class Repeating(Timer):
    """Called at start + n periods for n = 1, 2 ... Behind by more than five: skips."""

    __slots__ = ("calls", "period", "skipped")

    def __init__(self, now: int, period: int, function: Run):
        super().__init__(now, period, function)
        self.period = period
        self.calls = 0
        self.skipped = 0

    def run(self, now: int, call: Run) -> int | None:
        behind = (now - self.due) // self.period
        if behind > MOST_BEHIND:
            self.skipped += behind
            self.due += behind * self.period
        self.calls += 1
        call(self.function)
        return self.due + self.period if self.active else None


class Schedule(Timer):
    """The ticks of one function: tick n is due at start + n/hz, without drift."""

    __slots__ = ("hz", "number", "skipped", "start", "ticks", "worst_late")

    def __init__(self, now: int, hz: float, function: Run, phase: int = 0):
        super().__init__(now, phase, function)
        self.hz = hz
        self.start = now + phase
        self.number = 0
        self.ticks = 0
        """Ticks that ran."""
        self.skipped = 0
        """Ticks that were left out."""
        self.worst_late = 0.0

    def begin(self, now: int) -> None:
        """Tick 0 is due `phase` from here."""
        super().begin(now)
        self.start, self.number = self.due, 0

    def when(self, number: int) -> int:
        """When this tick is due, in nanoseconds."""
        return self.start + round(number * SECOND / self.hz)

    def run(self, now: int, call: Run) -> int | None:
        newest = int((now - self.start) * self.hz / SECOND)
        while self.when(newest + 1) <= now:  # rounding may hide the last one
            newest += 1
        skip = newest - self.number if newest - self.number > MOST_BEHIND else 0
        self.number += skip
        self.skipped += skip
        due = self.when(self.number)
        late = (now - due) / SECOND
        self.worst_late = max(self.worst_late, late)
        tick = Tick(self.number, due / SECOND, 1.0 / self.hz, late, skip, self)
        self.number += 1
        self.ticks += 1
        call(self.function, tick)
        return self.when(self.number) if self.active else None


T = TypeVar("T", bound=Timer)


class Agenda:
    """Everything a game wants to be called for, in order of time.

    `clock` gives nanoseconds. `call` runs a function with its arguments and keeps
    its exceptions to itself; a game hands in the one that logs and counts them.
    `changed` is called when the deadline may have come nearer.

    >>> agenda = Agenda(clock)
    >>> agenda.tick(60, lambda tick: ...)
    >>> agenda.advance(clock())
    """

    def __init__(
        self, clock: Callable[[], int], call: Run | None = None, changed: Callable[[], None] | None = None
    ):
        self.clock = clock
        self.call: Run = call or (lambda function, *args: function(*args))
        self.changed = changed
        self._heap: list[tuple[int, int, Timer]] = []
        self._order = itertools.count()
        self._rates: dict[float, int] = {}

    def after(self, seconds: float, function: Run) -> Timer:
        """Call once, this many seconds from now."""
        return self._add(Timer(self.clock(), round(seconds * SECOND), function))

    def every(self, seconds: float, function: Run) -> Repeating:
        """Call each `seconds`, the first time after one period, without drift."""
        if not seconds > 0:
            raise ValueError(f"every({seconds!r}, ...): the period is in seconds and above 0")
        return self._add(Repeating(self.clock(), max(1, round(seconds * SECOND)), function))

    def tick(self, hz: float, function: Run) -> Schedule:
        """Call with a `Tick`, `hz` times a second. Schedules of one rate are spread over the period."""
        if not 0 < hz <= 10_000:
            raise ValueError(f"tick(hz={hz!r}): a rate is above 0 and at most 10,000 a second")
        count = self._rates[hz] = self._rates.get(hz, -1) + 1
        return self._add(Schedule(self.clock(), hz, function, int(_spread(count) * SECOND / hz)))

    def begin(self) -> None:
        """Everything planned so far starts now: a server calls it when it starts, perhaps on another clock."""
        now = self.clock()
        timers = [timer for _, _, timer in sorted(self._heap, key=lambda entry: entry[1]) if timer.active]
        self._heap.clear()
        for timer in timers:
            timer.begin(now)
            heapq.heappush(self._heap, (timer.due, next(self._order), timer))

    def deadline(self) -> int | None:
        """When `advance` is wanted next, in nanoseconds; None: never."""
        heap = self._heap
        while heap and not heap[0][2].active:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def advance(self, now: int) -> int:
        """Run what is due; how many functions ran."""
        heap, ran = self._heap, 0
        while heap and heap[0][0] <= now:
            timer = heapq.heappop(heap)[2]
            if not timer.active:
                continue
            ran += 1
            due = timer.run(now, self.call)
            if due is not None:
                timer.due = due
                heapq.heappush(heap, (due, next(self._order), timer))
        return ran

    def _add(self, timer: T) -> T:
        entry: tuple[int, int, Timer] = (timer.due, next(self._order), timer)
        heapq.heappush(self._heap, entry)
        if self.changed is not None:
            self.changed()
        return timer


def _spread(count: int) -> float:
    """Where in the period schedule `count` begins: 0, 1/2, 1/4, 3/4, 1/8 ... as far apart as can be."""
    share, part = 0.0, 0.5
    while count:
        share += part * (count & 1)
        count >>= 1
        part /= 2
    return share
