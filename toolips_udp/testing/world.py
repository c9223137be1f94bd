"""A world: nodes, a bad network and virtual time, all from one seed.

Testing floor. An event heap moves the time from event to event; nothing
sleeps. Equal times go by order of insertion, times are whole nanoseconds, and
every die is drawn from the seed, so a world runs the same way each time.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from types import FunctionType, MethodType, TracebackType
from typing import Any

from .clock import SECOND, nanoseconds
from .network import BadNetwork, Direction, Link
from .nodes import Caller, Node
from .trace import Trace

EPOCH = 1000 * SECOND
"""What the clocks of nodes show when a world begins, unless they are skewed."""

_AT_ONCE = 10_000


class Broken(AssertionError):
    """Something that must always hold did not. The message ends with how to repeat it."""


class Host:
    """A node in its place: its addresses, its clock, its troubles."""

    __slots__ = (
        "address", "alive", "drift", "inbox", "name", "node",
        "offset", "paused", "restart", "turns", "wake_at",
    )  # fmt: skip

    def __init__(self, name: str, node: Node, address: Any):
        self.name = name
        self.node = node
        self.address = address
        """What others see; `rebind` changes it."""
        self.offset = EPOCH
        self.drift = 0.0
        self.alive = True
        self.paused = 0
        self.inbox: list[tuple[bytes, Any]] = []
        self.wake_at: int | None = None
        self.turns = 0
        self.restart: Callable[[], Node] | None = None

    def local(self, now: int) -> int:
        """World time as this node's clock shows it."""
        return now + self.offset + int(now * self.drift)

    def world(self, local: int) -> int:
        """The earliest world time at which this node's clock shows `local`."""
        if not self.drift:
            return local - self.offset
        now = int((local - self.offset) / (1.0 + self.drift))
        while self.local(now) < local:
            now += 1
        return now

    def __repr__(self) -> str:
        return f"<{self.name} at {self.address}>"


