"""The next seeds of the simulation farm, with a line in the ledger.

    python tests/farm.py --seeds 200 [--minutes 6] [--jobs 2]

Goes on after the last seed of the ledger. Failing seeds are kept in
tests/farm-failures.txt and run first.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import ledger

from toolips_udp.testing import farm
from toolips_udp.testing.scenarios import NAMES

FAILURES = Path(__file__).parent / farm.FAILURES


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    first = ledger.next_seed()
    work = farm.known_failures(FAILURES)
    work += [(NAMES[seed % len(NAMES)], seed) for seed in range(first, first + options.seeds)]
    report = farm.run_all(work, options.minutes, options.jobs)
    farm.keep_failures(FAILURES, report.failures)
    ledger.add(
        {
            "kind": "farm",
            "target": "+".join(NAMES),
            "first_seed": first,
            "last_seed": first + options.seeds - 1,
            "seeds": report.runs,
            "hours": round(report.seconds / 3600, 2),
            "result": "ok"
            if report.ok
            else f"{len(report.failures)} failures, {len(report.unmet)} unmet goals",
        }
    )
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
