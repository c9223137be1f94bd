"""Datagram transports of one shape: native, portable, memory. Above the ground floor.

An endpoint is made from a bound, non-blocking socket and a pipeline, and opens
nothing itself. Its shape:

    address, counters, in_flight        what it is and what it counted
    server                              set by the mode, handed to connections
    attach(loop), detach(), close()     read from now on; stop reading, still send; let go
    turn()                              one bounded turn: receive, stages, dispatch, flush
    pulse(), wake()                     the same without receiving; ask for one soon
    send(data, to, c=None)              queue one datagram; leaves at the end of the turn, or soon
    finished(c, word, was_async=True)   a packet that was in flight has ended
    count(word, number=1)               add to a counter
    refresh()                           read the kernel's drop count; bytes that wait in its buffer
    tidy()                              forget silent clients; about once a second
    live_sessions()                     (Address, dict) of each client with a session
    export(), restore(state)            positions and sessions as plain data
    swap(pipeline)                      serve another pipeline from the next packet on
    connection(data, peer)              a connection without a socket, for tests
    running_handler                     the handler that runs right now, or None; from any thread

`TOOLIPS_UDP_PURE=1` forces the portable one; `TOOLIPS_UDP_REQUIRE_NATIVE=1`
makes a missing native core an error.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

from ..errors import StartError

TRANSPORTS = ("native", "portable", "memory")


def available() -> list[str]:
    """The transports that work here, the best first."""
    built = importlib.util.find_spec(f"{__name__}.native") and importlib.util.find_spec(
        "toolips_udp._native.endpoint"
    )
    return list(TRANSPORTS) if built and os.environ.get("TOOLIPS_UDP_PURE") != "1" else ["portable"]


def choose(name: str | None = None) -> Any:
    """The module of a transport: `Endpoint` and `connection_class`. None: the best that works here."""
    if name is not None and name not in TRANSPORTS:
        raise StartError(
            f"there is no transport {name!r}. Expected one of {', '.join(TRANSPORTS)}", code="no-transport"
        )
    found = available()
    if name is None:
        name = found[0]
        if name != "native" and os.environ.get("TOOLIPS_UDP_REQUIRE_NATIVE") == "1":
            raise StartError(
                "the native core is not built, and TOOLIPS_UDP_REQUIRE_NATIVE=1 asks for it. "
                "Fix: python setup.py build_ext --inplace, with a C compiler",
                code="no-transport",
            )
    elif name not in found:
        raise StartError(
            f"the {name} transport is not available here. Available: {', '.join(found)}", code="no-transport"
        )
    return importlib.import_module(f"{__name__}.{name}")
