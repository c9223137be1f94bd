"""Frame Streams, the side that writes: control frames of one connection, sans-io (spec O5).

A data frame is four octets of length and its content; a length of zero begins a control
frame: its length, its type, its fields. Before data the two sides agree on what it is:
READY, ACCEPT, START; at the end STOP, FINISH. Imports errors. Called by `dnstap`.
"""

from __future__ import annotations

import struct

from ..errors import FormatError

ACCEPT, START, STOP, READY, FINISH = 1, 2, 3, 4, 5
NAMES = {ACCEPT: "ACCEPT", START: "START", STOP: "STOP", READY: "READY", FINISH: "FINISH"}
CONTENT_TYPE = 1
MOST_CONTROL = 512
"""Octets of a control frame."""


def frame(content: bytes) -> bytes:
    """A data frame."""
    return struct.pack("!I", len(content)) + content


def control(kind: int, content_type: bytes = b"") -> bytes:
    """A control frame."""
    fields = struct.pack("!II", CONTENT_TYPE, len(content_type)) + content_type if content_type else b""
    return struct.pack("!III", 0, 4 + len(fields), kind) + fields


def content_types(fields: bytes) -> list[bytes]:
    """The content types in a control frame. `FormatError` for a field that is cut short or unknown."""
    found: list[bytes] = []
    while fields:
        if len(fields) < 8:
            raise FormatError("a field of a Frame Streams control frame is cut short.")
        kind, length = struct.unpack_from("!II", fields)
        if kind != CONTENT_TYPE or length > len(fields) - 8:
            raise FormatError(f"a Frame Streams control frame has field {kind} of {length} octets.")
        found.append(fields[8 : 8 + length])
        fields = fields[8 + length :]
    return found


class Writer:
    """One connection to somebody who reads frames.

    Send `hello`; give `receive` what comes and send what it returns; data may be sent once `ready` is true.
    Send `end()` behind the last of it; when `finished` is true the reader has it all.
    """

    def __init__(self, content_type: bytes) -> None:
        self.content_type = content_type
        self.ready = False
        self.finished = False
        self.hello = control(READY, content_type)
        self._waiting = b""
        self._ended = False

    def receive(self, data: bytes) -> bytes:
        """What the reader said. Octets to send back; `FormatError` when it is not what was expected."""
        self._waiting += data
        said = b""
        while len(self._waiting) >= 8:
            escape, length = struct.unpack_from("!II", self._waiting)
            if escape or not 4 <= length <= MOST_CONTROL:
                raise FormatError(
                    "the reader of a frame stream sent something else than a control frame. "
                    "Is it one, and bidirectional?"
                )
            if len(self._waiting) < 8 + length:
                break
            (kind,) = struct.unpack_from("!I", self._waiting, 8)
            fields, self._waiting = self._waiting[12 : 8 + length], self._waiting[8 + length :]
            said += self._control(kind, fields)
        return said

    def _control(self, kind: int, fields: bytes) -> bytes:
        if kind == ACCEPT and not self.ready:
            wanted = content_types(fields)
            if wanted and self.content_type not in wanted:
                raise FormatError(
                    f"the reader takes {b', '.join(wanted)!r}, expected {self.content_type!r}. "
                    "Start it for this content type."
                )
            self.ready = True
            return control(START, self.content_type)
        if kind == FINISH and self._ended:
            self.finished = True
            return b""
        raise FormatError(f"the reader of a frame stream sent {NAMES.get(kind, kind)} out of turn.")

    def end(self) -> bytes:
        """No more data."""
        self._ended = True
        return control(STOP)
