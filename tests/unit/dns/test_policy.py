"""Lists, local data, views, DNS64 and rate limiting (spec section 7)."""

# ruff: noqa: E501

import ipaddress

import pytest

from toolips_udp import dns
from toolips_udp.dns import names
from toolips_udp.dns.lists import NameList, kind_of
from toolips_udp.dns.ratelimit import RateLimit
from toolips_udp.errors import StartError

UP = "*.net 60 A 192.0.2.1\n*.net 60 AAAA 2001:db8::1\ncloak.net 60 CNAME x.ads.test.\nlan.net 60 A 10.0.0.5\nlan.net 60 A 192.0.2.9\nonly4.net 60 A 192.0.2.33\nboth.net 60 A 192.0.2.34\nboth.net 60 AAAA 2001:db8::34\nodd.net 60 AAAA ::ffff:192.0.2.1\nodd.net 60 A 192.0.2.35\n"


@pytest.fixture
def blocked(dns_net, tmp_path):
    upstream = dns_net.authority(".", "@ 60 SOA a. b. 1 2 3 4 60\n@ 60 NS a.\n" + UP)

    def make(text, **kw):
        path = tmp_path / "list.txt"
        path.write_text(text)
        return dns_net.serve(dns.Service(dns.Blocklist(path, **kw), dns.Forward(upstream)))

    return make


@pytest.mark.parametrize(
    ("text", "kind", "yes", "no"),
    [
        ("127.0.0.1 localhost\n0.0.0.0 ads.net track.net # two\n::1 localhost\n", "hosts", ["ads.net", "TRACK.net"], ["x.ads.net", "localhost.net"]),
        ("# names\nads.net\n*.wild.net\n", "names", ["ads.net", "x.ads.net", "a.wild.net"], ["badads.net", "other.net"]),
        ("[Adblock Plus]\n! c\n||ads.net^\n@@||good.ads.net^\n||typed.net^$dnstype=AAAA\n||c.net^$client=10.0.0.0/8\n/regex/\nads##.banner\n", "adblock",
         ["ads.net", "x.ads.net"], ["good.ads.net", "x.good.ads.net", "typed.net", "c.net", "fine.net"]),
        ("$TTL 60\n@ SOA a. b. 1 2 3 4 5\n@ NS a.\nads.net CNAME .\n*.ads.net CNAME .\nok.ads.net CNAME rpz-passthru.\n", "rpz", ["ads.net", "a.b.ads.net"], ["ok.ads.net", "fine.net"]),
    ],
)  # fmt: skip
def test_p3_each_kind_of_list_is_detected_and_blocks_what_it_says(blocked, text, kind, yes, no):
    assert kind_of(text) == kind
    client = blocked(text)
    for name in yes:
        reply = client.ask(name)
        assert (reply.rcode, reply.ede) == ("NXDOMAIN", 15), name
        assert reply.message.authority[0].type == 6
    for name in no:
        assert client.ask(name).rcode == "NOERROR", name


def test_p3_what_a_list_says_that_is_not_supported_is_counted():
    found = NameList.read("||a.net^\n/regex/\n||b.net^$third-party\n||a*b.net^\n@@||c.net^$important\n")
    assert (found.count, found.unsupported) == (2, 3)


def test_important_beats_an_allow_rule_and_types_and_clients_limit_a_rule():
    found = NameList.read(
        "||a.net^$important\n@@||a.net^\n||t.net^$dnstype=AAAA|TXT\n||c.net^$client=10.0.0.0/8\n"
    )
    key = names.from_text
    assert found.match(key("a.net"), 1, "1.1.1.1").action == "block"
    assert found.match(key("t.net"), 28, "1.1.1.1") and not found.match(key("t.net"), 1, "1.1.1.1")
    assert found.match(key("c.net"), 1, "10.1.1.1") and not found.match(key("c.net"), 1, "11.1.1.1")


@pytest.mark.parametrize(
    ("answer", "qtype", "rcode", "data"),
    [("nodata", "A", "NOERROR", []), ("zero", "A", "NOERROR", ["0.0.0.0"]), ("zero", "AAAA", "NOERROR", ["::"]), ("zero", "TXT", "NOERROR", []),
     ("refused", "A", "REFUSED", []), ("192.0.2.250", "A", "NOERROR", ["192.0.2.250"]), ("192.0.2.250", "AAAA", "NOERROR", [])],
)  # fmt: skip
def test_a_blocklist_answers_as_it_was_told(blocked, answer, qtype, rcode, data):
    reply = blocked("0.0.0.0 ads.net\n", answer=answer).ask("ads.net", qtype)
    assert (reply.rcode, reply.data, reply.ede) == (rcode, data, 15)


