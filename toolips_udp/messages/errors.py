"""Every error of messages. One base; each has the code that went over the wire, a text and an opaque id.

Imports the ground floor. `OF_CODE` turns a code from the wire into its class.
"""

from __future__ import annotations

from ..errors import ToolipsError


class MessagesError(ToolipsError):
    """Base of all errors of messages.

    `code` is the number on the wire (0: none went over it), `message` the text, `id` the opaque id under which
    the other side's log has more, `path` the field that is wrong (`ContentError` only).
    """

    code: int = 0  # type: ignore[assignment]  # the number on the wire, not a word

    def __init__(self, message: str = "", *, id: str = "", path: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.id = id
        self.path = path


class BadFrame(MessagesError):
    """What arrived is no frame: not msgpack, too deep, too long, or of the wrong shape."""

    code = 1


class ContentError(MessagesError):
    """A payload, or the data of a message, is not what its receiver's types say. `path` names the field."""

    code = 2


class LoginError(MessagesError):
    """The login failed: a wrong token, one that cannot be sent, or a server that does not know it."""

    code = 3


class VersionError(MessagesError):
    """One side is older than the other wants. Both versions are in the text."""

    code = 4


class UnknownOperation(MessagesError):
    """The server has no operation of this name."""

    code = 5


class OperationFailed(MessagesError):
    """The operation, or a listener, raised on the other side, whose log has the traceback under `id`."""

    code = 6


class UnsupportedOperation(MessagesError):
    """The server's lists do not allow this operation."""

    code = 7


class BadAction(MessagesError):
    """The server does not know, or does not take now, what was asked: paused, too much at once, unknown kind."""

    code = 8


class ConnectError(MessagesError):
    """No server answered at the address in time."""


class NotConnected(MessagesError):
    """The call needs a connection, and there is none (any more)."""


class AlreadyConnected(MessagesError):
    """The client is connected already."""


class NotStarted(MessagesError):
    """The call needs a running server."""


class AlreadyRunning(MessagesError):
    """The server runs already."""


OF_CODE: dict[int, type[MessagesError]] = {
    kind.code: kind
    for kind in (
        BadFrame, ContentError, LoginError, VersionError, UnknownOperation, OperationFailed, UnsupportedOperation,
        BadAction,
    )
}  # fmt: skip
