"""Findings about a running server, from what its admin listener tells. Used by doctor, uses _admin.py."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import NamedTuple

from ..counters import AGE_BOUNDS, DROPS
from ._admin import Place, Told
from ._probes import Finding, buffer_told

LOOKS = 5
"""How often a ledger that does not close is looked at: workers count while they are read."""
PAUSE = 0.1
LATE = 0.1
"""Seconds that a loop may be late: what the watchdog grants a handler."""
LIMIT = Path("/proc/sys/net/core/rmem_max")


class Word(NamedTuple):
    """What doctor says of a word that is not 0. A weakness is what the operator can mend; the rest is worth knowing."""

    weak: bool
    means: str
    fix: str
    on_streams: str = ""
    """What it means besides on TCP and HTTP, where that is no weakness."""


OF_CLIENTS = "nothing if they are strangers; if they are clients of yours: "
WORDS_TOLD: dict[str, Word] = {
    "truncated": Word(
        False, "longer than the receive slot", OF_CLIENTS + "slot=65536 takes every datagram whole"
    ),
    "stale": Word(
        True,
        "waited too long while the server could not keep up, or for a thread past the handler's deadline",
        "more workers=N, or threaded=True for handlers that wait",
        "silent for idle_timeout, or not complete within message_timeout",
    ),
    "denied": Word(False, "from a source that may not ask", OF_CLIENTS + "let them in with access"),
    "limited": Word(False, "over the rate of their source", OF_CLIENTS + "a higher rate in limits(...)"),
    "shed": Word(
        True,
        "refused because memory or load is over a mark; the log says when that begins and ends",
        "a higher memory limit (MemoryMax= of the unit), more workers=N; TCP and HTTP: max_connections",
    ),
    "malformed": Word(
        False, "did not parse", OF_CLIENTS + "compare what they send with the type that the handler asks for"
    ),
    "ended": Word(False, "ended unanswered by the route of an extension", ""),
    "no_handler": Word(
        False, "no handler is there for them", OF_CLIENTS + "export a main @handler, or the route"
    ),
    "handler_failed": Word(
        True,
        "the handler raised or passed its deadline",
        "the log has client and traceback of each; timeout= of the @handler is the deadline",
    ),
    "queue_full": Word(
        True,
        "the queue to threads, tasks or processes was full",
        "more threads=N, a larger max_jobs= or max_async=, or fewer packets: limits(...)",
        "left more than max_unsent unread",
    ),
    "worker_lost": Word(True, "in a worker that died", "the log says how it died: mend that"),
    "stopping": Word(
        True,
        "still queued when the time to drain was over",
        "drain=SECONDS, longer than the slowest handler takes",
    ),
    "send_refused": Word(
        False,
        "refused by the kernel: the peer is gone, the network unreachable, the message too long",
        "if clients miss answers: ip route get CLIENT",
    ),
    "send_refused_late": Word(
        True,
        "refused or too old after they had waited for the kernel",
        "sudo sysctl -w net.core.wmem_default=4194304, then start the server anew; or send less",
    ),
    "send_dropped_full": Word(
        True,
        "more waited for the kernel than the queue holds",
        "sudo sysctl -w net.core.wmem_default=4194304, then start the server anew; or send less",
    ),
}
"""Every drop but those of the kernel, which have a finding of their own, and every way in which a message fails."""
FAILED_SENDS = ("send_refused", "send_refused_late", "send_dropped_full")


def settled(place: Place) -> Told:
    """The counters, looked at again for a moment while a ledger does not close."""
    for _ in range(LOOKS - 1):
        told = place.counters()
        if received(told).fine and queued(told).fine:
            return told
        time.sleep(PAUSE)
    return place.counters()


# ---- findings ----


def findings(text: str) -> list[Finding]:
    """How the server with this admin address is."""
    place = Place(text)
    told = settled(place)
    found = [
        ready(place),
        received(told),
        queued(told),
        kernel(told),
        *dropped(told),
        *buffer(told),
        *ages(told),
    ]
    return [*found, workers(told), *refused(told), *lag(told)]


def ready(place: Place) -> Finding:
    status, text = place.page("/readyz")
    if status == 200:
        return Finding("ready", True, "it takes work")
    why = (
        "".join(ch if ch.isprintable() else " " for ch in text[:200]).strip() or f"status {status} of /readyz"
    )
    if "memory" in why:
        return Finding(
            "ready", False, why, "a higher memory limit (MemoryMax= of the unit), or fewer clients"
        )
    return Finding("ready", False, why, "ask again; if it stays so, its log says what it waits for")


def received(told: Told) -> Finding:
    """The receive ledger: received = handled + drops + in flight."""
    parts = {
        "handled": told["handled"],
        "dropped": sum(told[word] for word in DROPS),
        "in flight": told["in_flight"],
    }
    return _ledger("receive ledger", "received", told["received"], parts, rest="workers" in told)


def queued(told: Told) -> Finding:
    """The send ledger: queued = sent + refused + dropped + waiting."""
    parts = {"sent": told["sent"], "refused or dropped": sum(told[word] for word in FAILED_SENDS)}
    waiting = told.get("send_waiting")
    parts["waiting"] = told["send_queued"] - sum(parts.values()) if waiting is None else waiting
    return _ledger("send ledger", "queued", told["send_queued"], parts, rest=waiting is None)


def _ledger(name: str, whole: str, number: int, parts: dict[str, int], rest: bool) -> Finding:
    """Closed when the parts are the whole. Where the last is only known as the rest, it must not be below 0."""
    *_, (last, under_way) = parts.items()
    shown = " + ".join(f"{part} {count:,}" for part, count in parts.items())
    total = sum(parts.values())
    if total == number and under_way >= 0:
        return Finding(
            name, True, f"{whole} {number:,} = {shown}" + (f" ({last} is the rest)" if rest else "")
        )
    gap = number - total or under_way
    told = f"{whole} {number:,}, but {shown} = {total:,}: {abs(gap):,} {'without a word' if gap > 0 else 'too many'}"
    return Finding(
        name, False, told, "ask again when nobody sends; if it stays, report it with the page /counters"
    )


def kernel(told: Told) -> Finding:
    lost, asked = told["kernel"], told.get("receive_buffer_asked", 4 << 20)
    if not lost:
        return Finding("kernel drops", True, "0: all that reached the sockets was read")
    text = f"{lost:,} of {told['received']:,} received: the receive buffer was full, or a checksum wrong"
    if told["shed"]:
        text += "; or the filter that sheds strangers did it"
    if told.get("receive_buffer", 0) >= _grant(asked):  # so more has to be asked for; never lower the limit
        asked *= 2
        fix = f"start it with receive_buffer={asked}"
        if _most_granted() < asked:
            fix = f"sudo sysctl -w net.core.rmem_max={asked}, then {fix}"
    else:
        fix = f"sudo sysctl -w net.core.rmem_max={asked}, then start the server anew"
    return Finding("kernel drops", False, text, f"{fix}; the log names a handler that holds the turn")


def _most_granted() -> int:
    """The limit of this kernel; 0 where it cannot be read."""
    try:
        return int(LIMIT.read_text())
    except (OSError, ValueError):
        return 0


def dropped(told: Told) -> list[Finding]:
    """Each word that is not 0."""
    streams = told.get("addresses", {}).keys() & {"TCP", "HTTP"}
    found = []
    for word, (weak, means, fix, on_streams) in WORDS_TOLD.items():
        if not told[word]:
            continue
        if streams and on_streams:
            means, weak = f"{means}; on {' and '.join(sorted(streams))} {on_streams}", False
        found.append(Finding(word, False if weak else None, f"{told[word]:,}: {means}", fix))
    return found


def _grant(asked: int) -> int:
    """What the kernel says when it has granted what was asked: Linux doubles it."""
    return asked * 2 if sys.platform.startswith("linux") else asked


def buffer(told: Told) -> list[Finding]:
    if not {"receive_buffer", "receive_buffer_asked"} <= told.keys():
        return []
    granted, asked = told["receive_buffer"], told["receive_buffer_asked"]
    fix = f"sudo sysctl -w net.core.rmem_max={asked}, then start the server anew"
    fine = granted >= _grant(asked)
    return [Finding("receive buffer", fine, buffer_told(granted, _grant(asked)), "" if fine else fix)]


def ages(told: Told) -> list[Finding]:
    if not {"queue_age_p50", "queue_age_p99"} <= told.keys():
        return []
    half, most = (
        f"{'at least' if age >= AGE_BOUNDS[-1] else 'under'} {age * 1000:,.1f} ms"
        for age in (told["queue_age_p50"], told["queue_age_p99"])
    )
    return [
        Finding("queue age", None, f"half waited {half}, 99 % {most}, while the server could not keep up")
    ]


def workers(told: Told) -> Finding:
    if "workers" not in told:
        return Finding(
            "workers", None, "one process, which nobody restarts: workers=2 or more has a supervisor"
        )
    restarts = told.get("restarts", 0)
    text = f"{told['workers']}, generation {told.get('generation', 1)}, {restarts:,} restarts"
    if restarts:
        return Finding(
            "workers",
            False,
            f"{text}: so many died and were replaced",
            "the log says how each died: mend that",
        )
    return Finding("workers", True, text)


def refused(told: Told) -> list[Finding]:
    if not told.get("refused_calls"):
        return []
    text = f"{told['refused_calls']:,} system calls of workers, by harden=True"
    return [Finding("refused calls", False, text, "the log names each once: do without it, or harden=False")]


def lag(told: Told) -> list[Finding]:
    if "loop_lag" not in told:
        return []
    whose = "the supervisor's loop" if "workers" in told else "the loop"
    text = f"{whose} was {told['loop_lag'] * 1000:,.1f} ms late at most, in the last minute"
    if told["loop_lag"] <= LATE:
        return [Finding("loop lag", True, text)]
    fix = "the log names the handler that held the turn: threaded=True if it waits, workers=N if it computes"
    return [Finding("loop lag", False, text, fix)]
