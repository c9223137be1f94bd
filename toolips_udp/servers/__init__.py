"""Servers: one Server, three modes. `base` has the life cycle, `udp`, `tcp` and `http` the modes."""

from .base import Server

__all__ = ["Server"]
