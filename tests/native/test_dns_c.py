"""The C tests of the DNS kernels under ASan and UBSan, and the fuzz corpus replayed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "native"
SOURCES = sorted(NATIVE.glob("dns_*.c"))
CC = shutil.which("clang") or shutil.which("gcc") or shutil.which("cc")
FLAGS = ["-g", "-O1", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
REPLAY = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        fseek(file, 0, SEEK_END);
        long size = ftell(file);
        rewind(file);
        uint8_t *data = malloc(size ? (size_t)size : 1);
        if (fread(data, 1, (size_t)size, file) != (size_t)size) return 1;
        fclose(file);
        for (long n = 0; n <= size; n += 1 + size / 12) LLVMFuzzerTestOneInput(data, (size_t)n);
        LLVMFuzzerTestOneInput(data, (size_t)size);
        free(data);
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """The kernels, compiled once with the sanitizers."""
    if CC is None:
        pytest.skip("no C compiler on this machine")
    folder = tmp_path_factory.mktemp("kernels")
    subprocess.run([CC, *FLAGS, "-c", *map(str, SOURCES)], check=True, cwd=folder)
    return sorted(folder.glob("*.o"))


def build(tmp_path, kernels, *sources):
    program = tmp_path / "program"
    subprocess.run([CC, *FLAGS, *map(str, [*sources, *kernels]), "-o", str(program)], check=True)
    return program


@pytest.mark.parametrize("test", sorted(NATIVE.glob("tests/test_dns_*.c")), ids=lambda p: p.stem)
def test_the_c_test_passes_under_sanitizers(tmp_path, kernels, test):
    subprocess.run(
        [build(tmp_path, kernels, test)], check=True, env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    )


@pytest.mark.parametrize("target", sorted(NATIVE.glob("fuzz/fuzz_dns_*.c")), ids=lambda p: p.stem)
def test_the_fuzz_corpus_runs_clean(tmp_path, kernels, target):
    replay = tmp_path / "replay.c"
    replay.write_text(REPLAY)
    seeds = sorted((NATIVE / "fuzz/corpus" / target.stem.removeprefix("fuzz_")).iterdir())
    assert seeds
    subprocess.run(
        [build(tmp_path, kernels, replay, target), *seeds],
        check=True,
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},
    )
