"""The system calls that a hardened worker may make: an allow-list, by architecture. Data only.

What servers of this project call over UDP, TCP and HTTP, with jobs, reload and stop, as `tests/record_calls.py` has
recorded it, rounded up to whole families, so that another C library or Python finds its own variants.
`tests/harden.py` runs the stories with every other call ending the process. In production those fail with EPERM.
Imports nothing; read by hardening.py.
"""

from __future__ import annotations

ALLOWED: dict[str, dict[str, int]] = {
    "x86_64": {
        "read": 0, "write": 1, "readv": 19, "writev": 20, "pread64": 17, "pwrite64": 18, "preadv":
        295, "pwritev": 296, "preadv2": 327, "pwritev2": 328, "open": 2, "openat": 257, "openat2":
        437, "close": 3, "close_range": 436, "stat": 4, "fstat": 5, "lstat": 6, "newfstatat": 262,
        "statx": 332, "statfs": 137, "fstatfs": 138, "lseek": 8, "mmap": 9, "munmap": 11,
        "mprotect": 10, "mremap": 25, "madvise": 28, "msync": 26, "mincore": 27, "brk": 12, "mlock":
        149, "munlock": 150, "membarrier": 324, "rseq": 334, "set_robust_list": 273,
        "get_robust_list": 274, "set_tid_address": 218, "futex": 202, "futex_waitv": 449,
        "futex_wait": 455, "futex_wake": 454, "futex_requeue": 456, "rt_sigaction": 13,
        "rt_sigprocmask": 14, "rt_sigreturn": 15, "rt_sigpending": 127, "rt_sigtimedwait": 128,
        "rt_sigsuspend": 130, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297, "sigaltstack": 131,
        "ioctl": 16, "fcntl": 72, "flock": 73, "fsync": 74, "fdatasync": 75, "ftruncate": 77,
        "truncate": 76, "fallocate": 285, "fadvise64": 221, "readahead": 187, "sync_file_range":
        277, "getdents": 78, "getdents64": 217, "getcwd": 79, "chdir": 80, "fchdir": 81, "rename":
        82, "renameat": 264, "renameat2": 316, "mkdir": 83, "mkdirat": 258, "rmdir": 84, "unlink":
        87, "unlinkat": 263, "link": 86, "linkat": 265, "symlink": 88, "symlinkat": 266, "readlink":
        89, "readlinkat": 267, "chmod": 90, "fchmod": 91, "fchmodat": 268, "fchmodat2": 452,
        "utimensat": 280, "access": 21, "faccessat": 269, "faccessat2": 439, "umask": 95,
        "inotify_init1": 294, "inotify_add_watch": 254, "inotify_rm_watch": 255, "pipe": 22,
        "pipe2": 293, "dup": 32, "dup2": 33, "dup3": 292, "poll": 7, "ppoll": 271, "select": 23,
        "pselect6": 270, "epoll_create": 213, "epoll_create1": 291, "epoll_ctl": 233, "epoll_wait":
        232, "epoll_pwait": 281, "epoll_pwait2": 441, "eventfd2": 290, "signalfd4": 289,
        "timerfd_create": 283, "timerfd_settime": 286, "timerfd_gettime": 287, "socket": 41,
        "socketpair": 53, "bind": 49, "listen": 50, "accept": 43, "accept4": 288, "connect": 42,
        "getsockname": 51, "getpeername": 52, "sendto": 44, "sendmsg": 46, "sendmmsg": 307,
        "recvfrom": 45, "recvmsg": 47, "recvmmsg": 299, "shutdown": 48, "setsockopt": 54,
        "getsockopt": 55, "sendfile": 40, "splice": 275, "copy_file_range": 326, "clock_gettime":
        228, "clock_getres": 229, "clock_nanosleep": 230, "nanosleep": 35, "gettimeofday": 96,
        "time": 201, "times": 100, "getrusage": 98, "getrlimit": 97, "setrlimit": 160, "prlimit64":
        302, "sysinfo": 99, "uname": 63, "getpid": 39, "gettid": 186, "getppid": 110, "getpgid":
        121, "getpgrp": 111, "getsid": 124, "setsid": 112, "setpgid": 109, "getuid": 102, "geteuid":
        107, "getgid": 104, "getegid": 108, "getresuid": 118, "getresgid": 120, "getgroups": 115,
        "capget": 125, "sched_yield": 24, "sched_getaffinity": 204, "sched_setaffinity": 203,
        "sched_getparam": 143, "sched_getscheduler": 145, "sched_get_priority_max": 146,
        "sched_get_priority_min": 147, "getpriority": 140, "setpriority": 141, "getcpu": 309,
        "getrandom": 318, "memfd_create": 319, "kill": 62, "tgkill": 234, "tkill": 200, "exit": 60,
        "exit_group": 231, "wait4": 61, "waitid": 247, "fork": 57, "vfork": 58, "restart_syscall":
        219, "prctl": 157, "arch_prctl": 158, "pidfd_open": 434, "pidfd_send_signal": 424,
        "setitimer": 38, "getitimer": 36,
    },
    "aarch64": {
        "read": 63, "write": 64, "readv": 65, "writev": 66, "pread64": 67, "pwrite64": 68, "preadv":
        69, "pwritev": 70, "preadv2": 286, "pwritev2": 287, "openat": 56, "openat2": 437, "close":
        57, "close_range": 436, "fstat": 80, "newfstatat": 79, "statx": 291, "statfs": 43,
        "fstatfs": 44, "lseek": 62, "mmap": 222, "munmap": 215, "mprotect": 226, "mremap": 216,
        "madvise": 233, "msync": 227, "mincore": 232, "brk": 214, "mlock": 228, "munlock": 229,
        "membarrier": 283, "rseq": 293, "set_robust_list": 99, "get_robust_list": 100,
        "set_tid_address": 96, "futex": 98, "futex_waitv": 449, "futex_wait": 455, "futex_wake":
        454, "futex_requeue": 456, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139,
        "rt_sigpending": 136, "rt_sigtimedwait": 137, "rt_sigsuspend": 133, "rt_sigqueueinfo": 138,
        "rt_tgsigqueueinfo": 240, "sigaltstack": 132, "ioctl": 29, "fcntl": 25, "flock": 32,
        "fsync": 82, "fdatasync": 83, "ftruncate": 46, "truncate": 45, "fallocate": 47, "fadvise64":
        223, "readahead": 213, "sync_file_range": 84, "getdents64": 61, "getcwd": 17, "chdir": 49,
        "fchdir": 50, "renameat": 38, "renameat2": 276, "mkdirat": 34, "unlinkat": 35, "linkat": 37,
        "symlinkat": 36, "readlinkat": 78, "fchmod": 52, "fchmodat": 53, "fchmodat2": 452,
        "utimensat": 88, "faccessat": 48, "faccessat2": 439, "umask": 166, "inotify_init1": 26,
        "inotify_add_watch": 27, "inotify_rm_watch": 28, "pipe2": 59, "dup": 23, "dup3": 24,
        "ppoll": 73, "pselect6": 72, "epoll_create1": 20, "epoll_ctl": 21, "epoll_pwait": 22,
        "epoll_pwait2": 441, "eventfd2": 19, "signalfd4": 74, "timerfd_create": 85,
        "timerfd_settime": 86, "timerfd_gettime": 87, "socket": 198, "socketpair": 199, "bind": 200,
        "listen": 201, "accept": 202, "accept4": 242, "connect": 203, "getsockname": 204,
        "getpeername": 205, "sendto": 206, "sendmsg": 211, "sendmmsg": 269, "recvfrom": 207,
        "recvmsg": 212, "recvmmsg": 243, "shutdown": 210, "setsockopt": 208, "getsockopt": 209,
        "sendfile": 71, "splice": 76, "copy_file_range": 285, "clock_gettime": 113, "clock_getres":
        114, "clock_nanosleep": 115, "nanosleep": 101, "gettimeofday": 169, "times": 153,
        "getrusage": 165, "getrlimit": 163, "setrlimit": 164, "prlimit64": 261, "sysinfo": 179,
        "uname": 160, "getpid": 172, "gettid": 178, "getppid": 173, "getpgid": 155, "getsid": 156,
        "setsid": 157, "setpgid": 154, "getuid": 174, "geteuid": 175, "getgid": 176, "getegid": 177,
        "getresuid": 148, "getresgid": 150, "getgroups": 158, "capget": 90, "sched_yield": 124,
        "sched_getaffinity": 123, "sched_setaffinity": 122, "sched_getparam": 121,
        "sched_getscheduler": 120, "sched_get_priority_max": 125, "sched_get_priority_min": 126,
        "getpriority": 141, "setpriority": 140, "getcpu": 168, "getrandom": 278, "memfd_create":
        279, "kill": 129, "tgkill": 131, "tkill": 130, "exit": 93, "exit_group": 94, "wait4": 260,
        "waitid": 95, "restart_syscall": 128, "prctl": 167, "pidfd_open": 434, "pidfd_send_signal":
        424, "setitimer": 103, "getitimer": 102,
    },
}  # fmt: skip

