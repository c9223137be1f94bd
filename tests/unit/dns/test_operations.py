"""Metrics, the query log, control commands and settings of a service (spec section 9)."""

import json
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from dns import message
from dns.query import tcp as tcp_query
from dns.query import udp as udp_query
from prometheus_client.parser import text_string_to_metric_families

from toolips_udp import TCP, UDP, dns
from toolips_udp.dns import building, control, metrics, settings, told
from toolips_udp.dns.message import Message
from toolips_udp.dns.querylog import QueryLog, line
from toolips_udp.errors import StartError, ToolipsError

native_dns = pytest.importorskip("toolips_udp._native.dns", reason="the native DNS is not built")
ZONE = "@ 60 SOA a b 7 2 3 4 5\n@ 60 NS a\nwww 60 A 192.0.2.1\n"


def test_o4_metrics_are_prometheus_text_and_hold_no_name_of_a_client(dns_net):
    upstream = dns_net.authority("up.test", "www 60 A 192.0.2.1")
    service = dns.Service(
        dns.Zone.from_text(ZONE, 'we"ird.test'), dns.Forward(upstream), limit=dns.RateLimit(slots=1024)
    )
    made = metrics.Metrics(service)
    client = dns_net.serve(service)
    client.ask('www.we\\"ird.test')
    client.ask("www.up.test")
    client.ask("www.up.test")
    client.ask("nx.up.test", transport="tcp")
    families = {f.name: f for f in text_string_to_metric_families(made.text())}
    answers = {tuple(s.labels.values()): s.value for s in families["toolips_dns_answers"].samples}
    assert answers["NOERROR", "zone"] == 1 and answers["NOERROR", "cache"] == 1
    assert answers["NOERROR", "forward"] == 1 and answers["NXDOMAIN", "forward"] == 1
    assert families["toolips_dns_zone_serial"].samples[0].value == 7
    assert families["toolips_dns_upstream_queries"].samples[0].value == 2
    hits = {s.labels["level"]: s.value for s in families["toolips_dns_cache_hits"].samples}
    assert hits["python"] == 1
    assert families["toolips_dns_generation"].samples[0].value == 0
    assert {s.labels["result"] for s in families["toolips_dns_reloads"].samples} == {"ok", "failed"}
    slow = [s for s in families["toolips_dns_answer_seconds"].samples if s.name.endswith("_count")]
    assert {s.labels["source"]: s.value for s in slow}["forward"] == 2
    assert "127.0.0.1" not in made.text() and "www" not in made.text()


ROWS = """
queries answers dropped answer_seconds cache_entries cache_bytes cache_hits cache_misses cache_evictions coalesced
prefetch stream_connections receive_overflow upstream_queries upstream_failures upstream_rtt_seconds upstream_up hedges
questions_upstream work_limits policy_hits ratelimit cookies zone_serial zone_expires_seconds transfers reloads
generation querylog_lost
"""  # of spec O4; cache_deferred belongs to a second level of the cache, validation to the resolver


@pytest.mark.parametrize("native", [True, False], ids=["c", "python"])
def test_o4_every_metric_of_the_list_is_there_with_its_labels(server, peer, tmp_path, eventually, native):
    (tmp_path / "ads.txt").write_text("ads.test\n")
    upstream = server(dns.Service(dns.Zone.from_text(ZONE, "up.test")), mode=(UDP, TCP))
    transfers = dns.Transfers()
    copy = transfers.secondary("copy.test", [("127.0.0.1:1", None)], None)
    forward = dns.Forward(f"udp://{upstream.address}", "udp://127.0.0.1:1", policy="ordered")
    service = dns.Service(
        dns.Zone.from_text(ZONE, "z.test"), copy, dns.Blocklist(tmp_path / "ads.txt"), forward,
        transfers=transfers, native=native,
    )  # fmt: skip
    made = metrics.Metrics(service)
    running = server(service, mode=(UDP, TCP))
    client = peer(running.address, timeout=10)
    with socket.create_connection(running.address, 3) as stream:
        packet = dns.ask("www.z.test", "A").encode()
        stream.sendall(len(packet).to_bytes(2, "big") + packet)
        assert stream.recv(2)
        client.ask(dns.ask("www.up.test", "A", options={10: b"12345678"}).encode())
        client.ask(dns.ask("ads.test", "A").encode())
        eventually(lambda: "questions_upstream_count 1" in made.text(), within=10)
        text = made.text()
    families = {f.name.removeprefix("toolips_dns_"): f for f in text_string_to_metric_families(text)}
    assert set(ROWS.split()) <= set(families), set(ROWS.split()) - set(families)
    empty = {name for name in ROWS.split() if not families[name].samples}
    assert not empty
    found = {(s.name.removeprefix("toolips_dns_"), *sorted(s.labels.items())): s.value
             for f in families.values() for s in f.samples}  # fmt: skip
    up = ("zone", "."), ("upstream", forward.group.upstreams[0].url)
    assert found["upstream_queries_total", ("transport", "udp"), *reversed(up)] >= 1
    assert ("upstream_failures_total", ("cause", "timeout"), *reversed(up)) in found
    assert found["questions_upstream_count",] == 1 and found["work_limits_total", ("limit", "time")] == 0
    assert found["cookies_total", ("result", "client")] == 1
    assert found["stream_connections", ("transport", "tcp")] == 1


