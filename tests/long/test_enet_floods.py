"""The floods of bad input at their full counts; the quick suite runs a hundredth of them under the sanitizers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which("gcc") or shutil.which("cc")


@pytest.mark.long
@pytest.mark.skipif(not COMPILER, reason="needs a C compiler: apt install gcc")
def test_b1_b2_b3_b11_b18_b20_hold_at_their_full_counts(tmp_path):
    sources = [ROOT / "native/tests/test_enet_floods.c", *(ROOT / "native").glob("enet_*.c")]
    flags = ["-O2", "-std=gnu11", "-D_GNU_SOURCE", f"-I{ROOT}/native"]
    subprocess.run([COMPILER, *flags, *map(str, sources), "-o", str(tmp_path / "floods")], check=True)
    done = subprocess.run([tmp_path / "floods", "1"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
