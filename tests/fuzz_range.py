"""The range coder over the endless row of inputs of native/tests/test_enet_range.c, going on where it stopped.

    python tests/fuzz_range.py --minutes 5       adds what it opened to tests/ledger.jsonl (`--dry`: does not)

A million inputs take some two seconds. A failing piece is found again by the numbers that it prints.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import ledger

TARGET, PIECE = "enet_range_inputs", 1_000_000
SOURCES = ("native/tests/test_enet_range.c", "native/enet_range.c")


def build(folder: str) -> str:
    """The program, optimised: the suite has run it under the sanitizers."""
    program = f"{folder}/range"
    compiler = os.environ.get("CC", "cc").split()
    flags = ["-O2", "-std=gnu11", "-D_GNU_SOURCE", f"-I{ledger.ROOT}/native"]
    sources = [str(ledger.ROOT / name) for name in SOURCES]
    subprocess.run([*compiler, *flags, *sources, "-o", program], check=True)
    return program


def next_input() -> int:
    """The first input that no run has opened."""
    return max((int(str(line["last"])) + 1 for line in ledger.lines() if line["target"] == TARGET), default=0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--dry", action="store_true", help="leave the ledger alone")
    options = parser.parse_args()
    end, first = time.monotonic() + 60 * options.minutes, next_input()
    last, result = first, "ok"
    with tempfile.TemporaryDirectory() as folder:
        program = build(folder)
        while result == "ok" and (last == first or time.monotonic() < end):
            done = subprocess.run([program, str(last), str(PIECE)], capture_output=True, text=True)
            if done.returncode:
                result = f"failed between {last} and {last + PIECE - 1}: {done.stderr.strip()}"
            last += PIECE
    line = {"kind": "fuzz", "target": TARGET, "first": first, "last": last - 1, "executions": last - first}
    print({**line, "result": result})
    if not options.dry:
        ledger.add({**line, "result": result})
    return int(result != "ok")


if __name__ == "__main__":
    sys.exit(main())
