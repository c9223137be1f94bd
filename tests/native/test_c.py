"""The C code on its own: tests under ASan and UBSan, the corpus of every fuzz target, warnings as errors."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("native_run", ROOT / "native/run.py")
run = importlib.util.module_from_spec(spec)
sys.modules["native_run"] = run
spec.loader.exec_module(run)

COMPILER = shutil.which("gcc") or shutil.which("cc")
pytestmark = [
    pytest.mark.skipif(not COMPILER, reason="needs a C compiler: apt install gcc"),
    pytest.mark.xdist_group("native"),
]
SOURCES = sorted((ROOT / "native").glob("*.c"))


@pytest.mark.parametrize("name", run.tests())
def test_a_c_test_passes_under_the_sanitizers(name):
    run.run_test(name)


@pytest.mark.parametrize("name", run.targets())
def test_a_fuzz_target_survives_its_corpus(name):
    assert run.replay(name) > 0, (
        f"native/fuzz/corpus/{name}/ has no seed; a parser without seeds is not merged"
    )


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.name)
def test_a_kernel_compiles_without_a_warning_at_o2(source, tmp_path):
    flags = ["-O2", "-std=gnu11", "-D_GNU_SOURCE", *run.WARNINGS, f"-I{ROOT}/native"]
    done = subprocess.run(
        [COMPILER, *flags, "-c", str(source), "-o", str(tmp_path / "x.o")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_no_c_file_knows_python():
    for path in [*(ROOT / "native").glob("*.[ch]"), *(ROOT / "native").glob("*/*.c")]:
        assert not re.search(r"#\s*include\s*[<\"]Python\.h", path.read_text()), (
            f"{path.name} includes Python.h"
        )
