"""Extension: what stands between the wire and the handlers, in the order listed.

Above connections, below the pipeline. Every hook is optional; one that is not
defined costs nothing, for the chain is folded at start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..connections.udp import UDPConnection
    from ..handlers import UDPHandler
    from ..servers.base import Server

HOOKS = ("on_start", "route", "on_stop", "stages", "stream", "settle", "export", "restore")


class Extension:
    """Base of all extensions. Subclass it, keep data in fields, export an instance.

    >>> class Counter(Extension):
    ...     def on_start(self, server):
    ...         self.packets = 0
    ...     def route(self, c):
    ...         self.packets += 1
    """

    answers: bool = False
    """True: it answers by itself, so its module needs no handler."""
    chooses: bool = False
    """True: its `route` may return a handler, which may be async."""

    def on_start(self, server: Server) -> Any:
        """Once per start, on the server's loop, when all handlers and extensions are known. May be `async def`.

        What it raises ends the start; extensions that had started get `on_stop`.
        """

    def route(self, c: UDPConnection) -> bool | str | UDPHandler | None:
        """Each packet, in the order listed. Exactly `False` ends its trip: no later extension, no handler.

        A drop word, as `"denied"`, ends it too and counts the packet under that word.
        A handler is run instead of the client's own; its class says `chooses = True`.
        A plain `def`. What it raises fails this packet only (`handler_failed`).
        """

    def on_stop(self, server: Server) -> Any:
        """Once per stop, in reverse order, after the drain. May be `async def`."""

    def stages(self) -> list[Any]:
        """Native stages that see packets before Python; each has `__tudp_stage__()`."""
        return []

    def stream(self, c: Any) -> Any:
        """Each TCP connection, after `route`. May be `async def` and serve it to its end.

        Exactly `False` closes it. When it comes back with the connection still
        open, the next extension, and then the handler, has it.
        """

    async def settle(self, seconds: float) -> None:
        """Before `export`: wait, at most `seconds`, for what still works on the state that it gives.

        For houses whose async handlers belong to a peer. No datagram is read meanwhile.
        """

    def export(self) -> Any:
        """State for the process that takes over at a reload: plain data, or None."""

    def restore(self, state: Any) -> None:
        """What `export` gave in the process before."""


def hook(extension: Extension, name: str) -> Callable[..., Any] | None:
    """The bound hook of an extension, or None when it does not define it."""
    given = extension.__dict__.get("_quick_hooks")
    if given is not None:
        found: Callable[..., Any] | None = given.get(name)
        return found
    if getattr(type(extension), name, None) is getattr(Extension, name) and name not in extension.__dict__:
        return None
    bound: Callable[..., Any] = getattr(extension, name)
    return bound


def title(extension: Extension) -> str:
    """What messages call an extension."""
    name = getattr(extension, "name", None)
    kind = type(extension).__name__
    return f"{kind} {name!r}" if isinstance(name, str) else kind
