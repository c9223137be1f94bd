"""The table of the mutation score names what there is, and mutants that its modules can still have."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = tomllib.loads((ROOT / "tests/mutants.toml").read_text())
EVERYWHERE = TABLE.pop("everywhere")["same"]


@pytest.mark.parametrize("name", TABLE)
def test_a_module_and_its_tests_are_there(name):
    row = TABLE[name]
    assert (ROOT / row["module"]).is_file() and row["module"].startswith("toolips_udp/")
    assert row["tests"]
    for each in row["tests"]:
        file, _, test = each.partition("::")
        wanted = rf"^ *(async )?def {test}\(" if test else r"^ *(async )?def test_"
        assert re.search(wanted, (ROOT / file).read_text(), re.M), each
        assert each.startswith("tests/unit/"), f"{each}: only quick tests own a module"
    assert ("sample" in row) == ("seed" in row)


@pytest.mark.parametrize("name", TABLE)
def test_a_mutant_that_is_no_fault_says_why_and_changes_what_the_module_still_says(name):
    text = " ".join((ROOT / TABLE[name]["module"]).read_text().split())
    for each in (*TABLE[name].get("same", []), *EVERYWHERE):
        assert len(each["why"]) > 10 and each["was"] != each["becomes"]
    for each in TABLE[name].get("same", []):
        assert " ".join(each["was"].split()) in text, each