def test_o4_why_an_upstream_failed_and_how_many_were_asked(dns_net, clock):
    refuses = dns_net.authority("other.test", "www 60 A 192.0.2.1")
    answers = dns_net.authority("up.test", "www 60 A 192.0.2.1")
    service = dns.Service(dns.Forward(refuses, answers, policy="ordered"))
    made = metrics.Metrics(service)
    client = dns_net.serve(service)
    assert client.ask("www.up.test").rcode == "NOERROR"
    assert service.steps[0].group.upstreams[0].causes["rcode"] == 1
    text = made.text()
    assert 'upstream_failures_total{cause="rcode",' in text
    assert 'questions_upstream_bucket{le="1"} 0' in text and 'questions_upstream_bucket{le="2"} 1' in text


@pytest.mark.parametrize("native", [True, False], ids=["c", "python"])
def test_o5_the_query_log_names_the_upstream_that_answered(server, peer, tmp_path, native, eventually):
    upstream = server(
        dns.Service(dns.Zone.from_text(ZONE + "* 60 A 192.0.2.1\n", "up.test")), mode=(UDP, TCP)
    )
    forward = dns.Forward(f"udp://{upstream.address}")
    service = dns.Service(forward, native=native)
    log = service.query_log = QueryLog(tmp_path / "log")
    client = peer(server(service).address, timeout=10)
    for n in range(20):  # on a slow machine an upstream may be late
        packet = dns.ask(f"w{n}.up.test", "A").encode()
        if Message.parse(client.ask(packet)).rcode == 0:
            break
    client.ask(packet)
    eventually(lambda: (tmp_path / "log").read_text().count("\n") == n + 2)
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    first, second = sorted(
        (line for line in lines if line["name"] == f"w{n}.up.test."), key=lambda one: one["source"]
    )[::-1]
    assert (first["source"], first["upstream"]) == ("forward", forward.group.upstreams[0].url)
    assert second["source"] == "cache" and "upstream" not in second


@pytest.mark.parametrize("native", [True, False], ids=["c", "python"])
def test_o4_at_rest_what_was_received_is_what_was_answered_and_what_was_dropped(
    server, peer, eventually, native
):
    service = dns.Service(dns.Zone.from_text(ZONE, "z.test"), native=native)
    made = metrics.Metrics(service)

    @service.answers("drop.z.test", "A")
    def drop(q):
        return dns.DROP

    @service.answers("broken.z.test", "A")
    async def broken(q):
        raise RuntimeError("no")

    running = server(service, mode=(UDP, TCP))
    client = peer(running.address)
    for name in ("www.z.test", "nx.z.test", "other.test", "drop.z.test", "broken.z.test"):
        client.send(dns.ask(name, "A").encode())
    client.send(b"short")
    client.send(dns.ask("www.z.test", "A").encode()[:20])
    client.send(bytes(2) + b"\x78\0" + bytes(8))  # another opcode
    eventually(lambda: running.counters["received"] == 8 and not running.in_flight)

    def total(name):
        families = {f.name: f for f in text_string_to_metric_families(made.text())}
        return sum(s.value for s in families[f"toolips_dns_{name}"].samples)

    eventually(lambda: total("answers") + total("dropped") == 8)
    assert total("answers") == 6 and total("queries") == 7


