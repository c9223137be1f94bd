"""Rules of the house that one look at the files can tell."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "toolips_udp"
FILES = sorted(PACKAGE.rglob("*.py"))
BANNED_NAMES = {"utils", "util", "common", "helpers", "helper", "core", "misc"}
PICKLERS = {"pickle", "cloudpickle", "dill", "_pickle"}
NEVER = {"marshal", "shelve"}


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_no_file_has_a_name_that_says_nothing():
    wrong = [str(p.relative_to(ROOT)) for p in PACKAGE.rglob("*") if p.stem in BANNED_NAMES]
    assert not wrong, f"{wrong}: name a file after its noun, or after its verb with -ing"


def test_pickle_stays_in_the_jobs_room():
    for path in FILES:
        inside = path.relative_to(PACKAGE).parts[0]
        found = imported_modules(path)
        assert not found & NEVER, f"{path.relative_to(ROOT)} imports {found & NEVER}"
        if inside != "jobs":
            assert not found & PICKLERS, f"{path.relative_to(ROOT)} imports {found & PICKLERS}"


def test_no_policy_of_the_event_loop_is_touched():
    """Policies are removed in Python 3.16; loops come from a loop_factory."""
    for path in FILES:
        text = path.read_text()
        assert "set_event_loop_policy" not in text and "uvloop.install" not in text, path


def test_every_module_opens_with_what_it_is():
    silent = [
        str(p.relative_to(ROOT))
        for p in FILES
        if p.stat().st_size and not ast.get_docstring(ast.parse(p.read_text()))
    ]
    assert not silent, f"{silent}: say in a docstring what the module is and what it may import"


def test_tracked_files_speak_of_the_project_alone():
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout: the sdist has no list of tracked files")
    home = re.compile(r"(?<![\w./])/(?:work|home/\w+|root)/\w")
    for name in listed.stdout.split("\n"):
        path = ROOT / name
        if (
            not name
            or not path.is_file()
            or path.suffix in {".bin", ".png", ".gz", ".pcap"}
            or "corpus" in path.parts
        ):
            continue
        text = path.read_text(errors="replace")
        found = home.search(text)
        assert not found, f"{name} names a path of one machine: {found and found[0]}"
