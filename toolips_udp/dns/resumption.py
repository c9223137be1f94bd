"""TLS sessions that are taken up again: who comes back to an upstream needs no whole handshake (spec F5).

asyncio and uvloop make the TLS object of a connection by the context's `wrap_bio`, so a context that hands over
the session it keeps is all it takes. A resumed session shows no certificate: what was believed of the peer
stands in the session, and `pins.check` finds the certificate there. So a context serves one upstream only, by
everything that decides whom we believe, and both end after an hour. Imports upstream; called by sockets and doh.
"""

from __future__ import annotations

import ssl
import sys
from typing import Any

from .upstream import Upstream

KEPT_FOR = 3600.0
"""Seconds until an upstream must show its certificate again, and the authorities are read again."""
MOST_CONTEXTS = 64
"""Upstreams whose sessions are kept; the one that was made first goes."""


class Resuming(ssl.SSLContext):
    """A client's context for one upstream, with the last session that the upstream gave it.

    `learn` keeps the session of a connection that has answered, `forget` drops the one that is kept. A server
    that does not know it any more makes a whole handshake of it, with all that is checked in one.
    """

    born: float
    kept: ssl.SSLSession | None = None

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session or self.kept)

    def learn(self, connection: Any) -> None:
        """Keep the session of a connection; call it after the first answer, for TLS 1.3 sends tickets late."""
        tls = connection.get_extra_info("ssl_object")
        session = tls.session if tls is not None else None
        if session is not None and session.id:  # without one, no ticket has come
            self.kept = session

    def forget(self) -> None:
        """The next handshake is a whole one: this session led to no answer."""
        self.kept = None


def context_for(upstream: Upstream, alpn: str, ca: str | None) -> Resuming:
    """A context that verifies the upstream's name, or leaves its key to `pins.check`; TLS 1.2 or later."""
    context = Resuming(ssl.PROTOCOL_TLS_CLIENT)
    if upstream.pin is not None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif ca is not None:
        context.load_verify_locations(ca)
    else:
        context.load_default_certs()
    if sys.version_info >= (3, 13):  # as ssl.create_default_context does from there on
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([alpn])
    return context


class Contexts:
    """The contexts of one service's upstreams, by all that decides whom we believe."""

    def __init__(self, ca: str | None = None) -> None:
        self.ca = ca
        self.kept: dict[tuple[Any, ...], Resuming] = {}

    def get(self, upstream: Upstream, alpn: str, now: float) -> Resuming:
        """The context for a connection that begins now."""
        key = (alpn, upstream.address, upstream.name, upstream.pin)
        found = self.kept.get(key)
        if found is None or now - found.born > KEPT_FOR:
            self.kept.pop(key, None)
            if len(self.kept) >= MOST_CONTEXTS:
                del self.kept[next(iter(self.kept))]
            found = self.kept[key] = context_for(upstream, alpn, self.ca)
            found.born = now
        return found
