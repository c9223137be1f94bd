"""`toolips-udp dns ...` as an operator types it: serve, check, query, zone, ctl, explain."""

# ruff: noqa: E501

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import dns.edns
import dns.message
import dns.query
import pytest

ROOT = Path(__file__).parents[2]
ZONE = "$ORIGIN example.test.\n@ 60 SOA ns h 7 2 3 4 30\n@ 60 NS ns\nns 60 A 127.0.0.1\nwww 60 A 192.0.2.1\n"
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}


def command(*words, **kw):
    kw.setdefault("cwd", ROOT)
    return subprocess.run(
        [sys.executable, "-m", "toolips_udp", "dns", *map(str, words)],
        capture_output=True, text=True, timeout=60, env=ENV, **kw,
    )  # fmt: skip


def free_port():
    """A port that is free for UDP and TCP, below those that the system gives to clients."""
    for _ in range(50):
        port = random.randrange(15_000, 32_000)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, socket.socket() as two:
            try:
                one.bind(("127.0.0.1", port))
                two.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


class Served:
    """A `dns serve` in a process of its own."""

    def __init__(self, *words, cwd=ROOT):
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "toolips_udp", "dns", "serve", "--listen", f"127.0.0.1:{self.port}", *map(str, words)],
            cwd=cwd, env=ENV, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while (
            self.query("example.test", "SOA", wait=0.5).returncode not in (0, 1)
            or "no reply" in self.last.stderr
        ):
            if self.process.poll() is not None:
                pytest.fail(self.process.communicate()[1])
            assert time.monotonic() < deadline

    def query(self, *words, wait=10):
        self.last = command("query", *words, f"@127.0.0.1:{self.port}", "--wait", wait)
        return self.last

    @contextlib.contextmanager
    def asked_all_the_time(self):
        """Somebody asks for www.example.test a hundred times a second, whatever else this machine does."""
        question, over = dns.message.make_query("www.example.test", "A").to_wire(), threading.Event()

        def ask():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                while not over.wait(0.01):
                    client.sendto(question, ("127.0.0.1", self.port))

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            yield
        finally:
            over.set()
            asking.join()

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said


@pytest.fixture
def zone_file(tmp_path):
    path = tmp_path / "example.test.zone"
    path.write_text(ZONE)
    return path


@pytest.fixture
def served():
    made = []

    def make(*words, **kw):
        made.append(Served(*words, **kw))
        return made[-1]

    yield make
    for each in made:
        each.end()


def test_serve_answers_a_zone_reloads_on_hangup_keeps_the_old_one_when_bad_and_drains(served, zone_file):
    running = served("--zone", f"example.test={zone_file}")
    assert running.query("www.example.test", "A", "--short").stdout == "192.0.2.1\n"
    assert running.query("www.example.test", "A", "--short", "--tcp").stdout == "192.0.2.1\n"
    assert running.query("nx.example.test").returncode == 1

    def reloaded(address):
        zone_file.write_text(ZONE.replace("192.0.2.1", address))
        running.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found = running.query("www.example.test", "A", "--short").stdout.strip()
            if found == address:
                return True
        return False

    assert reloaded("192.0.2.2")
    zone_file.write_text(ZONE.replace("192.0.2.1", "192.0.2.999"))
    running.process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert running.query("www.example.test", "A", "--short").stdout == "192.0.2.2\n"
    code, said = running.end()
    assert code == 0 and "example.test.zone:5:" in said


