"""One question asked of upstreams until it is answered: sans-io (spec 5.1 to 5.3).

The driver calls `start`, `datagram`, `failed` and `tick` and sends the attempts
they return; `next_at` says when to tick; `message` is the answer once `over`.
Time and randomness are arguments. Imports message, upstream, edns.
"""

from __future__ import annotations

import random
import struct

from ..errors import FormatError
from . import edns, rrtypes
from .message import Message
from .upstream import NO_EDNS_FOR, STREAM_TIMEOUT, HedgeBudget, Upstream

MOST_SENDS = 3
"""Sends for one question to one server over one transport (RFC 9520 3.1)."""
WHOLE = 5.0
LEAST_HEDGE = 0.010
_NEVER = float("inf")


class Attempt:
    """One message to one upstream: send `packet` over `transport`, report what comes."""

    __slots__ = (
        "edns",
        "hedge",
        "id",
        "name",
        "over",
        "packet",
        "sent_at",
        "suspect",
        "timeout_at",
        "transport",
        "upstream",
    )

    def __init__(self, upstream: Upstream, transport: str, now: float, hedge: bool) -> None:
        self.upstream = upstream
        self.transport = transport
        self.sent_at = now
        self.timeout_at = now + (upstream.timeout if transport == "udp" else STREAM_TIMEOUT)
        self.hedge = hedge
        self.over = False
        self.suspect = False  # a wrong reply came: the question has gone out by TCP as well
        self.packet = b""
        self.name = b""
        self.id = 0
        self.edns = True


def randomized(name: bytes, rng: random.Random) -> bytes:
    """The name with random letter case (0x20)."""
    bits = rng.getrandbits(len(name))
    out = bytearray(name)
    for at, octet in enumerate(out):
        if 65 <= octet <= 90 or 97 <= octet <= 122:
            out[at] = octet & 0xDF | (0x20 if bits >> at & 1 else 0)
    return bytes(out)


def judge(attempt: Attempt, data: bytes, qtype: int) -> tuple[str, Message | None]:
    """What a datagram on the attempt's own socket is (table 5.3).

    `"ignore"`, `"mismatch"` (forged, or a broken server), `"plain"` (ask without
    EDNS), `"truncated"`, or `"accept"` with the message.
    """
    if len(data) < 12 or not data[2] & 0x80:
        return "ignore", None
    if int.from_bytes(data[:2], "big") != attempt.id:
        return "mismatch", None
    if data[4:6] == b"\0\0" and data[3] & 15 in (rrtypes.FORMERR, rrtypes.NOTIMP):
        return "plain", None
    question = attempt.name + struct.pack("!HH", qtype, rrtypes.IN)
    if data[4:6] != b"\0\1" or data[12 : 12 + len(question)] != question:
        return "mismatch", None
    if attempt.transport == "udp" and (data[2] & 2 or len(data) > edns.UDP_SIZE):
        return "truncated", None  # more than we said we take may have come in fragments
    try:
        message = Message.parse(data)
    except FormatError:
        return "ignore", None
    if message.rcode in (rrtypes.FORMERR, rrtypes.NOTIMP) and attempt.edns:
        return "plain", None
    return "accept", message


