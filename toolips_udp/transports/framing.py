"""Lines and frames out of a stream of bytes: bytes in, messages out.

Sans-io: no socket, clock or loop. Imports only the ground floor. Used by
`connections/tcp.py` for every stream a handler reads.
"""

from __future__ import annotations

from ..errors import FormatError, TooLong

PREFIXES = (1, 2, 4)
"""Widths of a length prefix, in bytes, big-endian."""


class Line(bytes):
    """One message of a stream: its bytes without the terminator.

    `final` is true for a last message that the client did not terminate before
    it closed its side.
    """

    __slots__ = ()
    final = False

    @property
    def text(self) -> str:
        """The bytes as UTF-8. What is not UTF-8 becomes U+FFFD; never raises."""
        return self.decode("utf-8", "replace")


class FinalLine(Line):
    """A last message without terminator."""

    __slots__ = ()
    final = True


class Inbox:
    """What has been received and not yet been read.

    A chunk that arrives while nothing waits is kept as it is, without a copy;
    leftovers are gathered in one bytearray, so that a message which arrives in
    n pieces costs O(n). The search for a terminator never looks twice at a byte.
    """

    __slots__ = ("_at", "_data", "_end", "_seen", "ended")

    def __init__(self) -> None:
        self._data: bytes | bytearray = b""
        self._at = 0  # first unread byte
        self._seen = 0  # up to here there is no `_end`
        self._end = b""
        self.ended = False

    def __len__(self) -> int:
        return len(self._data) - self._at

    def feed(self, chunk: bytes) -> None:
        """Add what was received."""
        data, at = self._data, self._at
        if at == len(data):
            self._data = chunk
        elif isinstance(data, bytearray):
            if at:
                del data[:at]
            data += chunk
        else:
            self._data = bytearray(data[at:]) if at else bytearray(data)
            self._data += chunk
        self._seen -= at
        if self._seen < 0 or self._data is chunk:
            self._seen = 0
        self._at = 0

    def end(self) -> None:
        """The other side has closed: nothing more will be fed."""
        self.ended = True

    def clear(self) -> None:
        """Forget what is unread."""
        self._data = b""
        self._at = self._seen = 0

    def take(self, limit: int) -> bytes:
        """The next bytes, at most `limit`; empty when nothing is here."""
        data, at = self._data, self._at
        if at == 0 and len(data) <= limit:
            self.clear()
            return data if isinstance(data, bytes) else bytes(data)
        return self._cut(min(len(data) - at, limit), 0)

    def line(self, end: bytes, limit: int) -> Line | None:
        """The next line, or None while it is not complete.

        After `end()` what is left comes once, as a `FinalLine`. More than
        `limit` bytes without the terminator raise `TooLong`.
        """
        data, at = self._data, self._at
        if end != self._end:
            self._end = end
            self._seen = at
        stop = data.find(end, at if self._seen <= at else self._seen)
        if stop < 0:
            size = len(data) - at
            if size > limit + len(end) - 1:
                raise TooLong(f"a line of more than {limit} bytes has no terminator {end!r} yet")
            if self.ended and size:
                return FinalLine(self._cut(size, 0))
            self._seen = max(at, len(data) - len(end) + 1)
            return None
        if stop - at > limit:
            raise TooLong(f"a line has {stop - at} bytes; the limit is {limit}")
        after = stop + len(end)
        if end == b"\n" and stop > at and data[stop - 1] == 13:
            stop -= 1
        line = Line(data[at:stop])
        if after == len(data):
            self._data = b""
            self._at = self._seen = 0
        else:
            self._at = self._seen = after
        return line

    def frame(self, prefix: int, limit: int) -> bytes | None:
        """The next length-prefixed message, or None while it is not complete.

        A length of 0 is a `FormatError`, one above `limit` is `TooLong`, both
        known from the prefix alone: nothing is kept for a message that will
        be refused.
        """
        data, at = self._data, self._at
        have = len(data) - at - prefix
        if have < 0:
            return None
        size = int.from_bytes(data[at : at + prefix], "big")
        if size == 0:
            raise FormatError("a frame of length 0; a frame holds at least one byte")
        if size > limit:
            raise TooLong(f"a frame of {size} bytes is announced; the limit is {limit}")
        return None if size > have else self._cut(size, prefix)

    def _cut(self, size: int, skip: int) -> bytes:
        start = self._at + skip
        stop = start + size
        piece = self._data[start:stop]
        if stop == len(self._data):
            self.clear()
        else:
            self._at = self._seen = stop
        return piece if isinstance(piece, bytes) else bytes(piece)


def framed(data: bytes, prefix: int) -> bytes:
    """`data` behind its length, big-endian in `prefix` bytes.

    >>> framed(b"ab", 2)
    b'\\x00\\x02ab'
    """
    if not data:
        raise ValueError("an empty frame cannot be written: a length of 0 closes the connection")
    if len(data) >= 1 << (8 * prefix):
        raise TooLong(f"{len(data)} bytes do not fit behind a length of {prefix} bytes")
    return len(data).to_bytes(prefix, "big") + data