@pytest.mark.parametrize("native", [True, False], ids=["c", "python"])
def test_o4_policy_hits_are_counted_by_list_and_outlive_a_reload(server, peer, tmp_path, native):
    (tmp_path / "ads.txt").write_text("||ads.test^\n")
    service = dns.Service(dns.Blocklist(tmp_path / "ads.txt"), native=native)
    made = metrics.Metrics(service)
    client = peer(server(service, mode=(UDP, TCP)).address)
    for _ in range(3):
        assert client.ask(dns.ask("x.ads.test", "A").encode())[3] & 15 == 3
    service.reload()
    client.ask(dns.ask("ads.test", "A").encode())
    sample = f'toolips_dns_policy_hits_total{{list="{tmp_path}/ads.txt",action="nxdomain"}} 4'
    assert sample in made.text()


def test_o6_an_upstream_is_taken_out_by_hand_and_asked_again(dns_net, clock):
    one, two = (dns_net.authority("up.test", f"*.{n} 60 A 192.0.2.{n}") for n in (1, 2))
    service = dns.Service(dns.Forward(one, two, policy="ordered"))
    client = dns_net.serve(service)
    client.ask("a.1.up.test")
    assert one.asked == 1
    assert "down until" in control.hold(service, str(one), True)
    for n in range(3):
        client.ask(f"b{n}.1.up.test")
        clock.advance(60)
    assert (one.asked, two.asked) == (1, 3)
    assert "taken out by hand" in told.upstreams([control.upstreams(service)])[0]
    control.hold(service, str(one), False)
    client.ask("c.1.up.test")
    assert one.asked == 2
    with pytest.raises(ToolipsError, match="no upstream 10.9.9.9"):
        control.hold(service, "10.9.9.9", True)


@pytest.mark.parametrize("native", [True, False], ids=["c", "python"])
def test_o5_the_query_log_writes_one_escaped_line_for_each_answer(server, tmp_path, native):
    service = dns.Service(dns.Zone.from_text(ZONE, "z.test"), native=native)
    log = service.query_log = QueryLog(tmp_path / "log")

    @service.answers("plain.z.test", "A")
    def plain(q):
        return dns.A("192.0.2.8")

    @service.answers("later.z.test", "A")
    async def later(q):
        return dns.A("192.0.2.9")

    running = server(service, mode=(UDP, TCP))
    asked = [("WWW.z.test", False), ("a\\010b\\027[31m.z.test", False), ("x.other", False), ("plain.z.test", False),
             ("later.z.test", False), ("www.z.test", True)]  # fmt: skip
    for name, tcp in asked:
        query = message.make_query(name, "A", use_edns=0, want_dnssec=name == "WWW.z.test")
        (tcp_query if tcp else udp_query)(query, running.address.host, port=running.address.port, timeout=3)
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    found = sorted((line["name"], line["rcode"], line["source"], line["transport"]) for line in lines)
    assert found == sorted([
        ("www.z.test.", "NOERROR", "zone", "udp"),
        ("a\\010b\\027[31m.z.test.", "NXDOMAIN", "zone", "udp"),
        ("x.other.", "REFUSED", "server", "udp"),
        ("plain.z.test.", "NOERROR", "python", "udp"),
        ("later.z.test.", "NOERROR", "python", "udp"),
        ("www.z.test.", "NOERROR", "zone", "tcp"),
    ])  # fmt: skip
    by_name = {line["name"]: line for line in lines if line["transport"] == "udp"}
    assert by_name["x.other."]["ede"] == 20 and by_name["www.z.test."]["flags"] == "rd do"
    assert all(line["client"] == "127.0.0.1" and abs(line["time"] - time.time()) < 60 for line in lines)
    assert all(0 <= line["microseconds"] < 5_000_000 and line["type"] == "A" for line in lines)
    if native:
        assert running.counters["native_answers"] == 3  # the log takes nothing away from C


