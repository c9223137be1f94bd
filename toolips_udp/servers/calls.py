"""What users and other rooms call on a running server: send, broadcast, timers, its loop. Below base.py."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from ..address import Address, AnyAddress
from ..errors import StartError
from ..journal import Journal, level_of
from .timers import Timer, Timers

if TYPE_CHECKING:
    from .mode import ModeServer


class Calls:
    """The verbs of `Server`; its life cycle is in base.py."""

    journal: Journal
    loop: asyncio.AbstractEventLoop | None
    _modes: list[ModeServer]
    _timers: Timers
    _thread_id: int | None
    _closers: list[Callable[[], Any]]

    if TYPE_CHECKING:

        @property
        def running(self) -> bool:
            """Whether it serves, or still drains."""

    # ---- what users call ----

    def send(self, data: Any, to: AnyAddress) -> None:
        """One datagram out of the server's own socket, from any thread. `StartError` on a stopped server."""
        self._udp("send").send(data, Address.parse(to))

    def broadcast(
        self, data: Any, to: Iterable[AnyAddress] | None = None, exclude: Iterable[AnyAddress] = ()
    ) -> int:
        """One datagram to each of `to`, or to each client with a live session. The number queued. From any thread."""
        left_out = {Address.parse(each) for each in exclude}
        udp = self._udp("broadcast")
        if to is None:
            targets = self.on_loop(lambda: [who for who, _ in udp.live_sessions()])
        else:
            targets = [Address.parse(each) for each in to]
        targets = [each for each in targets if each not in left_out]
        for each in targets:
            udp.send(data, each)
        return len(targets)

    def _udp(self, verb: str) -> Any:
        found: Any = (getattr(mode, "endpoint", None) for mode in self._modes)
        endpoint = next((each for each in found if each is not None), None)
        if endpoint is None:
            raise StartError(
                f"{self!r} has no UDP mode, so it cannot {verb}. Fix: start((UDP, ...), module)",
                code="no-udp",
            )
        if not self.running:
            raise StartError(
                f"{self!r} cannot {verb}, for it does not run. Fix: start it, or use send(data, to)",
                code="not-running",
            )
        return endpoint

    def log(self, message: str, level: str | int = "info", peer: Any = None) -> None:
        """Say one line on the logger `toolips_udp.<module>`."""
        self.journal.say(level_of(level), str(message), peer)

    def every(self, seconds: float, fn: Callable[[], Any]) -> Timer:
        """Call `fn()` on the loop every `seconds`, without drift, until `.cancel()` or the stop. `async def` too."""
        return self._timers.every(seconds, fn)

    def after(self, seconds: float, fn: Callable[[], Any]) -> Timer:
        """Call `fn()` on the loop once, in `seconds`, unless `.cancel()` or the stop comes first."""
        return self._timers.after(seconds, fn)

    def listen(self, url: str) -> Any:
        """Serve the module's peers on one more carrier, as in `ws://127.0.0.1:8080`; its house says which."""
        scheme = url.partition("://")[0]
        opener = self.carriers.get(scheme)
        if opener is None:
            known = (
                ", ".join(sorted(self.carriers))
                or "none; the module exports nothing that takes more carriers"
            )
            raise ValueError(f"{url!r}: there is no carrier {scheme!r} here. Found: {known}")
        return opener(url)

    @property
    def carriers(self) -> dict[str, Callable[[str], Any]]:
        """URL scheme to a function that opens a listener; filled by extensions in `on_start`."""
        found: dict[str, Callable[[str], Any]] = self.__dict__.setdefault("_carriers", {})
        return found

    # ---- for rooms above and beside ----

    def call_soon(self, fn: Callable[..., Any], *args: Any) -> None:
        """Call `fn(*args)` on the server's loop, from any thread. Nothing happens when it has ended."""
        loop = self.loop
        if loop is None:
            raise StartError(f"{self!r} does not run", code="not-running")
        if threading.get_ident() == self._thread_id:
            loop.call_soon(fn, *args)
        else:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(fn, *args)

    def on_loop(self, fn: Callable[[], Any]) -> Any:
        """What `fn()` gives on the server's loop. Blocks a caller in another thread."""
        if threading.get_ident() == self._thread_id:
            return fn()
        done: Future[Any] = Future()

        def run() -> None:
            try:
                done.set_result(fn())
            except BaseException as error:
                done.set_exception(error)

        self.call_soon(run)
        return done.result(timeout=30)

    def at_stop(self, closer: Callable[[], Any]) -> None:
        """Call (and await) `closer()` at the stop, after every `on_stop`, in reverse order."""
        self._closers.append(closer)