EXEC = {"x86_64": (59, 322), "aarch64": (221, 281)}
"""execve and execveat: only for workers whose pool starts processes."""
CLONE = {"x86_64": 56, "aarch64": 220}
"""Threads and processes; the flags that make namespaces are refused."""
CLONE3 = 435
"""Its flags lie in memory, where no filter can look: ENOSYS, and the C library takes clone."""
QUIET = (425, 426, 427)
"""io_uring, on both: its requests pass no filter. libuv asks for it at the start and goes on without."""
SECCOMP = {"x86_64": 317, "aarch64": 277}
"""The call that installs a filter and gives the descriptor on which refused calls are told."""
TOLD = {
    "x86_64": {
        56: "clone", 59: "execve", 322: "execveat", 101: "ptrace", 165: "mount", 166: "umount2", 155: "pivot_root",
        161: "chroot", 175: "init_module", 313: "finit_module", 246: "kexec_load", 321: "bpf", 272: "unshare",
        308: "setns", 298: "perf_event_open", 310: "process_vm_readv", 311: "process_vm_writev", 250: "keyctl",
        248: "add_key", 105: "setuid", 106: "setgid", 117: "setresuid", 119: "setresgid", 126: "capset",
    },
    "aarch64": {
        220: "clone", 221: "execve", 281: "execveat", 117: "ptrace", 40: "mount", 39: "umount2", 41: "pivot_root",
        51: "chroot", 105: "init_module", 273: "finit_module", 104: "kexec_load", 280: "bpf", 97: "unshare",
        268: "setns", 241: "perf_event_open", 270: "process_vm_readv", 271: "process_vm_writev", 219: "keyctl",
        217: "add_key", 146: "setuid", 144: "setgid", 147: "setresuid", 149: "setresgid", 91: "capset",
    },
}  # fmt: skip
"""Names of refused calls worth a name in the log; the rest are told by number."""
RING_ENTER = 426
"""io_uring_enter: for a loop that was made before the filter."""
NAMESPACES = 0x7E020000
