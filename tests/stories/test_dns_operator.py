"""Rows O1 to O7 as an operator meets them: reloads, killed workers, the end, dnstap, the example's files."""

# ruff: noqa: E501

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import ssl
import time
from pathlib import Path

import pytest

from tests.stories.test_dns_commands import ENV, ROOT, ZONE, children, command, served, zone_file
from toolips_udp import dns
from toolips_udp.cli import main
from toolips_udp.dns import control, metrics
from toolips_udp.dns.querylog import QueryLog

__all__ = ["served", "zone_file"]
SOA = "@ 60 SOA a. b. {} 2 3 4 60\n@ 60 NS a.\n"
EXAMPLES = ROOT / "examples/dns"


def asked(client, name, rtype="A"):
    return dns.Message.parse(client.ask(dns.ask(name, rtype).encode()))


@pytest.mark.parametrize("native", [True, False], ids=["c", "python"])
def test_o2_a_reload_keeps_the_cache_unless_what_decides_has_changed(server, peer, tmp_path, eventually, native):
    (tmp_path / "list").write_text("bad.net\n")
    (tmp_path / "z.test.zone").write_text("$ORIGIN z.test.\n" + SOA.format(1))
    upstream = server(dns.Service(dns.Zone.from_text(SOA.format(1) + "*.net 60 A 192.0.2.1\n", ".")))
    store = dns.ZoneStore(tmp_path)
    store.load()
    forward = dns.Forward(f"127.0.0.1:{upstream.address.port}")
    service = dns.Service(dns.Blocklist(tmp_path / "list"), store, forward, native=native)
    client = peer(server(service).address)
    entries = lambda: sum(cache["entries"] for cache in control._cache_facts(service))  # noqa: E731
    assert asked(client, "a.net").rcode == 0 and asked(client, "bad.net").rcode == 3
    assert entries() == 1
    (tmp_path / "z.test.zone").write_text("$ORIGIN z.test.\n" + SOA.format(2))
    assert service.reload() == {} and service.zones()[0].serial == 2
    assert asked(client, "z.test", "SOA").rcode == 0 and entries() == 1
    (tmp_path / "z.test.zone").write_text("nonsense\n")
    assert service.reload() and service.zones()[0].serial == 2 and entries() == 1
    (tmp_path / "list").write_text("a.net\n")
    service.reload()
    assert asked(client, "a.net").rcode == 3 and asked(client, "bad.net").rcode == 0


def test_o2_ctl_reload_and_hangup_take_what_is_good_and_tell_what_is_bad(served, zone_file, tmp_path):
    running = served("--zone", f"example.test={zone_file}")
    pid = running.process.pid
    zone_file.write_text(ZONE.replace(" 7 ", " 8 "))
    found = command("ctl", "reload", "--pid", pid)
    assert found.returncode == 0 and json.loads(found.stdout) == {"reloaded": True, "problems": {}}
    assert " 8 " in running.query("example.test", "SOA").stdout
    zone_file.write_text(ZONE + "www 60 A 300.1.1.1\n")
    found = command("ctl", "reload", "--pid", pid)
    told = json.loads(found.stdout)["problems"]["example.test."]
    assert found.returncode == 1 and "example.test.zone:6" in told and "300.1.1.1" in told
    zone_file.write_text(ZONE.replace(" 7 ", " 9 "))
    os.kill(pid, signal.SIGHUP)
    deadline = time.monotonic() + 20
    while " 9 " not in running.query("example.test", "SOA").stdout:
        assert time.monotonic() < deadline
    assert running.end()[0] == 0


def test_o2_dev_reads_a_zone_again_that_was_saved(tmp_path, monkeypatch, server):
    from toolips_udp.cli import dev

    (tmp_path / "z.zone").write_text("$ORIGIN z.test.\n" + SOA.format(1))
    (tmp_path / "list").write_text("bad.net\n")
    (tmp_path / "hosts").write_text("192.168.1.1 a.lan\n")
    service = dns.Service(
        dns.Local(hosts=[tmp_path / "hosts"]), dns.Blocklist(tmp_path / "list"), dns.Zone.load(tmp_path / "z.zone")
    )
    server(service)
    found = dev.files()
    assert {tmp_path / "z.zone", tmp_path / "list", tmp_path / "hosts"} <= set(found)
    os.utime(tmp_path / "z.zone", ns=(1, 1))
    assert dev.files()[tmp_path / "z.zone"] == 1


