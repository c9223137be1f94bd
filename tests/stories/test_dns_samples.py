"""The sample files of the programming interface (spec section 10), as they stand, and every name in it.

`programs/dns_samples.txt` has the eight files; all but the first leave out the import and the start line.
"""

# ruff: noqa: E501

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import dns.edns
import dns.message
import dns.query
import dnslib
import dnslib.server
import pytest

import toolips_udp
from tests.conftest import free_port
from toolips_udp import TCP, UDP
from toolips_udp import dns as ours
from toolips_udp.testing.clock import FakeClock
from toolips_udp.testing.dns import DnsNet

ROOT = Path(__file__).parents[2]
TEXT = (Path(__file__).parent / "programs/dns_samples.txt").read_text()
SAMPLES = dict(re.findall(r"# \d (\w+\.py):(.*\n(?:(?!# \d \w+\.py:).*\n)*)", TEXT))
ZONE = "$ORIGIN example.org.\n@ 60 SOA ns h 1 2 3 4 30\n@ 60 NS ns\nns 60 A 127.0.0.1\nwww 60 A {}\n"
HEADER = "from toolips_udp import dns\n"


@pytest.fixture
def dns_net():
    net = DnsNet(FakeClock())
    yield net
    net.stop()


def service_of(name, **names):
    """The `service` of a sample; `names` stand for what its imports would bring."""
    found = {"dns": ours, "__name__": name, **names}
    exec(compile(f"# {SAMPLES[name]}", name, "exec"), found)
    return found["service"]


def ask(server, name, rtype="A", tcp=False, **more):
    query = dns.message.make_query(name, rtype, **more)
    send = dns.query.tcp if tcp else dns.query.udp
    return send(query, "127.0.0.1", port=server.address.port, timeout=10)


def data(reply):
    return [rdata.to_text() for rrset in reply.answer for rdata in rrset]


def test_there_are_eight_samples():
    assert len(SAMPLES) == 8


def test_sample_1_authority_serves_a_zone_file(tmp_path):
    port = free_port()
    (tmp_path / "authority.py").write_text(SAMPLES["authority.py"].split("\n", 1)[1].replace("5300", str(port)))
    (tmp_path / "example.org.zone").write_text(ZONE.format("192.0.2.1"))
    process = subprocess.Popen(
        [sys.executable, "authority.py"], cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, stderr=subprocess.PIPE,
    )  # fmt: skip
    at = SimpleNamespace(address=SimpleNamespace(port=port))
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                reply = ask(at, "www.example.org", use_edns=0, options=[dns.edns.GenericOption(3, b"")])
                break
            except (OSError, dns.exception.Timeout):
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
        assert data(reply) == ["192.0.2.1"] and reply.options[0].nsid == b"ns1"
        assert data(ask(at, "www.example.org", tcp=True)) == ["192.0.2.1"]
    finally:
        process.terminate()
        said = process.communicate(timeout=30)[1]
    assert process.returncode == 0, said


def test_sample_2_dynamic_answers_from_plain_functions(server):
    running = server(service_of("dynamic.py"), mode=(UDP, TCP))
    assert data(ask(running, "ip.example.org", "TXT")) == ['"127.0.0.1"']
    for _ in range(3):
        assert data(ask(running, "3.4.sum.example.org")) == ["127.0.0.7"]
    assert ask(running, "a.4.sum.example.org").rcode() == 3
    assert data(ask(running, "3.5.sum.example.org", tcp=True)) == ["127.0.0.8"]
    assert ask(running, "other.example.org").rcode() == 5
    assert running.counters["native_answers"] >= 2  # what is shared is C's


def test_sample_3_users_awaits_a_database(server):
    class Redis:
        async def get(self, key):
            await asyncio.sleep(5 if key == "user:slow" else 0.01)
            return {"user:ann": b"192.0.2.11"}.get(key)

    redis = SimpleNamespace(asyncio=SimpleNamespace(Redis=Redis))
    running = server(service_of("users.py", redis=redis), mode=(UDP, TCP))
    reply = ask(running, "ann.users.example.org")
    assert data(reply) == ["192.0.2.11"] and reply.answer[0].ttl == 30
    assert ask(running, "bob.users.example.org").rcode() == 3
    assert ask(running, "slow.users.example.org").rcode() == 2  # its 0.5 s are over
    assert data(ask(running, "ann.users.example.org", tcp=True)) == ["192.0.2.11"]