def test_o5_a_sampled_log_writes_a_share_of_the_answers_and_counts_what_it_lost(tmp_path):
    service = dns.Service(dns.Zone.from_text(ZONE, "z.test"))
    service.query_log = QueryLog(tmp_path / "log", sample=0.1)
    service.stages()
    half = service.half
    packet = dns.ask("www.z.test", "A").encode()
    for _ in range(5000):
        half.stage.answer(packet)
    service.query_log.close()
    assert 350 < len((tmp_path / "log").read_text().splitlines()) < 650 and service.query_log.lost == 0
    ring = service.query_log.ring = native_dns.Log(1.0, entries=8)
    service.query_log = SimpleNamespace(ring=ring)
    half.refresh()
    for _ in range(20):
        half.stage.answer(packet)
    assert len(ring.take(5)) == 5 and len(ring.take()) == 3 and ring.take() == [] and ring.lost == 12


def test_o5_the_log_is_its_owners_and_goes_on_in_a_new_file_after_a_reload(dns_net, tmp_path):
    service = dns.Service(dns.Zone.from_text(ZONE, "z.test"), native=False)
    service.query_log = QueryLog(tmp_path / "log")
    client = dns_net.serve(service)
    client.ask("www.z.test")
    service.query_log.settle()
    assert (tmp_path / "log").stat().st_mode & 0o007 == 0
    (tmp_path / "log").rename(tmp_path / "old")
    service.reload()
    client.ask("a.z.test")
    service.query_log.close()
    assert "www.z.test." in (tmp_path / "old").read_text() and "a.z.test." in (tmp_path / "log").read_text()


def test_o5_a_full_disk_loses_lines_and_counts_them(dns_net, tmp_path):
    service = dns.Service(dns.Zone.from_text(ZONE, "z.test"), native=False)
    service.query_log = QueryLog(Path("/dev/full"))
    dns_net.serve(service).ask("www.z.test")
    service.query_log.close()
    assert service.query_log.lost == 1


def test_o5_a_line_is_at_most_a_kibibyte_and_still_json(tmp_path):
    facts = {"name": "\\001" * 250, "client": "::1", "rule": "x" * 200}
    assert len(line(facts)) <= 1025 and json.loads(line(facts))["client"] == "::1"


def test_o6_the_cache_is_dumped_and_flushed_by_name_tree_and_type(dns_net):
    upstream = dns_net.authority("up.test", "*.a 60 A 192.0.2.1\n*.a 60 TXT x\n")
    service = dns.Service(dns.Forward(upstream))
    client = dns_net.serve(service)
    for name, rtype in [
        ("1.a.up.test", "A"),
        ("1.a.up.test", "TXT"),
        ("2.a.up.test", "A"),
        ("nx.up.test", "A"),
    ]:
        client.ask(name, rtype)
    assert control.flush(service, "1.a.up.test", False, "TXT") == 1
    assert control.flush(service, "a.up.test", True, None) == 2
    assert control.status(service)["cache"][0]["entries"] == 1
    assert control.flush(service, None, False, None) == 1
    assert told.upstreams([control.upstreams(service)])[0].startswith("udp://192.0.2.1:53 up")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[servise]\n", "servise"),
        ("[[zone]]\nnam = 'x'\n", "nam"),
        ("[service]\nworkers = 'two'\n", "workers"),
        ("nonsense", "TOML"),
        ("[[zone]]\nname = 'e.test'\n", "neither a file nor primaries"),
        ("[[zone]]\nfile = 'x'\n", "no name"),
        ("[service.cache]\nsize = 'much'\n[[forward]]\nto = ['192.0.2.1']\n", "size"),
        ("[[forward]]\nto = ['nowhere']\n", "address"),
        ("[[key]]\nname = 'k'\nsecret = 'c2hvcnQ='\n", "16 octets"),
    ],
)
def test_a_wrong_configuration_names_the_key(tmp_path, text, said):
    path = tmp_path / "server.toml"
    path.write_text(text)
    with pytest.raises(ToolipsError, match=said):
        building.build(settings.read(path), file=path)


