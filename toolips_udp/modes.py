"""The three modes of a server: UDP, TCP and HTTP. Ground floor.

`start` takes one of them, its name in any case, or a tuple of them.
"""

from __future__ import annotations

from typing import Union


class Mode:
    """A way of serving: the constants `UDP`, `TCP` and `HTTP`."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[object, ...]:
        return (mode_of, (self.name,))


UDP = Mode("UDP")
TCP = Mode("TCP")
HTTP = Mode("HTTP")
MODES: tuple[Mode, ...] = (UDP, TCP, HTTP)

AnyMode = Union[Mode, str, "tuple[Mode | str, ...]"]


def mode_of(mode: Mode | str) -> Mode:
    """The mode called `mode`. Raises `ValueError` that lists the modes.

    >>> mode_of("udp")
    UDP
    """
    if isinstance(mode, Mode):
        return mode
    if isinstance(mode, str):
        for known in MODES:
            if known.name == mode.upper():
                return known
    raise ValueError(
        f"{mode!r} is not a mode. Expected one of {', '.join(m.name for m in MODES)}, or a tuple of them"
    )


def modes_of(mode: AnyMode) -> tuple[Mode, ...]:
    """The modes in `mode`, each at most once; an empty tuple is a `ValueError`."""
    found = tuple(mode_of(m) for m in mode) if isinstance(mode, tuple) else (mode_of(mode),)
    if not found or len(set(found)) != len(found):
        raise ValueError(
            f"{mode!r} is not a choice of modes. Expected one or more of UDP, TCP, HTTP, each once"
        )
    return found
