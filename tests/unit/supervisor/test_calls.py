"""The list of system calls for hardened processes, beside what was recorded; and the reading of a trace."""

import importlib.util
from pathlib import Path

import pytest

from toolips_udp.supervisor import calls

TESTS = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def recorder():
    spec = importlib.util.spec_from_file_location("record_calls", TESTS / "record_calls.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_every_call_that_was_recorded_is_on_the_list(recorder, monkeypatch):
    monkeypatch.setattr(recorder.platform, "machine", lambda: "x86_64")  # where it was recorded
    recorded = recorder.RECORD.read_text().split()
    assert {"recvmmsg", "sendmmsg", "accept4", "mmap", "openat"} <= set(recorded)
    assert recorder.missing(recorded) == []


def test_the_list_of_the_other_machine_lacks_only_calls_that_it_does_not_have():
    old = {
        "open",
        "stat",
        "lstat",
        "fstat64",
        "getdents",
        "rename",
        "mkdir",
        "rmdir",
        "unlink",
        "link",
        "symlink",
    }
    old |= {
        "readlink",
        "chmod",
        "access",
        "pipe",
        "dup2",
        "poll",
        "select",
        "epoll_create",
        "epoll_wait",
        "time",
    }
    old |= {"getpgrp", "fork", "vfork", "arch_prctl"}
    assert set(calls.ALLOWED["x86_64"]) - set(calls.ALLOWED["aarch64"]) <= old


WORKER = """\
10 execve("/usr/bin/python", ["python"], 0x7) = 0
10 ptrace(PTRACE_TRACEME) = 0
10 clone(child_stack=0x7, flags=CLONE_VM|CLONE_THREAD) = 11
11 mount("none") = 0
10 seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, {len=9}) = 7
11 umount2("none") = 0
10 recvmmsg(3, 0x7, 64, 0, NULL <unfinished ...>
12 chroot("/") = -1 EPERM (Operation not permitted)
10 <... recvmmsg resumed>) = 2
10 clone(child_stack=0x7, flags=CLONE_VM|CLONE_THREAD <unfinished ...>
10 <... clone resumed>, tls=0x7) = 12
12 bpf(BPF_MAP_CREATE) = -1 EPERM (Operation not permitted)
12 +++ exited with 0 +++
12 keyctl(KEYCTL_READ) = 0
10 --- SIGTERM {si_signo=SIGTERM} ---
"""


def test_calls_count_from_the_filter_on_and_with_those_born_later_even_before_their_birth_is_told(recorder):
    found = recorder.Recorded().read(WORKER.splitlines())
    assert found.calls == {"recvmmsg": 1, "clone": 1, "chroot": 1, "bpf": 1}
    assert found.who == {"10", "12"}
    assert recorder.missing(found.calls) == ["bpf", "chroot"]


def test_in_the_suite_the_servers_threads_count_until_they_run_another_program(recorder):
    lines = """\
20 openat(AT_FDCWD, "x") = 3
21 prctl(PR_SET_NAME, "toolips_udp abc") = 0
21 recvmsg(3) = 1
21 vfork() = 22
22 dup2(1, 2) = 2
22 execve("/bin/true", ["true"], 0x7) = 0
22 ptrace(PTRACE_TRACEME) = 0
"""
    found = recorder.Recorded(installed=False).read(lines.splitlines())
    assert found.calls == {"recvmsg": 1, "vfork": 1, "dup2": 1, "execve": 1}
