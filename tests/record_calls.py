"""Record with strace which system calls hardened processes make, and compare them with the list they may make.

    python tests/record_calls.py              the round of tests/recorded_round.py, or `native game` of it: a minute
    python tests/record_calls.py --stories    the stories of worker processes, hardened (see harden.py): minutes
    python tests/record_calls.py --suite      the whole suite: what the servers' own threads call. An hour
    python tests/record_calls.py --suite tests/stories/test_tcp.py      any words for pytest

What was recorded is added to tests/recorded_calls.txt with `--write`; the suite holds that file against the list
(tests/unit/supervisor/test_calls.py). Printed are the calls that the list lacks, which makes the exit code 1, and those
of it that nothing called: they are variants that another C library, Python or kernel uses.

A process counts from the moment at which it installs its filter, its threads and children from their birth. strace
sees a call before the filter does, so a refused one is recorded too. In the suite servers run in the test's process
and nothing is installed: there the threads count whose name begins with `toolips_udp`, and those that they start, until
one of them runs another program. Needs strace, and ptrace rights; as root workers become nobody.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from toolips_udp.supervisor import calls  # noqa: E402

RECORD = ROOT / "tests/recorded_calls.txt"
HOT = (
    "futex",
    "epoll_pwait",
    "epoll_wait",
    "recvmmsg",
    "sendmmsg",
    "recvfrom",
    "sendto",
    "read",
    "write",
    "close",
)
"""Called all the time and on the list: left out in the suite, which would take hours otherwise."""
REFUSED = {"clone3", "io_uring_setup", "io_uring_enter", "io_uring_register"}
"""Not on the list on purpose, and those who call them go on without."""
CONDITIONAL = {"clone", "execve", "execveat"}
"""On the list for some: threads without new namespaces, and workers whose pool starts processes."""
LEFT_OUT = ("--ignore=tests/stories/test_supervisor.py", "--ignore=tests/native/test_c.py")
"""Of the suite: what gives up its rights in the test's own process, for which `--stories` is; and what is no server."""
BIRTH = ("clone", "clone3", "fork", "vfork")
_LINE = re.compile(r"^(\d+)\s+(<\.\.\. )?(\w+)(.*)$")
_RESULT = re.compile(r"= (\d+)(?: |$)")


class Recorded:
    """Which calls were made by those that count."""

    def __init__(self, installed: bool = True) -> None:
        self.calls: Counter[str] = Counter()
        self.who: set[str] = set()
        self._installed = installed
        self._marked: set[str] = set()
        self._early: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """Of those whose birth has not been told yet."""
        self._known: set[str] = set()

    def read(self, lines: Iterable[str]) -> Recorded:
        for line in lines:
            found = _LINE.match(line)
            if found:
                self._line(found[1], found[3], found[4], resumed=bool(found[2]))
            elif " +++ " in line:  # its number may be given to another
                pid = line.split(None, 1)[0]
                self._marked.discard(pid)
                self._known.discard(pid)
        return self

    def _line(self, pid: str, name: str, rest: str, resumed: bool) -> None:
        if not resumed:
            if pid in self._marked:
                self.calls[name] += 1
            elif pid not in self._known:
                self._early[pid][name] += 1
            self._mark(pid, name, rest)
        if name in BIRTH and (child := _RESULT.search(rest)):
            self._born(pid, child[1])

    def _mark(self, pid: str, name: str, rest: str) -> None:
        if self._installed:
            begins = name == "seccomp" and "SECCOMP_SET_MODE_FILTER" in rest
            begins = begins or (name == "prctl" and rest.startswith("(PR_SET_SECCOMP"))
        else:
            begins = name == "prctl" and rest.startswith('(PR_SET_NAME, "toolips_udp')
            if name == "execve":
                self._marked.discard(pid)
        if begins:
            self._marked.add(pid)
            self.who.add(pid)

    def _born(self, parent: str, child: str) -> None:
        self._known.add(child)
        early = self._early.pop(child, Counter())
        if parent in self._marked:
            self._marked.add(child)
            self.who.add(child)
            self.calls += early


def allowed() -> set[str]:
    """The names on the list of this machine."""
    return set(calls.ALLOWED[platform.machine()])


def missing(recorded: Iterable[str]) -> list[str]:
    """What the list lacks."""
    return sorted(set(recorded) - allowed() - REFUSED - CONDITIONAL)


def trace(command: list[str], installed: bool = True, **environment: str) -> tuple[int, Recorded]:
    """Run the command under strace. Its exit code, and what was recorded."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "trace"
        words = ["strace", "-f", "-q", "-s", "16", "-e", "signal=none", "-o", str(out)]
        if (
            not installed
        ):  # no filter of ours comes before that of strace, which makes the calls left out free
            words += ["--seccomp-bpf", "-e", f"trace=!{','.join(HOT)}"]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        code = subprocess.call([*words, *command], cwd=ROOT, env=environ)
        with out.open(errors="replace") as lines:
            found = Recorded(installed).read(lines)
    if not installed:
        found.calls.update(HOT)
    return code, found


def round_of_servers(names: list[str]) -> tuple[int, Recorded]:
    return trace([sys.executable, str(ROOT / "tests/recorded_round.py"), *names])


def stories(words: list[str]) -> tuple[int, Recorded]:
    return trace([sys.executable, str(ROOT / "tests/harden.py"), *words], TUDP_SECCOMP="")


def suite(words: list[str]) -> tuple[int, Recorded]:
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    chosen = words or ["-m", "not peers and not browser", *LEFT_OUT]
    # not a crash: a test that measures time may fail under strace, and what it called is recorded all the same
    command = [sys.executable, "-m", "pytest", "-q", "-p", "record_calls", "--timeout", "900", *chosen]
    code, found = trace(command, installed=False, PYTHONPATH=path)
    return (0 if code == 1 else code), found


def pytest_configure(config: object) -> None:
    """Inside pytest (`-p record_calls`): tell the kernel, and so strace, what each thread is called."""
    libc, began = ctypes.CDLL(None), threading.Thread.run

    def run(thread: threading.Thread) -> None:
        libc.prctl(15, thread.name.encode()[:15], 0, 0, 0)
        began(thread)

    threading.Thread.run = run  # type: ignore[method-assign]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--stories", action="store_true", help="the stories of worker processes")
    which.add_argument("--suite", action="store_true", help="the whole suite")
    parser.add_argument("--write", action="store_true", help=f"add to {RECORD.relative_to(ROOT)}")
    options, words = parser.parse_known_args()
    recording = suite if options.suite else stories if options.stories else round_of_servers
    code, found = recording(words)
    lacking, listed = missing(found.calls), allowed()
    print(
        f"{sum(found.calls.values()):,} calls of {len(found.who)} threads and processes, {len(found.calls)} kinds"
    )
    print("the list lacks:", ", ".join(f"{name} ({found.calls[name]})" for name in lacking) or "nothing")
    print("refused on purpose:", ", ".join(sorted(REFUSED & set(found.calls))) or "nothing")
    print("on the list, not called:", ", ".join(sorted(listed - set(found.calls))) or "nothing")
    if options.write:
        kept = set(RECORD.read_text().split()) if RECORD.exists() else set()
        RECORD.write_text("\n".join(sorted(kept | set(found.calls))) + "\n")
    return code or int(bool(lacking))


if __name__ == "__main__":
    sys.exit(main())
