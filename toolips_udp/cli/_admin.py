"""Asks the admin listener of a running server, used by _server.py for doctor.

Standard library only. What comes over the wire is bounded in size and time, and
is believed only when it has every word of both ledgers.
"""

from __future__ import annotations

import json
import re
import socket
import time
from typing import Any

from ..address import Address
from ..counters import WORDS
from ..errors import FormatError, ToolipsError

UNIX = "unix:"
PATIENCE = 3.0
"""Seconds for a whole page."""
MOST = 65_536
"""Bytes of an answer; `/counters` has under 2,000."""
EXPECTED = "that of admin=, as in 127.0.0.1:9100 or unix:/run/hello/admin"
MORE = (
    *("send_waiting", "workers", "restarts", "generation", "receive_buffer", "receive_buffer_asked"),
    *("queue_age_p50", "queue_age_p99", "loop_lag", "refused_calls"),
)
"""What `/counters` tells besides, not of every server."""

Told = dict[str, Any]


class Place:
    """Where an admin listener is. Raises `FormatError` for what is no address."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._path = text.removeprefix(UNIX) if text.startswith(UNIX) else None
        if self._path is not None:
            if not self._path or not hasattr(socket, "AF_UNIX"):
                raise FormatError(
                    f"{text!r} names no unix socket of this system. Expected {EXPECTED}", code="bad-address"
                )
            return
        try:
            self._address = Address.resolve(text, datagram=False)
        except FormatError as error:
            raise FormatError(
                f"{error}. Expected the admin address of a server: {EXPECTED}", code="bad-address"
            ) from None
        if not self._address.port:
            raise FormatError(
                f"{text!r} has no port. Expected the admin address of a server: {EXPECTED}",
                code="bad-address",
            )

    def page(self, path: str) -> tuple[int, str]:
        """Status and body of a page. Raises `ToolipsError` when nobody answers, `FormatError` for what is no HTTP."""
        try:
            raw = self._ask(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        except TimeoutError:
            raise ToolipsError(
                f"{self.text} does not answer within {PATIENCE:g} s. Does its loop stand still? Its log names the "
                f"handler that holds it. Or it is no admin listener; expected {EXPECTED}",
                code="no-answer",
            ) from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise ToolipsError(
                f"nothing listens at {self.text} over {'a unix socket' if self._path else 'TCP'}. Expected the "
                f"admin listener of a running server. Fix: start it with --admin {self.text}, or give the one it has",
                code="no-answer",
            ) from None
        except OSError as error:
            hint = (
                " Fix: ask as the user that serves"
                if isinstance(error, PermissionError)
                else f" Expected {EXPECTED}"
            )
            text = f"{self.text} cannot be asked: {error.strerror or error}.{hint}"
            raise ToolipsError(text, code="no-answer") from None
        found = re.match(rb"HTTP/1\.\d (\d{3})[ \r]", raw)
        if found is None or b"\r\n\r\n" not in raw:
            raise self.stranger(f"answers {raw[:40]!r}")
        return int(found[1]), raw.partition(b"\r\n\r\n")[2].decode("utf-8", "replace")

    def _ask(self, asked: bytes) -> bytes:
        until = time.monotonic() + PATIENCE
        family = self._address.family if self._path is None else socket.AF_UNIX
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(self._address.sockaddr() if self._path is None else self._path)
            sock.sendall(asked)
            raw = b""
            while more := sock.recv(MOST):
                raw += more
                if len(raw) > MOST:
                    raise self.stranger(f"sent more than {MOST:,} bytes")
                left = until - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                sock.settimeout(left)
        return raw

    def stranger(self, found: str) -> FormatError:
        """The error for somebody who is no admin listener of ours."""
        return FormatError(
            f"{self.text} is no admin listener of toolips_udp: it {found}. Expected JSON with both ledgers at "
            f"/counters. Fix: give the server's admin address, {EXPECTED}; not that of the mode it serves"
        )

    def counters(self) -> Told:
        """What `/counters` tells. Raises `FormatError` when that is not what a server tells."""
        status, text = self.page("/counters")
        if status != 200:
            raise self.stranger(f"answers GET /counters with status {status}")
        try:
            told = json.loads(text)
        except (ValueError, RecursionError):
            raise self.stranger(f"answers GET /counters with {text[:40]!r}") from None
        if not isinstance(told, dict) or not isinstance(told.get("addresses", {}), dict):
            raise self.stranger(f"answers GET /counters with {text[:40]!r}")
        for word in (*WORDS, "in_flight", *(word for word in MORE if word in told)):
            if type(told.get(word)) not in (int, float):
                raise self.stranger(f"has no number for {word!r} at /counters")
        return told
