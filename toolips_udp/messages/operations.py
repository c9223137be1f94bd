"""Operations: functions that clients call by name, read from their signatures; and which of them may run.

Imports schemas and errors. Sans-io: nothing here runs an operation, `arguments` only says how it is to be called.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import convert
from msgspec.structs import astuple

from ..errors import suggestion
from .errors import BadFrame, ContentError, OperationFailed, UnknownOperation, UnsupportedOperation
from .schemas import Check, checker, content_error, has_fields, refuse_others, struct_of

MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_PLAIN = (bytes, bytearray, memoryview)
_SERVER, _WHOLE, _KEY = range(3)


def hints_of(fn: Callable[..., Any], names: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The hints of a function; `names` are the local ones where it was defined. Text that means nothing stays text."""
    try:
        return typing.get_type_hints(fn, localns=dict(names) if names else None)
    except (NameError, TypeError, AttributeError):
        return dict(getattr(fn, "__annotations__", {}))


class Operation:
    """One operation. `arguments(server, payload)` gives how to call `fn`; `result` checks what came back.

    A parameter hinted as the server gets the server; one called `payload`, or hinted as a mapping, a dataclass or a
    Struct, gets the whole payload; any other is the key of its name, optional when it has a default. Keys that no
    parameter takes are refused.
    """

    def __init__(
        self,
        name: str,
        fn: Callable[..., Any],
        is_server: Callable[[Any], bool],
        names: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.fn = fn
        self.is_async = inspect.iscoroutinefunction(fn)
        self._plan: list[tuple[int, str, bool]] = []  # (what, name, by keyword)
        self._defaults: list[Any] = []
        self._whole: Check | None = None
        self._whole_default: Any = inspect.Parameter.empty
        hints = hints_of(fn, names)
        fields: list[Any] = []
        for parameter in inspect.signature(fn).parameters.values():
            self._add(parameter, hints.get(parameter.name, Any), is_server, fields)
        whole = any(what == _WHOLE for what, _, _ in self._plan)
        self._keys = bool(fields)
        self._struct: Any = None
        if fields or not whole:
            self._struct = (
                struct_of(fields) if not whole else msgspec.defstruct("Payload", fields, kw_only=True)
            )
        self._nested = not whole and any(has_fields(field[1]) for field in fields)
        self._direct = all(what == _KEY and not by_name for what, _, by_name in self._plan)
        self._optional = any(default is not inspect.Parameter.empty for default in self._defaults)
        self._simple = self._struct is not None and self._direct and not (self._nested or self._optional)
        returns = hints.get("return", Any)
        self._returns = None if returns in (Any, None, type(None)) or isinstance(returns, str) else returns
        self._check = checker(self._returns, f"the result of {name}") if self._returns is not None else None
        self._exact = self._returns if self._returns in (str, int, bool, bytes) else None

    def _add(
        self, p: inspect.Parameter, hint: Any, is_server: Callable[[Any], bool], fields: list[Any]
    ) -> None:
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            raise TypeError(
                f"operation {self.name!r} takes {p}, but its parameters are what its payload is checked against. "
                "Fix: name them, or take payload: dict"
            )
        by_name = p.kind == p.KEYWORD_ONLY
        if is_server(hint):
            self._plan.append((_SERVER, p.name, by_name))
        elif p.name == "payload" or is_whole(hint):
            if self._whole is not None:
                raise TypeError(
                    f"operation {self.name!r} has two parameters for the whole payload. Expected one"
                )
            self._whole = checker(_checkable(hint), f"the payload of {self.name}")
            self._whole_default = p.default
            self._plan.append((_WHOLE, p.name, by_name))
        else:
            hint = _checkable(hint)
            checker(hint, f"{p.name} of {self.name}")
            optional = p.default is not p.empty
            kind: Any = typing.Union.__getitem__((hint, msgspec.UnsetType)) if optional else hint
            fields.append((p.name, kind, msgspec.UNSET) if optional else (p.name, kind))
            self._plan.append((_KEY, p.name, by_name))
            self._defaults.append(p.default)

    def arguments(self, server: Any, payload: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and named arguments for `fn`. Raises `ContentError` that names the field."""
        if self._simple and payload is not None:
            try:
                return astuple(convert(payload, self._struct)), {}
            except msgspec.ValidationError as error:
                raise content_error(error, f"the payload of {self.name}") from None
        keys: tuple[Any, ...] = ()
        if self._struct is not None:
            keys = self._read_keys(payload)
            if self._direct:
                return keys, {}
        given: list[Any] = []
        named: dict[str, Any] = {}
        at = 0
        for what, name, by_name in self._plan:
            if what == _SERVER:
                value = server
            elif what == _WHOLE:
                value = self._read_whole(payload)
            else:
                value = keys[at]
                at += 1
            if by_name:
                named[name] = value
            else:
                given.append(value)
        return tuple(given), named

    def _read_keys(self, payload: Any) -> tuple[Any, ...]:
        if payload is None:
            payload = {}
        if self._nested:
            refuse_others(payload, self._struct)
        try:
            keys: tuple[Any, ...] = astuple(convert(payload, self._struct))
        except msgspec.ValidationError as error:
            raise content_error(error, f"the payload of {self.name}") from None
        if self._optional:
            keys = tuple(
                default if value is msgspec.UNSET else value
                for value, default in zip(keys, self._defaults, strict=True)
            )
        return keys

    def _read_whole(self, payload: Any) -> Any:
        if payload is None:
            if self._whole_default is not inspect.Parameter.empty:
                return self._whole_default
            payload = {}
        assert self._whole is not None
        return self._whole(payload)

    def result(self, value: Any) -> Any:
        """What the operation returned, as its hint says it does. `TypeError` when it does not."""
        if self._check is None or (self._exact is not None and value.__class__ is self._exact):
            return value
        try:
            self._check(msgspec.to_builtins(value, builtin_types=_PLAIN))
        except ContentError as error:
            raise TypeError(f"operation {self.name!r} returned what its hint does not say: {error}") from None
        return value


def is_whole(hint: Any) -> bool:
    """Whether a parameter with this hint takes the whole payload."""
    origin = typing.get_origin(hint) or hint
    if origin in MAPPINGS:
        return True
    if not isinstance(origin, type):
        return False
    return (
        issubclass(origin, msgspec.Struct) or dataclasses.is_dataclass(origin) or typing.is_typeddict(origin)
    )


def _checkable(hint: Any) -> Any:
    """A hint for msgspec; a hint that could not be resolved checks nothing."""
    if isinstance(hint, str) or hint is inspect.Parameter.empty:
        return Any
    return dict if hint in MAPPINGS else hint


class Operations:
    """All operations of a server, and which of them are allowed.

    `supported`: only these run, unless it holds `"*"`. `unsupported`: these do not; with `"*"` none but the
    supported. `ValueError` when a name is in both.
    """

    def __init__(
        self, supported: Iterable[str] | None = None, unsupported: Iterable[str] | None = None
    ) -> None:
        self._allow = None if supported is None else frozenset(_names(supported, "supported_operations"))
        self._deny = frozenset(_names(unsupported or (), "unsupported_operations"))
        both = (self._allow or frozenset()) & self._deny
        if both:
            raise ValueError(
                f"{', '.join(sorted(both))} stands in supported_operations and in unsupported_operations. "
                "Fix: take it out of one"
            )
        self._all: dict[str, Operation] = {}
        self._allowed: dict[str, Operation] = {}

    def __iter__(self) -> typing.Iterator[str]:
        return iter(self._all)

    def add(self, operation: Operation) -> None:
        """Add one. `ValueError` when there is one of that name."""
        if operation.name in self._all:
            raise ValueError(f"there is an operation {operation.name!r} already. Fix: another name")
        if not operation.name or len(operation.name) > 256:
            raise ValueError(f"an operation's name has 1 to 256 characters, found {len(operation.name)}")
        self._all[operation.name] = operation
        if self.is_allowed(operation.name):
            self._allowed[operation.name] = operation

    def is_allowed(self, name: str) -> bool:
        """What the lists say of a name."""
        if name in self._deny:
            return False
        if self._allow is not None:
            return name in self._allow or "*" in self._allow
        return "*" not in self._deny

    def find(self, name: str) -> Operation:
        """The operation to run. Raises `UnsupportedOperation` or `UnknownOperation`."""
        found = self._allowed.get(name)
        if found is not None:
            return found
        if not self.is_allowed(name):
            raise UnsupportedOperation(f"operation {name!r} is not allowed here")
        raise UnknownOperation(f"there is no operation {name!r}.{suggestion(name, self._allowed)}")


def _names(names: Iterable[str], where: str) -> Iterable[str]:
    if isinstance(names, str) and names != "*":
        raise ValueError(f"{where} is {names!r}, expected a list of names")
    return names


# -- operations that are there when asked for --------------------------------------------------------


def print_operation() -> Callable[..., Any]:
    """An operation that prints its `text` on the server's standard output, escaped.

    >>> server = start("test", extra_operations={"print": print_operation()})
    """
    from ..journal import escape

    def show(text: str) -> None:
        print(escape(text, 65_536), flush=True)

    return show


def read_operation(root: str | Path, most: int = 512 * 1024) -> Callable[..., Any]:
    """An operation that reads a text file below `root`, at most `most` bytes; nothing can lead out of it.

    >>> server = start("test", extra_operations={"read": read_operation("public")})
    """
    base = Path(root).resolve(strict=True)
    if not base.is_dir():
        raise ValueError(f"the root of read_operation is {str(root)!r}, expected a folder")

    def read(path: str) -> str:
        refused = ContentError("the payload of read: path: there is no such file here", path="path")
        if "\0" in path:
            raise refused
        try:
            found = (base / path).resolve(strict=True)
        except (OSError, RuntimeError):
            raise refused from None
        if not found.is_relative_to(base) or not found.is_file() or found.stat().st_size > most:
            raise refused
        return found.read_text("utf-8", "replace")

    return read


__all__ = ["BadFrame", "Operation", "OperationFailed", "Operations", "print_operation", "read_operation"]
