"""Writes docs/reference/api/*.md: every public name, its signature and its docstring.

    python docs/make_reference.py

Reads the source, imports nothing of the package, so that the pages are the same on every
machine. A test holds that the pages are what this writes.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "toolips_udp"
PAGES = ROOT / "docs/reference/api"
HOUSES = ("dns", "game", "messages", "jobs", "testing", "peers")
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Assign | ast.AnnAssign
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
HEAD = "<!-- Written by docs/make_reference.py from the docstrings: change those. -->\n"


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def names_of(node: ast.stmt) -> list[str]:
    """What a statement defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def documented(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt, str]]:
    """Each name that a body defines, its statement and its docstring; also under `if TYPE_CHECKING`."""
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from documented(node.body)
        text = ""
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node) or ""
        elif isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            text = inspect.cleandoc(str(after.value.value))
        for name in names_of(node):
            yield name, node, text


def files_of(room: str) -> list[Path]:
    """The files of a room: a module, or all of a folder, its first level first."""
    path = PACKAGE / room.replace(".", "/")
    return [path.with_suffix(".py")] if path.with_suffix(".py").exists() else sorted(path.rglob("*.py"))


def rooms_of(front: Path) -> dict[str, str]:
    """Each public name of a package and the room below it, read from its `_ROOMS` or its imports."""
    found: dict[str, str] = {}
    for node in tree(front).body:
        if isinstance(node, ast.Assign) and names_of(node) in (["_ROOMS"], ["_PEERS"]):
            value = ast.literal_eval(node.value)
            rooms = value if isinstance(value, dict) else {"../peers": value}
            found |= {name: room for room, names in rooms.items() for name in names.split()}
        elif isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
            found |= {alias.name: node.module for alias in node.names}
    return found


def find(name: str, room: str) -> tuple[Path, ast.stmt, str]:
    """Where a public name is defined, and what is said there."""
    best: tuple[Path, ast.stmt, str] | None = None
    for path in files_of(room):
        for found, node, text in documented(tree(path).body):
            if found == name and (best is None or (text and not best[2])):
                best = path, node, text
    for path in files_of(room) if best is None else ():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and node.level and name in [each.name for each in node.names]:
                folder = path.parents[node.level - 1]  # re-exported
                return find(name, str((folder / (node.module or "").replace(".", "/")).relative_to(PACKAGE)))
    if best is None:
        raise SystemExit(f"{name} is public, but nothing in {room} defines it")
    return best


@functools.cache
def classes() -> dict[str, tuple[Path, ast.ClassDef]]:
    """Every class of the package by name; one that is not private wins."""
    found: dict[str, tuple[Path, ast.ClassDef]] = {}
    for path in sorted(PACKAGE.rglob("*.py"), reverse=True):
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef):
                found[node.name] = path, node
    return found


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str, *, bound: bool) -> str:
    """As one writes it, on several lines when it is long."""
    arguments = ast.parse(ast.unparse(node)).body[0].args  # type: ignore[attr-defined]
    if bound and not any(ast.unparse(each) == "staticmethod" for each in node.decorator_list):
        (arguments.posonlyargs or arguments.args)[:1] = []
        if not arguments.posonlyargs and not arguments.args:
            arguments.defaults = []
    text = ast.unparse(arguments)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    start = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    return f"{start}{name}({text}){returns}"


def code(text: str) -> str:
    return f"```text\n{text}\n```\n"


def prose(text: str) -> str:
    """A docstring as Markdown: its examples fenced."""
    parts, example = [], False
    for line in text.splitlines():
        if not example and line.lstrip().startswith(">>> "):
            parts.append("```pycon")
            example = True
        elif example and not line.strip():
            parts.append("```")
            example = False
        parts.append(line)
    if example:
        parts.append("```")
    return "\n".join(parts) + "\n"


