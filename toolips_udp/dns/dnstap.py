"""dnstap: questions and answers, whole, to a reader on a unix socket (spec O5).

C writes frames of what it answers and asks into a ring, Python what goes through its own
hands into a queue; a thread moves both to the socket, as Frame Streams. Imports framestream,
the native DNS.
"""

from __future__ import annotations

import atexit
import ipaddress
import logging
import os
import queue
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import FormatError
from .framestream import Writer, frame

try:
    from .._native import dns as native
except ImportError:
    native = None  # type: ignore[assignment]

log = logging.getLogger("toolips_udp.dns")
CONTENT_TYPE = b"protobuf:dnstap.Dnstap"
AUTH, RESOLVER, CLIENT, FORWARDER = 1, 3, 5, 7
"""`dnstap.Message.Type` of a question; that of the answer is one more."""
PROTOCOLS = {"udp": 1, "tcp": 2, "tls": 3, "https": 4, "quic": 7}
LOOK = 0.02
"""Seconds between looks into the ring."""
PATIENCE = 2.0
"""Seconds that the reader may take for one answer or one write."""
AGAIN = (0.1, 5.0)
"""Seconds until the next try to connect: at first, and at most."""
MOST_WAITING = 10_000
VARINT, OCTETS, FIXED32 = 0, 2, 5


