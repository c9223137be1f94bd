"""Why an address could not be bound: cause and fix for each case."""

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from toolips_udp import UDP, Address, BindError, handler, start
from toolips_udp.servers.holder import explain, find_holder


@pytest.mark.parametrize(
    "code, address, parts",
    [
        (errno.EADDRINUSE, Address("127.0.0.1", 1), ["in use", "another port"]),
        (errno.EACCES, Address("127.0.0.1", 53), ["privileged", "1024", "setcap"]),
        (errno.EACCES, Address("127.0.0.1", 5300), ["permission denied"]),
        (errno.EADDRNOTAVAIL, Address("192.0.2.1", 53), ["192.0.2.1", "this machine"]),
        (errno.EAFNOSUPPORT, Address("::1", 53), ["no IPv6"]),
        (errno.ENOBUFS, Address("127.0.0.1", 53), ["ENOBUFS"]),
    ],
)
def test_every_errno_has_a_cause_and_a_fix(code, address, parts):
    text = explain(True, address, OSError(code, os.strerror(code)))
    for part in [*parts, "Fix:"]:
        assert part in text


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_the_holder_of_a_port_is_found(kind):
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        holder = find_holder(kind == socket.SOCK_DGRAM, Address.of(sock.getsockname()))
    assert f"pid {os.getpid()}" in holder and "this process" in holder


def test_the_holder_in_another_process_is_named_in_the_bind_error():
    text = "import socket; s = socket.socket(2, 2); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)"
    text += "; input()"
    with subprocess.Popen(
        [sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        try:
            port = int(other.stdout.readline())
            with pytest.raises(BindError, match=f"pid {other.pid}"):
                start(UDP, type("Module", (), {"main": handler(lambda c: None)}), ("127.0.0.1", port))
        finally:
            other.communicate(b"\n")


def test_an_address_of_another_machine_is_a_bind_error_that_says_so():
    with pytest.raises(BindError, match="no network interface has 192.0.2.1"):
        start(UDP, type("Module", (), {"main": handler(lambda c: None)}), "192.0.2.1:0")


def test_a_privileged_port_is_refused_with_the_fix():
    lowest = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if os.getuid() != 0 or lowest <= 1:
        pytest.skip(f"needs root to give up, and privileged ports (here they begin below {lowest})")
    text = (
        "import os\n"
        "from toolips_udp import UDP, handler, serve, start\n"
        "import toolips_udp.servers.holder\n"
        "module = type('M', (), {'main': handler(lambda c: None)})\n"
        "with serve(UDP, module, '127.0.0.1:0', control=False): pass\n"  # everything is imported now
        "os.setuid(65534)\n"
        "start(UDP, module, '127.0.0.1:1', control=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert "BindError" in done.stderr and "privileged" in done.stderr
