"""The native transport: batches in C. Above the ground floor and connections.

`toolips_udp/_native/endpoint.pyx` does the work; see there. This module joins
its connection with the verbs of `UDPConnection`.
"""

from __future__ import annotations

from .._native.endpoint import Connection, Endpoint, Faults, MemoryWire, shared_size
from ..connections.udp import UDPConnection

__all__ = ["Endpoint", "Faults", "MemoryWire", "NativeUDPConnection", "connection_class", "shared_size"]


class NativeUDPConnection(Connection, UDPConnection):  # type: ignore[override]  # properties in C
    """One datagram in; what is in the path of every packet is C."""

    __slots__ = ()


connection_class = NativeUDPConnection