def test_drop_is_silence_and_wrong_answers_are_start_errors(blocked):
    client = blocked("0.0.0.0 ads.net\n", answer="drop")
    assert client.exchange(dns.ask("ads.net", "A").encode()) is None
    with pytest.raises(StartError, match="nxdomain"):
        dns.Blocklist(answer="maybe")


def test_a_name_that_hides_behind_a_cname_is_blocked_too(blocked):
    client = blocked("||ads.test^\n||other.test^\n")
    assert client.ask("cloak.net").rcode == "NXDOMAIN"
    assert blocked("||other.test^\n").ask("cloak.net").data == ["x.ads.test."]


def test_allowed_names_pass_and_the_hook_hears_what_was_blocked(blocked):
    client = blocked("||ads.net^\n", allow=["good.ads.net"])
    heard = []
    client.service.on_blocked(lambda q, rule: heard.append((q.name, str(rule).rpartition("/")[2])))
    client.ask("x.ads.net")
    assert client.ask("good.ads.net").rcode == "NOERROR"
    assert heard == [("x.ads.net.", "list.txt:1")]


def test_p4_rpz_actions_and_triggers(blocked):
    head = "$TTL 60\n@ SOA a. b. 1 2 3 4 5\n@ NS a.\n"
    client = blocked(
        head
        + "nod.net CNAME *.\ndrop.net CNAME rpz-drop.\ntcp.net CNAME rpz-tcp-only.\nrec.net A 192.0.2.99\nrec.net TXT hi\n"
        "ren.net CNAME walled.garden.\n24.0.2.0.192.rpz-ip CNAME .\n32.9.0.0.127.rpz-client-ip CNAME .\nx.rpz-odd CNAME .\n"
    )
    assert (client.ask("nod.net").rcode, client.ask("nod.net").data) == ("NOERROR", [])
    assert client.exchange(dns.ask("drop.net", "A").encode()) is None
    assert client.ask("tcp.net").message.tc and not client.ask("tcp.net", transport="tcp").message.tc
    assert client.ask("rec.net").data == ["192.0.2.99"] and client.ask("rec.net", "TXT").data == ['"hi"']
    assert client.ask("ren.net").data == ["walled.garden."]
    assert client.ask("any.net").rcode == "NXDOMAIN"  # its address is listed
    assert client.ask("any.net", "AAAA").rcode == "NOERROR"
    client.address = type(client.address)("127.0.0.9", 1)
    assert client.ask("any.net", "AAAA").rcode == "NXDOMAIN"
    assert client.service.steps[0].lists[0].unsupported == 1


@pytest.mark.parametrize(
    ("rule", "blocked_names"),
    [
        ("ns.bad.org.rpz-nsdname CNAME .", ["www.evil.net", "a.b.evil.net"]),
        ("*.bad.org.rpz-nsdname CNAME .", ["www.evil.net"]),
        ("32.66.2.0.192.rpz-nsip CNAME .", ["www.evil.net"]),
        ("ns.good.org.rpz-nsdname CNAME rpz-drop.", []),
    ],
)
def test_p4_rpz_rules_about_the_servers_of_a_zone(dns_net, tmp_path, rule, blocked_names):
    evil = dns_net.authority(
        "evil.net", "@ 60 SOA a b 1 2 3 4 60\n@ 60 NS ns.bad.org.\nwww 60 A 192.0.2.5\n*.b 60 A 192.0.2.6\n"
    )
    bad = dns_net.authority("bad.org", "@ 60 SOA a b 1 2 3 4 60\n@ 60 NS ns\nns 60 A 192.0.2.66\n")
    (tmp_path / "list").write_text(f"$TTL 60\n@ SOA a. b. 1 2 3 4 5\n@ NS a.\n{rule}\n")
    service = dns.Service(
        dns.Blocklist(tmp_path / "list"), dns.Forward(evil, zone="evil.net"), dns.Forward(bad, zone="bad.org")
    )
    client = dns_net.serve(service)
    for name in ("www.evil.net", "a.b.evil.net"):
        reply = client.ask(name)
        if name in blocked_names:
            assert reply.rcode == "NXDOMAIN" and reply.ede == 15
        elif not blocked_names:
            assert reply.rcode == "NOERROR" and reply.data
    assert client.ask("ns.bad.org").data == ([] if "nsip" in rule else ["192.0.2.66"]) or "nsdname" in rule
    assert service.steps[0].lists[0].unsupported == 0