def test_serve_takes_a_folder_and_a_configuration_with_every_part(served, tmp_path, zone_file):
    (tmp_path / "ads.txt").write_text("||ads.example.test^\n")
    (tmp_path / "answers.py").write_text(
        "from toolips_udp import dns\nservice = dns.Service()\n"
        "@service.answers('time.example.test', 'TXT')\ndef now(q):\n    return dns.TXT('noon')\n"
    )
    (tmp_path / "server.toml").write_text(
        '[service]\nid = "ns1"\nhandlers = "answers.py"\n[[zone]]\nfolder = "."\n[[blocklist]]\nfile = "ads.txt"\n'
        '[[local]]\nrecords = { "nas.lan" = ["A 192.168.1.5"] }\n'
    )
    running = served(tmp_path / "server.toml")
    assert running.query("www.example.test", "--short").stdout == "192.0.2.1\n"
    assert running.query("time.example.test", "TXT", "--short").stdout == '"noon"\n'
    assert running.query("nas.lan", "--short").stdout == "192.168.1.5\n"
    blocked = json.loads(running.query("x.ads.example.test", "--json").stdout)
    assert blocked["rcode"] == "NXDOMAIN"
    status = json.loads(command("ctl", "status", "--pid", running.process.pid).stdout)
    assert status["zones"] == {"ready": 1, "all": 1}
    assert (
        "example.test. serial 7 ready" in command("ctl", "zone", "list", "--pid", running.process.pid).stdout
    )
    test = command("ctl", "block", "test", "a.ads.example.test", "--pid", running.process.pid).stdout
    assert "block by" in test and "ads.txt:1" in test
    assert json.loads(command("ctl", "reload", "--pid", running.process.pid).stdout)["problems"] == {}


def test_a_forwarder_caches_and_its_cache_is_dumped_and_flushed(served, zone_file):
    authority = served("--zone", f"example.test={zone_file}")
    forwarder = served("--forward", f"127.0.0.1:{authority.port}")
    assert forwarder.query("www.example.test", "--short").stdout == "192.0.2.1\n"
    pid = forwarder.process.pid
    assert "www.example.test. A" in command("ctl", "cache", "dump", "--pid", pid).stdout
    assert "up" in command("ctl", "upstream", "list", "--pid", pid).stdout
    flushed = command("ctl", "cache", "flush", "example.test", "--tree", "--pid", pid).stdout
    assert int(flushed.split()[0]) >= 1
    assert command("ctl", "cache", "dump", "--pid", pid).stdout.strip() == ""


def test_ctl_switches_the_log_reads_a_zone_again_and_tells_what_is_asked_most(served, zone_file, tmp_path):
    running = served("--zone", f"example.test={zone_file}")

    def ctl(*words):
        found = command("ctl", *words, "--pid", running.process.pid)
        return found.stdout + found.stderr

    assert "no file was configured" in ctl("log", "on")
    assert "100% of the answers" in ctl("log", "on", tmp_path / "log")
    for _ in range(3):
        running.query("www.example.test")
    assert ctl("log", "off") == "off\n"
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["name"] for line in lines] == ["www.example.test."] * 3
    assert "100% of the answers" in ctl("log", "on") and ctl("log", "off") == "off\n"
    with running.asked_all_the_time():
        said = ctl("top", "--seconds", "2")
    assert "answers a second" in said and re.search(r"name +100.0% www.example.test.", said), said
    zone_file.write_text(ZONE.replace("ns h 7", "ns h 8"))
    assert ctl("zone", "reload", "example.test") == "example.test. serial 8\n"
    zone_file.write_text("nonsense")
    assert "keeps its old state" in ctl("zone", "reload", "example.test")
    assert "there is no upstream" in ctl("upstream", "down", "192.0.2.9")


def test_serve_with_workers_answers_and_reloads_without_a_gap(served, zone_file):
    running = served("--zone", f"example.test={zone_file}", "--workers", "2")
    assert running.query("www.example.test", "A", "--short").stdout == "192.0.2.1\n"
    assert running.query("www.example.test", "A", "--short", "--tcp").stdout == "192.0.2.1\n"
    zone_file.write_text(ZONE.replace("192.0.2.1", "192.0.2.2"))
    running.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 30
    while running.query("www.example.test", "A", "--short").stdout != "192.0.2.2\n":
        assert running.last.returncode == 0, running.last.stderr
        assert time.monotonic() < deadline
    assert running.end()[0] == 0


