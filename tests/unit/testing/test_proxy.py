"""The bad network between real sockets."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from toolips_udp.cli import main
from toolips_udp.cli.lag import change
from toolips_udp.testing.proxy import Proxy


@pytest.fixture
def echo():
    """The address of a plain echo server in a thread."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(0.05)
    stop = threading.Event()
    seen = []

    def serve():
        while not stop.is_set():
            try:
                data, source = sock.recvfrom(65535)
            except TimeoutError:
                continue
            seen.append((data, source))
            sock.sendto(data, source)

    thread = threading.Thread(target=serve)
    thread.start()
    host, port = sock.getsockname()
    yield f"{host}:{port}", seen
    stop.set()
    thread.join()
    sock.close()


@pytest.fixture
def caller():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2.0)
        yield sock


def test_datagrams_pass_both_ways_and_take_the_time_of_the_knobs(echo, caller):
    with Proxy(echo[0], seed=1, up="latency=0.02", down="latency=0.03") as proxy:
        began = time.monotonic()
        caller.sendto(b"hello", tuple(proxy.address))
        assert caller.recvfrom(100) == (b"hello", tuple(proxy.address))
        assert 0.05 <= time.monotonic() - began < 5.0


def test_each_client_has_its_own_way_to_the_server(echo):
    with Proxy(echo[0]) as proxy:
        socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(5)]
        for n, sock in enumerate(socks):
            sock.settimeout(2.0)
            sock.sendto(str(n).encode(), tuple(proxy.address))
        assert [sock.recv(100) for sock in socks] == [b"0", b"1", b"2", b"3", b"4"]
        assert len({source for _, source in echo[1]}) == 5 == len(proxy.clients)
        for sock in socks:
            sock.close()


def test_the_fates_are_those_of_the_seed(echo, caller):
    def fates():
        with Proxy(echo[0], seed=5, up="loss=0.4") as proxy:
            for n in range(50):
                caller.sendto(bytes([n]), tuple(proxy.address))
            caller.settimeout(0.2)
            back = set()
            try:
                while True:
                    back.add(caller.recv(10)[0])
            except TimeoutError:
                return back

    assert fates() == fates() != set(range(50))


def test_knobs_turn_while_it_runs(echo, caller):
    with Proxy(echo[0]) as proxy:
        caller.sendto(b"a", tuple(proxy.address))
        assert caller.recv(10) == b"a"
        assert change(proxy, "both loss=1.0\n") == "both loss=1.0"
        caller.settimeout(0.1)
        caller.sendto(b"b", tuple(proxy.address))
        with pytest.raises(TimeoutError):
            caller.recv(10)
        assert "Did you mean" in change(proxy, "up los=1")
        assert "no direction" in change(proxy, "left loss=1")
        change(proxy, "both")
        caller.sendto(b"c", tuple(proxy.address))
        assert caller.recv(10) == b"c"


def test_a_rebound_client_reaches_the_server_from_another_port(echo, caller):
    with Proxy(echo[0]) as proxy:
        for data in (b"a", b"b"):
            caller.sendto(data, tuple(proxy.address))
            assert caller.recv(10) == data
            proxy._loop.call_soon_threadsafe(proxy.link(caller_address(caller, proxy)).rebind)
        assert len({source for _, source in echo[1]}) == 2


def caller_address(caller, proxy):
    return next(address for address in proxy.clients if address[1] == caller.getsockname()[1])


def test_newcomers_over_the_maximum_are_refused_and_counted(echo, caller):
    with Proxy(echo[0], max_clients=1) as proxy, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        caller.sendto(b"a", tuple(proxy.address))
        assert caller.recv(10) == b"a"
        other.settimeout(0.1)
        other.sendto(b"b", tuple(proxy.address))
        with pytest.raises(TimeoutError):
            other.recv(10)
        assert proxy.refused == 1


def test_a_server_that_is_gone_does_not_stop_the_proxy(caller):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{gone.getsockname()[1]}"
    with Proxy(address) as proxy:
        for _ in range(3):
            caller.sendto(b"x", tuple(proxy.address))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
            host, port = address.split(":")
            back.bind((host, int(port)))
            back.settimeout(2.0)
            caller.sendto(b"y", tuple(proxy.address))
            while back.recv(10) != b"y":
                pass


def test_the_command_carries_and_ends_with_its_counts(echo, caller):
    code = (
        "import argparse, sys; from toolips_udp.cli import lag; p = argparse.ArgumentParser();"
        "lag.add_arguments(p); sys.exit(lag.run(p.parse_args()))"
    )
    command = [sys.executable, "-c", code, "--listen", "127.0.0.1:0", "--to", echo[0], "--down", "loss=0.5"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        line = process.stderr.readline()
        host, _, port = line.split()[1].rpartition(":")
        process.stdin.write("down calm=1\ndown latency=0.01\n")
        process.stdin.flush()
        assert "no knob" in process.stderr.readline()
        assert "down latency=0.01" in process.stderr.readline()
        caller.sendto(b"x", (host, int(port)))
        assert caller.recv(10) == b"x"
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=60)
        assert process.returncode == 0 and "2 datagrams: 2 delivered" in rest
    finally:
        process.kill()
        process.communicate()


def test_the_command_says_what_is_wrong_with_it(capsys, echo):
    assert main(["lag", "--to", echo[0], "--up", "los=1"]) == 2
    assert "Did you mean 'loss'" in capsys.readouterr().err
    assert main(["lag", "--to", echo[0], "--listen", echo[0]]) == 3
    said = capsys.readouterr().err
    assert "[port-in-use] lag cannot listen on" in said and said.count("\n") == 1
