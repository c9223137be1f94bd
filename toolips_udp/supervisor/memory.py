"""The memory that a worker shares with its supervisor: counters, heartbeat, the datagram in work.

Imports the ground floor. Its layout is `tudp_shared` (native/batch.h): what a
worker wrote there is still there when the worker is dead.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from typing import Any

from ..counters import DROPS, SIZE, WORDS

_HEAD = struct.Struct("=IIQQII")  # abi, slot_room, slots_at, heartbeat, current_at, current_len
COUNTERS_AT = _HEAD.size
NONE = 0xFFFFFFFF
_RECEIVED, _KERNEL, _LOST = WORDS.index("received"), WORDS.index("kernel"), WORDS.index("worker_lost")
_QUEUED, _REFUSED_LATE = WORDS.index("send_queued"), WORDS.index("send_refused_late")
_SENDS = [WORDS.index(word) for word in ("sent", "send_refused", "send_refused_late", "send_dropped_full")]
_ENDS = [WORDS.index(word) for word in ("handled", *DROPS)]


STREAMS = 3
"""Modes besides UDP that may count, each in an array of its own behind the endpoint's memory."""


def size(slot_room: int) -> int:
    """Bytes of the region of one worker."""
    try:
        from .._native.endpoint import shared_size
    except ImportError:
        return max(4096, COUNTERS_AT + 8 * SIZE) + STREAMS * 8 * SIZE
    return int(shared_size(slot_room)) + STREAMS * 8 * SIZE


class Region:
    """One worker's region, as the supervisor sees it. Survives the worker, ends with `close`."""

    def __init__(self, slot_room: int) -> None:
        self.fd = os.memfd_create("toolips_udp-worker", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, size(slot_room))
        self._map = mmap.mmap(self.fd, 0)
        _HEAD.pack_into(self._map, 0, 0, 0, 0, 0, 0, NONE)

    def counters(self) -> list[int]:
        """Every counter, in the order of `WORDS` and beyond, over all modes of the worker."""
        first = len(self._map) - STREAMS * 8 * SIZE
        found = [0] * SIZE
        for at in (COUNTERS_AT, *range(first, len(self._map), 8 * SIZE)):
            found = [
                a + b for a, b in zip(found, struct.unpack_from(f"={SIZE}Q", self._map, at), strict=True)
            ]
        return found

    def heartbeat(self) -> int:
        """When the worker's last turn began: CLOCK_MONOTONIC ns; 0 before the first."""
        return int(_HEAD.unpack_from(self._map)[3])

    def datagram(self) -> bytes | None:
        """The datagram that was in work when the worker died, if one was."""
        _abi, room, _slots_at, _beat, at, length = _HEAD.unpack_from(self._map)
        if length == NONE or length > max(room, 65536) or at < COUNTERS_AT or at + length > len(self._map):
            return None
        return bytes(self._map[at : at + length])

    def final(self) -> list[int]:
        """The counters of a dead worker, both ledgers closed.

        What it had taken and not finished is `worker_lost`, what it had queued and not sent
        `send_refused_late`.
        """
        found = self.counters()
        ended = sum(found[at] for at in _ENDS)
        found[_LOST] += max(0, found[_RECEIVED] - ended)
        sends = sum(found[at] for at in _SENDS)
        found[_REFUSED_LATE] += max(0, found[_QUEUED] - sends)
        return found

    def close(self) -> None:
        """Give the memory back."""
        if self.fd >= 0:
            self._map.close()
            os.close(self.fd)
            self.fd = -1


def attach(fd: int) -> mmap.mmap:
    """A worker's own view of its region."""
    return mmap.mmap(fd, 0)


def beat(region: mmap.mmap) -> None:
    """Stamp the heartbeat, for transports that do not do it themselves."""
    struct.pack_into("=Q", region, 16, time.monotonic_ns())


def counters_of(region: mmap.mmap) -> memoryview:
    """The counters in a worker's region, for transports that take `counters=`."""
    return memoryview(region)[COUNTERS_AT : COUNTERS_AT + 8 * SIZE]


def stream_counters(region: mmap.mmap, number: int) -> Any:
    """The counters of the `number`th mode besides UDP, as integers."""
    at = len(region) - (STREAMS - number) * 8 * SIZE
    return memoryview(region)[at : at + 8 * SIZE].cast("Q")


def without_kernel(counters: list[int]) -> list[int]:
    """Counters without the kernel's drops, which belong to the socket and not to a process."""
    found = list(counters)
    found[_RECEIVED] -= found[_KERNEL]
    found[_KERNEL] = 0
    return found


def with_kernel(counters: list[int], drops: int) -> list[int]:
    """Counters with the kernel's drops as the socket tells them."""
    found = list(counters)
    found[_RECEIVED] += drops
    found[_KERNEL] += drops
    return found
