"""The words under which datagrams and messages are counted.

Ground floor: imports nothing of ours. `WORDS` is the order of the native
counter array (`native/tudp.h`, `tudp_word`); a test compares the two.

Receive ledger: received = handled + sum(drops) + in flight, exactly.
Send ledger: send_queued = sent + send_refused + send_refused_late +
send_dropped_full + what still waits in the retry queue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

WORDS: tuple[str, ...] = (
    "received",
    "handled",
    "kernel",
    "truncated",
    "stale",
    "denied",
    "limited",
    "shed",
    "malformed",
    "ended",
    "no_handler",
    "handler_failed",
    "queue_full",
    "worker_lost",
    "stopping",
    "send_queued",
    "sent",
    "send_refused",
    "send_refused_late",
    "send_dropped_full",
    "bytes_in",
    "bytes_out",
    "turns",
    "receive_calls",
    "send_calls",
    "gso_groups",
    "gso_fallbacks",
    "receive_errors",
    "native_answers",
    "stale_effects",
)
SIZE = 48
"""Entries of the array that holds them, 8 bytes each; those past `WORDS` are spare, or `QUEUE_AGES`."""

QUEUE_AGES = 34
"""Where the array counts how long datagrams had waited while the age drop was armed, up to its end."""
AGE_BOUNDS: tuple[float, ...] = tuple(2 ** (18 + n) / 1e9 for n in range(SIZE - QUEUE_AGES - 1))
"""Each of those entries but the last counts what had waited less than this, in seconds, and no earlier one has."""

DROPS: tuple[str, ...] = WORDS[2:15]
"""The words of datagrams that no handler finished."""


def age_quantile(ages: Sequence[int], share: float) -> float | None:
    """How long this share of the datagrams had waited at most, in seconds: the bound of the bucket it lies in.

    None when nothing was measured. In the last bucket it is the greatest bound, which they had waited at least.
    """
    rank, seen = share * sum(ages), 0
    for number, bound in zip(ages, (*AGE_BOUNDS, AGE_BOUNDS[-1]), strict=True):
        seen += number
        if number and seen >= rank:
            return bound
    return None


class ByWord(Mapping[str, int]):
    """What the read-only counters of endpoints and servers share: every word, shown without those that are 0."""

    def __iter__(self) -> Iterator[str]:
        return iter(WORDS)

    def __len__(self) -> int:
        return len(WORDS)

    def __repr__(self) -> str:
        return repr({word: number for word, number in self.items() if number})
