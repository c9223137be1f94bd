"""The command line: one file per command. Top floor: may import everything below, lazily.

A command is a module of this package, found by its name (`-` for `_`). It has

    HELP: str                          one line; else the first line of the docstring
    SETTINGS: tuple of Setting         flags that are also environment variables and TOML keys; may be absent
    def add_arguments(parser): ...     arguments that are no settings; may be absent. Without a
                                       parser.description of its own the docstring is the help
    def run(options) -> int            the exit code

A folder with an `__init__.py` of that shape works the same. Nothing but the
asked command is imported. Logs and errors go to stderr, results to stdout.
Exit codes: 0 done, 1 the answer is no, 2 usage, 3 a server could not start, 130 interrupted.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from ..errors import FormatError, StartError, ToolipsError, suggestion
from ..settings import Setting, SettingError, read_table, resolve, unknown_variables

DEFAULT_FILE = "toolips_udp.toml"
USAGE, START_FAILED, INTERRUPTED = 2, 3, 130


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that answers a mistake with one line and a suggestion, not with every flag there is."""

    def error(self, message: str) -> NoReturn:
        stranger = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        if stranger:
            hint = suggestion(stranger[1], self._option_string_actions)
            message = f"there is no flag {stranger[1]}.{hint}"
        message += "" if message.endswith((".", "?")) else "."
        print(f"{self.prog}: {message} Fix: {self.prog} --help tells what there is", file=sys.stderr)
        raise SystemExit(USAGE)


def positive(text: str) -> float:
    """For argparse: a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def counted(text: str) -> int:
    """For argparse: a whole number, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")
    return int(text)


def names() -> list[str]:
    """Every command there is, without importing one."""
    return sorted(name.replace("_", "-") for name in _files())


def _files() -> dict[str, Path]:
    here = Path(__file__).parent
    found = {path.stem: path for path in here.glob("*.py")}
    found |= {path.parent.name: path for path in here.glob("*/__init__.py")}
    return {name: path for name, path in found.items() if not name.startswith("_")}


def command(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")


def summary(name: str) -> str:
    """What a command does in one line: its `HELP`, else the first line of its docstring. Imports nothing."""
    tree = ast.parse(_files()[name.replace("-", "_")].read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "HELP":
            return str(ast.literal_eval(node.value))
    return (ast.get_docstring(tree) or "").split("\n", 1)[0]


def overview() -> str:
    width = max(map(len, names()))
    lines = [f"  {name:{width}}  {summary(name)}" for name in names()]
    return (
        "usage: toolips-udp COMMAND ...\n\n"
        + "\n".join(lines)
        + "\n\n`toolips-udp COMMAND --help` tells more, with an example. "
        "Try: toolips-udp new hello --template udp\n"
    )


def parser_of(name: str, module: ModuleType) -> argparse.ArgumentParser:
    parser = Parser(
        prog=f"toolips-udp {name}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if hasattr(module, "add_arguments"):
        module.add_arguments(parser)
    parser.description = parser.description or module.__doc__
    settings: Sequence[Setting] = getattr(module, "SETTINGS", ())
    for setting in settings:
        add_flag(parser, setting)
    if settings:
        parser.add_argument("--config", metavar="FILE", help=f"TOML file ({DEFAULT_FILE} when there is one)")
    return parser


def add_flag(parser: argparse.ArgumentParser, setting: Setting) -> None:
    text = f"{setting.help} [{setting.variable}]"
    flag = f"--{setting.name}"
    if setting.kind is bool:
        switch = argparse.BooleanOptionalAction
        parser.add_argument(flag, dest=setting.key, action=switch, default=argparse.SUPPRESS, help=text)
        return
    metavar = setting.unit or {int: "N", float: "SECONDS"}.get(setting.kind, setting.name.upper())
    absent = argparse.SUPPRESS
    if setting.many:  # may be repeated, and takes several with commas, as the environment does
        parser.add_argument(
            flag,
            dest=setting.key,
            action="extend",
            type=lambda given: given.split(","),
            default=absent,
            metavar=metavar,
            help=text,
        )
        return
    parser.add_argument(flag, dest=setting.key, default=absent, metavar=metavar, help=text)


def settle(name: str, settings: Sequence[Setting], options: argparse.Namespace) -> None:
    """Fills `options` with every setting; where each came from is in `options.sources`."""
    file = options.config or os.environ.get("TOOLIPS_UDP_CONFIG")
    if not file and Path(DEFAULT_FILE).exists():
        file = DEFAULT_FILE
    table = read_table(Path(file), name) if file else {}
    found = resolve(settings, vars(options), os.environ, table, str(file or ""))
    options.sources = {key: value.source for key, value in found.items()}
    for key, value in found.items():
        setattr(options, key, value.value)
    if unknown_variables(settings, os.environ):
        every = [
            setting
            for other in names()
            for word in ("SETTINGS", "VARIABLES")
            for setting in getattr(command(other), word, ())
        ]
        strangers = unknown_variables(every, os.environ)
        if strangers:
            raise SettingError(strangers[0])


def invoke(name: str, words: Sequence[str]) -> int:
    module = command(name)
    options: Any = parser_of(name, module).parse_args(words)
    settings: Sequence[Setting] = getattr(module, "SETTINGS", ())
    if settings:
        settle(name, settings, options)
    code = module.run(options)
    return code if isinstance(code, int) else 0


def complain(text: object, code: str = "") -> None:
    """One line on stderr, with the code of the error in brackets where it has one."""
    code = code or getattr(text, "code", "")
    code = code if isinstance(code, str) else ""  # the codes of the wire are numbers, and no help here
    print(f"toolips-udp: [{code}] {text}" if code else f"toolips-udp: {text}", file=sys.stderr)


def show_traceback(error: BaseException) -> None:
    """The traceback of an exception in the user's code, without the frames of this package and the importer."""
    ours = (str(Path(__file__).parents[1]), "<frozen importlib")
    told = traceback.TracebackException.from_exception(error)
    told.stack = traceback.StackSummary.from_list([f for f in told.stack if not f.filename.startswith(ours)])
    print("".join(told.format(chain=False)), end="", file=sys.stderr)


def main(words: Sequence[str] | None = None) -> int:
    """Runs one command line; the exit code. Errors are one line with cause and fix, never a traceback."""
    words = list(sys.argv[1:] if words is None else words)
    if words[:1] == ["help"] and words[1:2] and words[1] in names():
        words = [words[1], "--help"]
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview(), end="")
        return 0 if words else USAGE
    if words[0] == "--version":
        from .. import __version__

        print(f"toolips_udp {__version__}")
        return 0
    if words[0] not in names():
        hint = suggestion(words[0], names())
        complain(f"there is no command {words[0]!r}.{hint} Commands: {', '.join(names())}", "unknown-command")
        return USAGE
    try:
        return invoke(words[0], words[1:])
    except SettingError as error:
        complain(error)
        return USAGE
    except StartError as error:
        if error.code == "broken-module" and error.__cause__ is not None:
            show_traceback(error.__cause__)
        complain(error)
        return START_FAILED
    except (ToolipsError, ImportError) as error:
        complain(error)
        return (
            USAGE if isinstance(error, FormatError) and error.code in ("bad-address", "bad-argument") else 1
        )
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        complain(f"{error.filename}: {error.strerror}. Fix: check the path", "no-such-file")
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