def foreign(path: Path) -> set[str]:
    """Names that a file has from outside the package."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and not node.level):
            found |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return found


def members(path: Path, cls: ast.ClassDef) -> dict[str, tuple[ast.stmt, str]]:
    """Its public members, those of bases in the package below its own."""
    found: dict[str, tuple[ast.stmt, str]] = {}
    for name, node, text in documented(cls.body):
        known = found.get(name)
        if (not name.startswith("_") or name == "__init__") and (known is None or not known[1]):
            found[name] = node, text
    for base in cls.bases:
        written = ast.unparse(base).partition("[")[0]
        parent = classes().get(written.rpartition(".")[2])
        if parent is not None and parent[1] is not cls and written.partition(".")[0] not in foreign(path):
            inherited = members(*parent)
            for name, (node, text) in inherited.items():
                if name not in found or (not found[name][1] and name != "__init__"):
                    found[name] = (found[name][0] if name in found else node), text
    return found


def member(name: str, node: ast.stmt, text: str, owner: str) -> str:
    if isinstance(node, FUNCTIONS):
        decorators = [ast.unparse(each) for each in node.decorator_list]
        plain = any(re.search(r"(^|\.)(property|setter|cached_property)$", each) for each in decorators)
        if plain:
            kind = f": {ast.unparse(node.returns)}" if node.returns is not None else ""
            line = f"{name}{kind}"
        else:
            line = signature(node, name, bound=True)
    elif isinstance(node, ast.AnnAssign):
        line = f"{name}: {ast.unparse(node.annotation)}"
    elif isinstance(node, ast.Assign):
        line = f"{name} = {ast.unparse(node.value)}"
    else:
        line = f"class {name}"
    return f"#### {owner}.{name}\n\n{code(line)}\n{prose(text)}" if text else ""


def entry(name: str, path: Path, node: ast.stmt, text: str) -> str:
    """One public name."""
    out = [f"### {name}\n"]
    if isinstance(node, ast.ClassDef):
        own = members(path, node)
        made = own.pop("__init__", None)
        head = f"class {name}"
        if made is not None and isinstance(made[0], FUNCTIONS):
            head = signature(made[0], name, bound=True).removesuffix(" -> None")
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        out += [code(f"{head}  # {bases}" if bases else head), prose(text)]
        if made is not None and made[1]:
            out.append(prose(made[1]))
        out += filter(None, (member(each, *found, name) for each, found in own.items()))
    elif isinstance(node, FUNCTIONS):
        out += [code(signature(node, name, bound=False)), prose(text)]
    else:
        value = getattr(node, "value", None)
        out += [code(f"{name} = {ast.unparse(value)}" if value is not None else name), prose(text)]
    out.append(f"Defined in `{path.relative_to(ROOT)}`.\n")
    return "\n".join(out)


def page(title: str, front: Path, below: str) -> str:
    """The page of one package."""
    room_doc = prose(ast.get_docstring(tree(front)) or "")
    parts = [HEAD, f"# {title}\n", room_doc]
    for name, room in sorted(rooms_of(front).items(), key=lambda item: item[0].lower()):
        if name.startswith("_"):
            continue
        where = room.removeprefix("../") if room.startswith("../") else f"{below}{room}"
        parts.append(entry(name, *find(name, where)))
    return "\n".join(parts).rstrip() + "\n"


def pages() -> dict[str, str]:
    """Every page by its file name."""
    made = {"toolips_udp.md": page("toolips_udp", PACKAGE / "__init__.py", "")}
    for house in HOUSES:
        made[f"{house}.md"] = page(f"toolips_udp.{house}", PACKAGE / house / "__init__.py", f"{house}.")
    lines = [f"- [{name.removesuffix('.md')}]({name})" for name in made]
    made["README.md"] = f"{HEAD}\n# Every public name\n\n" + "\n".join(lines) + "\n"
    return made


def main() -> None:
    PAGES.mkdir(parents=True, exist_ok=True)
    made = pages()
    for old in PAGES.glob("*.md"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (PAGES / name).write_text(text)


if __name__ == "__main__":
    main()
