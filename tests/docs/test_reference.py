"""The reference is what the docstrings say."""

from __future__ import annotations

import runpy
from pathlib import Path

import toolips_udp

ROOT = Path(__file__).parents[2]
reference = runpy.run_path(str(ROOT / "docs/make_reference.py"))


def test_the_pages_of_the_reference_are_what_the_docstrings_say():
    made = reference["pages"]()
    folder = ROOT / "docs/reference/api"
    assert {path.name for path in folder.glob("*.md")} == made.keys()
    stale = [name for name, text in made.items() if (folder / name).read_text() != text]
    assert not stale, f"{stale} differ from the docstrings. Fix: python docs/make_reference.py"


def test_every_public_name_of_the_front_door_has_its_entry():
    text = reference["pages"]()["toolips_udp.md"]
    houses = {"dns", "game", "messages", "testing", "peers", "__version__"}
    missing = [name for name in toolips_udp.__all__ if name not in houses and f"\n### {name}\n" not in text]
    assert not missing


def test_an_entry_has_signature_docstring_and_example():
    text = reference["pages"]()["toolips_udp.md"]
    entry = text[text.index("\n### send\n") :].split("\n### ")[1]
    assert "send(*args: Any, keep_open: bool=False) -> Any" in entry
    assert "```pycon\n>>> send(" in entry and "Defined in `toolips_udp/messaging.py`" in entry
