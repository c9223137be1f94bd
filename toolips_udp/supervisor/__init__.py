"""Many workers on one port: a supervisor that holds the sockets, and processes that serve them.

Sockets outlive workers, a warm spare takes a dead one's place, a reload loses
nothing. Above servers; called by starting. Nothing of this is loaded for `workers=1`.
"""

from __future__ import annotations

from .server import SupervisedServer

__all__ = ["SupervisedServer"]
