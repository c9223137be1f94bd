"""What the game house promises has a test for each row of tests/game_rows.txt, and the rows are all there."""

import re
from pathlib import Path

from toolips_udp.peers.enet import caps_of

TESTS = Path(__file__).parents[1]
LATER = {"B30"}
"""The encrypted transport, which is not built."""


def rows():
    lines = (TESTS / "game_rows.txt").read_text().splitlines()
    return [[part.strip() for part in line.split("|")] for line in lines if line and not line.startswith("#")]


def test_every_row_names_a_test_that_exists():
    texts = {}
    for name, _, where in rows():
        file, test = where.split("::")
        text = texts.setdefault(file, (TESTS / file).read_text())
        assert re.search(rf"^(async )?def {test}\(", text, re.M), f"{name}: {file} has no {test}"


def test_every_cap_and_every_bad_input_has_its_row_and_no_row_is_there_twice():
    names = [row[0] for row in rows()]
    assert len(set(names)) == len(names)
    assert {name.removeprefix("cap.") for name in names if name.startswith("cap.")} == set(caps_of())
    bad = {f"B{n}" for n in range(1, 36)} - LATER
    assert {name for name in names if re.fullmatch(r"B\d+", name)} == bad
