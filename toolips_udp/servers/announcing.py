"""What a server says when it serves: its start line, and its words to systemd. Below base.py."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..address import is_loopback
from ..journal import Journal
from . import systemd

if TYPE_CHECKING:
    from ..manifest import Manifest
    from .mode import ModeServer
    from .options import Options
    from .timers import Timer


class Announcing:
    """The part of `Server` that tells of the start."""

    journal: Journal
    manifest: Manifest
    settings: Options
    extensions: tuple[Any, ...]
    _modes: list[ModeServer]

    if TYPE_CHECKING:

        def every(self, seconds: float, fn: Callable[[], Any]) -> Timer:
            """Calls.every."""

    def _tell_systemd(self) -> None:
        if left := systemd.left_over():
            text = f"systemd passed sockets that this server does not serve: {', '.join(left)}. Fix: the addresses"
            self.journal.say(logging.WARNING, text)
        systemd.notify("READY=1", f"STATUS={self._start_line()}")
        pause = systemd.watchdog_pause()
        if pause is not None:
            self.every(pause, self._feed_watchdog)

    def _feed_watchdog(self) -> None:
        systemd.notify("WATCHDOG=1")

    def _announce(self) -> None:
        self.journal.announce(self._start_line())
        self._warn_of_root()

    def _warn_of_root(self) -> None:
        """Whoever can be asked by others should not be root. On loopback and in memory nothing is said."""
        if not hasattr(os, "geteuid") or os.geteuid() != 0 or self.settings.user:
            return
        if any(not is_loopback(mode.address.host) and mode.detail != "memory" for mode in self._modes):
            text = "this server can be asked from other machines and runs as root. Fix: user='nobody', and harden=True"
            self.journal.say(logging.WARNING, text)

    def _place(self, mode: ModeServer) -> str:
        """The name that an extension gave, unless it does not say the port."""
        return mode.name if str(mode.address) in mode.name else f"{mode.mode} {mode.address}"

    def _start_line(self) -> str:
        found = self.manifest
        handlers = ([found.called(found.main)] if found.main else []) + list(found.handlers)
        parts = [self._place(mode) + (f" ({mode.detail})" if mode.detail else "") for mode in self._modes]
        line = f"{found.name} serves {', '.join(parts)}"
        line += f"; handlers: {', '.join(handlers) or 'none'}"
        if self.extensions:
            line += f"; extensions: {', '.join(found.called(e) for e in self.extensions)}"
        return line
