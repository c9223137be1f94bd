"""Live probes of this kernel, used by doctor. Every probe tries the thing on loopback sockets of its own.

Standard library only. recvmmsg and sendmmsg are not in Python's socket module,
so they are called through ctypes, as the native core calls them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104
SO_RCVBUFFORCE, SO_MEMINFO, SO_TIMESTAMPNS, SO_ATTACH_REUSEPORT_CBPF = 33, 55, 35, 51
WANTED_BUFFER = 4 << 20
CHARGE = 832
"""What the kernel charges a small datagram against the receive buffer, in bytes."""


@dataclass(frozen=True)
class Finding:
    """One thing doctor looked at. `fine` is None when it is only worth knowing."""

    name: str
    fine: bool | None
    found: str
    fix: str = ""


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A bound receiver and a sender connected to it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taker:
        taker.bind(("127.0.0.1", 0))
        taker.settimeout(1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(taker.getsockname())
            yield taker, sender


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


class _Msghdr(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.POINTER(_Iovec)),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class _Mmsghdr(ctypes.Structure):
    _fields_ = [("hdr", _Msghdr), ("len", ctypes.c_uint)]


def _messages(count: int, size: int) -> tuple[ctypes.Array[_Mmsghdr], list[object]]:
    """`count` messages with a buffer each, and what must stay alive with them."""
    kept: list[object] = []
    messages = (_Mmsghdr * count)()
    for message in messages:
        buffer = ctypes.create_string_buffer(b"x" * (size - 1), size)
        iov = (_Iovec * 1)(_Iovec(ctypes.cast(buffer, ctypes.c_void_p), size))
        message.hdr.iov, message.hdr.iovlen = iov, 1
        kept += [buffer, iov]
    return messages, kept


def batch_calls() -> Finding:
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        with pair() as (taker, sender):
            out, kept = _messages(4, 8)
            sent = libc.sendmmsg(sender.fileno(), out, 4, 0)
            into, more = _messages(4, 64)
            got = libc.recvmmsg(taker.fileno(), into, 4, socket.MSG_DONTWAIT, None)
            del kept, more
    except (OSError, AttributeError) as error:
        fix = "use Linux; elsewhere the portable transport serves"
        return Finding("batch calls", False, f"not here: {error}", fix)
    if sent == got == 4:
        return Finding("batch calls", True, "sendmmsg and recvmmsg moved 4 datagrams in one call each")
    reason = os.strerror(ctypes.get_errno()) or "fewer than 4 datagrams moved"
    fix = "allow the system calls sendmmsg and recvmmsg in the sandbox (seccomp profile) of this process"
    return Finding("batch calls", False, f"sendmmsg {sent}, recvmmsg {got}: {reason}", fix)


def segments(most: int) -> bool:
    """Does one send of `most` segments arrive as `most` datagrams?"""
    with pair() as (taker, sender):
        try:
            control = [(SOL_UDP, UDP_SEGMENT, struct.pack("@H", 100))]
            sender.sendmsg([b"s" * 100 * most], control)
            return all(len(taker.recv(2000)) == 100 for _ in range(most))
        except OSError:
            return False


def send_offload() -> Finding:
    best = next((most for most in (128, 64, 2) if segments(most)), 0)
    if best:
        return Finding("GSO", True, f"one send carries {best} datagrams (UDP_SEGMENT)")
    fix = "use Linux 4.18 or later; replies leave one by one till then"
    return Finding("GSO", False, "UDP_SEGMENT is refused", fix)


def receive_offload() -> Finding:
    with pair() as (taker, sender):
        try:
            taker.setsockopt(SOL_UDP, UDP_GRO, 1)
            sender.sendmsg([b"s" * 400], [(SOL_UDP, UDP_SEGMENT, struct.pack("@H", 100))])
            data, control, _, _ = taker.recvmsg(2000, 100)
        except OSError as error:
            return Finding("GRO", None, f"not here: {error.strerror}", "")
    if len(data) == 400 and control:
        return Finding("GRO", None, "4 datagrams arrived as one (UDP_GRO); off unless asked for")
    return Finding("GRO", None, "the kernel takes the option and delivers single datagrams")


def reuse_port() -> Finding:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two,
    ):
        try:
            for sock in (one, two):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(("127.0.0.1", 0))
            two.bind(one.getsockname())
        except (OSError, AttributeError) as error:
            return Finding("reuseport", False, f"refused: {error}", "serve with workers=1 here")
    return Finding(
        "reuseport", True, "two sockets share a port (SO_REUSEPORT): more workers than one can serve"
    )


def steering() -> Finding:
    """Attaches a program that returns the first payload byte, and looks where datagrams end up."""
    name = "BPF steering"
    program = (ctypes.c_uint64 * 2)(
        int.from_bytes(struct.pack("=HBBI", 0x30, 0, 0, 0), sys.byteorder),  # A = payload[0]
        int.from_bytes(struct.pack("=HBBI", 0x16, 0, 0, 0), sys.byteorder),  # return A
    )
    attach = struct.pack("HL", 2, ctypes.addressof(program))
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        try:
            for sock in (one, two):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                sock.settimeout(0.2)
            one.bind(("127.0.0.1", 0))
            two.bind(one.getsockname())
            one.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, attach)
            for index in (0, 1, 1, 0, 1):
                sender.sendto(bytes([index]), one.getsockname())
            right = [one.recv(9), one.recv(9), *(two.recv(9) for _ in range(3))] == [b"\0"] * 2 + [b"\1"] * 3
        except (OSError, AttributeError) as error:
            fix = "use Linux 4.5 or later; without it a client keeps its worker only while its address stays"
            return Finding(name, False, f"refused: {error}", fix)
    if right:
        return Finding(name, True, "a classic BPF program chose the worker by the first payload byte")
    return Finding(name, False, "datagrams went elsewhere than the program said", "")


def buffer_told(granted: int, asked: int) -> str:
    """What a receive buffer holds, in words; both numbers as getsockopt tells them."""
    return f"{granted:,} bytes of {asked:,} asked: room for {granted // CHARGE:,} small datagrams"


def receive_buffer() -> Finding:
    name = "receive buffer"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WANTED_BUFFER)
        granted = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        forced = False
        if granted < 2 * WANTED_BUFFER:
            try:
                sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, WANTED_BUFFER)
                forced = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= 2 * WANTED_BUFFER
            except OSError:
                pass
    told = buffer_told(granted, 2 * WANTED_BUFFER)
    if granted >= 2 * WANTED_BUFFER:
        return Finding(name, True, told)
    fix = f"sudo sysctl -w net.core.rmem_max={WANTED_BUFFER}"
    return Finding(name, False, told + (" (more with CAP_NET_ADMIN, which we have)" if forced else ""), fix)


def kernel_drops() -> Finding:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            memory = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 64)
        except OSError as error:
            fix = "use Linux 4.12 or later; drops of the kernel are not counted till then"
            return Finding("kernel drops", False, f"not readable: {error.strerror}", fix)
    return Finding("kernel drops", True, f"exact per socket (SO_MEMINFO, {len(memory) // 4} words)")


def time_stamps() -> Finding:
    with pair() as (taker, sender):
        try:
            taker.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            sender.send(b"now")
            control = taker.recvmsg(10, 100)[1]
        except OSError as error:
            return Finding("time stamps", False, f"refused: {error.strerror}", "the age drop stays off here")
    fine = any(level == socket.SOL_SOCKET for level, _, _ in control)
    return Finding("time stamps", fine, "the kernel stamps arrivals" if fine else "asked for, and none came")


def ipv6() -> Finding:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError as error:
        said = errno.errorcode.get(error.errno or 0, "?")
        fix = "sudo sysctl -w net.ipv6.conf.lo.disable_ipv6=0"
        return Finding("IPv6", None, f"no loopback ({said})", fix)
    return Finding("IPv6", True, "::1 can be bound")


def descriptors() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= 4096:
        return Finding("open files", True, f"{soft:,} (hard limit {hard:,})")
    fix = "LimitNOFILE=65536 in the unit, or a line in /etc/security/limits.conf"
    if hard >= 4096:
        fix = f"ulimit -n {min(hard, 65536)}"
    return Finding("open files", False, f"{soft:,}: TCP clients beyond that are refused", fix)


def clock() -> Finding:
    path = Path("/sys/devices/system/clocksource/clocksource0")
    try:
        now, offered = ((path / n).read_text() for n in ("current_clocksource", "available_clocksource"))
    except OSError:
        return Finding("clock", None, "source not known", "")
    fast = {"tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"}
    if now.strip() in fast:
        return Finding("clock", True, f"{now.strip()}: read without a system call")
    better = sorted(fast & set(offered.split()))
    fix = f"echo {better[0]} | sudo tee {path}/current_clocksource" if better else ""
    return Finding("clock", not better, f"{now.strip()}: every reading is a system call", fix)


KERNEL = (
    batch_calls,
    send_offload,
    receive_offload,
    reuse_port,
    steering,
    receive_buffer,
    kernel_drops,
    time_stamps,
    ipv6,
    descriptors,
    clock,
)
