"""Builds and runs what tests the C code without Python: C tests, corpus replay, fuzzing.

    python native/run.py test [NAME...]      C tests under ASan and UBSan
    python native/run.py replay [NAME...]    every fuzz target over its corpus, with any C compiler
    python native/run.py fuzz --seconds 60   every target with libFuzzer; the time is shared among them
    python native/run.py fuzz enet --seconds 900 --ledger    one target for 15 minutes, written down in
                                             tests/ledger.jsonl with the datagrams that it took

An execution is one input. An input of `enet` holds many datagrams: its target prints how many, the ledger
line has them as `datagrams`, and `python tests/ledger.py` adds them up.

`native/tests/test_NAME.c` is a test: a program that returns 0. `native/fuzz/fuzz_NAME.c`
is a target, its seeds are `native/fuzz/corpus/NAME/`, its dictionary `native/fuzz/NAME.dict`.
All of `native/*.c` is one archive to link against. Standard library only.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NATIVE = Path(__file__).resolve().parent
ROOT = NATIVE.parent
# functions of a table take what the table hands them, used or not
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]
OPTIONS = {"UBSAN_OPTIONS": "print_stacktrace=1", "ASAN_OPTIONS": "abort_on_error=0"}
# what native/tests/refuse.c can make fail
REFUSABLE = [
    *("malloc", "calloc", "realloc", "mmap", "madvise", "socket", "bind", "connect", "setsockopt", "getsockopt"),
    *("epoll_create1", "epoll_ctl", "epoll_wait", "sendmsg", "sendmmsg", "recvmmsg", "getrandom", "clock_gettime"),
]
CLANG_HINT = "libFuzzer needs clang: apt install clang libclang-rt-14-dev. The corpus replays without it."


@dataclass(frozen=True)
class Kind:
    """One way to build: where to, with which compiler and flags."""

    build: Path
    compiler: tuple[str, ...]
    flags: tuple[str, ...]


def with_cc(where: str) -> Kind:
    compiler = os.environ.get("CC", "cc").split()
    flags = ["-O1", "-g", "-std=gnu11", "-D_GNU_SOURCE", *WARNINGS, *SANITIZE]
    return Kind(NATIVE / where / "build", tuple(compiler), tuple(flags))


def with_clang() -> Kind:
    if not shutil.which("clang"):
        raise SystemExit(CLANG_HINT)
    flags = ["-O1", "-g", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-fsanitize=fuzzer-no-link", *SANITIZE]
    return Kind(NATIVE / "fuzz/build/clang", ("clang",), tuple(flags))


@contextmanager
def alone(kind: Kind) -> Iterator[None]:
    """One builder at a time in a build folder: test workers run side by side."""
    kind.build.mkdir(parents=True, exist_ok=True)
    with (kind.build / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def compile_one(kind: Kind, source: Path, *, more: Sequence[str] = ()) -> Path:
    """The object of `source`, made again when it or any header is newer."""
    target = kind.build / f"{source.parent.name}_{source.stem}.o"
    headers = [*NATIVE.glob("*.h"), *source.parent.glob("*.h"), *NATIVE.glob("*.inc")]
    newest = max(p.stat().st_mtime for p in [source, *headers])
    if not target.exists() or target.stat().st_mtime < newest:
        command = [*kind.compiler, *kind.flags, *more, f"-I{NATIVE}", "-c", str(source), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{source.relative_to(ROOT)} does not compile:\n{done.stderr}")
    return target


def archive(kind: Kind) -> Path:
    """All of native/*.c as one archive; a program takes from it what it needs."""
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(lambda s: compile_one(kind, s), sorted(NATIVE.glob("*.c"))))
    target = kind.build / "libnative.a"
    if not target.exists() or target.stat().st_mtime < max(o.stat().st_mtime for o in objects):
        target.unlink(missing_ok=True)
        subprocess.run(["ar", "rcs", str(target), *map(str, objects)], check=True)
    return target


def program(kind: Kind, sources: Sequence[Path], name: str, *, link: Sequence[str] = ()) -> Path:
    with alone(kind):
        objects = [compile_one(kind, s) for s in sources]
        library = archive(kind)
        target = kind.build / name
        command = [*kind.compiler, *kind.flags, *map(str, objects), str(library), "-lpthread", "-lm", *link]
        done = subprocess.run([*command, "-o", str(target)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} does not link:\n{done.stderr}")
    return target


def names(folder: str, prefix: str) -> list[str]:
    return sorted(p.stem.removeprefix(prefix) for p in (NATIVE / folder).glob(f"{prefix}*.c"))


def tests() -> list[str]:
    return names("tests", "test_")


def targets() -> list[str]:
    return names("fuzz", "fuzz_")


def corpus(name: str) -> list[Path]:
    return sorted(p for p in (NATIVE / "fuzz/corpus" / name).glob("*") if p.is_file())


def corpus_hash(name: str) -> str:
    """Of the names and contents of the inputs, so that a ledger line tells which corpus ran."""
    total = hashlib.sha256()
    for path in corpus(name):
        total.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()[:16]


def run_test(name: str, *arguments: str) -> str:
    """Builds and runs one C test; what it printed. SystemExit when it fails."""
    sources = [NATIVE / f"tests/test_{name}.c", NATIVE / "tests/refuse.c"]
    link = [f"-Wl,--wrap={call}" for call in REFUSABLE]
    made = program(with_cc("tests"), sources, f"test_{name}", link=link)
    command, settings = [made, *arguments], {**os.environ, **OPTIONS}
    done = subprocess.run(command, capture_output=True, text=True, env=settings, timeout=300)
    if done.returncode:
        raise SystemExit(
            f"native/tests/test_{name}.c failed ({done.returncode}):\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def replay(name: str) -> int:
    """Runs one target over its corpus; how many inputs. SystemExit when one crashes."""
    sources = [NATIVE / f"fuzz/fuzz_{name}.c", NATIVE / "fuzz/replay_main.c"]
    made = program(with_cc("fuzz"), sources, f"replay_{name}")
    inputs = corpus(name)
    done = subprocess.run(
        [made, *inputs], capture_output=True, text=True, env={**os.environ, **OPTIONS}, timeout=300
    )
    if done.returncode:
        raise SystemExit(f"{name}: an input of the corpus fails:\n{done.stderr[-4000:]}")
    return len(inputs)


def fuzz(name: str, seconds: int) -> dict[str, object]:
    """Fuzzes one target; what it did, as a line of the ledger. A crash becomes a file of the corpus."""
    source = NATIVE / f"fuzz/fuzz_{name}.c"
    made = program(with_clang(), [source], f"fuzz_{name}", link=["-fsanitize=fuzzer"])
    seeds, grown = NATIVE / "fuzz/corpus" / name, NATIVE / "fuzz/build/grown" / name
    grown.mkdir(parents=True, exist_ok=True)
    seeds.mkdir(parents=True, exist_ok=True)
    # the time of one input is that of the wall: on a busy machine a second is no hang
    command = [made, f"-max_total_time={seconds}", "-print_final_stats=1", "-timeout=30", "-rss_limit_mb=1024"]
    command += [f"-artifact_prefix={seeds}/crash-", "-max_len=70000", "-verbosity=0"]
    dictionary = NATIVE / f"fuzz/{name}.dict"
    if dictionary.exists():
        command.append(f"-dict={dictionary}")
    done = subprocess.run(
        [*command, str(grown), str(seeds)], capture_output=True, text=True, env={**os.environ, **OPTIONS}
    )
    ran = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    many = re.search(r"^datagrams: (\d+)", done.stderr, re.M)  # a target whose inputs hold several says so
    result = "ok" if done.returncode == 0 else "crash"
    if result != "ok":
        print(done.stderr[-4000:], file=sys.stderr)
    return {
        "kind": "fuzz",
        "target": name,
        "executions": int(ran[1]) if ran else 0,
        **({"datagrams": int(many[1])} if many else {}),
        "seconds": seconds,
        "corpus": corpus_hash(name),
        "result": result,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["test", "replay", "fuzz"])
    parser.add_argument("names", nargs="*", help="only these tests or targets")
    parser.add_argument("--seconds", type=int, default=60, help="fuzz: time for all targets together (60)")
    parser.add_argument("--ledger", action="store_true", help="fuzz: add what ran to tests/ledger.jsonl")
    options = parser.parse_intermixed_args()
    chosen = options.names or (tests() if options.what == "test" else targets())
    failed = 0
    if options.what == "fuzz":
        with_clang()
        each = max(1, options.seconds * 2 // max(2, len(chosen)))  # two run at a time
        with ThreadPoolExecutor(2) as pool:
            for line in pool.map(lambda name: fuzz(name, each), chosen):
                inside = f"{line['datagrams']:>12,} datagrams  " if "datagrams" in line else ""
                print(
                    f"{line['target']:24} {line['executions']:>12,} executions  {inside}{line['result']}",
                    flush=True,
                )
                failed += line["result"] != "ok"
                if options.ledger:
                    sys.path.insert(0, str(ROOT / "tests"))
                    import ledger

                    ledger.add(line)
        return 1 if failed else 0
    for name in chosen:
        print(f"{name:24} {run_test(name).strip() if options.what == 'test' else f'{replay(name)} inputs'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