def test_a_whole_configuration_makes_views_transfers_lists_and_forwarders(tmp_path):
    (tmp_path / "z.test.zone").write_text(ZONE)
    (tmp_path / "ads.txt").write_text("0.0.0.0 ads.net\n")
    path = tmp_path / "server.toml"
    path.write_text(
        """
rebinding = true
[service]
listen = ["127.0.0.1:5300", "127.0.0.2:5300"]
access = { recursion = ["10.0.0.0/8"] }
[[key]]
name = "xfr"
secret = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
[[view]]
name = "office"
clients = ["10.0.0.0/8"]
[[zone]]
name = "z.test"
file = "z.test.zone"
transfer_to = [{ address = "192.0.2.53", key = "xfr" }]
notify = ["192.0.2.53"]
[[zone]]
name = "copy.test"
primaries = [{ address = "192.0.2.54", key = "xfr" }]
[[zone]]
name = "z.test"
file = "z.test.zone"
view = "office"
[[blocklist]]
file = "*.txt"
[[forward]]
to = ["192.0.2.1"]
dns64 = "64:ff9b::/96"
[[forward]]
zone = "corp.example"
to = ["192.0.2.2"]
[limit]
rate = 10
"""
    )
    service = building.build(settings.read(path), file=path)
    kinds = [type(step).__name__ for step in service.steps]
    assert kinds == ["View", "Blocklist", "Rebinding", "ZoneStore", "Secondary", "Forward", "DNS64"]
    assert service.limit is not None and service.limit.rate == 10 and service.listen == ("127.0.0.2:5300",)
    assert service.transfers is not None and len(service.transfers.rules) == 1
    assert set(settings.schema()["$defs"]) >= {"Config", "ZoneTable", "ForwardTable"}
    with pytest.raises(StartError, match=r"z\.test\.zone"):
        (tmp_path / "z.test.zone").write_text("broken")
        building.build(settings.read(path), file=path)


def test_o1_check_names_everything_that_is_wrong_with_line_and_the_nearest_key(tmp_path, capsys):
    from toolips_udp.cli.dns import check

    (tmp_path / "good.zone").write_text("$ORIGIN g.test.\n" + ZONE)
    (tmp_path / "bad.zone").write_text("$ORIGIN b.test.\n" + ZONE + "x 60 A 1.2.3\n")
    path = tmp_path / "server.toml"

    def checked(text):
        path.write_text(text)
        code = check.run(SimpleNamespace(files=[str(path)], strict=False, json=False))
        return code, capsys.readouterr().out.replace(str(tmp_path) + "/", "")

    code, said = checked(
        '[service]\nlissen = ["x"]\n[[zone]]\nnam = "x"\n[[forward]]\nto = "192.0.2.1"\n[vieww]\n'
    )
    assert code == 1 and said.splitlines() == [
        "server.toml:2: [service] has no key 'lissen'. Did you mean listen?",
        "server.toml:4: [zone] has no key 'nam'. Did you mean name?",
        "server.toml:6: forward.to: Expected `array`, got `str`.",
        "server.toml:7: the configuration has no key 'vieww'. Did you mean view?",
    ]
    code, said = checked('[service]\nany = "lots"\n')
    assert "server.toml:2: service.any: Invalid enum value 'lots'. Expected: 'minimal', 'all'." in said
    code, said = checked(
        '[[zone]]\nname = "g.test"\nfile = "good.zone"\n[[zone]]\nname = "b.test"\nfile = "bad.zone"\n'
        '[[view]]\nname = "a"\nclients = ["300.1.1.1"]\n[[forward]]\nto = ["192.0.2.1"]\nview = "b"\n'
        '[[forward]]\nto = ["nowhere"]\n[[blocklist]]\nfile = "none.txt"\n'
        '[[local]]\nrecords = { "x.lan" = ["1.2.3.4"] }\n'
    )
    lines = said.splitlines()
    assert code == 1 and [line.partition(" ")[0] for line in lines] == [
        "server.toml:10:", "server.toml:7:", "server.toml:17:", "server.toml:15:", "server.toml:13:", "bad.zone:5:8:",
    ]  # fmt: skip
    assert "names the view 'b'. Views: a." in lines[0] and "is no record" in lines[2]
    code, said = checked('[[zone]]\nname = "g.test"\nfile = "good.zone"\n')
    assert code == 0 and said.endswith("server.toml: 1 zone: OK\n")


def test_o1_a_secondary_is_a_step_of_its_own_view_only(tmp_path):
    path = tmp_path / "server.toml"
    path.write_text(
        '[[view]]\nname = "a"\n[[view]]\nname = "b"\n'
        '[[zone]]\nname = "s.test"\nprimaries = [{ address = "192.0.2.9" }]\nview = "a"\n'
    )
    service = building.build(settings.read(path), file=path)
    assert [len(view.steps) for view in service.steps] == [1, 0]
