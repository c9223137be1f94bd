"""The programs of the benches compile and link with what the C core consists of today."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler; apt install gcc")


def has_libenet():
    done = subprocess.run(["cc", "-E", "-include", "enet/enet.h", "-x", "c", "/dev/null"], capture_output=True)
    return done.returncode == 0


@pytest.mark.parametrize("name", ["tick", "enet"])
def test_the_generators_of_a_bench_link_with_the_core(name, tmp_path, monkeypatch):
    if name == "enet" and not has_libenet():
        pytest.skip("libenet stands beside it; apt install libenet-dev")
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.delitem(sys.modules, "harness", raising=False)
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCH / f"{name}.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    monkeypatch.setattr(bench.h, "BUILD", tmp_path)
    bench.build()
    assert any(tmp_path.iterdir())
