"""The plain C tests of the ENet kernels under ASan and UBSan, and the coder beside libenet."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLAGS = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-g", f"-I{ROOT / 'native'}"]
SANITIZED = [*FLAGS, "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")


def build(out: Path, flags: list[str], *sources: str, libraries: tuple[str, ...] = ()) -> Path:
    paths = [str(ROOT / source) for source in sources]
    made = subprocess.run(["gcc", *flags, *paths, "-o", str(out), *libraries], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return out


def run(program: Path, *args: str) -> str:
    done = subprocess.run([str(program), *args], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_b7_the_wire_kernels_pass_their_own_tests_under_sanitizers(tmp_path):
    sources = ("native/tests/test_enet_wire.c", "native/enet_wire.c", "native/enet_range.c")
    run(build(tmp_path / "wire", SANITIZED, *sources))


@pytest.mark.skipif(not Path("/usr/include/enet/enet.h").exists(), reason="needs libenet-dev")
def test_100_000_random_inputs_of_the_range_coder_are_bit_equal_to_libenet_both_ways(tmp_path):
    sources = ("tests/interop/range_equal.c", "native/enet_range.c")
    program = build(tmp_path / "equal", [*FLAGS, "-O2"], *sources, libraries=("-lenet",))
    assert run(program, "100000", "6") == "100000 inputs equal both ways\n"
