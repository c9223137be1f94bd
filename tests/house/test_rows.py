"""rows.txt: every promise about bad days has a test, and every test that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WANTED = {"C": 5, "K": 10, "V": 14, "O": 9, "D": 9, "N": 15, "S": 5, "P": 10, "L": 10, "G": 7, "W": 4, "R": 4}
"""How many rows of each kind there are."""


def rows() -> dict[str, tuple[str, str]]:
    found = {}
    for line in (Path(__file__).parent / "rows.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            number, what, shown = (part.strip() for part in line.split("|"))
            assert number not in found, f"{number} stands twice"
            found[number] = what, shown
    return found


@pytest.fixture(scope="module")
def tests() -> set[str]:
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        found |= set(re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(), re.MULTILINE))
    for path in (ROOT / "native/tests").glob("*.c"):
        found |= set(re.findall(r"^static void (\w+)\(", path.read_text(), re.MULTILINE))
    return found


def test_no_row_is_missing() -> None:
    assert set(rows()) == {f"{kind}{n + 1}" for kind, count in WANTED.items() for n in range(count)}


def test_every_row_names_a_test_that_is_there(tests: set[str]) -> None:
    wrong = []
    for number, (what, shown) in rows().items():
        kind, _, rest = shown.partition(": ")
        if kind == "open":
            assert rest, f"{number} is open, but does not say why"
            continue
        names = rest.split() if kind == "bench" else shown.split()
        assert what and names, f"{number} names nothing"
        known = {path.name for path in (ROOT / "bench").glob("*.py")} if kind == "bench" else tests
        wrong += [f"{number}: {name}" for name in names if name not in known]
    assert not wrong, f"rows.txt names what is not there: {wrong}"


def test_a_test_that_begins_with_the_number_of_a_row_stands_in_it() -> None:
    """`test_n13_...` of the rooms that rows.txt is about; the houses have rows of their own with such numbers."""
    text = (Path(__file__).parent / "rows.txt").read_text()
    for name in ("stories/test_reliability.py", "unit/test_typed.py", "native/test_no_memory.py"):
        for number, rest in re.findall(
            r"^def test_([nspl]\d+)_(\w+)\(", (ROOT / "tests" / name).read_text(), re.M
        ):
            if number.upper() in rows():
                line = next(line for line in text.splitlines() if line.startswith(f"{number.upper()} |"))
                one_of_its = any(f"test_{number}_" in word for word in line.split())
                assert one_of_its, f"{number.upper()} does not name test_{number}_{rest}"