def test_o3_a_killed_worker_costs_little_and_term_ends_with_zero_within_5_seconds(served, zone_file):
    running = served("--zone", f"example.test={zone_file}", "--workers", "2")
    question, answered, gaps = dns.ask("www.example.test", "A").encode(), 0, []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.2)
        client.connect(("127.0.0.1", running.port))

        def ask_for(seconds):
            nonlocal answered
            last = time.monotonic()
            end = last + seconds
            while time.monotonic() < end:
                client.send(question)
                try:
                    client.recv(2048)
                except (TimeoutError, ConnectionError):
                    continue
                now = time.monotonic()
                gaps.append(now - last)
                last = now
                answered += 1

        ask_for(0.5)
        workers = children(running.process.pid)
        os.kill(int(workers[0]), signal.SIGKILL)
        ask_for(3.0)
    assert answered > 50 and max(gaps) < 2.0, max(gaps)  # 0.1 s on a machine of its own
    began = time.monotonic()
    code, _ = running.end()
    assert code == 0 and time.monotonic() - began < 5 + 5  # this machine does other things too


@pytest.mark.parametrize("admin", ["0.0.0.0:0", "[::]:0", "192.0.2.1:9353"])
def test_o4_the_page_is_for_this_machine(zone_file, admin):
    found = command("serve", "--zone", f"example.test={zone_file}", "--listen", "127.0.0.1:0", "--admin", admin)
    assert found.returncode == 3 and "expected an address of loopback" in found.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_o4_the_page_may_be_on_a_unix_socket_of_the_users_own(served, zone_file, tmp_path, workers):
    path = tmp_path / "admin"
    running = served("--zone", f"example.test={zone_file}", "--admin", f"unix:{path}", "--workers", workers)
    assert path.stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(10)
        stream.connect(str(path))
        stream.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        page = b"".join(iter(lambda: stream.recv(65536), b"")).decode()
    assert 'toolips_dns_answers_total{rcode="NOERROR",source="zone"}' in page
    assert running.end()[0] == 0 and not path.exists()


def test_o4_every_drop_word_is_a_reason_and_dnstap_losses_are_counted():
    service = dns.Service(dns.Zone.from_text(SOA.format(1), "z.test"))
    text = metrics.Metrics(service).text()
    assert "toolips_dns_dnstap_lost_total 0" in text and "toolips_dns_querylog_lost_total 0" in text


def test_o5_serve_tells_a_reader_of_dnstap_whole_messages(served, tmp_path, zone_file):
    from tests.unit.dns.test_dnstap import Reader, frames, messages

    reader = Reader(tmp_path / "tap")
    running = served("--zone", f"example.test={zone_file}", "--dnstap", tmp_path / "tap", "--id", "ns7")
    assert running.query("www.example.test", "A").returncode == 0
    status = json.loads(command("ctl", "status", "--pid", running.process.pid).stdout)
    assert status["dnstap"] == f"{tmp_path}/tap, 100% of the answers, 0 lost"
    assert running.end()[0] == 0 and reader.stopped.wait(10)
    told = messages(reader.data)
    assert {each[1] for each in told} == {1, 2} and any(b"\3www\7example" in each.get(10, b"") for each in told)
    first = next(frames(reader.data))
    assert first[1] == b"ns7" and first[2].startswith(b"toolips_udp ")


def test_o5_a_line_has_every_field_of_the_row(dns_net_like_upstream, server, peer, tmp_path):
    upstream = dns_net_like_upstream
    (tmp_path / "list").write_text("bad.net\n")
    service = dns.Service(dns.Blocklist(tmp_path / "list"), dns.Forward(f"127.0.0.1:{upstream}"), native=False)
    log = service.query_log = QueryLog(tmp_path / "log")
    client = peer(server(service).address)
    asked(client, "a.net"), asked(client, "bad.net")
    log.close()
    forwarded, refused = (json.loads(line) for line in (tmp_path / "log").read_text().splitlines())
    assert set(forwarded) == {
        "time", "client", "transport", "name", "type", "flags", "rcode", "source", "microseconds", "upstream",
    }  # fmt: skip
    assert set(refused) - set(forwarded) == {"rule", "ede"} and refused["rule"].endswith("list:1") and refused["ede"] == 15


@pytest.fixture
def dns_net_like_upstream(server):
    zone = dns.Zone.from_text(SOA.format(1) + "*.net 60 A 192.0.2.1\n", ".")
    return server(dns.Service(zone)).address.port


