"""TCP clients that vanish, and a million pipelined requests: each with its counted outcome."""

import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from toolips_udp import TCP, handler, serve
from toolips_udp.counters import DROPS

TCP_REPAIR = 19  # linux/tcp.h: a socket closed in repair mode sends neither FIN nor reset
CLIENT = """
import socket, sys, time
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
sock.sendall(b"x\\n")
sock.recv(10)
print("served", flush=True)
time.sleep(60)
"""


@handler
async def echo(c):
    async for line in c.lines():
        c.respond(line + b"\n")


def settled(server, seconds=5.0):
    """The counters once no connection is in flight."""
    end = time.monotonic() + seconds
    while server.in_flight:
        assert time.monotonic() < end, "the connection is still held"
        time.sleep(0.005)
    counters = server.counters
    assert counters["received"] == counters["handled"] + sum(counters[word] for word in DROPS)
    return counters


def client_of(server):
    sock = socket.create_connection(("127.0.0.1", server.address.port), timeout=5)
    sock.sendall(b"x\n")
    assert sock.recv(10) == b"x\n"
    return sock


def test_a_client_that_resets_ends_its_handler_at_once():
    with serve(TCP, SimpleNamespace(main=echo), "127.0.0.1:0", control=False) as server:
        sock = client_of(server)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        assert settled(server, 2)["handled"] == 1


def test_a_client_whose_machine_is_gone_is_closed_at_the_idle_deadline_and_counted_stale():
    with serve(TCP, SimpleNamespace(main=echo), "127.0.0.1:0", control=False, idle_timeout=0.3) as server:
        sock = client_of(server)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        except OSError as error:
            sock.close()
            pytest.skip(f"closing without a packet needs CAP_NET_ADMIN on Linux: {error}")
        sock.close()
        time.sleep(0.1)
        assert server.in_flight == 1  # nobody told the server
        assert settled(server)["stale"] == 1


def test_a_client_whose_process_is_paused_is_closed_at_the_idle_deadline_and_counted_stale():
    with serve(TCP, SimpleNamespace(main=echo), "127.0.0.1:0", control=False, idle_timeout=0.3) as server:
        command = [sys.executable, "-c", CLIENT, str(server.address.port)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout.readline() == "served\n"
                process.send_signal(signal.SIGSTOP)
                assert settled(server)["stale"] == 1
            finally:
                process.kill()


@pytest.mark.long
def test_s2_a_million_pipelined_requests_are_answered_in_order_by_one_connection():
    count = 1_000_000

    @handler
    async def numbered(c):
        async for line in c.lines():
            c.respond(line + b"\n")

    with serve(TCP, SimpleNamespace(main=numbered), "127.0.0.1:0", control=False) as server:
        with socket.create_connection(("127.0.0.1", server.address.port), timeout=30) as sock:

            def ask():
                for start in range(0, count, 10_000):
                    sock.sendall(b"".join(b"%d\n" % n for n in range(start, start + 10_000)))
                sock.shutdown(socket.SHUT_WR)

            asking = threading.Thread(target=ask)
            asking.start()
            with sock.makefile("rb") as answers:
                for n in range(count):
                    assert int(answers.readline()) == n
                assert answers.readline() == b""
            asking.join()
        assert settled(server)["handled"] == 1