def test_workers_know_each_others_cookies(served, zone_file):
    running = served("--zone", f"example.test={zone_file}", "--workers", "2")
    cookie = b"clientme"
    found = set()
    for _ in range(40):  # each from another port, so that either worker is asked
        option = dns.edns.CookieOption(cookie[:8], cookie[8:])
        query = dns.message.make_query("www.example.test", "A", use_edns=0, options=[option])
        reply = dns.query.udp(query, "127.0.0.1", port=running.port, timeout=3)
        cookie = next(o for o in reply.options if o.otype == 10).to_wire()
        found.add(cookie)
    assert len(found) == 1 and len(cookie) == 24
    assert running.end()[0] == 0


def test_serve_says_what_is_wrong_and_exits_three(tmp_path, zone_file):
    bad = tmp_path / "bad.test.zone"
    bad.write_text("@ 60 SOA a b 1 2 3 4 5\nx 60 A 1.2.3\n")
    found = command("serve", "--zone", f"bad.test={bad}", "--listen", "127.0.0.1:0")
    assert found.returncode == 3 and f"{bad}:2:8: '1.2.3' is not an IPv4 address" in found.stderr
    assert command("serve").returncode == 3
    config = tmp_path / "x.toml"
    config.write_text("[servise]\n")
    found = command("serve", config)
    assert found.returncode == 3 and "servise" in found.stderr


def test_check_prints_every_finding_with_its_place(tmp_path, zone_file):
    assert "zone example.test. serial 7, 4 records: OK" in command("check", zone_file).stdout
    bad = tmp_path / "bad.test.zone"
    bad.write_text("@ 60 SOA a b 1 2 3 4 5\nx 60 A 1.2.3\ny 60 FROB x\n")
    found = command("check", bad)
    assert found.returncode == 1
    assert (
        f"{bad}:2:8: '1.2.3' is not an IPv4 address: expected" in found.stdout
        and f"{bad}:3:6:" in found.stdout
    )
    assert json.loads(command("check", bad, "--json").stdout)[0]["problems"][0]["line"] == 2
    odd = tmp_path / "odd.test.zone"
    odd.write_text("@ 60 SOA a b 1 2 3 4 5\n@ 60 NS ns\n")
    assert command("check", odd).returncode == 0 and command("check", odd, "--strict").returncode == 1


def test_zone_tools_import_format_diff_add_list_and_remove(tmp_path, zone_file):
    chins = tmp_path / "chins.json"
    chins.write_text(
        '{"origin": "c.test.", "ttl": 60, "soa": {}, "ns": [{"host": "ns"}], "a": [{"name": "ns", "value": "192.0.2.1"}]}'
    )
    made = command("zone", "import", chins)
    assert "ns.c.test. 60 IN A 192.0.2.1" in made.stdout
    new = tmp_path / "new.zone"
    new.write_text(made.stdout)
    folder = tmp_path / "zones"
    folder.mkdir()
    assert command("zone", "add", folder, new).stdout.strip().endswith("zones/c.test.zone")
    assert "c.test. serial" in command("zone", "list", folder).stdout
    assert command("zone", "remove", folder, "../c.test").returncode == 1
    assert command("zone", "remove", folder, "c.test").returncode == 0 and not list(folder.iterdir())
    other = tmp_path / "other.zone"
    other.write_text(ZONE.replace("192.0.2.1", "192.0.2.5"))
    diff = command("zone", "diff", zone_file, other)
    assert diff.returncode == 1 and "+ www.example.test. 60 IN A 192.0.2.5" in diff.stdout
    assert command("zone", "serial", zone_file).stdout == "7\n"
    assert command("zone", "digest", zone_file).stdout.startswith("example.test. 60 IN ZONEMD 7 1 1 ")
    assert command("zone", "format", zone_file).stdout.startswith("$ORIGIN example.test.\n")


def test_explain_says_which_step_answers(tmp_path, zone_file):
    found = command("explain", zone_file, "www.example.test", "A").stdout
    assert "zone example.test." in found and "rcode: NOERROR" in found