def number(value: int) -> bytes:
    """A number as protobuf writes it, seven bits in an octet."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def field(identity: int, value: int | bytes) -> bytes:
    """One field of a protobuf message."""
    if isinstance(value, int):
        return number(identity << 3 | VARINT) + number(value)
    return number(identity << 3 | OCTETS) + number(len(value)) + value


def moment(identity: int, ns: int) -> bytes:
    """A time: seconds in one field, nanoseconds in the next."""
    return field(identity, ns // 10**9) + number(identity + 1 << 3 | FIXED32) + struct.pack("<I", ns % 10**9)


def message(
    kind: int,
    *,
    transport: str = "udp",
    client: tuple[str, int] | None = None,
    server: tuple[str, int] | None = None,
    asked: int = 0,
    said: int = 0,
    query: bytes | None = None,
    reply: bytes | None = None,
) -> bytes:
    """A `dnstap.Message`, without what is not known. `client` is who asks; times are ns since 1970.

    >>> message(AUTH, client=("192.0.2.1", 5353), query=packet)
    """
    hosts = [ipaddress.ip_address(end[0].partition("%")[0]) if end else None for end in (client, server)]
    known = next((host for host in hosts if host is not None), None)
    parts = [field(1, kind)]
    if known is not None:
        parts.append(field(2, 1 if known.version == 4 else 2))
    parts.append(field(3, PROTOCOLS.get(transport, 1)))
    parts += [field(4 + i, host.packed) for i, host in enumerate(hosts) if host is not None]
    parts += [field(6 + i, end[1]) for i, end in enumerate((client, server)) if end and end[1]]
    parts.append(moment(8, asked) if asked else b"")
    parts.append(field(10, query) if query is not None else b"")
    parts.append(moment(12, said) if said else b"")
    parts.append(field(14, reply) if reply is not None else b"")
    return b"".join(parts)


def envelope(content: bytes, identity: bytes = b"", version: bytes = b"") -> bytes:
    """The `dnstap.Dnstap` of a message: its frame, length in front."""
    named = (field(1, identity[:64]) if identity else b"") + (field(2, version[:64]) if version else b"")
    return frame(named + field(14, content) + field(15, 1))


class Dnstap:
    """Tells a reader on the unix socket `path` of questions and answers, `sample` of all (0 to 1).

    Nobody waits for the reader: while there is none, frames are kept as long as there is room,
    then lost and counted in `lost`. A reader that comes, or comes again, is found by itself.

    >>> service.dnstap = Dnstap(Path("/run/dnstap.sock"), identity="ns1")
    """

    def __init__(self, path: Path, sample: float = 1.0, *, identity: str = "", version: str = "") -> None:
        self.path = path
        self.sample = sample
        self.named = (identity.encode(), version.encode())
        self.ring = None
        if native is not None and os.environ.get("TOOLIPS_UDP_PURE") != "1":
            self.ring = native.Tap(sample, identity=self.named[0][:64], version=self.named[1][:64])
        self._queue: queue.Queue[bytes] = queue.Queue(MOST_WAITING)
        self._lost = 0
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._said = ""

    @property
    def lost(self) -> int:
        """Frames that found no room, or a reader that went away."""
        return self._lost + (self.ring.lost if self.ring is not None else 0)

    # -- on the loop

    def note(
        self, packet: bytes, answer: bytes, client: tuple[str, int], transport: str, waited: float
    ) -> None:
        """An answer of Python goes out, so many seconds after its question came."""
        if not self._chosen():
            return
        said = time.time_ns()
        kind = CLIENT if answer[3] & 0x80 else AUTH
        asked = said - round(waited * 1e9)
        self._put(message(kind, transport=transport, client=client, asked=asked, query=packet))
        self._put(message(kind + 1, transport=transport, client=client, asked=asked, said=said, reply=answer))

    def asked(self, packet: bytes, upstream: tuple[str, int], transport: str) -> None:
        """Python asks an upstream."""
        if self._chosen():
            self._put(
                message(FORWARDER, transport=transport, server=upstream, asked=time.time_ns(), query=packet)
            )

    def told(self, data: bytes, upstream: tuple[str, int], transport: str, took: float) -> None:
        """An upstream has answered Python, after so many seconds."""
        if self._chosen():
            said = time.time_ns()
            asked = said - round(took * 1e9)
            self._put(
                message(
                    FORWARDER + 1, transport=transport, server=upstream, asked=asked, said=said, reply=data
                )
            )

    def _chosen(self) -> bool:
        return self.sample >= 1.0 or random.random() < self.sample

    def _put(self, content: bytes) -> None:
        try:
            self._queue.put_nowait(envelope(content, *self.named))
        except queue.Full:
            self._lost += 1

    # -- in the thread

    def start(self) -> None:
        """Begin to connect and to send."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="toolips_udp dnstap", daemon=True)
            self._thread.start()
            atexit.register(self.close)

    def close(self) -> None:
        """Send what waits, say STOP, wait a moment for FINISH."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(2 * PATIENCE + 1)
        atexit.unregister(self.close)

    def _run(self) -> None:
        pause = AGAIN[0]
        while not self._ending.is_set():
            try:
                with self._connected() as sock:
                    pause = AGAIN[0]
                    self._send_all(sock)
            except (OSError, FormatError) as wrong:
                self._tell(f"no dnstap reader at {self.path}: {wrong}")
                self._ending.wait(pause)
                pause = min(2 * pause, AGAIN[1])

    def _tell(self, text: str, level: int = logging.WARNING) -> None:
        """Once, until there is something else to say."""
        if text != self._said:
            log.log(level, "%s", text)
            self._said = text

    def _connected(self) -> socket.socket:
        """A connection on which both have agreed what comes."""
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(PATIENCE)
            sock.connect(os.fspath(self.path))
            self._writer = Writer(CONTENT_TYPE)
            sock.sendall(self._writer.hello)
            self._hear(sock, lambda: self._writer.ready)
        except BaseException:
            sock.close()
            raise
        self._tell(f"dnstap goes to {self.path}", logging.INFO)
        return sock

    def _hear(self, sock: socket.socket, enough: Callable[[], bool]) -> None:
        while not enough():
            data = sock.recv(4096)
            if not data:
                raise OSError("it closed the connection")
            answer = self._writer.receive(data)
            if answer:  # whoever said FINISH may be gone
                sock.sendall(answer)

    def _send_all(self, sock: socket.socket) -> None:
        """Move frames until the end is wanted. A reader that is gone is found by the next write, of nothing too."""
        while True:
            ending = self._ending.is_set()
            found = self._frames()
            try:
                sock.sendall(found)
            except OSError:
                self._lost += count(found)
                raise
            if ending:
                break
            if len(found) < 1 << 16:
                self._ending.wait(LOOK)
        sock.sendall(self._writer.end())
        self._hear(sock, lambda: self._writer.finished)

    def _frames(self) -> bytes:
        found = [self.ring.take()] if self.ring is not None else []
        while len(found) <= MOST_WAITING:
            try:
                found.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return b"".join(found)


def count(frames: bytes) -> int:
    """How many frames these octets are."""
    at = found = 0
    while at < len(frames):
        at += 4 + int.from_bytes(frames[at : at + 4], "big")
        found += 1
    return found
