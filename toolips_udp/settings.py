"""Settings: where a value may come from, and where it did. Ground floor.

A flag or an argument of the call wins over the environment, the environment
over a TOML file, that over the default. Unknown keys are errors with a
suggestion. `resolve` is sans-io: environment and file content are handed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ToolipsError, suggestion

PREFIX = "TOOLIPS_UDP_"
RESERVED = frozenset({"PURE", "REQUIRE_NATIVE", "BIN", "CFLAGS", "LDFLAGS", "CONFIG", "RUNTIME"})
"""Variables of the build and the tests, which are no settings."""


class SettingError(ToolipsError, ValueError):
    """A setting that does not exist, or whose value is not what it should be."""

    code = "bad-setting"


@dataclass(frozen=True)
class Setting:
    """One setting: `name` as on the command line (`recv-buffer`), its type, default and one line of help.

    The environment variable is `TOOLIPS_UDP_RECV_BUFFER`, the TOML key
    `recv_buffer`. With `many` it is a list; in the environment separated by commas.
    """

    name: str
    help: str
    kind: type = str
    default: Any = None
    many: bool = False
    unit: str = ""  # what --help shows for the value, as in MIB; else by the kind

    @property
    def key(self) -> str:
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        return PREFIX + self.key.upper()


@dataclass(frozen=True)
class Value:
    """A value and where it came from: `flag`, `environment`, a file's name, or `default`."""

    value: Any
    source: str


KINDS: dict[type, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
"""What errors call the type of a setting."""

_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}


def convert(setting: Setting, value: Any, source: str) -> Any:
    """`value` in the type of `setting`, or a SettingError that names its source."""
    if setting.many:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, Sequence):
            raise SettingError(f"{setting.key} from {source} is {value!r}, expected a list")
        return [_one(setting, item, source) for item in items]
    return _one(setting, value, source)


def _one(setting: Setting, value: Any, source: str) -> Any:
    kind = setting.kind
    wrong = SettingError(f"{setting.key} from {source} is {value!r}, expected {KINDS[kind]}")
    if isinstance(value, str) and kind is bool:
        if value.lower() not in _TRUE | _FALSE:
            raise SettingError(f"{setting.key} from {source} is {value!r}, expected true or false")
        return value.lower() in _TRUE
    if isinstance(value, bool) is not (kind is bool) or not isinstance(value, (kind, int, str)):
        raise wrong
    try:
        found = kind(value)
    except ValueError:
        raise wrong from None
    if found != found:  # nan is above nothing and below nothing, so no bound would hold it
        raise wrong
    return found


def resolve(
    known: Sequence[Setting],
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    table: Mapping[str, Any],
    file: str = "",
) -> dict[str, Value]:
    """Every known setting with its value and source.

    `flags` are those the user gave, by key; `table` is the TOML table for
    this command and `file` its name. A key of `table` that is not known is a
    SettingError.

    >>> port = Setting("port", "where to listen", int, 53)
    >>> resolve([port], {}, {"TOOLIPS_UDP_PORT": "5300"}, {})["port"]
    Value(value=5300, source='environment')
    """
    keys = [setting.key for setting in known]
    for key in table:
        if key not in keys:
            hint = suggestion(key, keys)
            raise SettingError(
                f"{file}: unknown setting {key!r}.{hint} Known: {', '.join(sorted(keys))}",
                code="unknown-setting",
            )
    found = {}
    for setting in known:
        if setting.key in flags:
            found[setting.key] = Value(convert(setting, flags[setting.key], "the command line"), "flag")
        elif setting.variable in environ:
            value = convert(setting, environ[setting.variable], setting.variable)
            found[setting.key] = Value(value, "environment")
        elif setting.key in table:
            found[setting.key] = Value(convert(setting, table[setting.key], file), file)
        else:
            found[setting.key] = Value(setting.default, "default")
    return found


def unknown_variables(known: Sequence[Setting], environ: Mapping[str, str]) -> list[str]:
    """One line per `TOOLIPS_UDP_*` variable that is no setting, with a suggestion."""
    names = {setting.variable for setting in known} | {PREFIX + name for name in RESERVED}
    strangers = sorted(name for name in environ if name.startswith(PREFIX) and name not in names)
    return [f"unknown setting {name} in the environment.{suggestion(name, names)}" for name in strangers]


def read_table(path: Path, section: str) -> dict[str, Any]:
    """The TOML table `section` of `path`; empty when the file does not have it."""
    import tomllib

    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except FileNotFoundError:
        raise SettingError(
            f"{path} does not exist, expected a TOML file with a [{section}] table", code="no-such-file"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"{path} is no TOML: {error}", code="bad-toml") from None
    table = content.get(section, {})
    if not isinstance(table, dict):
        raise SettingError(f"{path}: {section} is {table!r}, expected a table: [{section}]")
    return table
