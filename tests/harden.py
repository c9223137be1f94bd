"""Run the stories of worker processes with `harden=True`, where a system call outside the list ends the process.

    python tests/harden.py            needs root: the workers become nobody

A worker that dies by SIGSYS met a call that `toolips_udp/supervisor/calls.py` lacks; `strace -f` names it.
Left out are stories that ask for what a hardened worker must not do, or for files in folders that only root sees.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
STORIES = ("test_supervisor", "test_workers_of_a_server", "test_reload_in_place")
LEFT_OUT = "not harden and not handed_over and not a_house_ends"


def main() -> int:
    if os.geteuid() != 0:
        print("only root can become another user: run this as root")
        return 1
    environment = {**os.environ, "TUDP_TEST_HARDEN": "1", "TUDP_SECCOMP": "kill"}
    stories = [str(ROOT / "tests" / "stories" / f"{name}.py") for name in STORIES]
    command = [sys.executable, "-m", "pytest", "-q", "-k", LEFT_OUT, *stories, *sys.argv[1:]]
    return subprocess.call(command, cwd=ROOT, env=environment)


if __name__ == "__main__":
    sys.exit(main())
