"""Other servers that we ask: their address, what we know of them, which to ask first (spec F1 to F3).

Sans-io: time and randomness are arguments. Imports address, names, pins, errors.
"""

from __future__ import annotations

import ipaddress
import math
import random
from collections import Counter, deque
from typing import Any
from urllib.parse import urlsplit

from ..address import Address
from ..errors import FormatError
from . import pins

FIRST_TIMEOUT, LEAST_TIMEOUT, MOST_TIMEOUT = 0.4, 0.05, 1.0
STREAM_TIMEOUT = 2.5
DOWN_AFTER = 3
UP_AFTER = 2
CAUSES = ("timeout", "connection", "format", "mismatch", "rcode")
"""Why an upstream failed a question."""
MOST_PROBE_WAIT = 30.0
EXPLORE = 0.05
NO_EDNS_FOR = 900.0
_PORTS = {"udp": 53, "tcp": 53, "tls": 853, "https": 443}
POLICIES = ("fastest", "ordered", "round-robin", "hash")


class Upstream:
    """One server to ask.

    Written `192.0.2.1`, `192.0.2.1:5300`, `udp://...`, `tcp://...`,
    `tls://192.0.2.1#name` or `https://192.0.2.1/dns-query#name`; the host is an
    address, the name after `#` is what its certificate must say. `#pin-sha256=...`
    instead believes one key (the SHA-256 of its SubjectPublicKeyInfo, base64), whoever
    signed it. Anything else is a `FormatError`.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        parts = urlsplit(
            url if "://" in url else f"udp://{url}" if url.count(":") < 2 or "[" in url else f"udp://[{url}]"
        )
        if parts.scheme not in _PORTS:
            raise FormatError(f"upstream {url!r}: expected udp://, tcp://, tls:// or https://.")
        self.transport = parts.scheme
        try:
            ipaddress.ip_address((parts.hostname or "").partition("%")[0])
            self.address = Address(parts.hostname or "", parts.port or _PORTS[parts.scheme])
        except ValueError as error:
            raise FormatError(
                f"upstream {url!r} has no usable address ({error}). Write an IP address."
            ) from None
        self.pin = pins.read(parts.fragment)
        self.name = (parts.fragment if self.pin is None else "") or parts.hostname or ""
        self.path = parts.path or "/dns-query"
        self.rtt: float | None = None
        self.variance = 0.0
        self.samples: deque[float] = deque(maxlen=64)
        self.failures = 0
        self.down = False
        self.good = 0
        self.probe_at = 0.0
        self.probe_wait = 1.0
        self.no_edns_until = 0.0
        self.broken_case = 0
        self.asked = 0
        self.failed = 0
        self.asked_by: Counter[str] = Counter({self.transport: 0})
        self.causes: Counter[str] = Counter(dict.fromkeys(CAUSES, 0))
        self.handshakes: Counter[str] = Counter()
        """Of TLS, `whole` ones and those `resumed`."""
        self.hedged = 0
        self.held = False  # an operator took it out
        self.looped = False  # it is ourselves: never asked
        self.client_cookie = b""
        self.server_cookie = b""

    @property
    def timeout(self) -> float:
        """How long to wait for a datagram: 2 RTT + 4 variances, 50 ms to 1 s."""
        if self.rtt is None:
            return FIRST_TIMEOUT
        return min(max(2 * self.rtt + 4 * self.variance, LEAST_TIMEOUT), MOST_TIMEOUT)

    @property
    def p95(self) -> float:
        """The round-trip time that 19 of 20 answers kept, seconds."""
        if not self.samples:
            return FIRST_TIMEOUT
        return sorted(self.samples)[int(len(self.samples) * 0.95)]

    def hold(self) -> None:
        """Take it out until `release`: asked only when nobody else is there."""
        self.held = self.down = True
        self.probe_at = math.inf

    def release(self) -> None:
        """Ask it again, from now on; but never one that is ourselves."""
        self.held = self.down = self.looped
        self.failures = self.good = 0
        self.probe_wait = 1.0

    def cookie_for(self, rng: random.Random) -> bytes:
        """Our client cookie for this server (F6), made when first asked for."""
        if not self.client_cookie:
            self.client_cookie = rng.getrandbits(64).to_bytes(8, "big")
        return self.client_cookie

    def shook_hands(self, connection: Any) -> None:
        """A TLS connection to it stands."""
        tls = connection.get_extra_info("ssl_object")
        self.handshakes["resumed" if tls is not None and tls.session_reused else "whole"] += 1

    def answered(self, rtt: float, measured: bool = True) -> None:
        """An answer came after `rtt` seconds."""
        if measured:
            if self.rtt is None:
                self.rtt, self.variance = rtt, rtt / 2
            else:
                self.variance += (abs(self.rtt - rtt) - self.variance) / 4
                self.rtt += (rtt - self.rtt) / 8
            self.samples.append(rtt)
        self.failures = 0
        if self.down and not self.held:
            self.good += 1
            if self.good >= UP_AFTER:
                self.down = False
                self.probe_wait = 1.0

    def missed(self, now: float, cause: str = "timeout") -> None:
        """No answer, or a useless one, for one of `CAUSES`."""
        self.failed += 1
        self.causes[cause] += 1
        self.failures += 1
        self.good = 0
        if self.held:
            return
        if self.down:
            self.probe_wait = min(self.probe_wait * 2, MOST_PROBE_WAIT)
            self.probe_at = now + self.probe_wait
        elif self.failures >= DOWN_AFTER:
            self.down = True
            self.probe_wait = 1.0
            self.probe_at = now + self.probe_wait

    def missed_often(self, now: float, times: int, cause: str) -> None:
        """`missed` so many times at once, as C tells of them."""
        for _ in range(min(times, DOWN_AFTER)):
            self.missed(now, cause)
        more = max(0, times - DOWN_AFTER)
        self.failed += more
        self.causes[cause] += more

    def __repr__(self) -> str:
        return f"<Upstream {self.url}{' down' if self.down else ''}>"


class Group:
    """Upstreams of one forward zone and the policy that orders them."""

    def __init__(self, upstreams: list[Upstream], policy: str = "fastest") -> None:
        if not upstreams:
            raise FormatError(
                "a forwarder needs at least one upstream, as in dns.Forward('udp://192.0.2.1')."
            )
        if policy not in POLICIES:
            raise FormatError(f"forward policy {policy!r}: expected one of {', '.join(POLICIES)}.")
        self.upstreams = upstreams
        self.policy = policy
        self.turn = 0

    def order(self, key: bytes, rng: random.Random) -> list[Upstream]:
        """Whom to ask, best first; those that are down only when all are."""
        alive = [u for u in self.upstreams if not u.down] or [u for u in self.upstreams if not u.looped]
        if self.policy == "fastest" and len(alive) > 1:
            if rng.random() < EXPLORE:
                rng.shuffle(alive)
            else:
                alive.sort(key=lambda u: u.rtt if u.rtt is not None else 0.0)
        elif self.policy == "round-robin":
            self.turn = (self.turn + 1) % max(1, len(alive))
            alive = alive[self.turn :] + alive[: self.turn]
        elif self.policy == "hash":
            at = sum(key) * 2654435761 % max(1, len(alive))
            alive = alive[at:] + alive[:at]
        return alive


class HedgeBudget:
    """At most 5 % of the questions of any second are asked twice (F4); one is always allowed."""

    def __init__(self, share: float = 0.05) -> None:
        self.share = share
        self.window = -1.0
        self.questions = 0
        self.hedges = 0

    def asked(self, now: float) -> None:
        if now - self.window >= 1.0:
            self.window, self.questions, self.hedges = now, 0, 0
        self.questions += 1

    def take(self) -> bool:
        if self.hedges >= max(1, int(self.questions * self.share)):
            return False
        self.hedges += 1
        return True
