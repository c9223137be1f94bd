"""Replies are never fragmented on a stranger's word (spec E2).

A forged ICMP message can lower the path MTU that the system remembers for a client,
and a spoofer puts his own second fragment behind our first. With PMTUDISC_OMIT such
messages are not believed. Called by the service when it starts; imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Any

_OMIT = 5  # IP_PMTUDISC_OMIT, IPV6_PMTUDISC_OMIT
_OPTIONS = ((socket.IPPROTO_IP, 10), (socket.IPPROTO_IPV6, 23))  # IP_MTU_DISCOVER, IPV6_MTU_DISCOVER


def believe_no_icmp(server: Any) -> None:
    """Have the UDP sockets of a server send whole datagrams whatever ICMP says. Linux; elsewhere nothing."""
    if sys.platform != "linux":
        return
    for mode in getattr(server, "modes", ()):
        sock = getattr(mode, "sock", None)
        if isinstance(sock, socket.socket) and sock.type == socket.SOCK_DGRAM:
            for level, option in _OPTIONS:
                with contextlib.suppress(OSError):  # an IPv4 socket has no option of IPv6
                    sock.setsockopt(level, option, _OMIT)
