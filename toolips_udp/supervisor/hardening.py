"""Giving up rights: `user=` and `harden=True`.

Imports errors only. Called once per process, after import and bind. A layer that
the kernel does not have is named in what `harden` returns, so that it can be logged.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import pwd
import struct
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from ..errors import StartError
from . import calls

_PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _PR_SET_SECCOMP = 38, 24, 22
_PR_SET_DUMPABLE = 4
_PR_SET_PDEATHSIG = 1
_SECCOMP_MODE_FILTER = 2
_CAPSET_VERSION = 0x20080522
_LANDLOCK = {"create": 444, "add": 445, "restrict": 446}
_ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_KILL, _ERRNO, _ALLOW, _TELL = 0x80000000, 0x00050000, 0x7FFF0000, 0x7FC00000
_NEW_LISTENER = 8
_CAP_KILL = 5
_CLOSED = {"boot", "home", "media", "mnt", "root", "srv", "tmp", "var"}
"""Top-level folders that a worker reads nothing of, but for what is its own."""


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> int:
    zero = ctypes.c_ulong(0)
    return int(_libc().prctl(option, ctypes.c_ulong(value), zero, zero, zero))


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send us a signal when the thread that started us is gone."""
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal_number)


def entry_of(user: str) -> pwd.struct_passwd:
    """What this machine knows of a user, by name or number. `StartError` when there is none."""
    try:
        return pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        raise StartError(f"user={user!r}: this machine has no such user", code="bad-user") from None


def become(user: str) -> None:
    """Be `user` from now on: its groups and ids, for good. `StartError` when that cannot be."""
    entry = entry_of(user)
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


class Hardened(NamedTuple):
    """What `harden` did."""

    missing: list[str]
    """One line per layer that this kernel does not have."""
    listener: int
    """The descriptor on which refused system calls are told (see refused.py), or -1."""


def harden(*, exec_allowed: bool, readable: Iterable[str] = ("/",), writable: Iterable[str] = ()) -> Hardened:
    """Give up what a server does not need: new rights, capabilities, core files, files, odd system calls.

    For the calling thread and those it starts later, so call it before threads
    start. Refuses to run as root (`StartError`): give `user=` too. Somebody must listen
    on `listener` while it is open, or refused calls wait for ever; when it is closed they fail too.
    """
    if os.geteuid() == 0:
        raise StartError(
            "harden=True refuses to serve as root. Fix: user='nobody', or start as another user",
            code="bad-user",
        )
    missing: list[str] = []
    if sys.platform != "linux":
        return Hardened(["no layer of harden=True exists on this system"], -1)
    if _prctl(_PR_SET_NO_NEW_PRIVS, 1) != 0:
        missing.append("no_new_privs is not there")
    _prctl(_PR_SET_DUMPABLE, 0)  # no core file with secrets in it, and no other process reads our memory
    _drop_capabilities()
    why = _restrict_files(readable, writable)
    if why:
        missing.append(f"files are not restricted: {why}")
    why, listener = _allow_calls(exec_allowed, tell=True)
    if why:
        missing.append(f"system calls are not restricted: {why}")
    return Hardened(missing, listener)


def harden_this_thread(readable: Iterable[str] = ("/",), writable: Iterable[str] = ()) -> list[str]:
    """The supervisor's loop: no new rights, no capability but to signal its workers, its own files, the listed calls.

    For the calling thread only, which starts no programs: another thread starts the workers. What is not
    listed fails with EPERM.
    """
    if sys.platform != "linux":
        return ["no layer of harden=True exists on this system"]
    missing = []
    if _prctl(_PR_SET_NO_NEW_PRIVS, 1) != 0:
        missing.append("no_new_privs is not there")
    _drop_capabilities(keep=1 << _CAP_KILL)
    why = _restrict_files(readable, writable)
    if why:
        missing.append(f"files of the supervisor are not restricted: {why}")
    why, _ = _allow_calls(False, tell=False, loop_runs=True)
    if why:
        missing.append(f"system calls of the supervisor are not restricted: {why}")
    return missing


def drop_bounding_set() -> None:
    """Make sure that no program started later gets a capability. Only root can; call it before `become`."""
    if sys.platform == "linux" and os.geteuid() == 0:
        for capability in range(64):
            if _prctl(_PR_CAPBSET_DROP, capability) != 0:
                break


