"""The fixtures of the native tests: an endpoint on a memory wire."""

from tests.native.conftest import wired

__all__ = ["wired"]
