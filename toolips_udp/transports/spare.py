"""The descriptor that a listener keeps back: with it a client can be refused when no other is left.

Imports nothing of ours; owned by stream.py.
"""

from __future__ import annotations

import contextlib
import os


class Spare:
    """One open descriptor, or none when even that could not be had."""

    def __init__(self) -> None:
        self._fd = -1

    def keep(self) -> bool:
        """Have one from now on. Whether there is one."""
        if self._fd < 0:
            with contextlib.suppress(OSError):
                self._fd = os.open(os.devnull, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        return self._fd >= 0

    def give(self) -> bool:
        """Close it, so that one descriptor is free. Whether there was one."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        return fd >= 0