def test_o6_every_command_of_the_row_is_answered(served, zone_file, tmp_path):
    (tmp_path / "list").write_text("bad.net\n")
    running = served("--zone", f"example.test={zone_file}", "--forward", "127.0.0.1:9", "--blocklist", tmp_path / "list",
                     "--query-log", tmp_path / "log")  # fmt: skip
    for words, code in [
        ("status", 0), ("reload", 0), ("cache flush", 0), ("cache flush a.net --tree --type A", 0), ("cache stats", 0),
        ("cache dump", 0), ("zone list", 0), ("zone show example.test", 0), ("zone reload example.test", 0),
        ("upstream list", 0), ("upstream down 127.0.0.1:9", 0), ("upstream up 127.0.0.1:9", 0), ("block test bad.net", 0),
        ("log off", 0), ("log on", 0), ("top --seconds 0.1", 0),
        ("zone transfer example.test", 1), ("zone show other.test", 1), ("upstream down 192.0.2.9", 1),
        ("zone sign example.test", 2), ("anchor list", 2), ("nosuch", 2),
    ]:  # fmt: skip
        found = command("ctl", *words.split(), "--json", "--pid", running.process.pid)
        assert found.returncode == code, (words, found.stderr)
        if code == 0:
            json.loads(found.stdout)
        else:
            assert found.stderr.count("\n") == 1 and not found.stdout
    folder = Path(ENV.get("TOOLIPS_UDP_RUNTIME") or f"/run/user/{os.getuid()}")
    sockets = [path for path in folder.rglob(f"{running.process.pid}-*") if path.is_socket()]
    for path in sockets:
        assert path.stat().st_mode & 0o777 == 0o600


def test_o7_the_unit_has_what_the_row_asks_and_no_more_than_it_needs():
    unit = (EXAMPLES / "toolips-dns.service").read_text()
    for line in """Type=notify
        Restart=on-failure
        DynamicUser=yes
        ProtectSystem=strict
        PrivateTmp=yes
        PrivateDevices=yes
        NoNewPrivileges=yes
        MemoryDenyWriteExecute=yes
        RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
        SystemCallFilter=@system-service
        ExecReload=/bin/kill -HUP $MAINPID
        LimitNOFILE=65536""".splitlines():
        assert line.strip() in unit.splitlines()
    assert "\nCapabilityBoundingSet=\n" in unit and "\nAmbientCapabilities=\n" in unit  # systemd opens the port


@pytest.mark.parametrize("name", ["authoritative.toml", "forwarder.toml", "example.test.zone"])
def test_o7_the_examples_files_pass_a_strict_check(name, capsys):
    assert main(["dns", "check", str(EXAMPLES / name), "--strict"]) == 0, capsys.readouterr()


def test_o7_the_forwarder_of_the_example_answers_what_it_knows_from_c(tmp_path):
    """Local data in front of everything leaves lists and zones to C."""
    text = (EXAMPLES / "forwarder.toml").read_text()
    from toolips_udp.dns.building import build
    from toolips_udp.dns.settings import read

    (tmp_path / "c.toml").write_text(re.sub(r'"(lists/\*\.txt|example\.test\.zone)"', rf'"{EXAMPLES}/\1"', text))
    service = build(read(tmp_path / "c.toml"))
    (stage,) = service.stages()
    for name, in_c in [("www.example.test", True), ("x.ads.example.net", True), ("nas.lan", False), ("a.net", False)]:
        said = stage.answer(dns.ask(name, "A").encode())
        assert (said is not None) == in_c, name


WHOLE = """
[service]
listen = ["tls://127.0.0.1:853", "127.0.0.1:53", "https://127.0.0.1:443/dns-query"]
id = "ns1"
workers = 2
tls = { certificate = "tls/cert.pem", key = "tls/key.pem" }
access = { recursion = ["127.0.0.0/8", "::1", "10.0.0.0/8"] }     # default: loopback
cache = { size = "8MiB", stale = "1d" }                           # size: per worker
handlers = "answers.py"                                           # Python steps
[[zone]]
name = "example.org"
file = "zones/example.org.zone"
transfer_to = [{ address = "192.0.2.53", key = "xfr" }]
[[key]]
name = "xfr"
secret = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
[[forward]]
zone = "."
to = ["tls://9.9.9.9#dns.quad9.net", "tls://1.1.1.1#one.one.one.one"]
[[blocklist]]
file = "lists/*.txt"
"""


