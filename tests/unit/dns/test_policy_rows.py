"""Rows P1 to P8 of the policy, those that test_policy and test_views do not have."""

# ruff: noqa: E501

from __future__ import annotations

import ipaddress

import pytest

from toolips_udp import TCP, UDP, dns
from toolips_udp.cli import main
from toolips_udp.dns import control
from toolips_udp.dns.building import build
from toolips_udp.dns.lists import NameList, PrefixTable
from toolips_udp.dns.ratelimit import RateLimit
from toolips_udp.dns.settings import read
from toolips_udp.errors import StartError

SOA = "@ 60 SOA a. b. 1 2 3 4 60\n@ 60 NS a.\n"
UP = SOA + "*.net 60 A 192.0.2.1\nwalled.garden 60 A 192.0.2.80\ncloak.net 60 CNAME x.ads.net.\nrebind.net 60 A 10.0.0.5\n"


def asked(service, name, rtype="A", client="127.0.0.1", dns_net=None):
    return dns_net.serve(service, client).ask(name, rtype)


def test_p1_acl_then_rate_then_view_then_local_then_lists_then_resolution_then_lists_on_the_answer(
    dns_net, tmp_path
):
    (tmp_path / "list").write_text("||ads.net^\n||local.net^\n||zone.net^\n@@||allowed.ads.net^\n")
    upstream = dns_net.authority(".", UP)
    zone = dns.Zone.from_text(SOA + "@ 60 A 192.0.2.60\nlocal 60 A 192.0.2.61\n", "zone.net")
    steps = [
        dns.Local({"local.net": dns.A("192.168.0.1")}),
        dns.Blocklist(tmp_path / "list"),
        zone,
        dns.Forward(upstream),
    ]
    service = dns.Service(
        dns.View("in", clients=["127.0.0.0/8", "10.0.0.0/8"], steps=steps),
        access={"query": ["127.0.0.0/8", "10.0.0.0/8", "192.0.2.0/24"], "recursion": ["127.0.0.0/8", "10.0.0.0/8"]},
        limit=RateLimit(rate=1, burst=20, slots=4096),
    )
    client = dns_net.serve(service)
    assert client.ask("local.net").data == ["192.168.0.1"]  # local data before lists
    assert client.ask("zone.net").ede == 15  # lists before resolution
    assert client.ask("x.ads.net").ede == 15 and client.ask("allowed.ads.net").data == ["192.0.2.1"]
    assert client.ask("cloak.net").ede == 15  # lists on the answer
    assert client.ask("fine.net").data == ["192.0.2.1"]
    outside = dns_net.serve(service, "198.51.100.1").ask("local.net")
    assert (outside.rcode, outside.ede) == ("REFUSED", 18)  # the ACL before the view
    nobody = dns_net.serve(service, "192.0.2.9").ask("local.net")
    assert (nobody.rcode, nobody.ede) == ("REFUSED", 20)  # no view fits
    noisy = dns_net.serve(service, "10.0.0.1")
    packet = dns.ask("local.net", "A").encode()
    over = [noisy.exchange(packet) for _ in range(1000)]
    assert None in over and over[0].data == ["192.168.0.1"]  # the rate before local data


