"""A server host and clients on a wire of lists, with a clock in hand. Nothing sleeps."""

from __future__ import annotations

import random
from typing import Any

from toolips_udp.address import Address
from toolips_udp.peers.enet import Enet, caps_of

MS = 1_000_000
SECOND = 1000 * MS
SERVER = Address("127.0.0.1", 2000)


class Wire:
    """One server and its clients. `weather(data)` gives the delays (ns) of the copies that arrive."""

    default = True
    """Whether the hosts are the C ones; tests that run for both set it."""

    def __init__(self, server: Any = None, weather: Any = None, native: bool | None = None, **settings: Any):
        caps = {k: settings.pop(k) for k in list(settings) if k in caps_of()}
        native = self.default if native is None else native
        self.native = native
        self.server = server or Enet(settings.pop("checksum", "auto")).host(
            b"server's secret!", native=native, **caps_of(**caps), **settings
        )
        self.weather = weather or (lambda data: [0])
        self.now = 1000 * SECOND
        self.clients: dict[Any, Any] = {}
        self.flying: list[tuple[int, int, bytes, Any, Any]] = []
        self.count = 0
        self.made = 0
        self.seen: list[tuple[bytes, Any]] = []
        """Every datagram the server sent."""
        self.events: dict[Any, list[Any]] = {SERVER: []}

    def client(self, channels: int = 2, data: int = 0, *, checksum=False, at=None, join=True, **settings):
        """A host with one connection to the server; `(host, peer, address)`."""
        self.made += 1
        address = at or Address("127.0.0.2", 4000 + len(self.clients))
        native = settings.pop("native", self.native)
        host = Enet(checksum=checksum).host(
            f"client {address.port:>5}{self.made:>4}".encode(),
            native=native,
            **{"accept": 0, "ping": 500, **caps_of(1 << 20), **settings},
        )
        self.clients[address] = host
        self.events[address] = []
        peer = host.connect(SERVER, channels, data, now=self.now)
        if join:
            self.run(1.0)
            assert peer.open
        return host, peer, address

    def peer_of(self, address: Any) -> Any:
        """The server's peer for a client's address."""
        return next(p for p in self.server.peers.values() if p.address == address)

    def inject(self, data: bytes, source: Any) -> str:
        """One datagram for the server, now, from anywhere; the word it ended under."""
        word = self.server.receive(self.now, source, data)
        self._collect()
        return word

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + round(seconds * SECOND)
        self._collect()
        while True:
            dues = [(host.deadline(), host) for host in (self.server, *self.clients.values())]
            due = min((d for d, _ in dues if d is not None), default=None)
            first = min(self.flying, default=None)
            at = min(x for x in (due, first[0] if first else None, end + 1) if x is not None)
            if at > end:
                break
            self.now = max(self.now, at)
            if first is not None and first[0] <= at:
                self.flying.remove(first)
                _, _, data, source, to = first
                host = self.server if to == SERVER else self.clients.get(to)
                if host is not None:
                    host.receive(self.now, source, data)
            for host in (self.server, *self.clients.values()):
                host.advance(self.now)
            self._collect()
        self.now = end

    def _collect(self) -> None:
        for address, host in [(SERVER, self.server), *self.clients.items()]:
            for data, to in host.outgoing():
                if address == SERVER:
                    self.seen.append((data, to))
                for delay in self.weather(data):
                    self.count += 1
                    self.flying.append((self.now + delay, self.count, data, address, to))
            self.events[address] += host.events()

    def take(self, address: Any = SERVER, kind: str = "message") -> list[Any]:
        """The events of one kind since last time, in order."""
        kept = [e for e in self.events[address] if e[0] != kind]
        found = [e for e in self.events[address] if e[0] == kind]
        self.events[address] = kept
        return found


def storm(seed: int, loss: float = 0.1, duplicate: float = 0.05, reorder: float = 0.05, latency: int = 30 * MS):
    """Weather from a seed."""
    dice = random.Random(seed)

    def weather(data: bytes) -> list[int]:
        delays = []
        for _ in range(2 if dice.random() < duplicate else 1):
            if dice.random() >= loss:
                delays.append(latency + (dice.randrange(60 * MS) if dice.random() < reorder else 0))
        return delays

    return weather
