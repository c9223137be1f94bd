"""How every benchmark here measures: servers as processes on core 0, the load
generator on core 1, rounds interleaved, ratios taken inside a round.

Standard library only; it never imports the package, so that what it measures
is what a user starts. `python bench/NAME.py --help` tells what a script takes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "bench/build"
RESULTS = ROOT / "bench/results"
SERVER_CORE, CLIENT_CORE = 0, 1
CFLAGS = ["-O2", "-pthread", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
PROGRAMS = {
    "load": ["bench/load_main.c", "native/load.c", "native/load_message.c"],
    "echo": ["bench/peers/echo.c"],
    "tcp_load": ["bench/tcp_load.c"],
    "cores": ["bench/peers/cores.c"],
}


def build() -> None:
    """Compiles the generator and the C peers when their sources are newer."""
    BUILD.mkdir(parents=True, exist_ok=True)
    for name, sources in PROGRAMS.items():
        target = BUILD / name
        newest = max((ROOT / s).stat().st_mtime for s in [*sources, "native/load.h"])
        if not target.exists() or target.stat().st_mtime < newest:
            compiler = os.environ.get("CC", "cc").split()
            paths = [str(ROOT / s) for s in sources]
            subprocess.run([*compiler, *CFLAGS, f"-I{ROOT}/native", *paths, "-o", str(target)], check=True)


def pinned(core: int, command: Sequence[str]) -> list[str]:
    if shutil.which("taskset") and (os.cpu_count() or 1) > core:
        return ["taskset", "-c", str(core), *command]
    return list(command)


@dataclass(frozen=True)
class Contender:
    """A server under test: its command prints `ready PORT` when it answers."""

    name: str
    command: tuple[str, ...]
    load: str = ""  # options of the generator for this one, after those of the group

    def under(self, name: str, load: str) -> Contender:
        """The same server with another name and load."""
        return Contender(name, self.command, load)


def peer_c(*words: str) -> Contender:
    return Contender(" ".join(["C echo", *words]), (str(BUILD / "echo"), "0", *words))


def peer_python(kind: str) -> Contender:
    return Contender(kind, (sys.executable, str(ROOT / "bench/peers/echo.py"), kind))


def ours(kind: str) -> Contender:
    return Contender(
        f"toolips_udp {kind}",
        (sys.executable, str(ROOT / "bench/peers/ours.py"), kind),
    )


def environment() -> dict[str, str]:
    """That of a child which imports the package from this tree."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def family(pid: int) -> list[int]:
    """A process and all below it: a server may be more than one."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue  # it ended meanwhile
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


class Served:
    """The contender as a running process, for the length of a `with` block."""

    stdin = subprocess.DEVNULL  # a subclass that talks to its server has a pipe

    def __init__(self, contender: Contender, core: int = SERVER_CORE) -> None:
        self.contender, self.core = contender, core

    def __enter__(self) -> Served:
        self.process = subprocess.Popen(
            pinned(self.core, self.contender.command),
            stdout=subprocess.PIPE,
            stdin=self.stdin,
            text=True,
            env=environment(),
        )
        assert self.process.stdout
        line = self.process.stdout.readline().split()
        if len(line) != 2 or line[0] != "ready":
            self.process.kill()
            raise SystemExit(f"{self.contender.name} did not start: it printed {line!r}, not `ready PORT`.")
        self.port = int(line[1])
        self.pids = family(self.process.pid)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout
        self.last_words = self.process.stdout.read()
        self.process.stdout.close()


def load(
    served: Served, options: str, *, core: int = CLIENT_CORE, program: str = "load"
) -> dict[str, object]:
    """One run of the generator against `served`; its JSON, with the server's CPU."""
    command = [
        str(BUILD / program),
        f"127.0.0.1:{served.port}",
        *options.split(),
        *(word for pid in served.pids for word in ("--watch", str(pid))),
    ]
    done = subprocess.run(pinned(core, command), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def distance() -> int:
    """How far server core and generator core are from one another now: ns there and back, 0 when not known.

    The host of a virtual machine moves its cores about. Without a cache in common, all that server
    and generator share costs several times as much.
    """
    program = BUILD / "cores"
    if (os.cpu_count() or 1) <= CLIENT_CORE or not program.exists():
        return 0
    words = [str(program), str(SERVER_CORE), str(CLIENT_CORE)]
    return int(subprocess.run(words, capture_output=True, text=True).stdout or 0)


def is_alike(a: dict[str, object], b: dict[str, object]) -> bool:
    """Whether two samples were taken with the cores as far apart, as far as is known."""
    known = sorted(int(str(ns)) for one in (a, b) for ns in (*one.get("cores_ns", ()),) if ns)  # type: ignore[misc]
    return not known or known[-1] < 2 * known[0]


def have_ours() -> bool:
    return (ROOT / "toolips_udp/starting.py").exists()


def latency(sample: dict[str, object], mark: str) -> float:
    """Microseconds: `p50`, `p90`, `p99`, `p999` or `max`."""
    found: dict[str, float] = sample["latency_us"]  # type: ignore[assignment]
    return found[mark]


def measure(contender: Contender, options: str, program: str = "load") -> dict[str, object]:
    with Served(contender) as served:
        return load(served, f"{options} {contender.load}", program=program)


def interleaved(
    contenders: Sequence[Contender], options: str, rounds: int, say: bool = True, program: str = "load"
) -> dict[str, list[dict[str, object]]]:
    """`rounds` times each contender once, the order turned round every time, each on a fresh process."""
    found: dict[str, list[dict[str, object]]] = {c.name: [] for c in contenders}
    for number in range(rounds):
        order = list(contenders) if number % 2 == 0 else list(reversed(contenders))
        for contender in order:
            before = distance()
            sample = measure(contender, options, program)
            sample["cores_ns"] = [before, distance()]
            found[contender.name].append(sample)
            if say:
                print(
                    f"  round {number + 1}  {contender.name:28} {sample['rate']:>10,.0f}/s"
                    f"  {sample['server_cpu_us_per_reply']:>7.2f} us CPU"
                    f"  lost {sample['lost']}  wrong {sample['wrong']}  cores {before} ns apart",
                    file=sys.stderr,
                )
    return found


@dataclass(frozen=True)
class Spread:
    """Median of the rounds, and the smallest and largest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        values = sorted(values)
        return cls(statistics.median(values), values[0], values[-1])

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} - {self.high:.2f})"


def column(samples: Sequence[dict[str, object]], key: str) -> list[float]:
    return [float(s[key]) for s in samples]  # type: ignore[arg-type]


def ratio(
    ours: Sequence[dict[str, object]],
    theirs: Sequence[dict[str, object]],
    key: str = "server_cpu_us_per_reply",
) -> Spread:
    """Our figure over theirs, each pair from one round; of rounds in which the cores were as far
    apart for both, if there are any."""
    pairs = list(zip(ours, theirs, strict=True))
    pairs = [pair for pair in pairs if is_alike(*pair)] or pairs
    return Spread.of(float(a[key]) / float(b[key]) for a, b in pairs)  # type: ignore[arg-type]


def verdict(spread: Spread, target: float | None) -> str:
    """What may be said: nothing, when the rounds lie on both sides of the line."""
    line = 1.0 if target is None else target
    if spread.low <= line <= spread.high and spread.low != spread.high:
        return "inside the noise"
    if target is None:
        return "lower" if spread.median < 1 else "higher"
    return "met" if spread.median <= target else "missed"


Rows = list[dict[str, object]]


def row(work: str, mine: Rows, theirs: Rows, target: float | None) -> list[str]:
    """One line of a table: our figure, theirs, and what their ratio says."""
    spread = ratio(mine, theirs)
    return [
        work,
        f"{Spread.of(column(mine, 'server_cpu_us_per_reply'))}",
        f"{Spread.of(column(mine, 'rate')).median:,.0f}",
        f"{Spread.of(column(theirs, 'server_cpu_us_per_reply')).median:.2f}",
        str(spread),
        "" if target is None else f"<= {target:.2f}",
        verdict(spread, target),
    ]


def versions(*packages: str) -> dict[str, str]:
    found = {"python": platform.python_version(), "kernel": platform.release()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    compiler = os.environ.get("CC", "cc").split()[0]
    if shutil.which(compiler):
        out = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
        found["cc"] = out.splitlines()[0] if out else "unknown"
    return found


def machine() -> dict[str, object]:
    model = "unknown"
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    limit = Path("/proc/sys/net/core/rmem_max")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "rmem_max": int(limit.read_text()) if limit.exists() else None,
        "load_average": round(os.getloadavg()[0], 2),
        "pinned": bool(shutil.which("taskset")) and (os.cpu_count() or 1) > CLIENT_CORE,
    }


def commit() -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def save(name: str, title: str, table: list[list[str]], raw: object, settings: dict[str, object]) -> None:
    """Writes `bench/results/NAME.json`: what bench/table.py turns into the tables of the READMEs."""
    RESULTS.mkdir(exist_ok=True)
    report = {
        "name": name,
        "title": title,
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": commit(),
        "machine": machine(),
        "versions": versions("uvloop", "aiofastnet", "toolips_udp"),
        "settings": settings,
        "table": table,
        "raw": raw,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    print(markdown(table))
    print(f"\nwritten: bench/results/{name}.json", file=sys.stderr)


def markdown(table: Sequence[Sequence[str]]) -> str:
    head, *rows = table
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def arguments(about: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each contender (%(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="measured seconds of each run (%(default)s)"
    )
    parser.add_argument("--dry", action="store_true", help="print, but write no result file")
    return parser


def quiet_warning() -> None:
    """Says so when other work runs on the machine: then the figures are noise."""
    if os.getloadavg()[0] > 0.7:
        print(f"note: load average is {os.getloadavg()[0]:.1f}; expect noise.", file=sys.stderr)
