"""The index of the rules of DNS, tests/wire/dns_rows.txt: every rule names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
NATIVE = TESTS.parent / "native/tests"
FAMILIES = re.findall(r"^# (.+)$", (TESTS / "wire/dns_udp.txt").read_text(), re.M)


def rows() -> dict[str, tuple[str, list[str]]]:
    """What the index says: of each rule its words, and its tests; `later:` and the reason in place of them."""
    found: dict[str, tuple[str, list[str]]] = {}
    for line in (TESTS / "wire/dns_rows.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            ident, rule, proofs = (part.strip() for part in line.split("|"))
            assert ident not in found, f"{ident} stands twice"
            found[ident] = rule, [proofs] if proofs.startswith("later:") else proofs.split()
    return found


@pytest.fixture(scope="module")
def known() -> set[str]:
    """The names of all tests in Python."""
    return {
        name
        for path in TESTS.rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def test_(\w+)", path.read_text(), re.M)
    }


def proven(proof: str, known: set[str]) -> bool:
    if proof.startswith("ledger:"):
        words = proof.removeprefix("ledger:").replace("_", " ")
        return any(words in family for family in FAMILIES)
    if proof.startswith("test_"):
        file, _, name = proof.partition(":")
        text = (NATIVE / file).read_text()
        return f"static void {name}(void)" in text and f"    {name}();" in text
    return proof in known


def test_every_rule_has_tests_that_exist_or_says_why_it_has_none(known):
    wrong = [
        f"{ident}: {proof}"
        for ident, (_, proofs) in rows().items()
        for proof in proofs
        if not (len(proof) > 20 if proof.startswith("later:") else proven(proof, known))
    ]
    assert not wrong, "\n".join(wrong)


def test_no_rule_is_left_out():
    wanted = {
        *(f"M{n}" for n in range(1, 5)), *(f"N{n}" for n in range(1, 8)), *(f"Q{n}" for n in range(1, 17)),
        *(f"E{n}" for n in range(1, 10)), *(f"A{n}" for n in range(1, 9)), *(f"X{n}" for n in range(1, 9)),
        *(f"C{n}" for n in range(1, 15)), *(f"F{n}" for n in range(1, 10)),
    }  # fmt: skip
    listed = {ident for row in rows() for ident in row.split()}
    assert wanted <= listed, sorted(wanted - listed)
