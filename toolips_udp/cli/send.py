"""Send one message and, with --wait, print the answers.

    toolips-udp send 127.0.0.1:2000 "hello" --wait 1
    toolips-udp send 127.0.0.1:2000 --hex 0102ff --wait 1
    echo hello | toolips-udp send 127.0.0.1:2001 - --tcp --wait 1

Answers go to stdout, one per line. Exits 1 when --wait is given and none came.
"""

from __future__ import annotations

import argparse
import socket
import sys
import time

from ..address import Address
from ..errors import FormatError, ToolipsError, TooLong
from ..settings import SettingError
from . import counted, positive

LARGEST = 65507


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "to", metavar="ADDR", help="where to, as 127.0.0.1:2000, [::1]:2000 or localhost:2000"
    )
    parser.add_argument("text", nargs="?", help="what to send; - reads stdin")
    parser.add_argument("--hex", metavar="BYTES", help="what to send, as hexadecimal digits")
    parser.add_argument("--wait", type=positive, metavar="SECONDS", help="how long to wait for answers")
    parser.add_argument("--count", type=counted, default=1, metavar="N", help="answers to wait for [1]")
    parser.add_argument("--tcp", action="store_true", help="over a TCP connection")


def payload(options: argparse.Namespace) -> bytes:
    if (options.text is None) == (options.hex is None):
        raise SettingError("give a text or --hex BYTES. Example: toolips-udp send 127.0.0.1:2000 hello")
    if options.hex is not None:
        try:
            return bytes.fromhex(options.hex)
        except ValueError:
            raise SettingError(f"--hex {options.hex!r} is not pairs of hexadecimal digits, as 01ff") from None
    if options.text == "-":
        return sys.stdin.buffer.read()
    return str(options.text).encode()


def show(data: bytes) -> None:
    """An answer as text; bytes that are no printable text as \\xNN, so that a terminal is never steered."""
    text = data.decode("utf-8", "backslashreplace")
    clean = "".join(ch if ch.isprintable() or ch in "\n\t" else f"\\x{ord(ch):02x}" for ch in text)
    print(clean, flush=True)


def over_udp(to: Address, data: bytes, wait: float | None, count: int) -> int:
    family = socket.AF_INET6 if ":" in to.host else socket.AF_INET
    if len(data) > LARGEST:
        raise TooLong(
            f"{len(data)} bytes are more than one datagram holds, {LARGEST}. Use --tcp, or send less.",
            code="too-long",
        )
    came = 0
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.sendto(data, (to.host, to.port))
        until = time.monotonic() + (wait or 0)
        while wait is not None and came < count and (left := until - time.monotonic()) > 0:
            sock.settimeout(left)
            try:
                answer, who = sock.recvfrom(65536)
            except TimeoutError:
                break
            if who[1] == to.port:
                came += 1
                show(answer)
    return came


def over_tcp(to: Address, data: bytes, wait: float | None) -> int:
    came = 0
    with socket.create_connection((to.host, to.port), timeout=wait or 5) as sock:
        sock.sendall(data)
        if wait is None:
            return 0
        sock.settimeout(wait)
        try:
            while chunk := sock.recv(65536):
                came += 1
                show(chunk)
                break
        except TimeoutError:
            pass
    return came


def run(options: argparse.Namespace) -> int:
    to, data = Address.resolve(options.to, datagram=not options.tcp), payload(options)
    if not to.port:
        raise FormatError(f"{options.to!r} has no port. Expected for example {to}:2000", code="bad-address")
    try:
        if options.tcp:
            came = over_tcp(to, data, options.wait)
        else:
            came = over_udp(to, data, options.wait, options.count)
    except ConnectionRefusedError:
        raise ToolipsError(
            f"nothing listens at {to} over TCP. Does the server run, with --tcp?", code="no-answer"
        ) from None
    except OSError as error:
        raise ToolipsError(f"{to} cannot be reached: {error.strerror or error}", code="no-answer") from None
    if options.wait is not None and not came:
        raise ToolipsError(f"no answer from {to} within {options.wait:g} s", code="no-answer")
    return 0
