"""The admin listener and the control socket of a running server."""

import json
import os
import socket
import stat
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from toolips_udp import StartError, handler, request
from toolips_udp.counters import AGE_BOUNDS, age_quantile
from toolips_udp.servers import admin, control


def echo():
    return handler(lambda c: c.respond(c.packet))


def page(running, path):
    with urllib.request.urlopen(f"http://{running.admin.address}{path}", timeout=5) as answer:
        return answer.read().decode()


def test_the_admin_listener_shows_health_readiness_metrics_and_counters(server, transport):
    running = server(echo(), admin="127.0.0.1:0")
    for _ in range(3):
        request("x", running.address)
    assert page(running, "/healthz") == "ok\n"
    assert page(running, "/readyz") == "ready\n"
    found = json.loads(page(running, "/counters"))
    assert (found["received"], found["handled"], found["in_flight"]) == (3, 3, 0)
    metrics = page(running, "/metrics")
    assert "toolips_udp_handled_total 3\n" in metrics
    assert 'toolips_udp_dropped_total{word="kernel"} 0\n' in metrics
    assert f"toolips_udp_receive_buffer_bytes {running.modes[0].receive_buffer}\n" in metrics
    assert "\ntoolips_udp_loop_lag_seconds 0." in metrics
    assert f"toolips_udp_receive_buffer_asked_bytes {running.settings.receive_buffer}\n" in metrics
    for is_ready, level in ((False, 0), (True, 2)):  # it stops; or memory is past its second mark
        running.ready, running.pressure = is_ready, SimpleNamespace(level=level)
        with pytest.raises(urllib.error.HTTPError) as refused:
            page(running, "/readyz")
        assert refused.value.code == 503
        refused.value.close()
    running.pressure = SimpleNamespace(level=1)
    assert page(running, "/readyz") == "ready\n"


SLOW = """
import time
from toolips_udp import handler

@handler
def main(c):
    time.sleep(0.0005)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_how_long_datagrams_waited_is_shown_once_the_age_drop_is_armed(server, tmp_path, workers):
    pytest.importorskip("toolips_udp._native.endpoint", reason="only the native core has an age drop")
    (tmp_path / "slow_ages.py").write_text(SLOW)
    path = f"unix:{tmp_path}/admin"
    running = server(module=str(tmp_path / "slow_ages.py"), workers=workers, transport="native", admin=path)
    assert not any(running.queue_ages)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(running.address)
        until = time.monotonic() + 60
        while sum(running.queue_ages) < 200 and time.monotonic() < until:
            for _ in range(200):
                client.send(b"x")
            time.sleep(0.001)
    found, text = json.loads(admin.counters(running)[2]), admin.metrics(running)[2]
    assert 0 < found["queue_age_p50"] <= found["queue_age_p99"] and found["queue_age_p50"] in AGE_BOUNDS
    families = {family.name: family for family in text_string_to_metric_families(text)}
    samples = families["toolips_udp_queue_age_seconds"].samples
    below = [sample.value for sample in samples if sample.name.endswith("_bucket")]
    assert below == sorted(below) and len(below) == len(AGE_BOUNDS) + 1 and below[-1] >= 200
    assert samples[-1].name.endswith("_count") and samples[-1].value == below[-1]


def test_no_waiting_time_is_told_before_one_was_measured(server, transport):
    running = server(echo(), admin="127.0.0.1:0")
    request("x", running.address)
    assert not {"queue_age_p50", "queue_age_p99"} & set(json.loads(page(running, "/counters")))
    assert "toolips_udp_queue_age_seconds_count 0\n" in page(running, "/metrics")


def test_the_waiting_time_of_a_share_is_the_bound_of_its_bucket():
    ages = [0] * (len(AGE_BOUNDS) + 1)
    assert age_quantile(ages, 0.5) is None
    ages[2], ages[5] = 99, 1
    assert age_quantile(ages, 0.5) == age_quantile(ages, 0.99) == AGE_BOUNDS[2]
    assert age_quantile(ages, 0.991) == AGE_BOUNDS[5]
    ages[-1] = 300
    assert age_quantile(ages, 0.5) == AGE_BOUNDS[-1]


def raw(running, data):
    with socket.create_connection(running.admin.address, timeout=5) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        with client.makefile("rb") as answer:
            return answer.read()


def test_the_admin_listener_refuses_what_it_does_not_know(server):
    running = server(echo(), admin="127.0.0.1:0")
    assert raw(running, b"GET /nothing HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 404")
    assert raw(running, b"POST /healthz HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 405")
    assert raw(running, b"junk\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert raw(running, b"GET / HTTP/1.1\r\nx: " + bytes(20_000)).startswith(b"HTTP/1.1 400")
    assert raw(running, b"").startswith(b"HTTP/1.1 400")
    head = raw(running, b"HEAD /healthz HTTP/1.0\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and head.endswith(b"\r\n\r\n")


def test_an_admin_address_in_use_ends_the_start_and_names_the_address(server):
    running = server(echo(), admin="127.0.0.1:0")
    with pytest.raises(StartError, match=str(running.admin.address)):
        server(echo(), admin=str(running.admin.address))


def test_the_control_socket_is_this_users_alone_and_answers_commands(server, tmp_path, monkeypatch):
    monkeypatch.setenv("TOOLIPS_UDP_RUNTIME", str(tmp_path))
    running = server(echo(), control=True, drain=2)
    path = running.control.path
    assert list(control.find()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.name.startswith(f"{os.getpid()}-")
    status = control.ask(path, "status")
    assert status["addresses"] == {"UDP": str(running.address)} and status["ready"] is True
    assert control.ask(path, "counters")["received"] == 0
    assert control.ask(path, "settings")["drain"] == {"value": 2.0, "source": "call"}
    with pytest.raises(StartError, match="Did you mean 'status'"):
        control.ask(path, "stats")
    with pytest.raises(StartError, match="TypeError"):
        control.ask(path, "status", nonsense=1)
    assert control.ask(path, "stop") == "stopping"
    assert running.wait(5)
    assert not path.exists() and list(control.find()) == []


def test_the_command_table_takes_commands_of_other_rooms(server, tmp_path, monkeypatch):
    monkeypatch.setenv("TOOLIPS_UDP_RUNTIME", str(tmp_path))

    @control.command("double")
    async def double(server, number):
        return number * 2

    try:
        running = server(echo(), control=True)
        assert control.ask(running.control.path, "double", number=21) == 42
    finally:
        del control.COMMANDS["double"]


def test_a_folder_that_others_may_write_to_is_refused_and_the_server_serves_on(
    server, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("TOOLIPS_UDP_RUNTIME", str(tmp_path))
    (tmp_path / "toolips_udp").mkdir(mode=0o777)
    (tmp_path / "toolips_udp").chmod(0o777)
    running = server(echo(), control=True)
    assert request("x", running.address) == b"x"
    assert "chmod 700" in caplog.text


def test_sockets_of_dead_processes_are_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("TOOLIPS_UDP_RUNTIME", str(tmp_path))
    left = control.made_folder() / "4194305-0.sock"  # above the largest pid of Linux
    left.touch()
    assert list(control.find()) == []
    assert not left.exists()
