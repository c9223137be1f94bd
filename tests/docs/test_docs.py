"""Every code block of README and docs runs; every word and error has its heading."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from toolips_udp import counters, errors

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("docs_pages", ROOT / "tests/docs/pages.py")
pages = importlib.util.module_from_spec(spec)
sys.modules["docs_pages"] = pages
spec.loader.exec_module(pages)

PAGES = [p for p in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if p.exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_code_block_of_a_page_runs(page, tmp_path):
    pages.Page(page, tmp_path).run()


def test_a_page_that_does_not_do_what_it_says_is_caught(tmp_path):
    for number, text in enumerate(
        (
            "```python\nraise SystemExit(3)\n```\n",
            "```sh\necho one\n```\n\n```text\ntwo\n```\n",
            "```sh\nfalse\n```\n",
            "```sh\nmake no-such-target\n```\n",
            "```sh\npip install 'toolips_udp[nosuch]'\n```\n",
            "```toml\n[x\n```\n",
            "```sh\nsleep 0.1 &\n```\n",
        )
    ):
        page = ROOT / f"build/page{number}.md"
        page.parent.mkdir(exist_ok=True)
        page.write_text(text)
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            with pytest.raises(pages.PageError):
                pages.Page(page, folder).run()
        finally:
            page.unlink()


def test_output_matches_with_any_lines_between():
    assert pages.matches("a\nb\nc\n", "a\n...\nc\n")
    assert pages.matches("a\n", "a\n")
    assert pages.matches("a\nc\n", "a\n...\nc\n")
    assert pages.matches("at 12:30\n", "at ...\n")
    assert not pages.matches("a\nb\n", "a\n")
    assert not pages.matches("a\nb\n", "a...\n")


def headings(page: str) -> set[str]:
    return set(re.findall(r"^#+ `?([\w]+)`?", (ROOT / page).read_text(), re.M))


def test_every_word_has_its_heading():
    sends = {"sent", "send_queued", "send_refused", "send_refused_late", "send_dropped_full"}
    missing = {*counters.DROPS, "received", "handled", *sends} - headings("docs/reference/drop-words.md")
    assert not missing, f"docs/reference/drop-words.md has no heading for {sorted(missing)}"


def test_every_error_has_its_heading():
    named = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    missing = named - headings("docs/reference/errors.md")
    assert not missing, f"docs/reference/errors.md has no heading for {sorted(missing)}"


def test_every_relative_link_leads_somewhere():
    for page in [*PAGES, *(ROOT / name for name in ("ARCHITECTURE.md", "SECURITY.md", "CHANGELOG.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


@pytest.mark.parametrize("folder", ["docs/how-to", "docs/wire", "docs/decisions", "docs/tutorial"])
def test_an_index_lists_every_page_of_its_folder(folder):
    index = (ROOT / folder / "README.md").read_text()
    missing = [
        page.name
        for page in (ROOT / folder).glob("*.md")
        if page.name != "README.md" and f"({page.name})" not in index
    ]
    assert not missing, f"{folder}/README.md does not list {missing}"
