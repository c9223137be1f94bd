"""Forged replies at their full count, under the sanitizers; the quick suite runs a thirtieth of them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "native"))
import run


@pytest.mark.long
@pytest.mark.skipif(not (shutil.which("gcc") or shutil.which("cc")), reason="needs a C compiler: apt install gcc")
def test_f8_none_of_ten_million_forged_replies_is_taken():
    run.run_test("dns_forward", str(10**7))