def test_a_million_rules_take_at_most_a_hundred_octets_each():
    count = 200_000
    found = NameList.read("".join(f"0.0.0.0 host{i}.example{i % 97}.net\n" for i in range(count)))
    assert found.exact.octets <= 100 * count and len(found.exact) == count
    assert found.match(names.from_text("host77.example77.net"), 1, "1.1.1.1").line == 78
    assert found.match(names.from_text("host77.example78.net"), 1, "1.1.1.1") is None


def test_p2_local_data_and_hosts_files_answer_before_anything_else(dns_net, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("192.168.1.5 nas.lan nas\nfe80::1%eth0 gate.lan\nbroken\n")
    client = dns_net.serve(dns.Service(dns.Local({"tv.lan": dns.A("192.168.1.6", ttl=5)}, hosts=[hosts])))
    assert client.ask("tv.lan").data == ["192.168.1.6"] and client.ask("NAS.lan").data == ["192.168.1.5"]
    assert client.ask("5.1.168.192.in-addr.arpa", "PTR").data == ["nas.lan."]
    assert client.ask("nas.lan", "AAAA").data == [] and client.ask("nas.lan", "AAAA").rcode == "NOERROR"
    assert client.ask("gate.lan", "AAAA").data == ["fe80::1"]
    assert client.ask("other.lan").rcode == "REFUSED"


def test_p6_views_are_chosen_by_client_and_share_nothing(dns_net):
    inside = dns.Zone.from_text("@ 60 SOA a b 1 2 3 4 5\n@ NS a\nwww 60 A 10.0.0.1\n", "e.test")
    outside = dns.Zone.from_text("@ 60 SOA a b 1 2 3 4 5\n@ NS a\nwww 60 A 192.0.2.1\n", "e.test")
    service = dns.Service(dns.View("office", clients=["10.0.0.0/8"], steps=[inside]), dns.View("tls", transports=["tls"], steps=[inside]),
                          dns.View("world", clients=["192.0.2.0/24"], steps=[outside]))  # fmt: skip
    assert dns_net.serve(service, "10.1.1.1").ask("www.e.test").data == ["10.0.0.1"]
    assert dns_net.serve(service, "192.0.2.7").ask("www.e.test").data == ["192.0.2.1"]
    assert dns_net.serve(service, "192.0.2.7").ask("www.e.test", transport="tls").data == ["10.0.0.1"]
    assert dns_net.serve(service, "192.0.2.7").ask("www.other.test").rcode == "REFUSED"
    assert dns_net.serve(service, "198.51.100.1").ask("www.e.test").rcode == "REFUSED"


def test_p6_a_forwarder_in_two_views_keeps_two_caches(dns_net):
    upstream = dns_net.authority("example.org", "www 60 A 192.0.2.1")
    forward = dns.Forward(upstream)
    service = dns.Service(
        dns.View("a", clients=["127.0.0.1"], steps=[forward]), dns.View("b", steps=[forward])
    )
    dns_net.serve(service).ask("www.example.org")
    dns_net.serve(service, "127.0.0.2").ask("www.example.org")
    assert upstream.asked == 2


def test_p6_views_are_chosen_by_the_key_that_signed_the_question(dns_net):
    from toolips_udp.dns import tsig

    keys = dns.Keys({"inside.": ("hmac-sha256", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")})
    zone = "@ 60 SOA a b 1 2 3 4 5\n@ 60 NS a\nwww 60 A 192.0.2.{}\n"
    service = dns.Service(
        dns.View("in", keys=["INSIDE"], steps=[dns.Zone.from_text(zone.format(1), "z.test")]),
        dns.View("out", steps=[dns.Zone.from_text(zone.format(2), "z.test")]),
        transfers=dns.Transfers(keys),
    )
    client = dns_net.serve(service)
    assert client.ask("www.z.test").data == ["192.0.2.2"]
    packet, _, _ = tsig.signed(
        dns.ask("www.z.test", "A").encode(), keys.get(b"\6inside\0"), int(service.wall())
    )
    assert client.exchange(packet).data == ["192.0.2.1"]


def test_p7_private_addresses_in_public_answers_are_removed(dns_net):
    upstream = dns_net.authority(".", "@ 60 SOA a. b. 1 2 3 4 60\n@ 60 NS a.\n" + UP)
    client = dns_net.serve(dns.Service(dns.Rebinding(), dns.Forward(upstream)))
    reply = client.ask("lan.net")
    assert reply.data == ["192.0.2.9"] and reply.ede == 17
    free = dns_net.serve(dns.Service(dns.Rebinding(allow=["net"]), dns.Forward(upstream)))
    assert sorted(free.ask("lan.net").data) == ["10.0.0.5", "192.0.2.9"]


def test_p8_dns64_makes_addresses_only_where_there_are_none(dns_net):
    upstream = dns_net.authority(
        ".", "@ 60 SOA a. b. 1 2 3 4 60\n@ 60 NS a.\n1.2.0.192.in-addr.arpa 60 PTR host.net.\n" + UP
    )
    client = dns_net.serve(dns.Service(dns.DNS64(dns.Forward(upstream))))
    assert client.ask("only4.net", "AAAA").data == ["64:ff9b::c000:221"]
    assert client.ask("both.net", "AAAA").data == ["2001:db8::34"]
    assert client.ask("odd.net", "AAAA").data == ["64:ff9b::c000:223"]
    assert client.ask("only4.net", "A").data == ["192.0.2.33"]
    asked = upstream.asked
    assert client.ask("ipv4only.arpa", "AAAA").data == ["64:ff9b::c000:aa", "64:ff9b::c000:ab"]
    assert client.ask("ipv4only.arpa", "A").data == ["192.0.0.170", "192.0.0.171"]
    assert client.ask("ipv4only.arpa", "TXT").data == [] and upstream.asked == asked  # RFC 8880
    pointer = ipaddress.ip_address("64:ff9b::c000:201").reverse_pointer
    assert client.ask(pointer, "PTR").data == ["1.2.0.192.in-addr.arpa.", "host.net."]


@pytest.mark.parametrize(
    ("prefix", "made"),
    [("2001:db8::/32", "2001:db8:c000:221::"), ("2001:db8:100::/40", "2001:db8:1c0:2:21::"), ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
     ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"), ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"), ("2001:db8:122:344::/96", "2001:db8:122:344::c000:221")],
)  # fmt: skip
def test_p8_addresses_are_embedded_as_rfc_6052_shows(prefix, made):
    step = dns.DNS64(prefix=prefix)
    assert step.embed(bytes((192, 0, 2, 33))) == ipaddress.IPv6Address(made).packed
    with pytest.raises(StartError):
        dns.DNS64(prefix="2001:db8::/33")


def test_rate_limiting_slips_and_drops_above_the_rate_and_recovers():
    limit = RateLimit(rate=50, burst=100, slots=4096)
    limit.key = bytes(16)  # by which two prefixes of one client share no slot
    said = [limit.decide("192.0.2.1", 0.0) for _ in range(200)]
    assert said[:93] == ["answer"] * 93 and said[93:100] == ["small"] * 7
    assert said.count("slip") == 50 and said.count("drop") == 50
    assert limit.decide("192.0.2.1", 10.0) == "answer"
    assert limit.decide("127.0.0.1", 0.0) == "answer"
    memory = limit.levels.buffer_info()[1]
    for i in range(20_000):
        limit.decide(f"198.{i >> 16 & 3}.{i >> 8 & 255}.{i & 255}", 20.0)
    assert limit.levels.buffer_info()[1] == memory


def test_over_the_rate_a_cookie_client_is_told_its_cookie_and_then_served(dns_net):
    zone = dns.Zone.from_text("@ 60 SOA a b 1 2 3 4 5\n@ NS a\nwww 60 A 10.0.0.1\n", "e.test")
    service = dns.Service(zone, limit=RateLimit(rate=1, burst=1, slots=4096))
    client = dns_net.serve(service, "192.0.2.7")
    packet = dns.ask("www.e.test", "A").encode()
    said = [client.exchange(packet) for _ in range(10)]
    assert said[0].data == ["10.0.0.1"] and None in said and any(r and r.message.tc for r in said)
    told = client.ask("www.e.test", options={10: b"12345678"})
    assert told.rcode == "BADCOOKIE"
    assert client.ask("www.e.test", options={10: told.message.options[10]}).data == ["10.0.0.1"]
    assert client.ask("www.e.test", transport="tcp").data == ["10.0.0.1"]
