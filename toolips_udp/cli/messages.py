"""Serve messages, or run one operation of a server: without an action it serves.

    toolips-udp messages -t test
    toolips-udp messages serve control.py
    toolips-udp messages connect -t test echo --payload '{"text": "abc"}'
    toolips-udp messages connect -t test --message hello --listen

serve: MODULE, a dotted name or the path of a .py file, holds a `messages.Server` with its operations; without
one there is a bare server that broadcasts nothing and does nothing. Without a token one is generated and shown.
connect: logs in at --address (host:port for UDP, ws://host:port for WebSocket), runs OPERATION and prints what it
returned: text as it is, all else as JSON. --message sends a message and prints the replies, --listen prints what
comes until Ctrl-C or the server's end. Exits 1 when the server refuses or fails.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..address import Address
from ..errors import StartError, ToolipsError, suggestion
from ..settings import Setting, SettingError

if TYPE_CHECKING:
    from ..messages.client import Client
    from ..messages.hosting import Server

HELP = "Serve messages, or run one operation of a server."
DEFAULT = "127.0.0.1:5000"
SERVING = (
    Setting("websocket", "serve: take clients by WebSocket too, on the same port", bool, False),
    Setting("hide-token", "serve: do not show a generated token", bool, False),
    Setting("token-length", "serve: characters of a generated token", int, 25),
    Setting("token-choices", "serve: the characters of a generated token"),
    Setting("log-level", "serve: the least that is logged: debug, info, warning, error", str, "info"),
    Setting("trace", "serve: say in front of each line which function spoke", bool, False),
)
CONNECTING = (
    Setting("payload", "connect: the payload of the operation, as JSON"),
    Setting("message", "connect: send this message"),
    Setting("data", "connect: the data of the message, as JSON"),
    Setting("listen", "connect: print messages until Ctrl-C or the server's end", bool, False),
    Setting("timeout", "connect: seconds for the login and for each answer", float, 5.0),
    Setting(
        "send-token", "connect: send the token to a server with a login of its own, anywhere", bool, False
    ),
    Setting(
        "progress", "connect: show how far a long transfer is; on a terminal it is shown anyway", bool, False
    ),
)
SETTINGS = (
    Setting("token", "the token; serve: one is generated without it"),
    Setting("address", "where to serve, or whom to connect to", str, DEFAULT),
    Setting("minimum-version", "refuse an older other side"),
    Setting("secure", "seal everything (needs the extra secure)", bool, False),
    Setting("max-message", "bytes of the longest message", int, 1 << 20),
    *SERVING,
    *CONNECTING,
)
OF_A_BARE_SERVER = (
    *("token", "minimum_version", "secure", "max_message"),
    *("hide_token", "token_length", "token_choices", "log_level"),
)
"""What a server in a module was made with. A flag that could change nothing is refused, not forgotten."""
SHORT = {
    "t": "token",
    "a": "address",
    "p": "payload",
    "m": "message",
    "d": "data",
    "l": "listen",
    "s": "secure",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    # flags may stand before, between and after the words, as in: connect -t test echo
    parser.parse_args = parser.parse_intermixed_args  # type: ignore[method-assign]
    parser.add_argument("words", nargs="*", metavar="WORD", help="[serve] [MODULE], or: connect [OPERATION]")
    for letter, key in SHORT.items():
        is_switch = next(setting for setting in SETTINGS if setting.key == key).kind is bool
        action = "store_true" if is_switch else "store"
        parser.add_argument(
            f"-{letter}", dest=key, action=action, default=argparse.SUPPRESS, help=f"the same as --{key}"
        )


def run(options: argparse.Namespace) -> int:
    words = list(options.words)
    action = words.pop(0) if words and words[0] in ("serve", "connect") else "serve"
    if len(words) > 1:
        raise SettingError(f"{action} takes one name, found {' '.join(words)!r}")
    foreign = CONNECTING if action == "serve" else SERVING
    for setting in foreign:
        if options.sources[setting.key] == "flag":
            raise SettingError(f"--{setting.name} is not for {action}: {setting.help}")
    word = words[0] if words else ""
    return serve(options, word) if action == "serve" else connect(options, word)


# -- serve ------------------------------------------------------------------------------------------


def serve(options: argparse.Namespace, name: str) -> int:
    from ..journal import level_of
    from ..messages import log
    from ..modes import HTTP, UDP

    logger = logging.getLogger(log.NAME)
    logger.addHandler(log.Fallback())
    if options.trace:
        log.debug(trace=True)
    try:
        server = _server(options, name, level_of(options.log_level))
    except ToolipsError:
        raise
    except ValueError as error:  # of a setting: it says which
        raise SettingError(str(error)) from None
    try:
        server.start(options.address, mode=(UDP, HTTP) if options.websocket else UDP)
        server.wait()
    except KeyboardInterrupt:  # it came between the start and the wait
        if server.running:
            server.close()
    return server.host.exit_code


def _server(options: argparse.Namespace, name: str, level: int) -> Server:
    from ..messages import Server
    from ..messages.tokens import DEFAULT_CHOICES

    if name:
        found = _find(name)
        for key in OF_A_BARE_SERVER:
            if options.sources[key] == "flag":
                flag = "--" + key.replace("_", "-")
                raise SettingError(f"the server in {name} says its {flag} itself. Fix: leave out {flag}")
        return found
    return Server(
        options.token,
        default_token_len=options.token_length,
        default_token_choices=options.token_choices or DEFAULT_CHOICES,
        hide_token=options.hide_token,
        minimum_version=options.minimum_version,
        log_level=level,
        secure=options.secure,
        max_message=options.max_message,
    )


def _find(name: str) -> Server:
    from ..manifest import exports, find
    from ..messages import Server

    sys.path.insert(0, os.getcwd())
    near = suggestion(name, ("serve", "connect"))
    if near and importlib.util.find_spec(name.partition(".")[0]) is None:
        raise SettingError(f"there is no module {name!r} to serve.{near}")
    found = [(attribute, value) for attribute, value in exports(find(name)) if isinstance(value, Server)]
    if len(found) != 1:
        have = ", ".join(attribute for attribute, _ in found) or "none"
        raise StartError(
            f"{name} has to hold one messages.Server, found {have}. Fix: server = messages.Server(...)",
            code="no-handler",
        )
    return found[0][1]


# -- connect ----------------------------------------------------------------------------------------


def connect(options: argparse.Namespace, operation: str) -> int:
    if not options.token:
        raise SettingError("connect needs the server's token. Fix: --token, or TOOLIPS_UDP_TOKEN")
    if not operation and options.message is None and not options.listen:
        raise SettingError("connect has nothing to do. Expected an operation, --message or --listen")
    payload, data = _json("payload", options.payload), _json("data", options.data)
    _check(options)
    try:
        asyncio.run(_connect(options, operation, payload, data))
    except (TimeoutError, ValueError) as error:
        print(f"toolips-udp: {error}", file=sys.stderr)
        return 1
    return 0


def _check(options: argparse.Namespace) -> None:
    """Raises `SettingError` or `FormatError` for what could never connect."""
    from ..messages.versions import check

    if not 0 < options.timeout < float("inf"):
        raise SettingError(f"--timeout is {options.timeout:g}, expected seconds above 0")
    if "://" not in options.address and not Address.resolve(options.address).port:
        raise SettingError(f"--address {options.address} has no port. Expected for example {DEFAULT}")
    try:
        check(options.minimum_version)
    except ValueError as error:
        raise SettingError(f"--minimum-version: {error}") from None


def _json(name: str, text: str | None) -> Any:
    import msgspec

    if text is None:
        return None
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise SettingError(f"--{name} is {text!r}, expected JSON: {error}") from None


async def _connect(options: argparse.Namespace, operation: str, payload: Any, data: Any) -> None:
    from .. import messages

    async with messages.connect(
        options.token,
        options.address,
        timeout=options.timeout,
        minimum_version=options.minimum_version,
        send_token=True if options.send_token else None,
        secure=options.secure,
        max_message=options.max_message,
    ) as client:
        show = options.progress or sys.stderr.isatty()
        if options.listen:
            client.receive()(_print_message)
        with _progress(client, show):
            if operation:
                _print(await client.operation(operation, payload))
            if options.message is not None:
                pending = client.message_later(options.message, data)
                if not options.listen:
                    pending.receive()(_print_message)
                await pending.send()
        if options.listen:
            await _until_the_end(client)


def _print(value: Any) -> None:
    import msgspec

    print(value if isinstance(value, str) else msgspec.json.encode(value).decode(), flush=True)


def _print_message(message: Any) -> None:
    import msgspec

    tail = "" if message.data is None else " " + msgspec.json.encode(message.data).decode()
    print(message.content + tail, flush=True)


async def _until_the_end(client: Client) -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, over.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    while client.connected and not over.is_set():
        try:
            await asyncio.wait_for(over.wait(), 0.1)
        except TimeoutError:
            continue


@contextmanager
def _progress(client: Client, show: bool) -> Iterator[None]:
    """A line on stderr while a transfer takes longer than a quarter of a second."""
    if not show:
        yield
        return
    loop = asyncio.get_running_loop()
    most, shown = 0, False
    timer: asyncio.Handle | None = None

    def look() -> None:
        nonlocal most, shown, timer
        waiting, arriving = client.progress()
        most = max(most, waiting)
        if waiting or arriving:
            shown = True
            done = (
                f"sent {(most - waiting) * 100 // most} % of {most:,} bytes"
                if waiting
                else f"received {arriving:,} bytes"
            )
            print(f"\r{done:60}", end="", file=sys.stderr, flush=True)
        timer = loop.call_later(0.1, look)

    timer = loop.call_soon(look) if client.progress()[0] else loop.call_later(0.05, look)
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()
        if shown:
            print(f"\r{'done':60}", file=sys.stderr, flush=True)
