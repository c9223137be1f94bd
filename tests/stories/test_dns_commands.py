"""`toolips-udp dns ...` as an operator types it: serve, check, query, zone, ctl, explain."""

# ruff: noqa: E501

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import dns.edns
import dns.message
import dns.query
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import free_port

ROOT = Path(__file__).parents[2]
ZONE = "$ORIGIN example.test.\n@ 60 SOA ns h 7 2 3 4 30\n@ 60 NS ns\nns 60 A 127.0.0.1\nwww 60 A 192.0.2.1\n"
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}


def command(*words, **kw):
    kw.setdefault("cwd", ROOT)
    return subprocess.run(
        [sys.executable, "-m", "toolips_udp", "dns", *map(str, words)],
        capture_output=True, text=True, timeout=60, env=ENV, **kw,
    )  # fmt: skip


class Served:
    """A `dns serve` in a process of its own."""

    def __init__(self, *words, cwd=ROOT, port=None):
        self.port = port or free_port()
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


def ask_often(port, name, times):
    """Questions from as many ports, so that every worker is asked."""
    for _ in range(times):
        dns.query.udp(dns.message.make_query(name, "A"), "127.0.0.1", port=port, timeout=3)


def metrics_of(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
        families = text_string_to_metric_families(page.read().decode())
    return {
        (s.name.removeprefix("toolips_dns_"), *sorted(s.labels.values())): s.value for f in families for s in f.samples
    }


def test_o6_with_workers_every_command_acts_on_all_of_them_and_is_answered_for_all(served, zone_file, tmp_path):
    authority = served("--zone", f"example.test={zone_file}")
    (tmp_path / "ads.txt").write_text("ads.test\n")
    running = served(
        "--forward", f"127.0.0.1:{authority.port}", "--blocklist", tmp_path / "ads.txt", "--workers", "2",
    )  # fmt: skip
    pid = running.process.pid

    def ctl(*words):
        found = command("ctl", *words, "--pid", pid)
        return found.stdout + found.stderr

    ask_often(running.port, "www.example.test", 40)
    dump = ctl("cache", "dump").splitlines()
    assert sum("www.example.test. A" in line for line in dump) == 2  # each worker has it once
    before = json.loads(ctl("status", "--json"))
    assert before["workers"] == 2 and before["cache"][0]["entries"] == len(dump)
    asked = before["native"]["cache"] + before["native"]["forward"] + before["native"]["passed"]
    ask_often(running.port, "www.example.test", 30)
    after = json.loads(ctl("status"))["native"]
    assert after["cache"] + after["forward"] + after["passed"] == asked + 30
    ask_often(running.port, "ads.test", 20)
    assert sum(sum(hits.values()) for hits in json.loads(ctl("status"))["blocked"]) == 20
    assert ctl("cache", "flush", "example.test", "--tree") == f"{len(dump)} entries forgotten\n"
    assert ctl("cache", "dump").strip() == ""
    assert json.loads(ctl("cache", "stats"))[0]["entries"] == 0

    log = tmp_path / "log"
    assert "100% of the answers" in ctl("log", "on", log)
    ask_often(running.port, "www.example.test", 40)
    watching = subprocess.Popen(
        [sys.executable, "-m", "toolips_udp", "dns", "ctl", "top", "--seconds", "2", "--pid", str(pid)],
        cwd=ROOT, env=ENV, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    while watching.poll() is None:
        ask_often(running.port, "www.example.test", 5)
    assert re.search(r"name +100.0% www.example.test.", watching.communicate()[0])
    assert ctl("log", "off") == "off\n"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) >= 40 and {line["name"] for line in lines} == {"www.example.test."}

    url = f"127.0.0.1:{authority.port}"
    assert ctl("upstream", "down", url) == f"{url} is down until you say up\n"
    assert "down" in ctl("upstream", "list") and "taken out by hand" in ctl("upstream", "list")
    assert ctl("upstream", "up", url) == f"{url} is asked again\n"
    assert "taken out" not in ctl("upstream", "list")
    assert ctl("block", "test", "ads.test").startswith("ads.test: block by")
    (tmp_path / "ads.txt").write_text("other.test\n")
    assert json.loads(ctl("reload")) == {"reloaded": True, "problems": {}}
    assert ctl("block", "test", "ads.test") == "ads.test: no rule\n"
    assert "there is no upstream" in ctl("upstream", "down", "192.0.2.9")
    assert running.end()[0] == 0


def children(pid):
    """The processes that it has started, from any of its threads."""
    found = " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(each) for each in found.split()]


def test_o4_with_workers_the_metrics_are_those_of_all_and_keep_what_the_dead_have_counted(served, zone_file):
    admin = free_port()
    running = served("--zone", f"example.test={zone_file}", "--workers", "2", "--admin", f"127.0.0.1:{admin}")
    pid = running.process.pid

    def answered():
        found = metrics_of(admin)
        at_rest = found["toolips_udp_received_total",]
        given = sum(value for key, value in found.items() if key[0] == "answers_total")
        return given, at_rest - sum(value for key, value in found.items() if key[0] == "dropped_total")

    ask_often(running.port, "www.example.test", 40)
    given, received = answered()
    assert given == received >= 40
    assert metrics_of(admin)["zone_serial", "example.test."] == 7
    zone_file.write_text(ZONE.replace("ns h 7", "ns h 8"))
    os.kill(pid, signal.SIGHUP)  # fresh workers: the old ones tell what they counted when they go
    deadline = time.monotonic() + 20
    while metrics_of(admin)["zone_serial", "example.test."] != 8 or len(children(pid)) > 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert answered() == (given, received)
    ask_often(running.port, "www.example.test", 10)
    assert answered() == (given + 10, received + 10)
    assert running.end()[0] == 0


def test_o6_a_worker_that_comes_later_is_told_what_was_ordered_and_has_read_what_was_reloaded(served, zone_file, tmp_path):
    running = served("--zone", f"example.test={zone_file}", "--workers", "2")
    pid = running.process.pid
    log = tmp_path / "log"
    command("ctl", "log", "on", log, "--pid", pid)
    zone_file.write_text(ZONE.replace("192.0.2.1", "192.0.2.2"))
    assert '"reloaded": true' in command("ctl", "reload", "--pid", pid).stdout
    deadline = time.monotonic() + 60
    serving = sorted(children(pid))[:2]  # begun first
    for each in serving:
        os.kill(each, signal.SIGKILL)
        while each in children(pid) or len(children(pid)) < 3:  # two that serve, and a spare
            assert time.monotonic() < deadline
            time.sleep(0.05)
    log.unlink()
    command("ctl", "log", "on", log, "--pid", pid)
    for _ in range(20):
        query = dns.message.make_query("www.example.test", "A")
        reply = dns.query.udp(query, "127.0.0.1", port=running.port, timeout=3)
        assert reply.answer[0][0].address == "192.0.2.2"
    command("ctl", "log", "off", "--pid", pid)
    assert len(log.read_text().splitlines()) == 20
    running.end()


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


def test_x5_two_workers_tell_two_workers_of_a_new_version_and_ctl_asks_for_it(served, zone_file, tmp_path):
    below = free_port()
    (tmp_path / "primary.toml").write_text(
        f'[[zone]]\nname = "example.test"\nfile = "{zone_file}"\ntransfer_to = [{{ address = "127.0.0.1" }}]\n'
        f'notify = ["127.0.0.1:{below}"]\n'
    )
    primary = served(tmp_path / "primary.toml", "--workers", "2")
    (tmp_path / "copy.toml").write_text(
        f'[[zone]]\nname = "example.test"\nprimaries = [{{ address = "127.0.0.1:{primary.port}" }}]\n'
    )
    copy = served(tmp_path / "copy.toml", "--workers", "2", port=below)

    def until(serial, seconds=60):
        deadline = time.monotonic() + seconds
        while {
            reply.answer[0][0].serial if reply.answer else None
            for reply in (
                dns.query.udp(dns.message.make_query("example.test", "SOA"), "127.0.0.1", port=below, timeout=5)
                for _ in range(16)
            )
        } != {serial}:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    until(7)
    zone_file.write_text(ZONE.replace("ns h 7", "ns h 8") + "more 60 A 192.0.2.2\n")
    assert '"reloaded": true' in command("ctl", "reload", "--pid", primary.process.pid).stdout
    until(8)
    pid = copy.process.pid
    assert command("ctl", "zone", "transfer", "example.test", "--pid", pid).stdout == "example.test is being checked\n"
    listed = command("ctl", "zone", "list", "--pid", pid).stdout
    assert listed == "example.test. serial 8 ready, 5 records\n"
    assert "is no secondary" in command("ctl", "zone", "transfer", "other.test", "--pid", pid).stderr
