"""Messages: an easy, authenticated control plane on reliable peers over UDP.

A server with a token, clients that log in, operations by name, messages with replies, broadcast. A house on
`peers/`; never imports another house. Importing it changes no logging and no warnings.
"""

from __future__ import annotations

import importlib

_ROOMS = {
    "hosting": "Server start serve",
    "server": "Messages",
    "client": "Client",
    "connecting": "connect connect_with main probe",
    "message": "Message PendingMessage",
    "broadcasting": "Broadcast Counts",
    "operations": "print_operation read_operation",
    "log": "debug",
    "errors": (
        "MessagesError BadFrame ContentError LoginError VersionError UnknownOperation OperationFailed "
        "UnsupportedOperation BadAction ConnectError NotConnected AlreadyConnected NotStarted AlreadyRunning"
    ),
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names.split()}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
