"""A forwarder whose upstream is, in the end, this server itself (spec F7).

At start each upstream is asked for a name that nobody else knows. Who then gets a question for
that name has met itself, and does not ask this upstream any more. The names lie below `invalid.`
or the forwarder's own zone, so that they tell the world nothing (RFC 6761). Their type is ANY,
which C leaves to Python. Imports exchange, upstream, names.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any

from . import names, rrtypes
from .exchange import Attempt
from .message import ask
from .upstream import Upstream

if TYPE_CHECKING:
    from .forward import Forward

log = logging.getLogger("toolips_udp.dns.forward")


def name_for(secret: bytes, upstream: Upstream, zone: bytes) -> bytes:
    """The name that only this server and its workers know, for one upstream of one forwarder."""
    label = hashlib.blake2b(upstream.url.encode() + zone, key=secret[:64], digest_size=16).hexdigest()
    below = names.from_text("invalid.") if zone == names.ROOT else zone
    return names.join([label.encode(), b"toolips-udp-loop", *names.split(below)])


def look(forward: Forward, server: Any) -> dict[bytes, Upstream]:
    """Ask every upstream for its name once, without waiting for a reply; the names with their upstreams."""
    found: dict[bytes, Upstream] = {}
    for upstream in forward.group.upstreams:
        name = name_for(server.secret, upstream, forward.zone)
        if len(name) > 255:
            continue  # a zone with so long a name is not worth more
        found[name] = upstream
        attempt = Attempt(upstream, upstream.transport, forward.clock(), False)
        attempt.id = forward.rng.getrandbits(16) if upstream.transport != "https" else 0
        attempt.name = name
        attempt.packet = ask(name, rrtypes.ANY, id=attempt.id).encode()
        forward.network.send(attempt, _nothing, _nothing)
    return found


def met(upstream: Upstream) -> None:
    """A question came back: this upstream is ourselves."""
    if not upstream.looped:
        upstream.looped = True
        upstream.hold()
        log.error(
            "upstream %s leads back to this server, so it is not asked. Take it out of the forwarder.",
            upstream.url,
        )


def _nothing(_: object) -> None:
    """Whatever becomes of the probe: only its way back tells something."""
