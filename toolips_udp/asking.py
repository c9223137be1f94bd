"""Asking another server and waiting for its answer: `request` blocks, `ask` is awaited.

Above the ground floor, below connections, which offer it as `c.request`.
"""

from __future__ import annotations

import asyncio
import socket
import time
import weakref
from typing import Any

import msgspec

from .address import Address, AnyAddress
from .typed import encode

LOOPS: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
"""Loops that serve; blocking calls refuse to run on them."""


def request(data: Any, to: AnyAddress, timeout: float = 1.0, retries: int = 0) -> bytes:
    """Send one datagram from a fresh socket and return the answer.

    Only an answer from `to` counts. Asked 1 + `retries` times, `timeout` seconds
    each; then `TimeoutError`. It blocks: in an `async def` handler use `await
    c.request(...)`; on a server's own loop it raises `RuntimeError`.

    >>> request("hello friend", "127.0.0.1:3001")
    b'hello'
    """
    _refuse_on_a_serving_loop()
    raw, address = raw_bytes(data), Address.resolve(to)
    with socket.socket(address.family, socket.SOCK_DGRAM) as sock:
        for _ in range(retries + 1):
            sock.sendto(raw, address.sockaddr())
            end = time.monotonic() + timeout
            while (left := end - time.monotonic()) > 0:
                sock.settimeout(left)
                try:
                    answer, peer = sock.recvfrom(65536)
                except TimeoutError:
                    break
                except ConnectionError:
                    continue  # port unreachable, on systems that say it: a later answer may still come
                if Address.of(peer) == address:
                    return answer
    raise _timed_out(address, timeout, retries)


async def ask(data: Any, to: Address, timeout: float = 1.0, retries: int = 0) -> bytes:
    """`request` for coroutines: waits without holding the loop. Used by `c.request`."""
    loop = asyncio.get_running_loop()
    with socket.socket(to.family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        answer: asyncio.Future[bytes] = loop.create_future()

        def readable() -> None:
            try:
                while not answer.done():
                    packet, peer = sock.recvfrom(65536)
                    if Address.of(peer) == to:
                        answer.set_result(packet)
            except (BlockingIOError, InterruptedError, ConnectionError):
                pass
            except OSError as error:
                if not answer.done():
                    answer.set_exception(error)

        loop.add_reader(sock.fileno(), readable)
        try:
            for _ in range(retries + 1):
                sock.sendto(data, to.sockaddr())
                done, _ = await asyncio.wait([answer], timeout=timeout)
                if done:
                    return answer.result()
        finally:
            loop.remove_reader(sock.fileno())
            answer.cancel()
    raise _timed_out(to, timeout, retries)


def raw_bytes(data: Any) -> Any:
    """What is sent for `data`: bytes-like as it is, text as UTF-8, a Struct as msgpack."""
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, bytes | bytearray | memoryview):
        return data
    if isinstance(data, msgspec.Struct):
        return encode(data, False)
    raise TypeError(f"a datagram is bytes, text or a msgspec Struct, found {type(data).__name__}")


def _timed_out(address: Address, timeout: float, retries: int) -> TimeoutError:
    tries = f"{retries + 1} tries of {timeout} s" if retries else f"{timeout} s"
    return TimeoutError(f"no answer from {address} within {tries}")


def _refuse_on_a_serving_loop() -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    if loop in LOOPS:
        raise RuntimeError(
            "request blocks, and this is the loop of a server: every client would wait. "
            "Fix: await c.request(...), or await asyncio.to_thread(request, ...)"
        )
