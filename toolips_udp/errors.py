"""Every error that users meet. Ground floor: imports nothing of ours.

Each message says who, what was found, what was expected and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ToolipsError(Exception):
    """Base of all errors of this package."""


class StartError(ToolipsError):
    """A server could not start, or a call needs a running one."""


class BindError(StartError, OSError):
    """The address could not be bound. Also an `OSError`, with its errno."""


class UnknownHandler(ToolipsError, LookupError):
    """`set_handler` named a handler that the module does not have."""


class TooLong(ToolipsError, ValueError):
    """More bytes than one datagram, message or limit holds."""


class WorkerError(ToolipsError):
    """The machinery of workers failed: none of the wanted kind, or one was lost."""


class JobError(ToolipsError):
    """A job raised, or cannot be sent to its worker. The cause is chained."""

    remote_traceback: str = ""
    """The traceback in the place where the job ran, as text."""


class FormatError(ToolipsError, ValueError):
    """Bytes or text that are not what they should be: a DNS message, a zone, a frame."""


def missing_extra(what: str, extra: str) -> ImportError:
    """The error for an optional dependency that is not installed.

    >>> raise missing_extra("HTTP mode", "http")
    """
    return ImportError(f"{what} needs packages that are not installed. Fix: pip install 'toolips_udp[{extra}]'")


def suggestion(word: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x'?"`, or nothing when no known word is near."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f" Did you mean {near[0]!r}?" if near else ""
