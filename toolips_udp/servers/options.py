"""The settings of a server: what `start(**settings)` takes, and where each value came from. Below base.py.

Each is also the environment variable `TOOLIPS_UDP_<NAME>`; the command line adds
flags and TOML above and below that. Modes and houses `define` their own when they
are loaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from ssl import SSLContext
from typing import Any

from ..errors import StartError, suggestion
from ..settings import Setting, SettingError, Value, convert, resolve

KNOWN: dict[str, Setting] = {}
OBJECTS = {
    "router_threads": "which workers serve packets: (low, high), 'low:high' or a range",
    "on_error": "f(c, exc): called when a handler or an extension raises",
    "on_drop": "f(word, address): called when a packet ends as a drop",
}
"""Settings that are objects, so that neither the environment nor a file can say them."""


def define(*settings: Setting) -> None:
    """Add settings to the table of `start`."""
    for setting in settings:
        KNOWN[setting.key] = setting


define(
    Setting("kind", "what the pool is made of: thread or process", str, "thread"),
    Setting("ordered", "keep the packets of one client in order across workers", bool, False),
    Setting("session-timeout", "seconds of silence after which c.session is forgotten", float, 600.0),
    Setting("max-sessions", "clients with a session; the longest silent makes room", int, 100_000),
    Setting("max-async", "async handlers in flight; more packets are counted queue_full", int, 10_000),
    Setting("max-jobs", "packets queued for threads; more are counted queue_full", int, 1024),
    Setting("admin", "address of the admin listener: /healthz /readyz /metrics /counters", unit="ADDR"),
    Setting("control", "make the control socket by which commands find this server", bool, True),
    Setting(
        "pin",
        "CPU core for the server's thread; with workers one per worker: 0,1",
        int,
        (),
        many=True,
        unit="CORES",
    ),
    Setting("drain", "seconds that work in flight gets at a stop", float, 5.0),
    Setting("transport", "native or portable; the best that works unless named"),
    Setting("receive-buffer", "bytes asked of the kernel for the receive buffer", int, 4 << 20, unit="BYTES"),
    Setting(
        "slot", "largest datagram taken whole; longer ones are counted truncated", int, 65_536, unit="BYTES"
    ),
    Setting("age-limit", "seconds after which a datagram is stale under overload; 0: never", float, 0.05),
    Setting(
        "gro",
        "let the kernel join trains of one peer (UDP_GRO): fewer calls if clients send them",
        bool,
        False,
    ),
    Setting(
        "multicast",
        "groups to join: 239.1.2.3, 239.1.2.3@eth0, ff02::1@eth0",
        str,
        (),
        many=True,
        unit="GROUPS",
    ),
    Setting("watchdog", "seconds a handler may hold the turn before it is named; 0: never", float, 0.1),
    Setting("max-connections", "TCP and HTTP: connections at once; the longest idle makes room", int),
    Setting(
        "max-per-address",
        "TCP and HTTP: connections of one address (IPv6: of a /64); loopback is exempt",
        int,
    ),
    Setting("idle-timeout", "TCP and HTTP: seconds of silence after which a connection is closed", float),
    Setting("message-timeout", "TCP and HTTP: seconds from the first to the last byte of a message", float),
    Setting(
        "max-unsent", "TCP and HTTP: bytes a client may leave unread before it is dropped", int, unit="BYTES"
    ),
    Setting(
        "tls",
        "TCP and HTTP: certificate and key, two paths of PEM files; start also takes an ssl.SSLContext",
        str,
        many=True,
        unit="CERT,KEY",
    ),
    Setting("framing", "TCP: lines, or 1, 2 or 4 for a length prefix: the handler runs once per message"),
    Setting("max-body", "HTTP: bytes of the body of a request", int, 64 * 1024, unit="BYTES"),
    Setting("proxies", "HTTP: addresses of proxies whose forwarded-for header counts", str, (), many=True),
    Setting("origins", "HTTP: other origins that may open a WebSocket", str, (), many=True),
    Setting(
        "steer", "offset of the payload byte that chooses the worker; without it the client's address", int
    ),
    Setting("worker-max-age", "seconds after which a worker is replaced by a fresh one", float),
    Setting(
        "worker-max-rss", "MiB of memory above which a worker is replaced by a fresh one", float, unit="MIB"
    ),
    Setting("quarantine", "keep out packets that killed two workers", bool, True),
    Setting("user", "the user to become after the sockets are bound"),
    Setting("harden", "give up rights, files and system calls that a server does not need", bool, False),
    Setting("sharded", "peer houses with several workers: each has clients of its own", bool, False),
)
MAY_BE_0 = {"steer", "drain", "age_limit", "watchdog"}


class Options(Mapping[str, Any]):
    """The settings of one server: `options["drain"]` or `options.drain`, and `options.source("drain")`."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name].value

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_values"][name].value
        except KeyError:
            raise AttributeError(f"there is no setting {name!r}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def source(self, name: str) -> str:
        """Where the value came from: `call`, `environment` or `default`."""
        return self._values[name].source


def read(call: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Options:
    """All settings: those of the call over the environment over the defaults. Raises `StartError`."""
    known = [*KNOWN, *OBJECTS]
    for name in call:
        if name not in known:
            raise StartError(
                f"start has no setting {name!r}.{suggestion(name, known)} Known: {', '.join(sorted(known))}",
                code="unknown-setting",
            )
    ready = {name: value for name, value in call.items() if isinstance(value, SSLContext)}
    plain = {name: v for name, v in call.items() if name in KNOWN and name not in ready and v is not None}
    try:
        given = {
            name: convert(
                KNOWN[name],
                [value] if KNOWN[name].many and isinstance(value, int) else _plain(value),
                "the call",
            )
            for name, value in plain.items()
        }
        values = resolve(list(KNOWN.values()), {}, os.environ if environ is None else environ, {})
    except SettingError as error:
        raise StartError(str(error), code=error.code) from None
    values |= {name: Value(value, "call") for name, value in given.items()}
    values |= {name: Value(value, "call") for name, value in ready.items()}
    values |= {name: Value(call.get(name), "call" if name in call else "default") for name in OBJECTS}
    for name, found in values.items():
        number = found.value
        if isinstance(number, bool) or not isinstance(number, int | float):
            continue
        if number < 0 or (number == 0 and name not in MAY_BE_0):
            least = "0 or more" if name in MAY_BE_0 else "a number above 0"
            raise StartError(f"{name} ({found.source}) is {number!r}, expected {least}", code="bad-setting")
    return Options(values)


def _plain(value: Any) -> Any:
    """Addresses and paths are taken where text is, in a list too."""
    if isinstance(value, list | tuple) and type(value).__name__ != "Address":
        return [str(item) if isinstance(item, os.PathLike) else item for item in value]
    return (
        value
        if isinstance(value, str | int | float | list | tuple) and type(value).__name__ != "Address"
        else str(value)
    )