class Exchange:
    """The life of one question upstream."""

    def __init__(
        self,
        name: bytes,
        qtype: int,
        order: list[Upstream],
        rng: random.Random,
        *,
        do: bool = False,
        cd: bool = False,
        hedge: float | None = None,
        budget: HedgeBudget | None = None,
        case: bool = True,
        probe: bool = False,
    ) -> None:
        self.name = name
        self.qtype = qtype
        self.order = order
        self.rng = rng
        self.do = do
        self.cd = cd
        self.hedge = hedge
        self.budget = budget
        self.case = case
        self.sends = MOST_SENDS if not probe else 1
        self.attempts: list[Attempt] = []
        self.counts: dict[tuple[int, str], int] = {}
        self.place = 0
        self.deadline = 0.0
        self.hedge_at = _NEVER
        self.over = False
        self.late = False
        """Ended by the time that the whole question may take."""
        self.message: Message | None = None
        self.source: Upstream | None = None
        self.last: Message | None = None
        self.causes: list[str] = []
        self.mismatches = 0

    @property
    def next_at(self) -> float:
        """When `tick` has something to do."""
        if self.over:
            return _NEVER
        waits = [a.timeout_at for a in self.attempts if not a.over]
        return min([self.deadline, self.hedge_at, *waits])

    def start(self, now: float, by_tcp: Upstream | None = None, both: bool = False) -> list[Attempt]:
        """Begin; with `by_tcp`, at this upstream over TCP, since it was truncated by UDP (`both`: or forged)."""
        self.deadline = now + WHOLE
        if self.budget:
            self.budget.asked(now)
        made = self._send(by_tcp, "tcp", now) if by_tcp is not None else []
        if both or not made:
            made += self._next(now)
        if len(self.order) > 1 and self.budget is not None and made:
            first = made[0].upstream
            self.hedge_at = now + max(LEAST_HEDGE, self.hedge if self.hedge is not None else first.p95)
        return made

    def datagram(self, attempt: Attempt, data: bytes, now: float) -> list[Attempt]:
        """Something came on the attempt's socket or stream."""
        if attempt.over:
            return []
        verdict, message = judge(attempt, data, self.qtype)
        if verdict == "ignore":
            self.mismatches += 1
            return (
                [] if attempt.transport == "udp" else self.failed(attempt, "unreadable reply", now, "format")
            )
        if verdict == "mismatch":
            self.mismatches += 1
            if attempt.transport != "udp":
                return self.failed(attempt, "reply to another question", now, "mismatch")
            if attempt.suspect:
                return []
            attempt.suspect = True
            return self._send(attempt.upstream, "tcp", now)
        upstream = attempt.upstream
        attempt.over = True
        upstream.answered(now - attempt.sent_at, attempt.transport == "udp")
        if self.over:
            return []
        if verdict == "plain":
            if attempt.edns:
                upstream.no_edns_until = now + NO_EDNS_FOR
                return self._send(upstream, "tcp" if upstream.transport == "udp" else upstream.transport, now)
            return self.failed(attempt, "format error", now, "format")
        if verdict == "truncated":
            return self._send(upstream, "tcp", now) or self._next(now)
        assert message is not None
        return self._accept(attempt, message, now)

    def _accept(self, attempt: Attempt, message: Message, now: float) -> list[Attempt]:
        upstream = attempt.upstream
        cookie = message.options.get(edns.COOKIE, b"")
        if upstream.client_cookie and cookie[:8] == upstream.client_cookie:
            upstream.server_cookie = cookie[8:40]
        if message.rcode == rrtypes.BADCOOKIE:
            retry = self._send(
                upstream, "udp" if self.counts.get((id(upstream), "udp"), 0) < 2 else "tcp", now
            )
            return retry or self._next(now)
        if attempt.suspect:
            upstream.broken_case = max(0, upstream.broken_case - 1)
        if attempt.transport == "tcp" and any(a.suspect for a in self.attempts if a.upstream is upstream):
            upstream.broken_case += 1  # right by TCP, wrong by UDP: it may not keep letter case
        if message.rcode not in (rrtypes.NOERROR, rrtypes.NXDOMAIN, rrtypes.YXDOMAIN):
            self.last, self.source = message, upstream
            self.causes.append(f"{upstream.url} {rrtypes.rcode_name(message.rcode)}")
            upstream.causes["rcode"] += 1
            return self._next(now)
        self.message, self.source, self.over = message, upstream, True
        return []

    def failed(self, attempt: Attempt, cause: str, now: float, kind: str = "connection") -> list[Attempt]:
        """The attempt cannot succeed: refused, reset, timed out. `kind` is the word it is counted under."""
        if attempt.over:
            return []
        attempt.over = True
        attempt.upstream.missed(now, kind)
        self.causes.append(f"{attempt.upstream.url} {cause}")
        return [] if self.over else self._next(now)

    def tick(self, now: float) -> list[Attempt]:
        """Time has passed: give up, hedge, or go on to the next server."""
        if self.over:
            return []
        if now >= self.deadline:
            for attempt in self.attempts:
                if not attempt.over:
                    attempt.over = True
                    attempt.upstream.missed(now)
            self.over = self.late = True
            return []
        made: list[Attempt] = []
        if now >= self.hedge_at:
            self.hedge_at = _NEVER
            if self.budget is not None and self.budget.take():
                made += self._next(now, hedge=True)
        for attempt in list(self.attempts):
            if not attempt.over and now >= attempt.timeout_at:
                made += self.failed(attempt, "timeout", now, "timeout")
        return made

    def _next(self, now: float, hedge: bool = False) -> list[Attempt]:
        """Ask the next server in order that may still be asked; none left and none waiting: over."""
        for _ in range(len(self.order) * self.sends):
            upstream = self.order[self.place % len(self.order)]
            self.place += 1
            made = self._send(upstream, upstream.transport, now, hedge)
            if made:
                upstream.hedged += hedge
                return made
        if all(attempt.over for attempt in self.attempts):
            self.over = True
        return []

    def _send(self, upstream: Upstream, transport: str, now: float, hedge: bool = False) -> list[Attempt]:
        key = (id(upstream), transport)
        count = self.counts.get(key, 0)
        if count >= (self.sends if transport == "udp" else 2):
            return []
        self.counts[key] = count + 1
        attempt = Attempt(upstream, transport, now, hedge)
        attempt.edns = upstream.no_edns_until <= now
        attempt.id = self.rng.getrandbits(16) if transport != "https" else 0
        mixed = self.case and transport == "udp" and upstream.broken_case < 2
        attempt.name = randomized(self.name, self.rng) if mixed else self.name
        message = Message(id=attempt.id, flags=0x0100 | (0x0010 if self.cd else 0))
        message.question.append((attempt.name, self.qtype, rrtypes.IN))
        if attempt.edns:
            message.udp_size, message.do = edns.UDP_SIZE, self.do
            if transport == "udp":
                message.options[edns.COOKIE] = upstream.cookie_for(self.rng) + upstream.server_cookie
        attempt.packet = message.encode()
        if transport in ("tls", "https") and attempt.edns:
            message.options[edns.PADDING] = bytes(-(len(attempt.packet) + 4) % 128)
            attempt.packet = message.encode()
        upstream.asked += 1
        upstream.asked_by[transport] += 1
        self.attempts.append(attempt)
        return [attempt]