def _drop_capabilities(keep: int = 0) -> None:
    """Keep those of `keep` that this thread has."""
    header = (ctypes.c_uint32 * 2)(_CAPSET_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; low halves, then high halves
    if keep and _libc().capget(header, sets) == 0:
        permitted = sets[1]
        sets = (ctypes.c_uint32 * 6)(permitted & keep, permitted & keep)
    _libc().capset(header, sets)


def _restrict_files(readable: Iterable[str], writable: Iterable[str]) -> str:
    """Landlock: read below `readable`, all below `writable`. Returns why not, or nothing."""
    libc = _libc()
    abi = libc.syscall(_LANDLOCK["create"], None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if abi < 1:
        return f"no Landlock ({os.strerror(ctypes.get_errno())})"
    everything = (1 << 13) - 1 if abi < 2 else (1 << 14) - 1 if abi < 3 else (1 << 15) - 1
    read = 1 << 0 | 1 << 2 | 1 << 3  # execute, read a file, read a folder: seccomp says whether anything runs
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


def own_files(module: str | None, given: Iterable[object] = ()) -> tuple[list[str], list[str]]:
    """What a worker may read, and where it may write.

    Read: the system's folders, Python's, that of `module`, the working folder, and paths in its
    settings. Write: the folders that systemd made for it (`StateDirectory=` and the like) and /dev/null.
    """
    system = [f"/{name}" for name in os.listdir("/") if name not in _CLOSED]
    folders = [sys.prefix, sys.base_prefix, *(path or "." for path in sys.path), os.getcwd()]
    if module:
        folders.append(os.path.dirname(os.path.abspath(module)))
    folders += [
        each for each in _flat(given) if isinstance(each, str) and os.sep in each and os.path.exists(each)
    ]
    for name in ("CONFIGURATION_DIRECTORY", "CREDENTIALS_DIRECTORY"):
        folders += filter(None, os.environ.get(name, "").split(":"))
    own = ["/dev/null"]
    for name in ("STATE_DIRECTORY", "CACHE_DIRECTORY", "LOGS_DIRECTORY", "RUNTIME_DIRECTORY"):
        own += filter(None, os.environ.get(name, "").split(":"))
    return [*system, *folders], own


def _flat(values: Any) -> list[Any]:
    """All values, also those in lists and maps."""
    found = []
    for value in values:
        if isinstance(value, dict):
            found += _flat(value.values())
        elif isinstance(value, list | tuple):
            found += _flat(value)
        else:
            found.append(value)
    return found


def written_folders() -> list[str]:
    """The folders of the files that this process writes: a log handler that begins a new file does so there."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        if int(fd) < 3:
            continue  # nobody begins a new file in place of these
        try:
            mode = fcntl.fcntl(int(fd), fcntl.F_GETFL) & os.O_ACCMODE
            path = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue  # the descriptor of the listing
        if mode != os.O_RDONLY and os.path.isfile(path):
            found.add(os.path.dirname(path))
    return sorted(found)


def _allow_calls(exec_allowed: bool, tell: bool, loop_runs: bool = False) -> tuple[str, int]:
    """Seccomp: what is not in calls.py fails with EPERM. Returns why not, or nothing; and the listener.

    With `tell` and a kernel that can (5.0), a refused call is told on the listener, and who reads there refuses it.
    `TUDP_SECCOMP=kill` ends the process instead: for tests that look for calls that are missing.
    """
    machine = platform.machine()
    if machine not in _ARCHES:
        return f"no list of calls for {machine}", -1
    kill = os.environ.get("TUDP_SECCOMP") == "kill"
    if tell and not kill:
        fd = _install(_filter(machine, exec_allowed, _TELL), machine)
        if fd >= 0:
            return "", fd
    default = _KILL if kill else _ERRNO | errno.EPERM
    return _install_quietly(_filter(machine, exec_allowed, default, loop_runs)), -1


def _filter(machine: str, exec_allowed: bool, default: int, loop_runs: bool = False) -> bytes:
    """The program: what is listed passes, clone without new namespaces too, the rest ends as `default`.

    A loop that runs already may have made its ring, and libuv aborts when it cannot use it.
    """
    more = (*(calls.EXEC[machine] if exec_allowed else ()), *((calls.RING_ENTER,) if loop_runs else ()))
    numbers = sorted({*calls.ALLOWED[machine].values(), *more})
    refused = _ERRNO | errno.EPERM
    spaces = default if default == _TELL else refused
    load, jump, same, above, some, ret = 0x20, 0x05, 0x15, 0x35, 0x45, 0x06
    steps = [(load, 0, 0, 4), (same, 1, 0, _ARCHES[machine]), (ret, 0, 0, refused), (load, 0, 0, 0)]
    if machine == "x86_64":
        steps += [(above, 0, 1, 0x40000000), (ret, 0, 0, refused)]  # the x32 numbers of the same calls
    for at, number in enumerate(numbers):
        steps.append((same, len(numbers) - at, 0, number))
    steps += [(jump, 0, 0, 1), (ret, 0, 0, _ALLOW)]
    steps += [(same, 0, 1, calls.CLONE3), (ret, 0, 0, _ERRNO | errno.ENOSYS)]
    for number in calls.QUIET:
        steps += [(same, 0, 1, number), (ret, 0, 0, refused)]
    steps += [(same, 0, 4, calls.CLONE[machine]), (load, 0, 0, 16), (some, 1, 0, calls.NAMESPACES)]
    steps += [(ret, 0, 0, _ALLOW), (ret, 0, 0, spaces), (ret, 0, 0, default)]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _program(code: ctypes.Array[ctypes.c_char]) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(struct.pack("HP", (len(code) - 1) // 8, ctypes.addressof(code)))


def _install(steps: bytes, machine: str) -> int:
    """The filter, with a listener: its descriptor, or -1 where the kernel has none."""
    code = ctypes.create_string_buffer(steps)
    fprog = _program(code)
    number, operation, flags = calls.SECCOMP[machine], ctypes.c_uint(1), ctypes.c_uint(_NEW_LISTENER)
    return int(_libc().syscall(ctypes.c_long(number), operation, flags, fprog))


def _install_quietly(steps: bytes) -> str:
    code = ctypes.create_string_buffer(steps)
    fprog = _program(code)
    if _libc().prctl(
        _PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), fprog, ctypes.c_ulong(0), ctypes.c_ulong(0)
    ):
        return os.strerror(ctypes.get_errno())
    return ""
