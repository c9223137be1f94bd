"""The memory that a worker shares with its supervisor: counters, heartbeat, the datagram in work.

Imports the ground floor. It begins with one part per UDP socket of the worker, each a
`tudp_shared` (native/batch.h); behind them each stream listener has an array of counters.
What a worker wrote there is still there when the worker is dead.
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


def part_size(slot_room: int) -> int:
    """Bytes of the part of one UDP socket, whole pages."""
    try:
        from .._native.endpoint import shared_size
    except ImportError:
        return max(4096, COUNTERS_AT + 8 * SIZE)
    return -(-int(shared_size(slot_room)) // 4096) * 4096


class Region:
    """One worker's region, as the supervisor sees it. Survives the worker, ends with `close`."""

    def __init__(self, slot_room: int, sockets: int = 1, streams: int = 1) -> None:
        self.fd = os.memfd_create("toolips_udp-worker", os.MFD_CLOEXEC)
        self._part = part_size(slot_room)
        self._streams_at = max(sockets, 1) * self._part  # one at least: it has the heartbeat
        os.ftruncate(self.fd, self._streams_at + streams * 8 * SIZE)
        self._map = mmap.mmap(self.fd, 0)
        for at in self._parts:
            _HEAD.pack_into(self._map, at, 0, 0, 0, 0, 0, NONE)

    @property
    def _parts(self) -> range:
        return range(0, self._streams_at, self._part)

    def counters(self) -> list[int]:
        """Every counter, in the order of `WORDS` and beyond, over all modes of the worker."""
        found = [0] * SIZE
        arrays = range(self._streams_at, len(self._map), 8 * SIZE)
        for at in (*(part + COUNTERS_AT for part in self._parts), *arrays):
            found = [
                a + b for a, b in zip(found, struct.unpack_from(f"={SIZE}Q", self._map, at), strict=True)
            ]
        return found

    def heartbeat(self) -> int:
        """When the worker's last turn began: CLOCK_MONOTONIC ns; 0 before the first."""
        return int(_HEAD.unpack_from(self._map)[3])

    def datagram(self) -> bytes | None:
        """The datagram that was in work when the worker died, if one was."""
        for part in self._parts:
            _abi, room, _slots_at, _beat, at, length = _HEAD.unpack_from(self._map, part)
            if length != NONE and length <= max(room, 65536) and COUNTERS_AT <= at <= self._part - length:
                return bytes(self._map[part + at : part + at + length])
        return None

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


def part(region: mmap.mmap, number: int, slot_room: int) -> memoryview:
    """The part of the `number`th UDP socket, for endpoints that take `shared=`."""
    size = part_size(slot_room)
    return memoryview(region)[number * size : (number + 1) * size]


def counters_of(part: memoryview) -> memoryview:
    """The counters in a part, for transports that take `counters=`."""
    return part[COUNTERS_AT : COUNTERS_AT + 8 * SIZE]


def stream_counters(region: mmap.mmap, number: int) -> Any:
    """The counters of a stream listener, the `number`th from the last, as integers."""
    at = len(region) - (number + 1) * 8 * SIZE
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
