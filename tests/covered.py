"""How much of the code the tests run: lines and branches of the C core, lines of the Python package.

    python tests/covered.py                   everything anew: the C tests, the corpus, the quick suite, the tables
    python tests/covered.py c                 the C tests and the corpus of the fuzz targets
    python tests/covered.py python [ARGS]     pytest with ARGS; adds to what was run before
    python tests/covered.py report            the tables of what has run; --json FILE writes the figures
    python tests/covered.py missing FILE...   the lines and branches of C files that nothing ran
    python tests/covered.py forget            begins anew

It works in a copy of the tree, `build/covered`, built with -O0 --coverage and left as it was when the first part
began, so that the parts can be run one after the other and add up. What a process did that was killed is not
counted: its counters are written when it ends by itself. Needs gcc (gcov) and the package coverage. Called by
`make coverage`.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from sanitize import mirror

ROOT = Path(__file__).resolve().parent.parent
TREE = ROOT / "build/covered"
C_BUILD, SUITE_BUILD = TREE / "native/covered/build", TREE / "build/temp"
FLAGS = ("-O0", "-g", "--coverage", "-fprofile-update=atomic")
QUICK = ["-n", "2", "--dist", "loadgroup", "-m", "not alone and not long and not peers", "-p", "no:randomly"]
PARSERS = (
    *("dns_message", "dns_reply", "dns_list", "dns_proxied"),
    *("enet_wire", "enet_range", "snapshot", "depth"),
)
"""What takes the bytes of a stranger, or of a file, apart."""

NOT_REACHED = "/* not reached: "
"""A line with this and the reason behind it is left out, and so is the statement of an if that ends with it."""

Branches = dict[tuple[int, int], int]


# -- running ----------------------------------------------------------------------------------------


def run_c() -> None:
    """Builds and runs native/tests and replays native/fuzz/corpus, with counters in C_BUILD."""
    spec = importlib.util.spec_from_file_location("native_run", TREE / "native/run.py")
    assert spec and spec.loader
    runner = importlib.util.module_from_spec(spec)
    sys.modules["native_run"] = runner
    spec.loader.exec_module(runner)
    # one target asks the address sanitizer what it may read; it adds no branch that gcov sees
    flags = (*FLAGS, "-fsanitize=address", "-std=gnu11", "-D_GNU_SOURCE", *runner.WARNINGS)
    kind = runner.Kind(C_BUILD, (os.environ.get("CC", "gcc").split()[-1],), flags)
    runner.with_cc = lambda where: kind
    for name in runner.tests():
        runner.run_test(name)
        print(f"ran test_{name}", flush=True)
    for name in runner.targets():
        print(f"replayed {runner.replay(name)} inputs of {name}", flush=True)


def run_python(words: list[str]) -> int:
    """Runs pytest in the copy; the counters add to those of the runs before."""
    env = {
        **os.environ,
        "PYTHONPATH": str(TREE),
        "TOOLIPS_UDP_CFLAGS": " ".join(FLAGS),
        "TOOLIPS_UDP_LDFLAGS": "--coverage",
        "CC": "gcc",
    }
    build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", "--build-temp", str(SUITE_BUILD)]
    if subprocess.run(build, cwd=TREE, env=env | {"TOOLIPS_UDP_REQUIRE_NATIVE": "1"}).returncode:
        return 1
    (TREE / ".coveragerc").write_text(
        f"[run]\nsource = {TREE / 'toolips_udp'}\ndata_file = {TREE / '.coverage'}\nparallel = true\n"
        "patch = subprocess, _exit\nconcurrency = thread, multiprocessing\n"
        "[report]\nexclude_also =\n    if TYPE_CHECKING:\n    @overload\n    raise NotImplementedError\n"
        "    \\.\\.\\.$\n"
    )
    command = ["-m", "coverage", "run", "-m", "pytest", "-q", "--timeout=400", *(words or QUICK)]
    return subprocess.run([sys.executable, *command], cwd=TREE, env=env).returncode


# -- counting ---------------------------------------------------------------------------------------


class Counts:
    """How often every line and every branch of the C files ran."""

    def __init__(self) -> None:
        self.lines: dict[str, Counter[int]] = defaultdict(Counter)
        self.branches: dict[str, Branches] = defaultdict(dict)

    def add(self, build: Path) -> None:
        """Adds what the counter files below a build folder tell of native/."""
        for notes in sorted(build.rglob("*.gcno")):
            if notes.with_suffix(".gcda").exists() and "_native" not in notes.parts:
                self._take(_gcov(notes))

    def left_out(self, name: str) -> set[int]:
        """The lines of a C file that are not counted, see NOT_REACHED."""
        text = (TREE / "native" / name).read_text().splitlines()
        marked = {number for number, line in enumerate(text, 1) if NOT_REACHED in line}
        behind = {n + 1 for n in marked if text[n - 1].split("/*")[0].rstrip().endswith(")")}
        return marked | {n for n in behind if not self.lines[name][n]}

    def _take(self, told: dict[str, object]) -> None:
        for file in told["files"]:  # type: ignore[attr-defined]
            path = Path(told["current_working_directory"], file["file"]).resolve()  # type: ignore[arg-type]
            if path.parent != TREE / "native":
                continue
            lines, branches = self.lines[path.name], self.branches[path.name]
            for line in file["lines"]:
                number = line["line_number"]
                lines[number] += line["count"]
                for place, branch in enumerate(line["branches"]):
                    branches[number, place] = branches.get((number, place), 0) + branch["count"]

    def of(self, names: Iterable[str]) -> tuple[int, int, int, int]:
        """(lines run, lines, branches run, branches) of these files."""
        found = [0, 0, 0, 0]
        for name in names:
            out = self.left_out(name)
            lines = [count for line, count in self.lines[name].items() if line not in out]
            branches = [count for (line, _), count in self.branches[name].items() if line not in out]
            found[0] += sum(map(bool, lines))
            found[1] += len(lines)
            found[2] += sum(map(bool, branches))
            found[3] += len(branches)
        return found[0], found[1], found[2], found[3]


def _gcov(notes: Path) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        command = ["gcov", "--json-format", "--branch-probabilities", str(notes)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        made = list(Path(folder).glob("*.json.gz"))
        if "stamp mismatch" in done.stderr:
            raise SystemExit(f"{notes.stem} was compiled anew since it ran. Fix: python tests/covered.py forget")
        if done.returncode or not made:
            raise SystemExit(f"gcov {notes}: {done.stderr.strip() or 'wrote nothing'}")
        told: dict[str, object] = json.loads(gzip.decompress(made[0].read_bytes()))
        return told


def counted(*builds: Path) -> Counts:
    counts = Counts()
    for build in builds:
        counts.add(build)
    return counts


def share(run: int, all_: int) -> str:
    return f"{100 * run / all_:6.1f} %" if all_ else "      - "


# -- telling ----------------------------------------------------------------------------------------


def c_table() -> dict[str, list[int]]:
    """Prints the C files, least covered first; [lines run, lines, branches run, branches] of the groups."""
    alone, both = counted(C_BUILD), counted(C_BUILD, SUITE_BUILD)
    print("\nC core                     C tests and corpus      with the Python suite")
    print("                            lines   branches        lines   branches")
    names = sorted(both.lines, key=lambda name: both.of([name])[2] / (both.of([name])[3] or 1))
    parsers = [name for name in names if name.rpartition(".")[0] in PARSERS]
    groups = {name: [name] for name in names} | {"parsers": parsers, "all of native/": names}
    for group, files in groups.items():
        a, b = alone.of(files), both.of(files)
        row = [share(*a[:2]), share(*a[2:]), "    ", share(*b[:2]), share(*b[2:])]
        print(f"{group:24} {'  '.join(row)}")
    marks = {name: text.count(NOT_REACHED) for name in names if (text := (TREE / "native" / name).read_text())}
    told = ", ".join(f"{count} in {name}" for name, count in marks.items() if count)
    print(f"not counted, each with its reason: {told}")
    return {group: list(both.of(files)) for group, files in groups.items()}


def python_table() -> dict[str, list[int]]:
    """Prints the Python files below 95 %, and the whole; [lines run, lines] of each."""
    coverage = [sys.executable, "-m", "coverage"]
    if list(TREE.glob(".coverage.*")):
        subprocess.run([*coverage, "combine", "--append", "--quiet"], cwd=TREE)
    told = TREE / "build/python.json"
    done = subprocess.run([*coverage, "json", "--quiet", "-o", str(told)], cwd=TREE, capture_output=True, text=True)
    if done.returncode:
        print(f"\nPython: {done.stdout.strip() or done.stderr.strip()}")
        return {}
    figures = json.loads(told.read_text())
    found = {
        name: [file["summary"]["covered_lines"], file["summary"]["num_statements"]]
        for name, file in figures["files"].items()
    }
    print("\nPython, files below 95 %     lines")
    for name, (run, all_) in sorted(found.items(), key=lambda item: item[1][0] / (item[1][1] or 1)):
        if all_ and run < 0.95 * all_:
            print(f"{name:48} {share(run, all_)}  of {all_}")
    total = [sum(run for run, _ in found.values()), sum(all_ for _, all_ in found.values())]
    print(f"{'all of toolips_udp/':48} {share(*total)}  of {total[1]}")
    return found | {"all of toolips_udp/": total}


def missing(names: list[str]) -> None:
    """Prints the lines of C files of which nothing ran one side, with the line."""
    both = counted(C_BUILD, SUITE_BUILD)
    for name in names:
        text = (TREE / "native" / name).read_text().splitlines()
        sides: dict[int, list[int]] = defaultdict(list)
        for (line, _), count in sorted(both.branches[name].items()):
            sides[line].append(count)
        out = both.left_out(name)
        for line in sorted(set(both.lines[name]) - out):
            if not both.lines[name][line]:
                print(f"{name}:{line}: never     {text[line - 1].strip()}")
            elif 0 in sides[line]:
                print(f"{name}:{line}: {sides[line]}  {text[line - 1].strip()}")


def report(file: str | None) -> None:
    told = {"c": c_table(), "python": python_table()}
    if file:
        Path(file).write_text(json.dumps(told, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what", nargs="?", default="all", choices=["all", "c", "python", "report", "missing", "forget"]
    )
    parser.add_argument("--json", metavar="FILE")
    options, words = parser.parse_known_args()
    if not shutil.which("gcov"):
        raise SystemExit("coverage of the C core needs gcov. Fix: apt install gcc")
    if options.what in ("all", "forget"):
        shutil.rmtree(TREE, ignore_errors=True)
    code = 0
    if options.what in ("all", "c", "python") and not TREE.exists():
        mirror(TREE)
    if options.what in ("all", "c"):
        run_c()
    if options.what in ("all", "python"):
        code = run_python(words)
    if options.what in ("all", "report"):
        report(options.json)
    if options.what == "missing":
        missing(words)
    return code


if __name__ == "__main__":
    sys.exit(main())
