"""The ledger of long runs: one JSON line per run in tests/ledger.jsonl, which is tracked.

    python tests/ledger.py          sums per kind and target

A line holds commit, when, kind (fuzz, soak, farm, mutants), target, executions or seeds,
datagrams where an execution holds many, corpus hash and result. Release figures are read from here.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEDGER = ROOT / "tests/ledger.jsonl"


def commit() -> str:
    """The commit that ran; `+` after it when the tree had changes."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "native", "toolips_udp")
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + ("+" if changed else "")


def add(line: dict[str, object]) -> None:
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with LEDGER.open("a") as file:
        file.write(json.dumps({"commit": commit(), "when": when, **line}) + "\n")


def lines() -> list[dict[str, object]]:
    if not LEDGER.exists():
        return []
    return [json.loads(line) for line in LEDGER.read_text().splitlines() if line]


def next_seed() -> int:
    """The first seed that no farm run has used."""
    return max((int(str(line["last_seed"])) + 1 for line in lines() if line["kind"] == "farm"), default=0)


def main() -> None:
    sums: Counter[tuple[str, str]] = Counter()
    datagrams: Counter[tuple[str, str]] = Counter()
    bad = []
    for line in lines():
        amount = line.get("executions", line.get("seeds", 0))
        which = str(line["kind"]), str(line["target"])
        sums[which] += int(str(amount))
        datagrams[which] += int(str(line.get("datagrams", 0)))
        if line["result"] != "ok":
            bad.append(line)
    for (kind, target), total in sorted(sums.items()):
        inside = datagrams[kind, target]
        print(f"{kind:6} {target:24} {total:>16,}" + (f"  {inside:>16,} datagrams" if inside else ""))
    for line in bad:
        print("not ok:", json.dumps(line))


if __name__ == "__main__":
    main()
