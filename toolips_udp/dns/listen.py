"""What a listen text means: transports, address and path. Imports the ground floor only."""

from __future__ import annotations

from urllib.parse import urlsplit

from ..address import Address
from ..errors import StartError

PORTS = {"udp": 53, "tcp": 53, "": 53, "tls": 853, "https": 443}


def split(text: str) -> tuple[tuple[str, ...], Address, str]:
    """The transports, address and path of a listen text.

    >>> split("tls://127.0.0.1:853")[0]
    ('tls',)
    """
    parts = urlsplit(
        text if "://" in text else f"//{text if text.count(':') < 2 or '[' in text else f'[{text}]'}"
    )
    if parts.scheme == "quic":
        raise StartError(
            f"listen address {text!r}: DNS over QUIC is not here yet. Use tls://.", code="bad-address"
        )
    if parts.scheme not in PORTS:
        raise StartError(
            f"listen address {text!r}: expected udp://, tcp://, tls://, https:// or an address alone.",
            code="bad-address",
        )
    try:
        port = PORTS[parts.scheme] if parts.port is None else parts.port
        address = Address(parts.hostname or "", port)
    except ValueError as error:
        raise StartError(f"listen address {text!r} cannot be used ({error}).", code="bad-address") from None
    return (parts.scheme,) if parts.scheme else ("udp", "tcp"), address, parts.path or "/dns-query"
