"""Steering: which socket of a SO_REUSEPORT group gets a datagram, by a byte of its payload.

A classic BPF program of three instructions, which needs no privilege. Imports
nothing of ours; called by `sockets.py`.
"""

from __future__ import annotations

import ctypes
import socket
import struct

from ..errors import StartError

SO_ATTACH_REUSEPORT_CBPF = 51
_LOAD_BYTE = 0x30  # BPF_LD | BPF_B | BPF_ABS: the byte at offset k of the payload
_MODULO = 0x94  # BPF_ALU | BPF_MOD | BPF_K
_RETURN = 0x16  # BPF_RET | BPF_A
MOST_OFFSET = 65_000


def program(offset: int, members: int) -> bytes:
    """The filter `payload[offset] % members`. A payload that is too short goes to member 0."""
    steps = ((_LOAD_BYTE, offset), (_MODULO, members), (_RETURN, 0))
    return b"".join(struct.pack("=HBBI", code, 0, 0, k) for code, k in steps)


def steer(member: socket.socket, offset: int, members: int) -> None:
    """Steer the group that `member` belongs to by the payload byte at `offset`.

    The group's members are numbered in the order in which they were bound. The
    same client reaches the same worker as long as that byte stays, also when its
    address changes. Raises `StartError` for an offset that no datagram has, or
    where the kernel has no such filter.
    """
    if not 0 <= offset <= MOST_OFFSET:
        raise StartError(
            f"steer={offset}: expected the offset of a payload byte, 0 to {MOST_OFFSET}", code="bad-setting"
        )
    code = ctypes.create_string_buffer(program(offset, members))
    fprog = struct.pack("HP", 3, ctypes.addressof(code))
    try:
        member.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, fprog)
    except OSError as error:
        raise StartError(
            f"steer={offset}: this kernel does not steer datagrams ({error}). Leave steer out: the kernel then "
            "spreads clients by their address",
            code="not-here",
        ) from error
