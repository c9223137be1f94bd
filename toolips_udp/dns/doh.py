"""DNS over HTTPS: one h2 connection to an upstream, POST, id 0 (RFC 8484; extra `doh`).

Imports upstream, exchange and resumption; h2 when used.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from typing import Any

from ..errors import missing_extra
from . import pins
from .exchange import Attempt
from .resumption import Resuming
from .upstream import Upstream

MOST_STREAMS = 50
MOST_BODY = 65_535
IDLE = 10.0
Report = Callable[[bytes], Any]
Lost = Callable[[str], Any]


class Client:
    """One HTTP/2 connection. `closed` is true when another one must be made."""

    def __init__(self, upstream: Upstream, tls: Resuming) -> None:
        try:
            self.h2: Any = importlib.import_module("h2.connection")
            self.config: Any = importlib.import_module("h2.config")
        except ImportError:
            raise missing_extra("DNS over HTTPS", "doh") from None
        self.upstream = upstream
        self.context = tls
        self.closed = False
        self.answered = False
        self.waiting: dict[int, tuple[Report, Lost, bytearray]] = {}
        self.early: list[tuple[Attempt, Report, Lost]] = []
        self.connection: Any = None
        self.writer: asyncio.StreamWriter | None = None
        self.task = asyncio.ensure_future(self._run())

    def send(self, attempt: Attempt, report: Report, lost: Lost) -> Callable[[], None]:
        if self.connection is None:
            self.early.append((attempt, report, lost))
        elif len(self.waiting) >= MOST_STREAMS:
            asyncio.get_running_loop().call_soon(lost, "over 50 requests at a time")
        else:
            self._post(attempt, report, lost)
        return lambda: None

    def _post(self, attempt: Attempt, report: Report, lost: Lost) -> None:
        assert self.writer is not None
        stream = self.connection.get_next_available_stream_id()
        self.waiting[stream] = (report, lost, bytearray())
        headers = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", self.upstream.name),
            (":path", self.upstream.path),
            ("content-type", "application/dns-message"),
            ("accept", "application/dns-message"),
            ("content-length", str(len(attempt.packet))),
        ]
        self.connection.send_headers(stream, headers)
        self.connection.send_data(stream, attempt.packet, end_stream=True)
        self.writer.write(self.connection.data_to_send())

    async def _run(self) -> None:
        cause = "connection closed"
        try:
            address = self.upstream.address
            reader, self.writer = await asyncio.open_connection(
                address.host, address.port, ssl=self.context, server_hostname=self.upstream.name
            )
            pins.check(self.writer, self.upstream.pin)
            self.upstream.shook_hands(self.writer)
            self.connection = self.h2.H2Connection(
                self.config.H2Configuration(client_side=True, header_encoding="utf-8")
            )
            self.connection.initiate_connection()
            self.writer.write(self.connection.data_to_send())
            for each in self.early:
                self._post(*each)
            self.early.clear()
            while True:
                async with asyncio.timeout(IDLE):
                    data = await reader.read(65_535)
                if not data:
                    break
                for event in self.connection.receive_data(data):
                    self._event(event)
                self.writer.write(self.connection.data_to_send())
        except Exception as error:  # whatever h2 or the stream raise, the questions are lost
            cause = str(error) or type(error).__name__
        finally:
            self.closed = True
            if not self.answered:
                self.context.forget()
            if self.writer is not None:
                self.writer.close()
            for _, lost, _ in list(self.waiting.values()):
                lost(cause)
            for _, _, lost in self.early:
                lost(cause)

    def _event(self, event: Any) -> None:
        kind = type(event).__name__
        stream = getattr(event, "stream_id", 0)
        found = self.waiting.get(stream)
        if kind == "DataReceived":
            self.connection.acknowledge_received_data(event.flow_controlled_length, stream)
            if found:
                found[2].extend(event.data)
                if len(found[2]) > MOST_BODY:
                    self.waiting.pop(stream)
                    found[1]("a body of over 65535 octets")
        elif kind == "ResponseReceived" and found:
            status = dict(event.headers).get(":status")
            if status != "200":
                self.waiting.pop(stream)
                found[1](f"HTTP status {status}")
        elif kind == "StreamEnded" and found:
            self.waiting.pop(stream)
            if not self.answered:
                self.answered = True
                self.context.learn(self.writer)
            found[0](bytes(found[2]))
        elif kind == "StreamReset" and found:
            self.waiting.pop(stream)
            found[1]("stream reset")
