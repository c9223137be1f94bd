"""The suite's native part under ASan and UBSan, in a copy of the tree with its own build.

    python tests/sanitize.py [PYTEST ARGUMENTS]

Without arguments it runs the tests that reach the native core. The interpreter itself is not
sanitized, so leaks are looked for elsewhere; reads and writes past an end are found here.
Needs gcc (libasan, libubsan).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TREE = ROOT / "build/sanitize"
FLAGS = "-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined"
TESTS = ["tests/unit", "tests/stories", "-m", "not alone and not long", "-p", "no:randomly"]
LEAVE = shutil.ignore_patterns(
    "build", "dist", ".git", ".venv", "*.so", "__pycache__", ".*_cache", "*.egg-info"
)


def mirror(tree: Path) -> None:
    """Copies what changed into `tree`, so that a second run compiles only that."""
    for source in ROOT.rglob("*"):
        inside = source.relative_to(ROOT)
        if LEAVE(str(source.parent), inside.parts) or not source.is_file():
            continue
        target = tree / inside
        if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def library(name: str) -> str:
    done = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True)
    if not done.stdout.strip().startswith("/"):
        raise SystemExit(f"gcc has no {name}. Fix: apt install gcc")
    return str(Path(done.stdout.strip()).resolve())


def main() -> int:
    if not shutil.which("gcc"):
        raise SystemExit("the sanitizers need gcc. Fix: apt install gcc")
    mirror(TREE)
    env = {
        **os.environ,
        "PYTHONPATH": str(TREE),
        "TOOLIPS_UDP_CFLAGS": FLAGS,
        "TOOLIPS_UDP_LDFLAGS": "-fsanitize=address,undefined",
        "TOOLIPS_UDP_REQUIRE_NATIVE": "1",
    }
    build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    if subprocess.run(build, cwd=TREE, env=env).returncode:
        return 1
    env |= {
        "LD_PRELOAD": f"{library('libasan.so')} {library('libubsan.so')}",
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    command = [sys.executable, "-m", "pytest", "-q", *(sys.argv[1:] or TESTS)]
    return subprocess.run(command, cwd=TREE, env=env).returncode


if __name__ == "__main__":
    sys.exit(main())
