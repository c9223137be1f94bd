"""Handlers in a process worker: the child's side of `pool.ProcessPool`.

Runs in the children of a server with `kind="process"`. The module is loaded once;
each packet comes as msgpack, and what the handler does goes back the same way, in
the order called.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any

from .. import manifest
from ..address import Address, AnyAddress
from ..connections.udp import LARGEST, Sendable, UDPIOConnection, unknown_handler
from ..errors import StartError, WorkerError
from ..jobs.child import Line, Main
from ..runners.inline import folded
from ..typed import Malformed
from . import plain, source
from .reloading import load_again

_calls: dict[str | None, Callable[[Any], Any]] = {}
_problem: str | None = "the module was not loaded"
_generation = -1
_module: Any = None


def load_served(served: dict[str, Any], generation: int) -> None:
    """Import the served module and find its handlers; anew when it was loaded for an older generation.

    Runs in each child, also in later ones.
    """
    global _problem, _generation, _module
    if generation <= _generation:
        return
    try:
        if _module is not None:
            found = load_again(_module)
        else:
            _module = _import(served)
            found = manifest.read(_module)
    except BaseException as error:
        _problem = f"{type(error).__name__}: {error}"
        raise
    _generation = generation
    _calls.clear()
    for each in [found.main, *found.handlers.values()]:
        if each is not None:
            _calls[each.name] = folded(each)
    _problem = None


def _import(served: dict[str, Any]) -> Any:
    if "main" in served:
        Main.load()
        return sys.modules["__main__"]
    return source.load(served)


def check_loaded() -> None:
    """Raises `StartError` unless the module is there."""
    if _problem is not None:
        raise StartError(_problem, code="worker-not-started")


def serve_packet(data: bytes, line: Line) -> bytes:
    """Run one packet's handler; the word it ends under."""
    name, packet, address, now, max_reply, worker, own = plain.decode(data)
    server = RemoteServer(line, own)
    c = RemoteConnection(server, packet, address, now, max_reply, worker)
    try:
        _calls[name](c)
    except Malformed:
        return b"malformed"
    return b"handled"


def _nothing() -> None:
    """A process whose handler is late is killed, so there is nothing to check here."""


class RemoteServer:
    """As much of the server as a handler in another process may use."""

    def __init__(self, line: Line, address: Address) -> None:
        self.line = line
        self.address = address
        self.data = RemoteMapping(line, "data")

    def say(self, verb: str, *arguments: Any) -> None:
        """An effect on the server's loop; returns at once."""
        self.line.say(plain.encode((verb, *arguments)))

    def ask(self, verb: str, *arguments: Any) -> Any:
        """A question to the server's loop."""
        return ask(self.line, verb, *arguments)

    def log(self, message: str, level: str | int = "info", peer: Any = None) -> None:
        """Say one line on the server's logger."""
        self.say("log", str(message), level)

    def send(self, data: Any, to: AnyAddress) -> None:
        """One datagram out of the server's own socket."""
        self.say("send", bytes(data), Address.parse(to))

    def broadcast(
        self, data: Any, to: Iterable[AnyAddress] | None = None, exclude: Iterable[AnyAddress] = ()
    ) -> int:
        """One datagram to each of `to`, or to each client with a live session."""
        targets = None if to is None else [Address.parse(each) for each in to]
        count: int = self.ask("broadcast", bytes(data), targets, [Address.parse(each) for each in exclude])
        return count

    def __getattr__(self, name: str) -> Any:
        raise WorkerError(
            f"server.{name} cannot be used in a process worker. Fix: on the main loop, or kind='thread'",
            code="wrong-kind",
        )


def ask(line: Line, verb: str, *arguments: Any) -> Any:
    """A question to the server's loop. Raises `TypeError` for what cannot travel."""
    good, answer = plain.decode(line.ask(plain.encode((verb, *arguments))))
    if not good:
        raise TypeError(answer)
    return answer


class RemoteMapping(MutableMapping[Any, Any]):
    """The server's data, or a client's session: each operation happens on the server's loop, in order.

    Values must be plain data, and are copies: assign a changed value again.
    """

    def __init__(self, line: Line, which: str) -> None:
        self._line = line
        self._which = which

    def __getitem__(self, key: Any) -> Any:
        found, value = ask(self._line, "get", self._which, key)
        if not found:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        self._line.say(plain.encode(("set", self._which, key, value)))

    def __delitem__(self, key: Any) -> None:
        if key not in self:
            raise KeyError(key)
        self._line.say(plain.encode(("delete", self._which, key)))

    def __contains__(self, key: object) -> bool:
        return bool(ask(self._line, "get", self._which, key)[0])

    def __iter__(self) -> Iterator[Any]:
        return iter(ask(self._line, "keys", self._which))

    def __len__(self) -> int:
        return len(ask(self._line, "keys", self._which))


class RemoteConnection(UDPIOConnection):
    """A packet in a process worker; see `UDPIOConnection`. Data and session hold copies of plain values."""

    __slots__ = ()

    def __init__(
        self, server: RemoteServer, packet: bytes, address: Address, now: float, max_reply: int, worker: int
    ) -> None:
        self.server = server  # type: ignore[assignment]
        self.packet = packet
        self.address = address
        self.now = now
        self.max_reply = max_reply
        self._worker = worker
        self._session = None
        self._check = _nothing

    @property
    def session(self) -> Any:  # type: ignore[override]
        """This client's mapping."""
        return RemoteMapping(self.server.line, "session")  # type: ignore[attr-defined]

    def respond(self, data: Sendable) -> None:
        """Answer the sender of this packet, from the server's loop."""
        self._say("respond", self._whole(data, self.max_reply))

    def send(self, data: Sendable, to: AnyAddress) -> None:
        """One datagram to any address, from the server's loop."""
        self._say("send", self._whole(data, LARGEST), Address.parse(to))

    def set_handler(self, name: str, client: AnyAddress | None = None) -> None:
        """The next packet of this, or another, client goes to the handler called `name`."""
        if name is None or name not in _calls:
            raise unknown_handler(name, [each for each in _calls if each is not None])
        self._say("set_handler", name, None if client is None else Address.parse(client))

    def remove_handler(self, client: AnyAddress | None = None) -> None:
        """Back to the main handler."""
        self._say("remove_handler", None if client is None else Address.parse(client))

    def _say(self, verb: str, *arguments: Any) -> None:
        self.server.say(verb, *arguments)  # type: ignore[attr-defined]
