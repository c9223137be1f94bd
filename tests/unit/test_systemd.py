"""Inherited sockets and notifications, without systemd."""

import os
import socket

import pytest

from toolips_udp.errors import StartError
from toolips_udp.servers import systemd


def test_nothing_is_inherited_without_the_variables_or_for_another_process():
    assert systemd.inherited({}) == []
    other = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1"}
    assert systemd.inherited(other) == []
    assert other  # they are another process's: left alone


def test_a_count_that_is_no_number_is_a_start_error_and_the_variables_are_gone():
    environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many", "LISTEN_FDNAMES": "dns"}
    with pytest.raises(StartError, match="'many'"):
        systemd.inherited(environment)
    assert environment == {}


@pytest.mark.parametrize("abstract", [False, True])
def test_a_notification_reaches_the_socket_also_an_abstract_one(tmp_path, abstract):
    name = f"toolips-udp-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name if abstract else name)
        listener.settimeout(2)
        environment = {"NOTIFY_SOCKET": "@" + name if abstract else name}
        assert systemd.notify("READY=1", "STATUS=serving", environment=environment)
        assert listener.recv(100) == b"READY=1\nSTATUS=serving"


def test_a_notification_that_nobody_hears_is_no_error(tmp_path):
    assert not systemd.notify("READY=1", environment={})
    assert not systemd.notify("READY=1", environment={"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    assert not systemd.notify("READY=1", environment={"NOTIFY_SOCKET": "vsock:2:3"})


def test_the_watchdog_is_fed_in_half_of_its_time():
    assert systemd.watchdog_pause({"WATCHDOG_USEC": "3000000"}) == 1.5
    assert systemd.watchdog_pause({}) is None
    assert systemd.watchdog_pause({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}) is None


def test_a_server_takes_the_socket_of_its_address_and_type_only(monkeypatch):
    from toolips_udp import Address

    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as streams,
    ):
        datagrams.bind(("127.0.0.1", 0))
        streams.bind(("127.0.0.1", 0))
        monkeypatch.setattr(systemd, "_given", [datagrams, streams])
        port = datagrams.getsockname()[1]
        assert systemd.take(Address("127.0.0.1", port + 1 if port < 65535 else 1), socket.SOCK_DGRAM) is None
        assert systemd.take(Address("127.0.0.2", port), socket.SOCK_DGRAM) is None
        assert systemd.take(Address("127.0.0.1", port), socket.SOCK_STREAM) is None
        assert systemd.take(Address("127.0.0.1", port), socket.SOCK_DGRAM) is datagrams
        assert not datagrams.getblocking()
        assert systemd.take(Address("127.0.0.1", port), socket.SOCK_DGRAM) is None
        assert systemd.left_over() == [str(streams.getsockname())]