@pytest.mark.parametrize("native", [True, False], ids=["c", "python"])
def test_p2_names_are_exact_or_all_below_one_and_may_let_other_types_go_on(server, peer, native):
    local = dns.Local(
        {"nas.lan": dns.A("192.168.1.5"), "*.dev.lan": dns.A("192.168.1.9"), "*.b.dev.lan": dns.A("192.168.1.10")}
    )
    through = dns.Local({"www.z.test": dns.A("192.168.1.6")}, transparent=True)
    zone = dns.Zone.from_text(SOA + "www 60 A 192.0.2.1\nwww 60 TXT seen\nother 60 A 192.0.2.2\n", "z.test")
    running = server(dns.Service(local, through, zone, native=native))
    client = peer(running.address)

    def ask(name, rtype="A"):
        reply = dns.Message.parse(client.ask(dns.ask(name, rtype).encode()))
        return reply.rcode, [record.text.split(None, 4)[4] for record in reply.answer]

    assert ask("nas.lan") == (0, ["192.168.1.5"]) and ask("x.nas.lan")[0] == 5 and ask("nas.lan", "AAAA") == (0, [])
    assert ask("dev.lan")[0] == 5 and ask("a.dev.lan") == ask("x.y.DEV.lan") == (0, ["192.168.1.9"])
    assert ask("c.b.dev.lan") == (0, ["192.168.1.10"]) and ask("b.dev.lan") == (0, ["192.168.1.9"])
    assert ask("www.z.test") == (0, ["192.168.1.6"]) and ask("www.z.test", "TXT") == (0, ['"seen"'])
    before = running.counters["native_answers"]
    assert ask("other.z.test") == (0, ["192.0.2.2"])
    assert running.counters["native_answers"] == before + native  # local data keeps C answering the rest


def test_p2_local_data_of_a_view_is_for_its_clients_in_c_as_well(dns_net):
    zone = dns.Zone.from_text(SOA + "nas 60 A 192.0.2.1\n", "lan")
    service = dns.Service(
        dns.View("in", clients=["10.0.0.0/8"], steps=[dns.Local({"nas.lan": dns.A("10.0.0.2")}), zone]),
        dns.View("out", steps=[zone]),
    )
    (stage,) = service.stages()
    packet = dns.ask("nas.lan", "A").encode()
    assert stage.answer(packet, b"\x0a\0\0\1") is None and stage.answer(packet, b"\xc0\0\2\1")
    assert dns_net.serve(service, "10.0.0.1").ask("nas.lan").data == ["10.0.0.2"]


