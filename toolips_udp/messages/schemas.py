"""Schemas: what a payload or the data of a message must be, and the path to the field that is not.

Imports msgspec and the errors. A schema is a type, a dataclass, a `msgspec.Struct`, or `{key: type}`.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from .errors import ContentError

_PATH = re.compile(r" - at `(?:key in )?\$?([^`]*)`")
_FIELD = re.compile(r"(?:field|unknown field) `([^`]+)`")
Check = Callable[[Any], Any]


def checker(schema: Any, who: str = "the data") -> Check:
    """A function that gives the value as the schema says, or raises `ContentError` with the path.

    Whole numbers fit `float`. Keys that the schema does not have are refused. `TypeError` when msgspec cannot
    check such a type.

    >>> checker({"edition": int})({"edition": "one"})
    Traceback (most recent call last):
    ...
    toolips_udp.messages.errors.ContentError: the data: edition: Expected `int`, got `str`
    """
    if schema is Any or schema is object:
        return _as_it_is
    if isinstance(schema, Mapping):
        return _dict_checker(schema, who)
    _probe(schema, who)
    strict = has_fields(schema)

    def check(value: Any) -> Any:
        try:
            if strict:
                refuse_others(value, schema)
            return msgspec.convert(value, schema)
        except msgspec.ValidationError as error:
            raise content_error(error, who) from None

    return check


def content_error(error: Exception, who: str) -> ContentError:
    """The error of msgspec as ours, with the path to the field."""
    text = str(error)
    found = _PATH.search(text)
    path = found[1].lstrip(".") if found else ""
    if found:
        text = text[: found.start()]
    field = _FIELD.search(text)
    if field is not None:
        path = f"{path}.{field[1]}" if path else field[1]
    return ContentError(f"{who}: {path}: {text}" if path else f"{who}: {text}", path=path)


def struct_of(fields: list[Any]) -> type[msgspec.Struct]:
    """A Struct of these fields, as `msgspec.defstruct` takes them, that refuses others."""
    return msgspec.defstruct("Payload", fields, kw_only=True, forbid_unknown_fields=True)


def _as_it_is(value: Any) -> Any:
    return value


def _dict_checker(schema: Mapping[str, Any], who: str) -> Check:
    for key in schema:
        if not isinstance(key, str):
            raise TypeError(f"a schema {{key: type}} has keys of text, found {key!r}")
    # a field of a Struct is an identifier, a key may be any text
    fields = [(f"f{n}", kind, msgspec.field(name=key)) for n, (key, kind) in enumerate(schema.items())]
    fields = [f if not _is_optional(f[1]) else (f[0], f[1], msgspec.field(default=None, name=k))
              for f, k in zip(fields, schema, strict=True)]  # fmt: skip
    check = checker(struct_of(fields), who)
    names = list(schema)

    def convert(value: Any) -> Any:
        found = check(value)
        return {name: getattr(found, f"f{n}") for n, name in enumerate(names) if name in value}

    return convert


def _probe(schema: Any, who: str) -> None:
    try:
        msgspec.json.Decoder(schema)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{who} cannot be checked against {schema!r}: {error}") from None


def _is_optional(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType) and type(None) in typing.get_args(kind)


# -- keys that a dataclass or a lenient Struct does not have: msgspec passes over them, we refuse them


def has_fields(schema: Any) -> bool:
    """Whether there is a type with fields anywhere in this one."""
    return _fields(schema) is not None or any(map(has_fields, typing.get_args(schema)))


def refuse_others(value: Any, schema: Any) -> None:
    """Raise `ContentError` for a key that no field of the schema has, however deep."""
    _refuse(value, schema, "")


def _fields(schema: Any) -> dict[str, Any] | None:
    if isinstance(schema, type):
        if issubclass(schema, msgspec.Struct):
            if schema.__struct_config__.array_like:
                return None
            return {f.encode_name: f.type for f in msgspec.structs.fields(schema)}
        if dataclasses.is_dataclass(schema):
            hints = typing.get_type_hints(schema)
            return {f.name: hints[f.name] for f in dataclasses.fields(schema) if f.init}
    return None


def _refuse(value: Any, schema: Any, path: str) -> None:
    fields = _fields(schema)
    if fields is not None:
        if isinstance(value, dict):
            for key, item in value.items():
                if key not in fields:
                    if _is_tag(schema, key):
                        continue
                    here = f"{path}.{key}" if path else str(key)
                    raise ContentError(f"the data: {here}: there is no such field", path=here)
                _refuse(item, fields[key], f"{path}.{key}" if path else key)
        return
    origin, args = typing.get_origin(schema), typing.get_args(schema)
    if origin in (typing.Union, types.UnionType):
        fitting = [arg for arg in args if _may_hold(arg, value)]
        if len(fitting) == 1:  # of several, msgspec tells them apart by their tags
            _refuse(value, fitting[0], path)
    elif isinstance(value, list) and args:
        for number, item in enumerate(value):
            _refuse(item, args[0], f"{path}[{number}]")
    elif isinstance(value, dict) and len(args) == 2:
        for key, item in value.items():
            _refuse(item, args[1], f"{path}[{key!r}]")


def _may_hold(schema: Any, value: Any) -> bool:
    origin = typing.get_origin(schema) or schema
    if isinstance(value, dict):
        return _fields(schema) is not None or origin in (dict, Mapping, typing.Mapping)
    return isinstance(value, list) and origin not in (dict, type(None)) and bool(typing.get_args(schema))


def _is_tag(schema: Any, key: str) -> bool:
    config = getattr(schema, "__struct_config__", None)
    return config is not None and config.tag is not None and key == config.tag_field
