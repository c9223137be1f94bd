"""The counters of the portable endpoint, as users read them, and the kernel's. Imports the ground floor."""

from __future__ import annotations

import socket
import struct
import sys
from typing import TYPE_CHECKING

from ..counters import WORDS, ByWord

if TYPE_CHECKING:
    from .portable import Endpoint

_SO_MEMINFO = 55
NUMBER = {word: number for number, word in enumerate(WORDS)}


class Counters(ByWord):
    """The counters of an endpoint: a read-only mapping of word to int."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def __getitem__(self, word: str) -> int:
        lost = self._endpoint.lost()[0] if word in ("received", "kernel") else 0
        return self._endpoint.words[NUMBER[word]] + lost


def kernel_drops(sock: socket.socket) -> tuple[int, int]:
    """Datagrams that the kernel has dropped for a socket, and the bytes that wait in its buffer."""
    if sys.platform != "linux":
        return 0, 0
    try:
        found = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36)
    except OSError:
        return 0, 0
    numbers = struct.unpack(f"{len(found) // 4}I", found)
    return (numbers[8] if len(numbers) > 8 else 0), numbers[0]