def test_p2_hosts_files_are_read_again_when_they_changed(dns_net, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("192.168.1.5 nas.lan\n")
    service = dns.Service(dns.Local(hosts=[hosts]))
    client = dns_net.serve(service)
    nodes = service.steps[0].nodes
    service.reload()
    assert service.steps[0].nodes is nodes
    hosts.write_text("192.168.1.77 nas.lan\n")
    service.reload()
    assert client.ask("nas.lan").data == ["192.168.1.77"]


def test_p3_the_reason_is_of_the_list_and_what_was_not_understood_is_shown(tmp_path, capsys):
    (tmp_path / "law.txt").write_text("||a.net^\n/regex/\n")
    config = tmp_path / "c.toml"
    config.write_text('[[forward]]\nto = ["192.0.2.1"]\n[[blocklist]]\nfile = "law.txt"\nede = 16\n')
    assert main(["dns", "check", str(config)]) == 0
    assert "law.txt: adblock, 1 rules, 1 not supported" in capsys.readouterr().out
    assert main(["dns", "explain", str(config), "x.a.net", "--json"]) == 0
    assert '"NXDOMAIN"' in (said := capsys.readouterr().out) and "16" in said
    service = dns.Service(dns.Blocklist(tmp_path / "law.txt"))
    assert control.status(service)["lists"][0].endswith("1 not supported")


def test_p4_a_rule_that_leads_elsewhere_brings_what_is_there(dns_net, tmp_path):
    (tmp_path / "rpz").write_text("$TTL 60\n" + SOA + "*.ads.net CNAME walled.garden.\nself.net CNAME self.net.\n")
    upstream = dns_net.authority(".", UP)
    client = dns_net.serve(dns.Service(dns.Blocklist(tmp_path / "rpz"), dns.Forward(upstream)))
    assert client.ask("x.ads.net").data == ["walled.garden.", "192.0.2.80"]
    assert client.ask("x.ads.net", "CNAME").data == ["walled.garden."]
    assert client.ask("self.net").rcode == "NOERROR"


def test_p4_the_first_list_that_has_a_rule_decides_and_passthru_ends(dns_net, tmp_path):
    upstream = dns_net.authority(".", UP)
    first, second = tmp_path / "1", tmp_path / "2"
    first.write_text("$TTL 60\n" + SOA + "a.net CNAME *.\n")
    second.write_text("$TTL 60\n" + SOA + "a.net CNAME .\nb.net CNAME .\n")
    client = dns_net.serve(dns.Service(dns.Blocklist(first, second), dns.Forward(upstream)))
    assert (client.ask("a.net").rcode, client.ask("a.net").data) == ("NOERROR", [])
    assert client.ask("b.net").rcode == "NXDOMAIN"


@pytest.mark.parametrize("native", [True, False], ids=["c", "python"])
def test_p4_rules_come_by_transfer_and_change_with_the_zone(server, peer, tmp_path, eventually, native):
    rules = "$TTL 60\n@ 60 SOA a. b. {} 1 1 4 60\n@ 60 NS a.\n{} CNAME .\n"
    (tmp_path / "zones").mkdir()
    primary = dns.ZoneStore(tmp_path / "zones")
    transfers = dns.Transfers()
    transfers.allow("rpz.test", [("127.0.0.1", None)])
    primary.save(dns.Zone.from_text(rules.format(1, "a.net"), "rpz.test"))
    there = server(dns.Service(primary, transfers=transfers), mode=(UDP, TCP))
    upstream = server(dns.Service(dns.Zone.from_text(UP, ".")))
    (tmp_path / "c.toml").write_text(
        f'[[zone]]\nname = "rpz.test"\nprimaries = [{{address = "{there.address}"}}]\n'
        f'[[forward]]\nto = ["{upstream.address}"]\n[[blocklist]]\nzone = "rpz.test"\n'
    )
    service = build(read(tmp_path / "c.toml"))
    service.native = native
    running = server(service, mode=(UDP, TCP))
    client = peer(running.address)

    def blocked(name):
        return dns.Message.parse(client.ask(dns.ask(name, "A").encode())).rcode == 3

    eventually(lambda: blocked("a.net"))
    assert not blocked("b.net")
    primary.save(dns.Zone.from_text(rules.format(2, "b.net"), "rpz.test"))
    eventually(lambda: blocked("b.net") and not blocked("a.net"))


def test_p4_a_list_without_source_and_one_of_no_secondary_zone_are_errors(tmp_path):
    for text in ("[[blocklist]]\n", '[[blocklist]]\nzone = "rpz.test"\n'):
        (tmp_path / "c.toml").write_text(text)
        with pytest.raises(StartError, match="has no list|no zone with primaries"):
            build(read(tmp_path / "c.toml"))


def test_p5_of_prefixes_the_longest_decides_however_many_there_are():
    table = PrefixTable()
    for number in range(50_000):
        table.add(ipaddress.ip_network(f"{1 + number // 65536}.{number // 256 % 256}.{number % 256}.0/24"), number)
    table.add(ipaddress.ip_network("1.0.0.0/8"), "eight")
    table.add(ipaddress.ip_network("::/0"), "all six")
    assert table.find(ipaddress.ip_address("1.2.3.4")) == 2 * 256 + 3
    assert table.find(ipaddress.ip_address("1.255.3.4")) == "eight"
    assert table.find(ipaddress.ip_address("9.9.9.9")) is None
    assert table.find(ipaddress.ip_address("2001:db8::1")) == "all six" and len(table) == 50_002


def test_p5_a_million_rules_are_read_again_only_when_their_file_changed(tmp_path):
    path = tmp_path / "list"
    path.write_text("ads.net\n")
    step = dns.Blocklist(path)
    before = step.lists[0]
    step.reload()
    assert step.lists[0] is before
    path.write_text("other.net\n")
    step.reload()
    assert step.lists[0] is not before and step.find(b"\5other\3net\0", 1, "127.0.0.1")
    path.unlink()
    with pytest.raises(OSError):
        step.reload()
    assert step.find(b"\5other\3net\0", 1, "127.0.0.1")


def test_p7_addresses_of_ours_and_of_allowed_names_stay(dns_net):
    upstream = dns_net.authority(".", UP)
    local = dns.Local({"nas.lan": dns.A("192.168.1.5")})
    client = dns_net.serve(dns.Service(local, dns.Rebinding(allow=["ok.net"]), dns.Forward(upstream)))
    assert client.ask("nas.lan").data == ["192.168.1.5"]
    reply = client.ask("rebind.net")
    assert reply.data == [] and reply.ede == 17


def test_p8_dns64_keeps_away_from_validators_and_takes_the_lower_ttl(dns_net):
    zone = "@ 3600 SOA a. b. 1 2 3 4 120\n@ 60 NS a.\nlong 3000 A 192.0.2.33\nshort 60 A 192.0.2.34\nsix 60 AAAA 2001:db8::1\n"
    upstream = dns_net.authority("v4.test", zone)
    client = dns_net.serve(dns.Service(dns.DNS64(dns.Forward(upstream))))
    assert client.ask("long.v4.test", "AAAA").ttl == 120 and client.ask("short.v4.test", "AAAA").ttl == 60
    reply = client.ask("long.v4.test", "AAAA", do=True)
    assert reply.data == ["64:ff9b::c000:221"] and not reply.message.flags & 0x20
    query = dns.ask("long.v4.test", "AAAA", do=True)
    query.flags |= 0x10
    assert client.exchange(query.encode()).data == []
    assert client.ask("none.v4.test", "AAAA").rcode == "NXDOMAIN"
    assert client.ask("six.v4.test", "AAAA").data == ["2001:db8::1"]


def test_p8_the_prefix_may_be_one_of_the_networks_own(dns_net):
    upstream = dns_net.authority("v4.test", SOA + "www 60 A 192.0.2.33\n")
    client = dns_net.serve(dns.Service(dns.DNS64(dns.Forward(upstream), prefix="2001:db8:64::/96")))
    assert client.ask("www.v4.test", "AAAA").data == ["2001:db8:64::c000:221"]


def test_7_2_streams_and_valid_cookies_are_not_limited():
    zone = dns.Zone.from_text(SOA + "www 60 A 192.0.2.1\n", "z.test")
    service = dns.Service(zone, limit=RateLimit(rate=1, burst=2, slots=4096))
    (stage,) = service.stages()
    victim, packet = b"\xc0\0\2\1", dns.ask("www.z.test", "A").encode()
    assert None not in [stage.answer(packet, victim) for _ in range(2)]
    said = [stage.answer(packet, victim) for _ in range(100)]
    assert all(isinstance(each, int) or each[2] & 2 for each in said[5:])  # silence, or TC
    assert all(stage.answer(packet, victim, stream=True)[7] == 1 for _ in range(100))
    told = dns.Message.parse(stage.answer(dns.ask("www.z.test", "A", options={10: b"client88"}).encode(), victim))
    assert told.rcode == 23  # BADCOOKIE, with a fresh one
    cookie = dns.ask("www.z.test", "A", options={10: told.options[10]}).encode()
    assert all(stage.answer(cookie, victim)[7] == 1 for _ in range(100))


def test_p3_an_important_rule_and_a_rule_for_a_client_in_one_list():
    found = NameList.read("||a.net^$important\n@@||a.net^\n||b.net^$client=10.0.0.0/8\n")
    key = {name: dns.Zone.from_text(SOA, name).key for name in ("a.net", "b.net")}
    assert found.match(key["a.net"], 1, "127.0.0.1").action == "block"
    assert found.match(key["b.net"], 1, "10.1.1.1") and found.match(key["b.net"], 1, "11.1.1.1") is None
