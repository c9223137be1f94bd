"""`features.txt` is true: each feature has its tests, each scenario its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
LAST = {"TC": 27, "TT": 13, "UD": 27, "PP": 18, "SE": 7, "NS": 5, "HS": 18, "HC": 14}
SCENARIOS = {"tc": 20, "tt": 13, "ud": 28, "pp": 15, "se": 5, "ns": 6, "hs": 25}
NAMES = {
    name
    for path in TESTS.rglob("test_*.py")
    for name in re.findall(r"^(?:async )?def test_(\w+)\(", path.read_text(), re.M)
}
ROWS = [
    line.split(maxsplit=1)
    for line in Path(__file__).with_name("features.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


def test_every_feature_has_one_row():
    expected = [f"{kind}-{number:02}" for kind, last in LAST.items() for number in range(1, last + 1)]
    assert [row[0] for row in ROWS] == expected


@pytest.mark.parametrize("feature, tests", [row for row in ROWS if not row[1].startswith("- not offered: ")])
def test_the_tests_of_a_feature_exist(feature, tests):
    for name in tests.split():
        begin = name.removesuffix("*")
        found = name in NAMES if begin == name else any(each.startswith(begin) for each in NAMES)
        assert found, f"{feature} names test_{name}, which is no test"


@pytest.mark.parametrize("kind, last", SCENARIOS.items())
def test_every_scenario_is_a_test_of_its_name(kind, last):
    missing = [n for n in range(1, last + 1) if not any(name.startswith(f"a_{kind}{n}_") for name in NAMES)]
    assert not missing, f"no test_a_{kind}N_... for {missing}"
