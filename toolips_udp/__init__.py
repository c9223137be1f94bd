"""toolips_udp: a toolkit for servers that speak datagrams.

The front door: every public name, loaded when it is first used. Nothing else.
"""

from __future__ import annotations

import importlib
import types

__version__ = "0.1.0"

_ROOMS = {
    "errors": "ToolipsError StartError BindError UnknownHandler TooLong WorkerError JobError",
    "address": "Address IP4",
    "handlers": "handler UDPHandler NamedHandler route Route default_404",
    "extensions": "Extension QuickExtension MultiHandler Logger log Session on limits access mount",
    "connections": "UDPConnection UDPIOConnection SocketConnection Connection",
    "messaging": (
        "respond send request broadcast set_handler remove_handler get_ip get_ip4 get_args get_post get_method "
        "get_headers get_cookies read read_all is_connected is_closed continue_connection"
    ),
    "jobs": (
        "ProcessManager processes Worker Job new_job assign assign_open distribute distribute_open waitfor put "
        "get_return everywhere"
    ),
    "modes": "UDP TCP HTTP",
    "servers": "Server",
    "starting": "start kill",
    "serving": "serve",
    "templates": "new_app",
    "docroute": "make_docroute",
    "include": "get_include",
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names.split()}
_HOUSES = ("dns", "game", "messages", "testing", "peers")

__all__ = [*_HOMES, *_HOUSES, "__version__"]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        if isinstance(value, types.ModuleType):  # a file that is called like what it holds
            value = getattr(value, name)
        globals()[name] = value
        return value
    if name in _HOUSES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
