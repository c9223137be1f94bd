"""The mutation score of the state machines: how many small faults put into them the tests notice.

    python tests/mutants.py [NAME...]           runs what has not run yet, then the table; all without a name
    python tests/mutants.py report              the table of what has run
    python tests/mutants.py survivors NAME...   what was changed where no test noticed
    python tests/mutants.py forget [NAME...]    begins anew

tests/mutants.toml says which modules, the tests that own each, and which mutants are no fault. mutmut makes the
mutants and runs them, each in a process of its own, in a copy of the tree per module (build/mutants/NAME), so that
the checkout stays as it is. A run that is stopped goes on where it was; after a change of the tests only those that
survived run again, after a change of a function its own mutants do. When all mutants of a module have run, a line
is added to tests/ledger.jsonl. What `raise` says is not mutated. Needs the package mutmut. Called by `make mutants`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import ledger

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build/mutants"
TABLE = ROOT / "tests/mutants.toml"
ASKED = 90
"""Per cent of the mutants of a module that its tests are to notice."""
COPIED = (
    "toolips_udp",
    "tests/unit",
    "pyproject.toml",
    *(f"tests/{each.name}" for each in ROOT.glob("tests/*.py")),
)
LEAVE = shutil.ignore_patterns("__pycache__", "*.c", "*.pyx", "*.pxi")
CONFIG = """
[tool.mutmut]
source_paths = ["toolips_udp"]
only_mutate = [{module}]
pytest_add_cli_args_test_selection = {tests}
do_not_mutate_patterns = ["raise "]
timeout_multiplier = 10.0
use_git_change_detection = false
"""
NOTICED = ("killed", "timeout", "segfault", "suspicious")


@dataclass
class Machine:
    """A module of the table."""

    name: str
    module: str
    tests: list[str]
    sample: int = 0
    seed: int = 0
    same: list[dict[str, str]] = field(default_factory=list)

    @property
    def tree(self) -> Path:
        return BUILD / self.name

    @property
    def meta(self) -> Path:
        """Where mutmut keeps the verdicts."""
        return self.tree / "mutants" / f"{self.module}.meta"

    def prepare(self) -> None:
        """Brings the copy up to date. Verdicts that a changed test may turn are dropped."""
        for each in COPIED:
            source, target = ROOT / each, self.tree / each
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=LEAVE, copy_function=_copy, dirs_exist_ok=True)
            else:
                _copy(str(source), str(target))
        config = CONFIG.format(module=json.dumps(self.module), tests=json.dumps(self.tests))
        (self.tree / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + config)
        mark = hashlib.sha256(
            b"".join((ROOT / each.split("::")[0]).read_bytes() for each in self.tests)
        ).hexdigest()
        marked = self.tree / "tests.sha256"
        if self.meta.exists() and (not marked.exists() or marked.read_text() != mark):
            told = json.loads(self.meta.read_text())
            codes = told["exit_code_by_key"]
            told["exit_code_by_key"] = {name: code if code == 1 else None for name, code in codes.items()}
            self.meta.write_text(json.dumps(told))
            (self.tree / "mutants/mutmut-stats.json").unlink(missing_ok=True)
        marked.write_text(mark)

    def run(self, children: int) -> None:
        """Runs the mutants without a verdict."""
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        words = ["run", "--max-children", str(children)]
        if self.sample:
            words += self.chosen(without_verdict=True) or ["none left"]
        if words[-1] != "none left":
            subprocess.run([_mutmut(), *words], cwd=self.tree, env=env, check=True)

    def chosen(self, without_verdict: bool = False) -> list[str]:
        """The names of the sample, or of all."""
        from mutmut.mutation.file_mutation import mutate_file_contents
        from mutmut.utils.format_utils import get_mutant_name

        with _inside(self.tree):
            made = mutate_file_contents(self.module, Path(self.module).read_text()).mutant_names
        names = sorted(get_mutant_name(Path(self.module), each) for each in made)
        if self.sample:
            names = random.Random(self.seed).sample(names, min(self.sample, len(names)))
        if without_verdict and self.meta.exists():
            codes = json.loads(self.meta.read_text())["exit_code_by_key"]
            names = [each for each in names if codes.get(each) is None]
        return names

    def verdicts(self) -> dict[str, str]:
        """Name -> `noticed`, `survived`, `same` or `not run` of the mutants that count."""
        if not self.meta.exists():
            return {}
        from mutmut.stats import status_by_exit_code

        codes = json.loads(self.meta.read_text())["exit_code_by_key"]
        found = {}
        for name in self.chosen():
            status = status_by_exit_code[codes.get(name)]
            if status in NOTICED:
                found[name] = "noticed"
            elif status in ("survived", "no tests"):
                found[name] = "same" if self.why_same(name) else "survived"
            else:
                found[name] = "not run"
        return found

    def difference(self, name: str) -> tuple[str, str, str]:
        """(function, lines before, lines after) of a mutant."""
        from mutmut.mutation.diff_apply import get_diff_for_mutant

        with _inside(self.tree):
            lines = get_diff_for_mutant(name, path=self.module).splitlines()[2:]
        was, becomes = (" ".join(each[1:].strip() for each in lines if each[0] == sign) for sign in "-+")
        return function_of(name), was, becomes

    def why_same(self, name: str) -> str:
        """Why this mutant is no fault; empty when nothing says so."""
        place, was, becomes = self.difference(name)
        for each in self.same:
            if each.get("in", place) == place and becomes in _changed(was, each["was"], each["becomes"]):
                return each["why"]
        return ""


def function_of(name: str) -> str:
    """`Class.method` or `function` of a mutant's name."""
    plain = name.rpartition(".")[2].partition("__mutmut_")[0]
    return plain.removeprefix("xǁ").replace("ǁ", ".") if plain.startswith("xǁ") else plain.removeprefix("x_")


