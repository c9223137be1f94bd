"""new_app: a project in one folder, from a template that ships with the package.

A template is a folder beside this file: plain files with `$name` and `$module`
in them, called as in the project with `.txt` behind. Works offline. Called by
users and by `toolips-udp new`.
"""

from __future__ import annotations

import keyword
import re
import sys
from pathlib import Path
from string import Template
from typing import Any

from ..errors import ToolipsError, suggestion
from ..modes import Mode

HERE = Path(__file__).parent


class TemplateError(ToolipsError, ValueError):
    """A project that cannot be made: no such template, no usable name, or a folder that exists."""

    code = "bad-project"


def kinds() -> list[str]:
    """The templates there are."""
    return sorted(path.name for path in HERE.iterdir() if path.is_dir() and not path.name.startswith("_"))


def new_app(kind: str | Mode, name: str | None = None, *, into: str | Path = ".") -> Path:
    """Make the folder `name` with a project that starts and passes its own test; returns its path.

    `kind` is `"udp"`, `"tcp"`, `"http"`, `"dns"` or `"game"`, or the constant of a
    mode; with one argument it is the name of a `udp` project. A folder that
    exists is refused.

    >>> new_app("tcp", "NewServer")
    """
    if name is None:
        kind, name = "udp", str(kind)
    chosen = (kind.name if isinstance(kind, Mode) else str(kind)).lower()
    if chosen not in kinds():
        raise TemplateError(
            f"there is no template {chosen!r}.{suggestion(chosen, kinds())} Found: {', '.join(kinds())}"
        )
    module = module_name(name)
    target = Path(into) / name
    if target.exists():
        raise TemplateError(
            f"{target} exists, and nothing is ever written over. Fix: another name, or remove it"
        )
    words: dict[str, Any] = {"name": name, "module": module}
    for source in sorted((HERE / chosen).rglob("*.txt")):
        place = str(source.relative_to(HERE / chosen).with_suffix("")).replace("module", module)
        file = target / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(Template(source.read_text(encoding="utf-8")).substitute(words), encoding="utf-8")
    return target


def module_name(name: str) -> str:
    """The module of a project: `NewServer` and `new-server` are `new_server`.

    >>> module_name("NewServer")
    'new_server'
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise TemplateError(
            f"{name!r} cannot be a project: expected letters, digits, - and _, with a letter first, as NewServer"
        )
    module = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").lower()
    if keyword.iskeyword(module) or module in sys.stdlib_module_names or module == "toolips_udp":
        raise TemplateError(
            f"{name!r} would make a module {module!r}, which Python has already. Fix: another name"
        )
    return module
