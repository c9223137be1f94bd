"""Put a bad network between clients and a server.

    toolips-udp lag --to 127.0.0.1:2000
    toolips-udp lag --listen 127.0.0.1:3000 --to 127.0.0.1:2000 --up wifi --down loss=0.1,latency=0.05

Carries datagrams from --listen to --to and back, with loss, delay and the rest. One seed gives
one sequence of fates. While it runs, a line such as `down loss=0.2` or `both wifi` changes the
weather. Ctrl-C ends it and tells what became of the datagrams.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from typing import Any

from ..address import Address
from ..errors import BindError, FormatError
from ..settings import SettingError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `lag`."""
    parser.add_argument(
        "--listen", default="127.0.0.1:3000", metavar="ADDR", help="where clients send to [127.0.0.1:3000]"
    )
    parser.add_argument("--to", required=True, metavar="ADDR", help="the server")
    parser.add_argument("--seed", default="0", help="what the dice are made from [0]")
    knobs = "knobs such as loss=0.1,latency=0.05, or lan, cable, wifi, mobile, bad, awful"
    parser.add_argument("--up", default="", metavar="KNOBS", help=f"client to server: {knobs}")
    parser.add_argument("--down", default="", metavar="KNOBS", help="server to client: the same")


def run(args: argparse.Namespace) -> int:
    """Carry until SIGINT or SIGTERM. `BindError` when --listen cannot be bound."""
    from ..servers.holder import code_of, explain
    from ..testing.proxy import Proxy

    to, listen = (Address.resolve(text) for text in (args.to, args.listen))
    if not to.port:
        raise FormatError(f"--to {args.to} has no port. Expected for example {to}:2000", code="bad-address")
    try:
        proxy = Proxy(to, listen, seed=args.seed, up=args.up, down=args.down)
    except OSError as error:
        why = f"lag cannot listen on {listen}: {explain(True, listen, error)}"
        raise BindError(error.errno, why, code=code_of(listen, error)) from None
    except ValueError as error:
        raise SettingError(str(error)) from None
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_carry(proxy))
    counts = ", ".join(f"{count} {fate}" for fate, count in proxy.network.trace.counts.items() if count)
    print(f"lag: {proxy.network.trace.length} datagrams: {counts or 'none'}", file=sys.stderr)
    return 0


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _carry(proxy: Any) -> None:
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, done.set)
    await proxy.start()
    print(f"lag: {proxy.address} -> {proxy.to}", file=sys.stderr, flush=True)
    try:
        loop.add_reader(sys.stdin.fileno(), _listen, loop, proxy)
    except (OSError, ValueError):
        pass  # no input to listen to
    await done.wait()
    proxy.close()


def _listen(loop: asyncio.AbstractEventLoop, proxy: Any) -> None:
    text = os.read(
        sys.stdin.fileno(), 65_536
    )  # not readline: its buffer would hide a second line from the loop
    if not text:
        loop.remove_reader(sys.stdin.fileno())
    for line in text.decode(errors="replace").splitlines():
        print(f"lag: {change(proxy, line)}", file=sys.stderr, flush=True)


def change(proxy: Any, line: str) -> str:
    """Do what a line such as `down loss=0.2` says and tell what holds now."""
    from ..testing.knobs import Knobs

    where, _, text = line.strip().partition(" ")
    if where not in ("up", "down", "both"):
        return f"{where!r} is no direction; a line is `up KNOBS`, `down KNOBS` or `both KNOBS`"
    try:
        knobs = Knobs.parse(text)
    except ValueError as error:
        return str(error)
    ways = ("up", "down") if where == "both" else (where,)
    for way in ways:
        setattr(proxy.network, way, knobs)
        for link in proxy.network.links.values():
            getattr(link, way).knobs = knobs
    return f"{where} {text.strip() or 'calm'}"
