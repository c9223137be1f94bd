"""Enet: the transport of games and messages, and the host behind it.

Imports the native core, or the Python twin where there is none. A host is made
here and nowhere else, so that limits have one place.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from .delivery import Delivery
from .peer import Peer

DELIVERIES = tuple(Delivery)
CHECKSUM = {False: 0, True: 1, "auto": 2}


def native_core() -> Any:
    """The module of the native ENet, or None where it is not built or not wanted."""
    if os.environ.get("TOOLIPS_UDP_PURE") == "1":
        return None
    try:
        from .._native import enet
    except ImportError:
        return None
    return enet


def caps_of(max_message: int = 65_536, **caps: Any) -> dict[str, Any]:
    """Every cap by name, those not given from `max_message`. `ValueError` for one that cannot work."""
    if not 1 <= max_message <= 1 << 30:
        raise ValueError(f"max_message is 1 byte to 1 GiB, found {max_message!r}")
    many = max(8 * max_message, 256 * 1024)
    known: dict[str, Any] = {
        "max_message": max_message,
        "max_fragments": -(-max_message // 544),
        "max_groups": 16,
        "group_bytes": many,
        "reassembly_bytes": max(16 << 20, 2 * many),
        "max_waiting": 1024,
        "waiting_bytes": many,
        "queue_bytes": many,
        "queue_age": 1.0,
        "max_acks": 1024,
        "rate": 500,
        "byte_rate": 512 * 1024,
        "max_malformed": 16,
        "per_prefix": 1024,
        "limit_loopback": False,
        "memory": 1 << 30,
        "silent": False,
    }
    for name, value in caps.items():
        if name not in known:
            raise TypeError(f"there is no cap called {name!r}. Known: {', '.join(known)}")
        if value < 0:
            raise ValueError(f"{name} is 0 or more, found {value!r}")
        if name in ("group_bytes", "waiting_bytes", "queue_bytes") and value < 8 * max_message:
            raise ValueError(
                f"{name}={value:,} is less than 8 x max_message ({8 * max_message:,}), so a few messages would "
                f"fill it. Fix: a smaller max_message, or {name}={8 * max_message:,}"
            )
        known[name] = value
    known["queue_age"] = round(known["queue_age"] * 1000)
    return {name: int(value) for name, value in known.items()}


class Enet:
    """ENet 1.3 for stock clients. `checksum="auto"` does as each client does; True and False force it.

    >>> Game(Enet(checksum=True))
    """

    name = "enet"

    def __init__(self, checksum: bool | str = "auto", mtu: int = 1392) -> None:
        if checksum not in (True, False, "auto"):
            raise ValueError(f"checksum is True, False or 'auto', found {checksum!r}")
        if not 576 <= mtu <= 4096:
            raise ValueError(f"the MTU of ENet is 576 to 4096 bytes of UDP payload, found {mtu!r}")
        self.checksum = checksum
        self.mtu = mtu

    def host(
        self, secret: bytes, peer: type | None = None, *, native: bool | None = None, **settings: Any
    ) -> Any:
        """A host with these settings (see `native/enet.h`). `peer` is a mixin above `Peer` for its peers.

        `native` True or False asks for the C or the Python one; None takes what there is.
        """
        core = native_core() if native is not False else None
        if core is None and native:
            raise ImportError("the native core is not built, so there is no native ENet host")
        if core is None:
            core = importlib.import_module(f"{__package__}.enet_host")
        bases = (peer, Peer, core.Peer) if peer is not None else (Peer, core.Peer)
        made = type("Peer", bases, {"__module__": __name__})
        settings = {"checksum": CHECKSUM[self.checksum], "mtu": self.mtu, "accept": 1, **settings}
        return core.Host(secret=secret, peer_class=made, deliveries=DELIVERIES, **settings)
