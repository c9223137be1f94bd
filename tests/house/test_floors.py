"""The floors of ARCHITECTURE.md: imports only go down."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "toolips_udp"
PLAN = (ROOT / "ARCHITECTURE.md").read_text()


def block(name: str) -> list[str]:
    found = re.search(rf"```{name}\n(.*?)```", PLAN, re.S)
    assert found, f"ARCHITECTURE.md has no ```{name} block"
    return [line for line in found[1].splitlines() if line and not line.startswith("#")]


FLOORS = {room: floor for floor, line in enumerate(block("floors")) for room in line.split()[1:]}
DOORS = {tuple(line.split(" -> ")) for line in block("doors")}
HOUSES = set(block("alone")[1].split())
LONELY = set(block("alone")[0].split())


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """(line, module below toolips_udp) of every import that runs; those under TYPE_CHECKING do not."""
    for node in ast.iter_child_nodes(tree):
        if is_type_checking(node):
            assert isinstance(node, ast.If)
            for other in node.orelse:
                yield from imports(ast.Module([other], []), package)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("toolips_udp."):
                    yield node.lineno, alias.name.removeprefix("toolips_udp.")
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = ["toolips_udp", *package.split(".")] if package else ["toolips_udp"]
                base = ".".join([*above[: len(above) - node.level + 1], *([base] if base else [])])
            if base == "toolips_udp":
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif base.startswith("toolips_udp."):
                yield node.lineno, base.removeprefix("toolips_udp.")
        else:
            yield from imports(node, package)


def python_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported() -> Iterator[tuple[str, int, str]]:
    for path in python_files():
        if path == PACKAGE / "__init__.py":
            continue
        module = module_of(path)
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for line, target in imports(ast.parse(path.read_text()), package):
            yield module, line, target


def test_every_room_has_a_floor():
    rooms = {module_of(p).split(".")[0] for p in python_files()} - {""}
    homeless = rooms - FLOORS.keys()
    assert not homeless, f"{sorted(homeless)}: write them into the floors block of ARCHITECTURE.md"


def test_imports_only_go_down():
    wrong = []
    for module, line, target in imported():
        here, there = module.split(".")[0], target.split(".")[0]
        if there not in FLOORS or FLOORS[there] <= FLOORS[here]:
            continue
        if (module, there) not in DOORS:
            wrong.append(f"{module}:{line} imports {target}, which is above it")
    assert not wrong, "\n".join(wrong)


def test_every_door_is_used():
    used = {(module, target.split(".")[0]) for module, _, target in imported()}
    assert used >= DOORS, f"not used any more: {DOORS - used}"


def test_houses_do_not_import_one_another():
    wrong = [
        f"{module}:{line} imports {target}"
        for module, line, target in imported()
        if module.split(".")[0] in HOUSES
        and target.split(".")[0] in HOUSES
        and target.split(".")[0] != module.split(".")[0]
    ]
    assert not wrong, "\n".join(wrong)


def test_a_lonely_room_imports_only_the_ground_floor():
    wrong = [
        f"{module}:{line} imports {target}"
        for module, line, target in imported()
        if module.split(".")[0] in LONELY
        and target.split(".")[0] != module.split(".")[0]
        and FLOORS.get(target.split(".")[0], 0) > 0
    ]
    assert not wrong, "\n".join(wrong)


NOT_YET = {"messages/"}
"""Rooms of the plan that are not built yet."""


def test_the_map_names_only_what_exists():
    rows = re.findall(r"^\| (`.*?) \|", PLAN, re.M)
    for path in {path for row in rows for path in re.findall(r"`([\w/.]+)`", row)} - NOT_YET:
        assert (ROOT / path).exists() or (PACKAGE / path).exists(), f"ARCHITECTURE.md names {path}"


def test_the_map_names_every_room():
    rooms = {p.name for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    missing = {room for room in rooms if not re.search(rf"`(toolips_udp/)?{room}/`", PLAN)}
    assert not missing, f"ARCHITECTURE.md does not name {sorted(missing)}"
