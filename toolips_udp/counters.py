"""The words under which datagrams and messages are counted.

Ground floor: imports nothing of ours. `WORDS` is the order of the native
counter array (`native/tudp.h`, `tudp_word`); a test compares the two.

Receive ledger: received = handled + sum(drops) + in flight, exactly.
Send ledger: send_queued = sent + send_refused + send_refused_late +
send_dropped_full + what still waits in the retry queue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

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
"""Entries of the array that holds them, 8 bytes each; those past `WORDS` are spare."""

DROPS: tuple[str, ...] = WORDS[2:15]
"""The words of datagrams that no handler finished."""


class ByWord(Mapping[str, int]):
    """What the read-only counters of endpoints and servers share: every word, shown without those that are 0."""

    def __iter__(self) -> Iterator[str]:
        return iter(WORDS)

    def __len__(self) -> int:
        return len(WORDS)

    def __repr__(self) -> str:
        return repr({word: number for word, number in self.items() if number})
