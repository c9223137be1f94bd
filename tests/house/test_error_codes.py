"""Every error says a code, and every code has its heading with cause and fix."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from toolips_udp.servers import holder

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "toolips_udp"
PAGE = ROOT / "docs/reference/errors.md"
ERRORS = re.compile(r"Error$|^(TooLong|Broken|UnknownHandler)$")
FORM = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
KEYWORD = re.compile(r"""\bcode="([^"]*)\"""")


def calls(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node, {keyword.arg: keyword.value for keyword in node.keywords}


def class_codes(path: Path) -> set[str]:
    """The `code = "..."` of the error classes of a file."""
    found = set()
    for cls in ast.walk(ast.parse(path.read_text())):
        for line in cls.body if isinstance(cls, ast.ClassDef) else []:
            names = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
            value = getattr(line, "value", None)
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found |= {value.value for name in names if isinstance(name, ast.Name) and name.id == "code"}
    return found


def used() -> set[str]:
    found = {*holder.CODES.values(), holder.PRIVILEGED, "unknown-command"}  # the last: cli/__init__.py
    for path in PACKAGE.rglob("*.py"):
        found |= class_codes(path)
        for call, keywords in calls(path):
            code = keywords.get("code")
            if ERRORS.search(call.func.id) and isinstance(code, ast.Constant):
                found.add(code.value)
    for path in PACKAGE.rglob("*.pyx"):
        found |= set(KEYWORD.findall(path.read_text()))
    return found


def headings() -> dict[str, str]:
    parts = re.split(r"^### (.+)\n", PAGE.read_text().partition("\n# Codes\n")[2], flags=re.M)[1:]
    return {name.strip("` "): text for name, text in zip(parts[::2], parts[1::2], strict=True)}


def test_every_code_has_its_heading_and_every_heading_its_code():
    missing, stale = used() - headings().keys(), headings().keys() - used()
    assert not missing, f"{PAGE.name} has no heading for {sorted(missing)}"
    assert not stale, f"{PAGE.name} has headings for codes that nothing raises: {sorted(stale)}"


def test_codes_are_short_words_and_each_heading_says_something():
    for code, text in headings().items():
        assert FORM.fullmatch(code) and len(code) <= 24, code
        assert len(text.split("\n## ")[0].split()) >= 6, f"{code}: cause and fix are missing"


def test_every_error_of_a_start_says_its_code():
    silent = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for call, keywords in calls(path)
        if call.func.id in ("StartError", "BindError", "ToolipsError") and "code" not in keywords
    ]
    assert not silent, f"{silent}: give the error a code= and docs/reference/errors.md its heading"


def test_a_code_survives_pickling_and_does_not_change_the_text():
    import pickle

    from toolips_udp.errors import BindError, StartError

    for error in (StartError("no", code="not-running"), BindError(98, "taken", code="port-in-use")):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), again.code, str(again)) == (type(error), error.code, str(error))
    assert BindError(98, "taken").errno == 98 and StartError("no").code == "cannot-start"
