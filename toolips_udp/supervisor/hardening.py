"""Giving up rights: `user=` and `harden=True`.

Imports errors only. Called once per process, after import and bind. A layer that
the kernel does not have is named in what `harden` returns, so that it can be logged.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import pwd
import struct
import sys
from collections.abc import Iterable

from ..errors import StartError

_PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _PR_SET_SECCOMP = 38, 24, 22
_PR_SET_DUMPABLE = 4
_PR_SET_PDEATHSIG = 1
_SECCOMP_MODE_FILTER = 2
_CAPSET_VERSION = 0x20080522
_LANDLOCK = {"create": 444, "add": 445, "restrict": 446}
_ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# Calls that a server never needs after its start, by architecture. `execve` is among them
# only for workers: a supervisor starts interpreters.
_FORBIDDEN = {
    "x86_64": {
        "ptrace": 101, "personality": 135, "pivot_root": 155, "chroot": 161, "acct": 163, "mount": 165,
        "umount2": 166, "swapon": 167, "swapoff": 168, "reboot": 169, "sethostname": 170, "iopl": 172,
        "ioperm": 173, "init_module": 175, "delete_module": 176, "kexec_load": 246, "add_key": 248,
        "request_key": 249, "keyctl": 250, "unshare": 272, "perf_event_open": 298, "setns": 308,
        "process_vm_readv": 310, "process_vm_writev": 311, "finit_module": 313, "kexec_file_load": 320,
        "bpf": 321, "userfaultfd": 323, "open_by_handle_at": 304, "fsopen": 430, "move_mount": 429,
        "mount_setattr": 442, "pidfd_getfd": 438,
    },
    "aarch64": {
        "ptrace": 117, "personality": 92, "pivot_root": 41, "chroot": 51, "acct": 89, "mount": 40,
        "umount2": 39, "swapon": 224, "swapoff": 225, "reboot": 142, "sethostname": 161,
        "init_module": 105, "delete_module": 106, "kexec_load": 104, "add_key": 217, "request_key": 218,
        "keyctl": 219, "unshare": 97, "perf_event_open": 241, "setns": 268, "process_vm_readv": 270,
        "process_vm_writev": 271, "finit_module": 273, "kexec_file_load": 294, "bpf": 280,
        "userfaultfd": 282, "open_by_handle_at": 265, "fsopen": 430, "move_mount": 429,
        "mount_setattr": 442, "pidfd_getfd": 438,
    },
}  # fmt: skip
_EXEC = {"x86_64": (59, 322), "aarch64": (221, 281)}


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> int:
    zero = ctypes.c_ulong(0)
    return int(_libc().prctl(option, ctypes.c_ulong(value), zero, zero, zero))


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send us a signal when the thread that started us is gone."""
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal_number)


def become(user: str) -> None:
    """Be `user` from now on: its groups and ids, for good. `StartError` when that cannot be."""
    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        raise StartError(f"user={user!r}: this machine has no such user", code="bad-user") from None
    if os.geteuid() == entry.pw_uid:
        return
    try:
        os.initgroups(entry.pw_name, entry.pw_gid)
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    except PermissionError as error:
        raise StartError(
            f"user={user!r}: only root can become another user ({error})", code="bad-user"
        ) from error
    if entry.pw_uid != 0:
        try:
            os.setuid(0)
        except PermissionError:
            return
        raise StartError(f"user={user!r}: root could be taken back, so nothing was given up", code="bad-user")


def harden(
    *, exec_allowed: bool, readable: Iterable[str] = ("/",), writable: Iterable[str] = ()
) -> list[str]:
    """Give up what a server does not need: new rights, capabilities, files, odd system calls.

    For the calling thread and those it starts later, so call it before threads
    start. Refuses to run as root (`StartError`): give `user=` too. Returns one
    line per layer that this kernel does not have.
    """
    if os.geteuid() == 0:
        raise StartError(
            "harden=True refuses to serve as root. Fix: user='nobody', or start as another user",
            code="bad-user",
        )
    missing: list[str] = []
    if sys.platform != "linux":
        return ["no layer of harden=True exists on this system"]
    if _prctl(_PR_SET_NO_NEW_PRIVS, 1) != 0:
        missing.append("no_new_privs is not there")
    _drop_capabilities()
    why = _restrict_files(readable, writable)
    if why:
        missing.append(f"files are not restricted: {why}")
    why = _forbid_calls(exec_allowed)
    if why:
        missing.append(f"system calls are not restricted: {why}")
    return missing


def drop_bounding_set() -> None:
    """Make sure that no program started later gets a capability. Only root can; call it before `become`."""
    if sys.platform == "linux" and os.geteuid() == 0:
        for capability in range(64):
            if _prctl(_PR_CAPBSET_DROP, capability) != 0:
                break


def _drop_capabilities() -> None:
    header = (ctypes.c_uint32 * 2)(_CAPSET_VERSION, 0)
    none = (ctypes.c_uint32 * 6)()
    _libc().capset(header, none)


def _restrict_files(readable: Iterable[str], writable: Iterable[str]) -> str:
    """Landlock: read below `readable`, all below `writable`. Returns why not, or nothing."""
    libc = _libc()
    abi = libc.syscall(_LANDLOCK["create"], None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if abi < 1:
        return f"no Landlock ({os.strerror(ctypes.get_errno())})"
    everything = (1 << 13) - 1 if abi < 2 else (1 << 14) - 1 if abi < 3 else (1 << 15) - 1
    read = 1 << 0 | 1 << 2 | 1 << 3  # execute, read a file, read a folder
    attributes = ctypes.create_string_buffer(struct.pack("=Q", everything), 8)
    ruleset = libc.syscall(_LANDLOCK["create"], attributes, ctypes.c_size_t(8), ctypes.c_uint32(0))
    if ruleset < 0:
        return os.strerror(ctypes.get_errno())
    try:
        for paths, allowed in ((readable, read), (writable, everything)):
            for path in paths:
                _allow(libc, ruleset, path, allowed)
        if libc.syscall(_LANDLOCK["restrict"], ctypes.c_int(ruleset), ctypes.c_uint32(0)) != 0:
            return os.strerror(ctypes.get_errno())
    finally:
        os.close(ruleset)
    return ""


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, allowed: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what does not exist needs no rule
    try:
        if not os.path.isdir(path):
            allowed &= 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14
        rule = ctypes.create_string_buffer(struct.pack("=Qi", allowed, fd), 12)
        libc.syscall(_LANDLOCK["add"], ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint32(0))
    finally:
        os.close(fd)


def _forbid_calls(exec_allowed: bool) -> str:
    """Seccomp: the listed calls fail with EPERM. Returns why not, or nothing."""
    machine = platform.machine()
    if machine not in _ARCHES:
        return f"no list of calls for {machine}"
    numbers = sorted({*_FORBIDDEN[machine].values(), *(() if exec_allowed else _EXEC[machine])})
    deny = 0x00050000 | errno.EPERM
    steps = [(0x20, 0, 0, 4), (0x15, 1, 0, _ARCHES[machine]), (0x06, 0, 0, deny), (0x20, 0, 0, 0)]
    if machine == "x86_64":
        steps += [(0x35, 0, 1, 0x40000000), (0x06, 0, 0, deny)]  # the x32 numbers of the same calls
    for at, number in enumerate(numbers):
        steps.append((0x15, len(numbers) - at, 0, number))
    steps += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, deny)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    fprog = ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(code)))
    if _libc().prctl(
        _PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), fprog, ctypes.c_ulong(0), ctypes.c_ulong(0)
    ):
        return os.strerror(ctypes.get_errno())
    return ""
