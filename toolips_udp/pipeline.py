"""Pipeline: extensions in order, then exactly one handler; folded once, at start.

Above extensions and runners, below manifest and servers. An endpoint reads these
attributes once and calls what they hold; what is not used is not there, so that
it costs neither a call nor a branch per packet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from .extensions.base import hook, title
from .handlers import UDPHandler
from .runners.inline import folded
from .runners.tasks import Stepper, Stopped

if TYPE_CHECKING:
    from .address import Address
    from .extensions.multi import MultiHandler
    from .manifest import Manifest
    from .servers.base import Server

Step = Callable[[Any], Any]


class Calls(dict["UDPHandler", Step]):
    """What to call for a handler; also for one that an extension names at run time."""

    def __missing__(self, handler: UDPHandler) -> Step:
        return folded(handler)


class Names(dict["UDPHandler", str]):
    """What messages call a handler."""

    def __missing__(self, handler: UDPHandler) -> str:
        return f"callback {getattr(handler.fn, '__qualname__', handler.fn)} ({handler.place})"


class Pipeline:
    """What happens to a packet after the stages. Made from a manifest, for one server.

    Plain attributes, read once by the endpoint:

    - `stages`: native stage objects, in order.
    - `steps`: bound `route(c)` callables, in order; exactly `False` ends the trip, a word
      drops the packet under it, a handler is run instead of the client's own.
      `step_names` says whose they are.
    - `guards`: what stands in for the stages where none run: `guard(address, now)`
      gives the word of a packet that is refused, or None.
    - `max_ratio`: bytes of answers per byte of packet, or None.
    - `main`, `handlers`, `chooser`: where a packet ends.
    - `calls`: UDPHandler -> the function of one connection to call (`run(c)`); it
      raises `typed.Malformed` when a typed packet does not fit.
    - `connection_class`: what the transport makes of a packet; set by its mode.
    - `stepper`: for async handlers; set by its mode when the loop runs, else None.
    - `endpoint`: the one endpoint that this pipeline serves; set by its mode.
    - `threads`: the runner of threaded handlers; set by its mode.
    - `pick`: `pick(c)` is the worker of a plain handler's packet, above 1 for `threads`; None: all on the loop.
    - `on_drop`: `f(word, address)` or None.
    """

    def __init__(self, manifest: Manifest, server: Server, with_stages: bool = False) -> None:
        self.server = server
        self.stages: list[Any] = []
        steps: list[Step] = []
        names: list[str] = []
        guards: list[Callable[[Address, float], str | None]] = []
        ratios: list[float] = []
        for extension in manifest.extensions:
            if getattr(extension, "max_ratio", None):
                ratios.append(extension.max_ratio)  # type: ignore[attr-defined]
            if hasattr(extension, "guard"):
                guards.append(extension.guard)
            if with_stages:
                self.stages += (hook(extension, "stages") or list)()
            route = hook(extension, "route")
            if route is not None:
                steps.append(route)
                names.append(f"{manifest.called(extension)} ({title(extension)})")
        self.guards = tuple(guards)
        self.max_ratio: float | None = min(ratios, default=None)
        self.steps: tuple[Step, ...] = tuple(steps)
        self.step_names: tuple[str, ...] = tuple(names)
        self.main: UDPHandler | None = manifest.main
        self.handlers: dict[str, UDPHandler] = dict(manifest.handlers)
        self.chooser: MultiHandler | None = manifest.chooser
        self.connection_class: type | None = None
        self.stepper: Stepper | None = None
        self.on_error: Callable[[Any, BaseException], Any] | None = None
        self.on_drop: Callable[[str, Address], Any] | None = None
        self.calls: dict[UDPHandler, Step] = Calls()
        self.names: dict[UDPHandler, str] = Names()
        for each in [self.main, *self.handlers.values()]:
            if each is not None:
                self.calls[each] = folded(each)
                self.names[each] = f"handler {manifest.called(each)} ({each.place})"
        self.endpoint: Any = None
        self.threads: Any = None
        self.pick: Callable[[Any], int] | None = None
        self._codes = {getattr(step, "__code__", step): name for step, name in zip(steps, names, strict=True)}

    def failed(self, c: Any, exc: BaseException, who: Any) -> None:
        """A handler or an extension raised: say it with the peer, and tell `on_error`. Counting is the endpoint's."""
        peer = None if c is None else c.address
        name = who if isinstance(who, str) else self._step_that_raised(exc)
        if name is None:
            name = self.names[who] if isinstance(who, UDPHandler) else repr(who)
        if isinstance(exc, TimeoutError) and not exc.args:
            text = f"{name} passed its deadline of {getattr(who, 'timeout', None)} s and {self._fate(who)}"
            self.server.journal.event(f"late {name}", logging.ERROR, text, peer, None, "handler_failed")
        else:
            text = f"{name} raised {type(exc).__name__}"
            self.server.journal.event(f"failed {name}", logging.ERROR, text, peer, exc, "handler_failed")
        if self.on_error is not None:
            try:
                self.on_error(c, exc)
            except Exception as second:
                text = f"on_error raised {type(second).__name__}"
                self.server.journal.event("on_error", logging.ERROR, text, peer, second)

    def _fate(self, who: Any) -> str:
        if getattr(who, "kind", "async") == "async":
            return "was cancelled"
        if self.server.settings.kind == "process":
            return "its process was ended; another one takes its place"
        return "still runs, without effect: a thread cannot be stopped; another one takes its place"

    def dropped(self, word: str, address: Address) -> None:
        """A packet ended as a drop; called only when there is an `on_drop`."""
        if self.on_drop is not None:
            try:
                self.on_drop(word, address)
            except Exception as error:
                text = f"on_drop raised {type(error).__name__}"
                self.server.journal.event("on_drop", logging.ERROR, text, address, error)

    def continue_async(
        self, c: Any, handler: UDPHandler, coro: Coroutine[Any, Any, Any], yielded: Any
    ) -> None:
        """An async handler waits after its first step: a task runs the rest and reports to the endpoint."""
        assert self.stepper is not None
        endpoint = self.endpoint

        def ended(error: BaseException | None) -> None:
            if error is None:
                endpoint.finished(c, "handled")
            elif isinstance(error, Stopped):
                endpoint.finished(c, "stopping")
            else:
                endpoint.finished(c, "handler_failed")
                self.failed(c, error, handler)

        self.stepper.suspended(coro, yielded, ended, handler.timeout)

    def submit(self, c: Any, handler: UDPHandler) -> bool:
        """A threaded handler: hand it to the pool. False when its queue is full."""
        return bool(self.threads.submit(c, handler))

    def _step_that_raised(self, exc: BaseException) -> str | None:
        """An endpoint may not know which extension raised; the traceback does."""
        at = exc.__traceback__
        while at is not None:
            name = self._codes.get(at.tb_frame.f_code)
            if name is not None:
                return name
            at = at.tb_next
        return None