def machines(names: list[str] | None = None) -> list[Machine]:
    """Those of the table, or those that are named."""
    table = tomllib.loads(TABLE.read_text())
    everywhere = table.pop("everywhere")["same"]
    unknown = set(names or ()) - set(table)
    if unknown:
        raise SystemExit(f"{TABLE.name} knows no {', '.join(sorted(unknown))}; it has {', '.join(table)}")
    found = [Machine(name, **table[name]) for name in names or table]
    for each in found:
        each.same = [*each.same, *everywhere]
    return found


def _changed(line: str, was: str, becomes: str) -> list[str]:
    """The line with each of the places changed that say `was`."""
    parts = line.split(was)
    return [was.join(parts[:n]) + becomes + was.join(parts[n:]) for n in range(1, len(parts))]


def _copy(source: str, target: str) -> None:
    if not os.path.exists(target) or os.path.getmtime(target) < os.path.getmtime(source):
        shutil.copy2(source, target)


def _mutmut() -> str:
    found = Path(sys.executable).with_name("mutmut")
    if not found.exists():
        raise SystemExit("the mutation score needs mutmut. Fix: pip install 'mutmut>=3.8,<4'")
    return str(found)


@contextlib.contextmanager
def _inside(tree: Path):
    """mutmut reads its settings from where it stands."""
    from mutmut.configuration import reset_config

    with contextlib.chdir(tree):
        reset_config()
        yield


def record(machine: Machine) -> None:
    """A line in the ledger, when all has run."""
    count = Counter(machine.verdicts().values())
    if not count or count["not run"]:
        return
    score = 100 * count["noticed"] / (count["noticed"] + count["survived"])
    line: dict[str, object] = {"kind": "mutants", "target": machine.name, "executions": count.total()}
    line |= {"noticed": count["noticed"], "survived": count["survived"], "same": count["same"]}
    if machine.sample:
        line |= {"sample": machine.sample, "seed": machine.seed}
    ledger.add(line | {"score": round(score, 1), "result": "ok" if score >= ASKED else f"below {ASKED}"})


def report(chosen: list[Machine]) -> bool:
    """Prints the table. Whether every module has what is asked."""
    enough = True
    print(f"\n{'module':40} mutants  noticed  survived  no fault  not run    score")
    for each in chosen:
        count = Counter(each.verdicts().values())
        judged = count["noticed"] + count["survived"]
        score = 100 * count["noticed"] / judged if judged else 0.0
        enough &= score >= ASKED and not count["not run"]
        row = f"{count.total():7}  {count['noticed']:7}  {count['survived']:8}  {count['same']:8}  {count['not run']:7}"
        sampled = f"  a sample, seed {each.seed}" if each.sample else ""
        print(f"{each.module.removeprefix('toolips_udp/'):40} {row}  {score:5.1f} %{sampled}")
    return enough


def survivors(chosen: list[Machine]) -> None:
    """Prints what no test noticed."""
    for machine in chosen:
        for name, verdict in machine.verdicts().items():
            if verdict == "survived":
                place, was, becomes = machine.difference(name)
                print(f"\n{machine.name}: {place}\n  - {was}\n  + {becomes}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="NAME")
    parser.add_argument("--children", type=int, default=os.cpu_count() or 1, help="processes at once")
    options = parser.parse_args()
    what = (
        options.words[0]
        if options.words[:1] and options.words[0] in ("report", "survivors", "forget")
        else "run"
    )
    chosen = machines(options.words[what != "run" :])
    if what == "forget":
        for each in chosen:
            shutil.rmtree(each.tree, ignore_errors=True)
        return 0
    _mutmut()
    if what == "survivors":
        survivors(chosen)
        return 0
    if what == "run":
        for each in chosen:
            each.prepare()
            before = each.verdicts()
            each.run(options.children)
            if each.verdicts() != before:
                record(each)
    return 0 if report(chosen) or what == "report" else 1


if __name__ == "__main__":
    sys.exit(main())