def test_o1_a_configuration_with_everything_passes_and_each_slip_in_it_is_named(tmp_path, capsys, certificate):
    for folder in ("zones", "lists", "tls"):
        (tmp_path / folder).mkdir()
    (tmp_path / "zones/example.org.zone").write_text("$ORIGIN example.org.\n" + SOA.format(1))
    (tmp_path / "lists/a.txt").write_text("ads.net\n")
    (tmp_path / "answers.py").write_text("from toolips_udp import dns\nservice = dns.Service()\n")
    shutil.copy(certificate[0], tmp_path / "tls/cert.pem")
    shutil.copy(certificate[1], tmp_path / "tls/key.pem")
    path = tmp_path / "server.toml"
    path.write_text(WHOLE)
    assert main(["dns", "check", str(path)]) == 0, capsys.readouterr()
    said = capsys.readouterr().out
    assert "lists/a.txt: names, 1 rules, 0 not supported" in said and "server.toml: 1 zone: OK" in said
    for before, after, line, text in [
        ("workers = 2", "wrokers = 2", 5, "Did you mean workers?"),
        ('size = "8MiB"', 'size = "8 apples"', 8, "[service] cache.size: size '8 apples': expected a number with KiB, MiB or GiB"),
        ("zones/example.org.zone", "zones/nosuch.zone", None, "nosuch.zone"),
        ('key = "xfr"', 'key = "nobody"', 10, "[zone] there is no key nobody. Keys: xfr. Add it"),
        ("tls://9.9.9.9#", "ftp://9.9.9.9#", 17, "expected udp://, tcp://, tls:// or https://"),
    ]:
        path.write_text(WHOLE.replace(before, after, 1))
        assert main(["dns", "check", str(path)]) == 1, before
        found = capsys.readouterr().out
        assert text in found, (before, found)
        assert line is None or f"server.toml:{line}" in found, (before, found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[service]\nlisten = ["quic://127.0.0.1"]\n', "c.toml:1: [service] listen address 'quic://127.0.0.1': DNS over QUIC is not here yet"),
        ('[service]\nlisten = []\n', "c.toml:2: service.listen: Expected `array` of length >= 1"),
        ('[service]\nlisten = ["tls://127.0.0.1:853"]\n', "[service] listen has tls:// or https://, which need tls"),
        ('[service]\ntls = { certificate = "no", key = "no" }\n', "cannot be used: No such file"),
        ("[service]\nworkers = 0\n", "c.toml:2: service.workers: Expected `int` >= 1"),
        ("[service]\nquery_log_sample = 2.0\n", "c.toml:2: service.query_log_sample: Expected `float` <= 1.0"),
        ("[service]\ndnstap_sample = -1.0\n", "c.toml:2: service.dnstap_sample: Expected `float` >= 0.0"),
        ('[service]\nadmin = "0.0.0.0:1"\n', "expected an address of loopback"),
        ("[limit]\nslip = -1\n", "c.toml:2: limit.slip: Expected `int` >= 0"),
        ('[[forward]]\nto = ["192.0.2.1"]\nhedge = -1.0\n', "c.toml:3: forward.hedge: Expected `float` >= 0.0"),
        ('[[blocklist]]\nfile = "l"\nede = 70000\n', "c.toml:3: blocklist.ede: Expected `int` <= 65535"),
        ('[[view]]\nname = "a"\ntransports = ["carrier"]\n', "c.toml:3: view.transports[0]: Invalid enum value 'carrier'"),
        ('[[view]]\nname = "a"\n[[view]]\nname = "a"\n', "c.toml:3: [view] a is there twice"),
        ('[[zone]]\nname = "b"\nprimaries = [{ address = "192.0.2.1", key = "k" }]\n', "there is no key k. Keys: none"),
        ('[[zone]]\nname = "Z.test."\nfile = "z"\n[[zone]]\nname = "z.test"\nfile = "z"\n', "c.toml:4: [zone] z.test is there twice"),
    ],
)
def test_o1_what_cannot_be_served_does_not_pass_the_check(tmp_path, capsys, text, said):
    (tmp_path / "c.toml").write_text(text)
    assert main(["dns", "check", str(tmp_path / "c.toml")]) == 1
    assert said in (found := capsys.readouterr().out), found


def test_serve_listens_on_plain_and_encrypted_addresses_in_any_order(tmp_path, zone_file, certificate):
    from tests.conftest import free_port
    from tests.stories.test_dns_commands import Served

    tls, tcp = free_port(), free_port()
    running = Served("--listen", f"tls://127.0.0.1:{tls}", "--listen", f"tcp://127.0.0.1:{tcp}", "--zone", f"example.test={zone_file}",
                     "--tls-certificate", certificate[0], "--tls-key", certificate[1])  # fmt: skip
    try:
        found = command("query", "www.example.test", "A", f"@127.0.0.1:{tcp}", "--tcp", "--short")
        assert found.stdout == "192.0.2.1\n", found.stderr
        with socket.create_connection(("127.0.0.1", tls), 10) as stream:
            context = ssl.create_default_context(cafile=certificate[0])
            with context.wrap_socket(stream, server_hostname="localhost") as secure:
                packet = dns.ask("www.example.test", "A").encode()
                secure.sendall(len(packet).to_bytes(2, "big") + packet)
                size = int.from_bytes(secure.recv(2), "big")
                assert dns.Message.parse(secure.recv(size)).answer
    finally:
        assert running.end()[0] == 0
    found = command("serve", "--listen", f"tls://127.0.0.1:{tls}", "--zone", f"example.test={zone_file}")
    assert found.returncode == 3 and "expected an address for UDP or TCP among them" in found.stderr
