"""Writes the last results into the tables of README.md and bench/README.md.

    python bench/table.py            writes
    python bench/table.py --check    exits 1 when a table is not that of the results

Between `<!-- bench:start -->` and `<!-- bench:end -->` nothing is written by hand.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from harness import RESULTS, ROOT, markdown

BETWEEN = re.compile(r"(<!-- bench:start(?: ([\w ]+))? -->\n).*?(<!-- bench:end -->)", re.S)


def section(path: Path) -> str:
    report = json.loads(path.read_text())
    where, made = report["machine"], report["versions"]
    settings = ", ".join(f"{k} {v}" for k, v in report["settings"].items())
    return (
        f"**{report['title']}**\n\n{markdown(report['table'])}\n\n"
        f"{report['when']}, commit {report['commit']}; {where['cpu']}, {where['cores']} cores, "
        f"load average {where['load_average']}, rmem_max {where['rmem_max']}; "
        + ", ".join(f"{k} {v}" for k, v in made.items())
        + f"; {settings}.\n"
    )


def filled(text: str) -> str:
    def fill(found: re.Match[str]) -> str:
        names = found[2].split() if found[2] else sorted(p.stem for p in RESULTS.glob("*.json"))
        sections = [
            section(RESULTS / f"{name}.json") for name in names if (RESULTS / f"{name}.json").exists()
        ]
        return f"{found[1]}{chr(10).join(sections)}{found[3]}"

    return BETWEEN.sub(fill, text)


def main() -> int:
    stale = 0
    for path in (ROOT / "README.md", ROOT / "bench/README.md"):
        if not path.exists():
            continue
        old = path.read_text()
        new = filled(old)
        if new != old:
            if "--check" in sys.argv:
                print(
                    f"{path.relative_to(ROOT)}: its table is not that of bench/results. "
                    "Fix: python bench/table.py"
                )
                stale = 1
            else:
                path.write_text(new)
                print(f"{path.relative_to(ROOT)} written")
    return stale


if __name__ == "__main__":
    sys.exit(main())
