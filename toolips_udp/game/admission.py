"""Who may be in a game: bans by address, and peers that vanished and may come back.

Game floor: imports peers only. Called by game.py.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..peers.client import TOKEN_CODE
from ..peers.peer import Leave

TOKEN_BYTES = 16


class Bans(Mapping[str, float]):
    """IP address -> seconds left. Checked in C before anything else of a datagram."""

    def __init__(self, game: Any) -> None:
        self._game = game
        self._until: dict[str, int] = {}

    def add(self, host: str, seconds: float) -> None:
        """Keep an IP out for this long; peers of it are disconnected as `banned`."""
        if not seconds > 0:
            raise ValueError(f"a ban lasts more than 0 seconds, found {seconds!r}; bans.lift(host) ends one")
        self._until[host] = self._game._clock() + round(seconds * 1e9)
        if self._game.host is not None:
            self._game.host.ban(host, self._until[host])
        for peer in list(self._game.peers.values()):
            if peer.address.host == host:
                peer.close(0, 0xFFFFFF02, "banned")

    def lift(self, host: str) -> bool:
        """End a ban. False when there was none."""
        if self._game.host is not None:
            self._game.host.ban(host, 0)
        return self._until.pop(host, None) is not None

    def apply(self) -> None:
        """Tell a new host."""
        for host, until in self._until.items():
            self._game.host.ban(host, until)

    def export(self) -> dict[str, float]:
        """Plain data for the process that takes over."""
        return dict(self)

    def restore(self, bans: Mapping[str, float]) -> None:
        """What `export` gave."""
        for host, seconds in bans.items():
            self.add(host, seconds)

    def __getitem__(self, host: str) -> float:
        left: float = (self._until[host] - self._game._clock()) / 1e9
        if left <= 0:
            del self._until[host]
            raise KeyError(host)
        return left

    def __iter__(self) -> Iterator[str]:
        now = self._game._clock()
        return iter([host for host, until in self._until.items() if until > now])

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Vanished:
    """Peers without a connection that may be taken over by token, once, for some seconds."""

    def __init__(self, game: Any, seconds: float) -> None:
        self.seconds = seconds
        self.random: Callable[[int], bytes] = os.urandom
        self._game = game
        self._by_name: dict[bytes, Any] = {}  # first half of the token -> peer
        self._timers: dict[int, Any] = {}

    def joined(self, peer: Any) -> None:
        """Give a peer its token, as the first message it gets."""
        if not self.seconds:
            return
        if peer.token is not None:
            self._by_name.pop(peer.token[:8], None)
        peer.token = self.random(TOKEN_BYTES)
        self._by_name[peer.token[:8]] = peer
        peer.send(bytes((TOKEN_CODE,)) + peer.token)

    def known(self, peer: Any) -> None:
        """A peer of the game before: the token it has goes on to be its own, or it gets one."""
        if self.seconds and peer.token is not None:
            self._by_name[peer.token[:8]] = peer
        else:
            self.joined(peer)

    def disown(self, peer: Any) -> None:
        """Another game has this peer now, with its token."""
        if peer.token is not None:
            self._by_name.pop(peer.token[:8], None)

    def keep(self, peer: Any, leave: Leave) -> bool:
        """True: it stays in the game and its rooms, without a connection, for a while."""
        if not self.seconds or peer.token is None:
            return False
        self._timers[peer.id] = self._game.agenda.after(self.seconds, lambda: self._over(peer, leave))
        return True

    def _over(self, peer: Any, leave: Leave) -> None:
        self._timers.pop(peer.id, None)
        self._by_name.pop(peer.token[:8], None)
        self._game.gone(peer, leave)

    def forget(self, peer: Any) -> None:
        """A peer has left for good: its token opens nothing any more."""
        timer = self._timers.pop(peer.id, None)
        if timer is not None:
            timer.cancel()
        name = b"" if peer.token is None else peer.token[:8]
        if self._by_name.get(name) is peer:
            del self._by_name[name]

    def take(self, peer: Any, message: Any) -> bool:
        """A message that carries a token: its peer takes over the connection it came on."""
        data = message.data
        if len(data) != 1 + TOKEN_BYTES or data[0] != TOKEN_CODE:
            return False
        old = self._by_name.get(data[1:9])
        if old is None or old is peer or old.token is None or not hmac.compare_digest(old.token, data[1:]):
            peer.malformed("a resume token that is none")
            return True
        timer = self._timers.pop(old.id, None)
        if timer is not None:
            timer.cancel()
        game = self._game
        game.gone(peer, Leave("replaced", 0, "server", peer.now - peer.joined_at))
        old.take_over(peer)
        if (known := getattr(old, "feedback", None)) is not None:
            known.renew()
        self.joined(old)
        handler = game._on.get("on_resume")
        if handler is not None:
            handler(old)
        return True

    def end(self) -> None:
        """The server stops: those who are away leave now."""
        for peer in [p for p in self._by_name.values() if p.id in self._timers]:
            self._timers.pop(peer.id).cancel()
            self._over(peer, Leave("stopping", 0, "server", 0.0))
