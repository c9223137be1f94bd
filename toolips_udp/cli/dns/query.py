"""Ask a DNS server one question: a small dig.

    toolips-udp dns query www.example.test A @127.0.0.1:5300
    toolips-udp dns query example.test SOA @127.0.0.1:5300 --tcp --dnssec --short

Without @SERVER the first one of /etc/resolv.conf is asked. A truncated reply is asked again over
TCP. Exits 1 when there is no reply, or an RCODE other than NOERROR.
"""

from __future__ import annotations

import argparse
import json
import secrets
import socket
import time
from pathlib import Path

from ...address import Address
from ...dns import edns, rrtypes
from ...dns.message import Message, ask
from ...errors import FormatError, ToolipsError
from .. import Parser, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags(parser)
    parser.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="NAME [TYPE] [@SERVER[:PORT]]",
        help="in any order; flags may stand between",
    )


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tcp", action="store_true", help="ask over TCP")
    parser.add_argument("--dnssec", action="store_true", help="ask for signatures (DO)")
    parser.add_argument("--no-recurse", action="store_true", help="clear RD")
    parser.add_argument("--short", action="store_true", help="only the data of the answer")
    parser.add_argument("--json", action="store_true", help="the reply as JSON")
    parser.add_argument("--wait", type=positive, default=3.0, metavar="SECONDS", help="how long to wait [3]")


def system_server() -> str:
    """The first name server of resolv.conf."""
    try:
        for line in Path("/etc/resolv.conf").read_text().splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver":
                return words[1]
    except OSError:
        pass
    raise FormatError(
        "no server to ask: /etc/resolv.conf names none. Write @SERVER, as in @127.0.0.1:5300.",
        code="bad-argument",
    )


def place(text: str) -> Address:
    """An address, port 53 unless given."""
    return Address.parse(text) if text.count(":") == 1 or "]:" in text else Address(text.strip("[]"), 53)


def udp(packet: bytes, to: Address, wait: float) -> bytes:
    """The reply to a datagram; forged and late ones are passed over."""
    family = socket.AF_INET6 if ":" in to.host else socket.AF_INET
    deadline = time.monotonic() + wait
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((to.host, to.port))
        sock.send(packet)
        while True:
            sock.settimeout(max(0.001, deadline - time.monotonic()))
            data = sock.recv(65_535)
            if data[:2] == packet[:2] and len(data) >= 12 and data[2] & 0x80:
                return data


def tcp(packet: bytes, to: Address, wait: float) -> bytes:
    """The reply over a stream."""
    with socket.create_connection((to.host, to.port), timeout=wait) as sock:
        sock.sendall(len(packet).to_bytes(2, "big") + packet)
        with sock.makefile("rb") as stream:
            size = int.from_bytes(stream.read(2), "big")
            data = stream.read(size)
    if not size or len(data) < size:
        raise ConnectionError("the server closed the connection without a reply")
    return data


def show(message: Message, to: Address, seconds: float, size: int) -> None:
    """The reply as dig would print it, more or less."""
    bits = (("qr", 15), ("aa", 10), ("tc", 9), ("rd", 8), ("ra", 7), ("ad", 5), ("cd", 4))
    flags = " ".join(word for word, bit in bits if message.flags >> bit & 1)
    print(f";; {rrtypes.rcode_name(message.rcode)}, id {message.id}, flags: {flags}")
    for code, value in message.options.items():
        if code == edns.EDE:
            number = int.from_bytes(value[:2], "big")
            text = ascii(value[2:].decode("utf-8", "replace"))
            print(f";; extended error {number} ({rrtypes.EDE_NAMES.get(number, '?')}) {text}")
    for title, lines in message.texts().items():
        if lines:
            print(f";; {title}")
            print("\n".join(lines))
    print(f";; {size} octets from {to} in {seconds * 1000:.1f} ms")


def intermixed(options: argparse.Namespace) -> argparse.Namespace:
    """Flags may stand between NAME, TYPE and @SERVER, as dig's do."""
    parser = Parser(prog="toolips-udp dns query")
    flags(parser)
    parser.set_defaults(**vars(options))
    parser.add_argument("rest", nargs="*")
    found = parser.parse_intermixed_args(options.words)
    found.words = found.rest
    return found


def run(options: argparse.Namespace) -> int:
    options = intermixed(options)
    servers = [word[1:] for word in options.words if word.startswith("@")]
    rest = [word for word in options.words if not word.startswith("@")]
    if not 1 <= len(rest) <= 2 or len(servers) > 1:
        raise FormatError("expected NAME, at most one TYPE and at most one @SERVER.", code="bad-argument")
    to = place(servers[0] if servers else system_server())
    rtype = rest[1] if len(rest) == 2 else "A"
    number = secrets.randbits(16)
    packet = ask(rest[0], rtype, id=number, rd=not options.no_recurse, do=options.dnssec).encode()
    started = time.monotonic()
    try:
        data = tcp(packet, to, options.wait) if options.tcp else udp(packet, to, options.wait)
        message = Message.parse(data)
        if message.tc and not options.tcp:
            data = tcp(packet, to, options.wait)
            message = Message.parse(data)
    except (OSError, EOFError) as error:
        raise ToolipsError(
            f"no reply from {to}: {error or type(error).__name__}. Is a server there?",
            code="no-answer",
        ) from None
    seconds = time.monotonic() - started
    if options.json:
        facts = {"rcode": rrtypes.rcode_name(message.rcode), "flags": message.flags, **message.texts()}
        print(json.dumps(facts, indent=2))
    elif options.short:
        for record in message.answer:
            print(record.text.split(None, 4)[4])
    else:
        show(message, to, seconds, len(data))
    return 0 if message.rcode == 0 else 1
