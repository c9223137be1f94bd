"""Every error that users meet. Ground floor: imports nothing of ours.

Each message says who, what was found, what was expected and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ToolipsError(Exception):
    """Base of all errors of this package.

    `code` is a stable word for the cause, as in `"port-in-use"`: what a program compares, what the command
    line prints in brackets and what docs/reference/errors.md has a heading for. The text may change.
    """

    code: str = "error"

    def __init__(self, *args: object, code: str | None = None) -> None:
        super().__init__(*args)
        if code is not None:
            self.code = code


class StartError(ToolipsError):
    """A server could not start, or a call needs a running one."""

    code = "cannot-start"


class BindError(StartError, OSError):
    """The address could not be bound. Also an `OSError`, with its errno."""

    code = "cannot-bind"

    def __str__(self) -> str:
        return self.strerror or super().__str__()


class UnknownHandler(ToolipsError, LookupError):
    """`set_handler` named a handler that the module does not have."""

    code = "unknown-handler"


class TooLong(ToolipsError, ValueError):
    """More bytes than one datagram, message or limit holds."""

    code = "too-long"


class WorkerError(ToolipsError):
    """The machinery of workers failed: none of the wanted kind, or one was lost."""

    code = "worker-lost"


class JobError(ToolipsError):
    """A job raised, or cannot be sent to its worker. The cause is chained."""

    code = "job-failed"
    remote_traceback: str = ""
    """The traceback in the place where the job ran, as text."""


class FormatError(ToolipsError, ValueError):
    """Bytes or text that are not what they should be: a DNS message, a zone, a frame."""

    code = "bad-format"


class MissingExtra(ToolipsError, ImportError):
    """A part of the package needs packages that are not installed."""

    code = "missing-extra"


def missing_extra(what: str, extra: str) -> MissingExtra:
    """The error for an optional dependency that is not installed.

    >>> raise missing_extra("HTTP mode", "http")
    """
    return MissingExtra(
        f"{what} needs packages that are not installed. Fix: pip install 'toolips_udp[{extra}]'"
    )


def suggestion(word: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x'?"`, or nothing when no known word is near."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f" Did you mean {near[0]!r}?" if near else ""
