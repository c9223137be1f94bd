"""ruff, mypy --strict and stubtest, as tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(p.stem for p in (ROOT / "toolips_udp/_native").glob("*.pyx"))
BUILT = [name for name in MODULES if list((ROOT / "toolips_udp/_native").glob(f"{name}.*.so"))]


def run(*command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MYPYPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_finds_nothing():
    run("ruff", "check", "--quiet", ".")


@pytest.mark.timeout(600)
def test_the_package_is_clean_under_mypy_strict():
    run("mypy")


@pytest.mark.parametrize("name", MODULES)
def test_a_native_module_has_a_stub(name):
    assert (ROOT / f"toolips_udp/_native/{name}.pyi").exists()


@pytest.mark.timeout(600)
@pytest.mark.skipif(
    not BUILT, reason="no native core is built, so there is nothing to hold the stubs against"
)
def test_the_stubs_say_what_the_native_modules_have():
    allow = str(ROOT / "tests/lint/stubtest-allow.txt")
    flags = ["--ignore-missing-stub", "--ignore-disjoint-bases", "--ignore-positional-only", "--concise"]
    names = [f"toolips_udp._native.{name}" for name in BUILT]
    run("mypy.stubtest", *flags, "--allowlist", allow, "--ignore-unused-allowlist", *names)
