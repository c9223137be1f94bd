"""How a message travels to a peer. Imports nothing of ours; every peer transport and both houses use it."""

from __future__ import annotations

from enum import IntEnum


class Delivery(IntEnum):
    """What may happen to a message on its way."""

    RELIABLE = 0
    """Arrives exactly once, in order per channel."""
    SEQUENCED = 1
    """May be lost; never late, never twice: only what is newer than the last one arrives."""
    UNSEQUENCED = 2
    """May be lost or overtake; never twice."""


RELIABLE = Delivery.RELIABLE
SEQUENCED = Delivery.SEQUENCED
UNSEQUENCED = Delivery.UNSEQUENCED