def test_sample_4_blocker_blocks_in_front_of_a_forwarder(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ads.txt").write_text("||example.net^\n")
    (tmp_path / "work.rpz").write_text("$TTL 60\n@ SOA a. b. 1 2 3 4 5\n@ NS a.\nplay.example CNAME .\n")
    service = service_of("blocker.py")
    running = server(service, mode=(UDP, TCP))
    reply = ask(running, "x.example.net", use_edns=0)
    assert reply.rcode() == 3 and reply.options[0].code == 15
    assert ask(running, "play.example").rcode() == 3
    client, name, rule = running.data["last_blocked"]
    assert (client, name, str(rule)) == ("127.0.0.1", "play.example.", "work.rpz:4")
    assert service.steps[0].find(b"\3cdn\7example\3net\0", 1, "127.0.0.1").action == "allow"
    assert "192.168.7.7" in service.may_recurse and "10.0.0.1" not in service.may_recurse


def test_sample_4_an_allowed_name_is_asked_upstream(dns_net, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ads.txt").write_text("||example.net^\n")
    (tmp_path / "work.rpz").write_text("$TTL 60\n@ SOA a. b. 1 2 3 4 5\n@ NS a.\nplay.example CNAME .\n")
    upstream = dns_net.authority("example.net", "cdn 60 A 192.0.2.5", host="9.9.9.9")
    dns_net.hosts["9.9.9.9", 853] = upstream
    client = dns_net.serve(service_of("blocker.py"), "192.168.7.7")
    assert client.ask("cdn.example.net").data == ["192.0.2.5"]
    assert dns_net.serve(client.service, "10.0.0.1").ask("cdn.example.net").rcode == "REFUSED"


def test_sample_5_split_says_that_the_resolver_is_not_here_and_works_with_a_forwarder(dns_net, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inside.zone").write_text(ZONE.format("10.0.0.5"))
    (tmp_path / "outside.zone").write_text(ZONE.format("192.0.2.5"))
    with pytest.raises(AttributeError, match="Resolve comes with the resolver, which is not here yet. Use dns.Forward"):
        service_of("split.py")
    dns_net.authority("example.net", "www 60 A 192.0.2.80", host="192.0.2.53")
    forwarding = SimpleNamespace(
        Service=ours.Service, View=ours.View, Zone=ours.Zone, Resolve=lambda: ours.Forward("192.0.2.53")
    )
    service = service_of("split.py", dns=forwarding)
    service.may_recurse = service.may_query
    office, world = dns_net.serve(service, "10.1.2.3"), dns_net.serve(service, "198.51.100.1")
    assert office.ask("www.example.org").data == ["10.0.0.5"] and world.ask("www.example.org").data == ["192.0.2.5"]
    assert office.ask("www.example.net").data == ["192.0.2.80"] and world.ask("www.example.net").rcode == "REFUSED"


def test_sample_6_failover_asks_in_order_hedges_and_sends_one_zone_elsewhere(dns_net):
    corp = dns_net.authority("corp.example", "www 60 A 10.0.0.1", host="10.0.0.53")
    first = dns_net.authority("example.org", "*.a 60 A 192.0.2.9", host="9.9.9.9")
    dns_net.hosts["9.9.9.9", 853] = first
    second = dns_net.authority("example.org", "*.a 60 A 192.0.2.10", host="192.0.2.1")
    client = dns_net.serve(service_of("failover.py"))
    assert client.ask("www.corp.example").data == ["10.0.0.1"] and (first.asked, second.asked) == (0, 0)
    assert client.ask("1.a.example.org").data == ["192.0.2.9"] and (corp.asked, second.asked) == (1, 0)
    first.silent = True
    assert client.ask("2.a.example.org").data == ["192.0.2.10"] and second.asked == 1


def test_sample_7_old_is_a_dnslib_resolver_unmodified(server):
    running = server(service_of("old.py", dnslib=dnslib), mode=(UDP, TCP))
    reply = ask(running, "WWW.example.org", use_edns=0)
    assert data(reply) == ["192.0.2.7"] and reply.edns == 0
    assert reply.question[0].name.to_text() == "WWW.example.org."
    assert data(ask(running, "www.example.org", tcp=True)) == ["192.0.2.7"]


def test_sample_7_the_handler_has_client_address_protocol_and_server(server):
    seen = []

    class Old(dnslib.server.BaseResolver):
        def resolve(self, request, handler):
            seen.append((handler.client_address[0], handler.protocol, handler.server))
            return request.reply()

    running = server(ours.Service(ours.from_dnslib(Old())), mode=(UDP, TCP))
    ask(running, "a.test"), ask(running, "a.test", tcp=True)
    assert seen == [("127.0.0.1", "udp", running), ("127.0.0.1", "tcp", running)]


def test_sample_8_ageing_passes_with_the_plugin(tmp_path):
    (tmp_path / "test_ageing.py").write_text(f"{HEADER}# {SAMPLES['test_ageing.py']}")
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "toolips_udp.testing.plugin", "."],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "1 passed" in found.stdout, found.stdout + found.stderr


# -- every name of the interface


@pytest.mark.parametrize("native", [True, False], ids=["c", "python"])
@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_a_question_has_every_name_of_the_interface(server, native, tcp):
    seen = []
    zone = ours.Zone.from_text("@ 60 SOA a b 1 2 3 4 5\n@ 60 NS a\nt 60 A 192.0.2.1\n", "z.test")
    service = ours.Service(zone, native=native)

    @service.answers("*.q.z.test", "A")
    async def question(q):
        inner = await q.resolve("t.z.test", "A")
        seen.append({
            "name": q.name, "labels": q.labels, "type": q.type, "client": q.client.host, "transport": q.transport,
            "wants_dnssec": q.wants_dnssec, "verified": bool(q.verified), "view": q.view,
            "times": 0 < q.now < q.deadline <= q.now + 10, "server": q.server, "connection": q.connection is not None,
            "inner": inner.answer[0].rdatas, "dnslib": str(q.message.q.qname), "dnspython": q.message_dnspython.question[0].name.to_text(),
        })  # fmt: skip
        return ours.A("192.0.2.2")

    running = server(service, mode=(UDP, TCP))
    reply = ask(running, "A\\046b.Q.z.test", tcp=tcp, use_edns=0, want_dnssec=True)
    assert data(reply) == ["192.0.2.2"]
    assert seen == [{
        "name": "a\\.b.q.z.test.", "labels": ("a\\.b", "q", "z", "test"), "type": "A", "client": "127.0.0.1",
        "transport": "tcp" if tcp else "udp", "wants_dnssec": True, "verified": tcp, "view": "", "times": True,
        "server": running, "connection": True, "inner": [b"\xc0\0\2\1"], "dnslib": "A.b.Q.z.test.",
        "dnspython": "A\\.b.Q.z.test.",
    }]  # fmt: skip


@pytest.mark.parametrize("native", [True, False], ids=["c", "python"])
def test_a_handler_returns_everything_that_the_interface_names(server, native):
    zone = ours.Zone.from_text("@ 60 SOA a b 1 2 3 4 5\n@ 60 NS a\n*.r 60 A 192.0.2.99\n", "z.test")
    service = ours.Service(zone, native=native)
    values = {
        "one": ours.A("192.0.2.1"), "two": [ours.A("192.0.2.1"), ours.A("192.0.2.2")], "nx": ours.NXDOMAIN,
        "nodata": ours.NODATA, "refused": ours.REFUSED, "drop": ours.DROP, "pass": ours.PASS, "none": None,
        "soa": ours.Answer(rcode="NXDOMAIN", soa=ours.SOA("made. up. 9 2 3 4 5", name="z.test")),
        "whole": ours.Answer(ours.A("192.0.2.1"), ede=(4, "so it is"), authority=[ours.NS("a.z.test.", name="z.test")],
                             additional=[ours.A("192.0.2.8", name="a.z.test")]),
        "bad": ours.Answer(rcode=5, ede=18),
    }  # fmt: skip

    @service.answers("*.r.z.test", "A")
    def returned(q):
        return values[q.labels[0]]

    running = server(service, on_error=lambda c, error: errors.append(str(error)))
    errors = []

    def said(label):
        return ask(running, f"{label}.r.z.test", use_edns=0)

    assert data(said("one")) == ["192.0.2.1"] and data(said("two")) == ["192.0.2.1", "192.0.2.2"]
    assert said("nx").rcode() == 3 and said("nx").authority[0].rdtype == 6
    assert said("nodata").rcode() == 0 and not said("nodata").answer and said("nodata").authority
    assert said("refused").rcode() == 5 and data(said("pass")) == ["192.0.2.99"]
    assert said("soa").authority[0][0].serial == 9
    whole = said("whole")
    assert whole.options[0].code == 4 and whole.options[0].text == "so it is"
    assert whole.authority[0].rdtype == 2 and data(SimpleNamespace(answer=whole.additional)) == ["192.0.2.8"]
    assert said("bad").rcode() == 5 and said("bad").options[0].code == 18
    none = said("none")
    assert none.rcode() == 2 and none.options[0].code == 0
    assert running.counters["handler_failed"] == 1
    assert len(errors) == 1 and "returned" in errors[0] and "dns.PASS" in errors[0]
    query = dns.message.make_query("drop.r.z.test", "A")
    with pytest.raises(dns.exception.Timeout):
        dns.query.udp(query, "127.0.0.1", port=running.address.port, timeout=0.3)


def test_a_service_takes_every_name_that_the_interface_gives_it(tmp_path):
    service = ours.Service(id="ns1", native=False, listen=["127.0.0.1:0"])
    assert service.answers and isinstance(service, toolips_udp.Extension)
    assert textwrap.dedent(ours.Service.__doc__).count(">>>") >= 1
    for name in ("Zone", "Blocklist", "Forward", "View", "Answer", "NXDOMAIN", "NODATA", "REFUSED", "DROP", "PASS",
                 "from_dnslib", "A", "TXT", "asgi", "Service"):  # fmt: skip
        assert getattr(ours, name) is not None