class World:
    """Nodes on a bad network under a virtual clock.

    `knobs` and `profile` are the weather of every link (see `Knobs`); `up` and
    `down` what differs by direction. Promises: the same seed and the same calls
    give the same `trace`, byte for byte.

    >>> with World(seed=7, loss=0.1, latency=0.05) as world:
    ...     world.serve(module)
    ...     ann = world.client()
    ...     ann.send(b"hello")
    ...     world.run(2.0)
    ...     ann.received()
    """

    def __init__(self, seed: int | str = 0, profile: str | None = None, **knobs: Any):
        self.seed = seed
        self.network = BadNetwork(seed, profile, **knobs)
        self.ns = 0
        """Nanoseconds since the world began."""
        self.hosts: dict[str, Host] = {}
        self.unreachable = 0
        """Datagrams that arrived where nobody listens."""
        self.events = 0
        self._where: dict[Any, Host] = {}
        self._routes: dict[tuple[Any, Any], tuple[Direction, Any]] = {}
        self._heap: list[tuple[int, int, Any, Any, Any]] = []
        self._count = itertools.count()
        self._checks: list[Callable[[World], None]] = []
        self._ports = itertools.count(40_001)
        self._clients = itertools.count(1)
        self._servers: list[Host] = []
        self._closing: list[Callable[[], None]] = []
        self._instant = (-1, 0)

    # What is looked at.

    @property
    def now(self) -> float:
        """Seconds since the world began."""
        return self.ns / SECOND

    @property
    def trace(self) -> Trace:
        """One entry per datagram sent, and the hash of all."""
        return self.network.trace

    def link(self, client: Any, server: Any = None) -> Link:
        """The link between a client and a server (the first one, unless given), to turn its knobs."""
        one = self.host(client)
        two = self.host(server) if server is not None else self._first_server()
        return self._link(one, two)

    def host(self, thing: Any) -> Host:
        """The host of a node, a client or a name."""
        if isinstance(thing, Host):
            return thing
        if isinstance(thing, str) and thing in self.hosts:
            return self.hosts[thing]
        for host in self.hosts.values():
            if host.node is thing or getattr(host.node, "face", None) is thing:
                return host
        raise LookupError(f"{thing!r} is not in this world, which has {', '.join(self.hosts) or 'nobody'}")

    # Who is in it.

    def add(self, node: Node, name: str, address: Any = None, *, server: bool = False) -> Host:
        """Put a node into the world. Servers get 127.0.0.1:2000 and up, clients addresses of their own."""
        if name in self.hosts:
            raise ValueError(f"this world already has a node called {name!r}")
        if address is None:
            address = self._address(server)
        host = self.hosts[name] = self._where[address] = Host(name, node, address)
        self._routes.clear()
        if server:
            self._servers.append(host)
        self._wake(host, self.ns)
        return host

    def serve(self, thing: Any, name: str | None = None, **settings: Any) -> Any:
        """Serve a module, or a node of your own, and return what stands for it here.

        A function that makes the module is called again at a `restart`, so that nothing of
        the crashed one is left; a module itself keeps its globals.
        """
        name = name or f"server{len(self._servers) + 1}"
        if isinstance(thing, Node):
            self.add(thing, name, server=True)
            return thing
        from .hosting import host_module

        address = self._address(True)

        def make() -> Any:
            module = thing() if isinstance(thing, FunctionType | MethodType) else thing
            node = host_module(module, address, seed=self.seed, **settings)
            self._closing.append(node.close)
            node.touch = lambda: self.touch(name)
            return node

        node = make()
        self.add(node, name, address, server=True).restart = make
        self.run(0.0)  # it starts now, so that what is wrong with it is said here
        return node

    def client(self, node: Node | None = None, name: str | None = None, **settings: Any) -> Any:
        """A client of the first server: of the server's own kind, or the node given.

        A client of a game is returned when `on_join` has run.
        """
        name = name or f"client{next(self._clients)}"
        server = self._first_server() if self._servers else None
        if node is None:
            if server is None:
                raise RuntimeError("a client needs a server: call world.serve(module) first")
            make = getattr(server.node, "make_client", None)
            if make is None:
                node = Caller(server.address, lambda: self.touch(name))
            else:
                node = make(self, name, server.address, **settings)
        self.add(node, name)
        joined = getattr(node, "joined", None)
        if joined is not None:
            self.run_until(joined, 60.0)
        return getattr(node, "face", node)

    # Time.

    def run(self, seconds: float) -> None:
        """Let this much time pass."""
        self._run(self.ns + nanoseconds(seconds), None)

    def run_until(self, condition: Callable[[], Any], limit: float = 60.0) -> None:
        """Let time pass until the condition is true; after `limit` seconds `TimeoutError`."""
        if not condition() and not self._run(self.ns + nanoseconds(limit), condition):
            raise TimeoutError(f"not true within {limit:g} s, at {self.now:.3f} s (seed {self.seed})")

    def touch(self, thing: Any) -> None:
        """Give a node a turn now, because something was asked of it from outside."""
        self._wake(self.host(thing), self.ns)

    def at(self, seconds: float, function: Callable[[], None]) -> None:
        """Call a function at this time (seconds since the world began)."""
        self._push(max(self.ns, nanoseconds(seconds)), function, None, None)

    def check(self, function: Callable[[World], None]) -> None:
        """Call a function after each event; it raises when something that must always hold does not."""
        self._checks.append(function)

    # Trouble.

    def crash(self, thing: Any) -> None:
        """The node is gone at once: it gets and sends nothing, its state is lost."""
        host = self.host(thing)
        host.alive = False
        host.inbox.clear()
        abandon = getattr(host.node, "abandon", None)
        if abandon is not None:
            abandon()

    def restart(self, thing: Any, node: Node | None = None) -> Any:
        """A crashed node comes back in its place: `node`, or a fresh one of the same module."""
        host = self.host(thing)
        if node is None:
            if host.restart is None:
                raise RuntimeError(f"{host!r} was put here as a ready node; give the one that replaces it")
            node = host.restart()
        host.node, host.alive, host.paused, host.wake_at = node, True, 0, None
        self._wake(host, self.ns)
        return node

    def pause(self, thing: Any, seconds: float) -> None:
        """The node stands still; what arrives waits for it."""
        host = self.host(thing)
        host.paused = max(host.paused, self.ns + nanoseconds(seconds))
        self._push(host.paused, None, host, None)

    def skew(self, thing: Any, offset: float = 0.0, drift: float = 0.0) -> None:
        """The node's clock jumps ahead by `offset` s and runs `drift` (a share) too fast from now on."""
        host = self.host(thing)
        shown = host.local(self.ns) + nanoseconds(offset)
        host.drift = drift
        host.offset = shown - self.ns - int(self.ns * drift)
        self._wake(host, self.ns)

    def rebind(self, thing: Any) -> None:
        """A router forgot this client: its datagrams come from a new port, the old one leads nowhere."""
        host = self.host(thing)
        self._where.pop(host.address, None)
        host.address = self._address(False)
        self._where[host.address] = host
        self._routes.clear()

    def close(self) -> None:
        """End every server; checks that they close their ledgers."""
        while self._closing:
            self._closing.pop()()

    def __enter__(self) -> World:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    # The heap.

    def _push(self, at: int, what: Any, host: Host | None, more: Any) -> None:
        heapq.heappush(self._heap, (at, next(self._count), what, host, more))

    def _wake(self, host: Host, at: int) -> None:
        if host.wake_at is None or at < host.wake_at:
            host.wake_at = at
            self._push(at, None, host, None)

    def _run(self, end: int, condition: Callable[[], Any] | None) -> bool:
        heap = self._heap
        while heap and heap[0][0] <= end:
            at, _, what, host, more = heapq.heappop(heap)
            self.ns = at
            if host is not None and what is None:
                if host.wake_at is not None and at >= host.wake_at:
                    host.wake_at = None
                elif not host.inbox:
                    continue  # an earlier turn moved this deadline
                self._turn(host)
            elif isinstance(what, bytes):
                self._deliver(what, host, more)
            else:
                what()
            self.events += 1
            for check in self._checks:
                check(self)
            if condition is not None and condition():
                return True
        self.ns = max(self.ns, end)
        return False

    def _deliver(self, data: bytes, sender: Any, to: Any) -> None:
        host = self._where.get(to)
        if host is None or not host.alive:
            self.unreachable += 1
            return
        if host.paused > self.ns:
            host.inbox.append((data, sender))
            return
        host.node.receive(host.local(self.ns), data, sender)
        self._turn(host)

    def _turn(self, host: Host) -> None:
        now = self.ns
        if not host.alive:
            return
        if host.paused > now:
            self._wake(host, host.paused)
            return
        local = host.local(now)
        if host.inbox:
            inbox, host.inbox = host.inbox, []
            for data, sender in inbox:
                host.node.receive(local, data, sender)
        host.turns += 1
        for data, to in host.node.turn(local):
            self._send(host, data, to)
        due = host.node.deadline()
        if due is not None:
            if due <= local:
                self._count_instant(host, due, local)
            at = max(now, host.world(due))
            if host.wake_at is None or at != host.wake_at:
                host.wake_at = at
                self._push(at, None, host, None)
        else:
            host.wake_at = None

    def _count_instant(self, host: Host, due: int, local: int) -> None:
        """A deadline of now is fine a few times; one that stays in the past would stop the world."""
        instant, turns = self._instant
        self._instant = (self.ns, turns + 1 if instant == self.ns else 1)
        if self._instant[1] > _AT_ONCE:
            raise Broken(
                f"{host!r} wants a turn {(local - due) / SECOND:.6f} s in the past, after {_AT_ONCE} turns "
                f"at {self.now:.6f} s (seed {self.seed})"
            )

    def _send(self, host: Host, data: bytes, to: Any) -> None:
        key = (host.address, to)
        route = self._routes.get(key)
        if route is None:
            route = self._routes[key] = (self._direction(host, to), host.address)
        direction, sender = route
        for at, copy in direction.push(self.ns, data):
            heapq.heappush(self._heap, (at, next(self._count), copy, sender, to))

    def _direction(self, host: Host, to: Any) -> Direction:
        other = self._where.get(to)
        if other is None:
            return self.network.link(f"{host.name}-nowhere").up
        link = self._link(host, other)
        return link.up if self._ends(host, other)[0] is host else link.down

    def _ends(self, one: Host, two: Host) -> tuple[Host, Host]:
        """The client of the two first; of two equals the one that came first."""
        if (one in self._servers) != (two in self._servers):
            return (two, one) if one in self._servers else (one, two)
        names = list(self.hosts)
        return (one, two) if names.index(one.name) <= names.index(two.name) else (two, one)

    def _link(self, one: Host, two: Host) -> Link:
        client, server = self._ends(one, two)
        link = self.network.link(f"{client.name}-{server.name}")
        if link.on_rebind is None:
            link.on_rebind = lambda: self.rebind(client)
        return link

    def _first_server(self) -> Host:
        if not self._servers:
            raise RuntimeError("this world has no server: call world.serve(module) first")
        return self._servers[0]

    def _address(self, server: bool) -> Any:
        from ..address import Address

        if server:
            return Address("127.0.0.1", 2000 + len(self._servers))
        port = next(self._ports)
        return Address(f"127.1.{(port >> 8) & 255}.{port & 255}", port)
