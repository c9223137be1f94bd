"""Frames: what a message of the carrier holds after the login, as msgpack arrays. See docs/wire/messages.md.

A message is one frame, or several that were short: an array of frames, always with a length of two bytes, which a
frame never has. Imports the ground floor. Sans-io: bytes to frames and back. What is no frame raises `BadFrame`, what
has an unknown kind `BadAction`; nothing else can be raised, whatever the bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from ..depth import step
from ..typed import DEPTH, Malformed, check_msgpack_depth
from .errors import BadAction, BadFrame

Id = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
Name = Annotated[str, msgspec.Meta(max_length=256)]
MOST_KEYS = 1024
"""Keys of one map."""
SEVERAL = 0xDC
"""The first byte of several frames."""
MOST_TOGETHER = 1024
"""Frames in one message."""


class _Frame(msgspec.Struct, array_like=True, gc=False):
    """Base of all frames: an array whose first item is the kind."""


class Operation(_Frame, tag=1):
    """Client to server: run this operation."""

    id: Id
    name: Name
    payload: Any = None


class Result(_Frame, tag=2):
    """Server to client: what an operation returned."""

    id: Id
    value: Any = None


class Text(_Frame, tag=3):
    """Either way: a message; `replying` is the id of the one it answers, of the other side, or 0."""

    id: Id
    content: Annotated[str, msgspec.Meta(max_length=65_536)]
    data: Any = None
    replying: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0


class Done(_Frame, tag=4):
    """Server to client: the listeners of that message have run."""

    id: Id


class Failed(_Frame, tag=5):
    """Server to client: an operation or message failed; `id` 0 when it is not known which."""

    id: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    code: Annotated[int, msgspec.Meta(ge=0, le=255)]
    text: str = ""
    error: str = ""
    path: str = ""


class Ping(_Frame, tag=6):
    """Either way: are you there?"""

    number: int = 0


class Pong(_Frame, tag=7):
    """The answer to a ping."""

    number: int = 0


Frame = Operation | Result | Text | Done | Failed | Ping | Pong
KINDS = range(1, 8)


def _no_extensions(code: int, data: memoryview) -> Any:
    raise ValueError(f"msgpack extension {code}")


_decode: Any = msgspec.msgpack.Decoder(Frame, ext_hook=_no_extensions).decode
_decode_several: Any = msgspec.msgpack.Decoder(
    Annotated[list[Operation | Result | Text | Done | Failed], msgspec.Meta(min_length=1, max_length=MOST_TOGETHER)],
    ext_hook=_no_extensions,
).decode


write: Callable[[Frame], bytes] = msgspec.msgpack.Encoder().encode
"""The bytes of a frame. Raises `TypeError`, `ValueError` or `OverflowError` for what msgpack cannot hold."""


def together(bodies: list[bytes]) -> bytes:
    """The bytes of several frames that are written already, at most 1024 of them, none a ping or a pong."""
    return b"\xdc" + len(bodies).to_bytes(2, "big") + b"".join(bodies)


def read(body: bytes) -> Any:
    """The frame in `body`, or a list of several. Raises `BadFrame` or `BadAction`."""
    try:
        several = body[0] == SEVERAL
        if len(body) > DEPTH:  # each level takes a byte
            check_msgpack_depth(body, DEPTH + several)
            if b"\xde" in body or b"\xdf" in body:
                check_maps(body)
        return _decode_several(body) if several else _decode(body)
    except (msgspec.DecodeError, Malformed, ValueError, IndexError, RecursionError, OverflowError) as error:
        if len(body) > 1 and 0x90 < body[0] <= 0x9F and body[1] <= 0x7F and body[1] not in KINDS:
            raise BadAction(f"there is no frame of kind {body[1]}") from None
        raise BadFrame(f"no frame: {error}") from None


def check_maps(body: bytes) -> None:
    """Raise `Malformed` when a map has more keys than allowed, or keys that are no text.

    Small maps (up to 15 keys) cannot be told to collide in a way that matters; this runs when there may be others.
    """
    waiting: list[list[int]] = []  # [items still missing, 1 for a large map]
    at, end = 0, len(body)
    while at < end:
        while waiting and waiting[-1][0] == 0:
            waiting.pop()
        byte = body[at]
        if waiting:
            top = waiting[-1]
            if top[1] and top[0] % 2 == 0 and not (0xA0 <= byte <= 0xBF or 0xD9 <= byte <= 0xDB):
                raise Malformed("a map whose keys are not text")
            top[0] -= 1
        at, items = step(body, at)
        large = byte in (0xDE, 0xDF)
        if large and items > 2 * MOST_KEYS:
            raise Malformed(f"a map of more than {MOST_KEYS} keys")
        if items:
            waiting.append([items, int(large)])
