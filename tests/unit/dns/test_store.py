"""The zone store: saves, names, reload (A-NS5, A-NS6), and ChiNS's JSON."""

# ruff: noqa: E501

import json

import pytest

from toolips_udp import dns
from toolips_udp.dns.importing import from_chins
from toolips_udp.dns.store import ZoneStore, file_name
from toolips_udp.errors import FormatError

TEXT = "$ORIGIN {0}.\n@ 60 SOA ns h 1 2 3 4 5\n@ 60 NS ns\nns 60 A 192.0.2.1\nwww 60 A {1}\n"


def write(folder, name, address="192.0.2.2"):
    path = folder / f"{name}.zone"
    path.write_text(TEXT.format(name, address))
    return path


def test_a_folder_of_zones_is_read_and_bad_ones_are_reported_and_not_ready(tmp_path, dns_net):
    write(tmp_path, "a.test")
    (tmp_path / "b.test.zone").write_text("@ 60 SOA ns h 1 2 3 4 5\nwww A 1.2.3\n")
    store = ZoneStore(tmp_path)
    report = store.load()
    assert (
        report.loaded == ["a.test."]
        and list(report.problems) == ["b.test."]
        and ":2:" in report.problems["b.test."]
    )
    client = dns_net.serve(dns.Service(store))
    assert client.ask("www.a.test").data == ["192.0.2.2"]
    waiting = client.ask("www.b.test")
    assert (waiting.rcode, waiting.ede, waiting.message.aa) == ("SERVFAIL", 14, False)


def test_a_ns5_an_edited_file_is_served_after_a_reload_and_a_bad_one_keeps_the_old_zone(tmp_path, dns_net):
    path = write(tmp_path, "a.test")
    write(tmp_path, "c.test")
    store = ZoneStore(tmp_path)
    store.load()
    client = dns_net.serve(dns.Service(store))
    write(tmp_path, "a.test", "192.0.2.77")
    report = store.reload()
    assert report.loaded == ["a.test."] and report.kept == ["c.test."]
    assert client.ask("www.a.test").data == ["192.0.2.77"]
    path.write_text(TEXT.format("a.test", "192.0.2.300"))
    report = store.reload()
    assert f"{path}:5:10: '192.0.2.300' is not an IPv4 address" in report.problems["a.test."]
    assert client.ask("www.a.test").data == ["192.0.2.77"]
    write(tmp_path, "a.test", "192.0.2.78")
    assert store.reload().problems == {} and client.ask("www.a.test").data == ["192.0.2.78"]
    path.unlink()
    assert store.reload().removed == ["a.test."] and client.ask("www.a.test").rcode == "REFUSED"


@pytest.mark.parametrize(
    "name", ["../etc", "a/b", "/etc/passwd", "a\\b", "..", "a..b", "-x", "a\0b", "x" * 64, " "]
)
def test_a_ns6_a_zone_name_with_path_separators_is_refused(tmp_path, name):
    store = ZoneStore(tmp_path)
    with pytest.raises((FormatError, LookupError)):
        store.remove(name)
    with pytest.raises(FormatError):
        file_name(name)
    assert list(tmp_path.parent.glob("*.zone")) == []


def test_zones_are_added_saved_whole_listed_and_removed(tmp_path):
    store = ZoneStore(tmp_path)
    zone = store.add(TEXT.format("new.test", "192.0.2.5"), "new.test")
    assert store.names() == ["new.test."] and store.get("NEW.test") is zone
    saved = tmp_path / "new.test.zone"
    assert dns.Zone.load(saved).digest() == zone.digest()
    assert [p.name for p in tmp_path.iterdir()] == ["new.test.zone"]
    assert store.reload().kept == ["new.test."]
    store.remove("new.test")
    assert store.names() == [] and not saved.exists()
    with pytest.raises(LookupError):
        store.remove("new.test")


def test_an_included_file_that_changes_is_noticed(tmp_path):
    (tmp_path / "part").write_text("x 60 A 192.0.2.1\n")
    path = write(tmp_path, "a.test")
    path.write_text(path.read_text() + "$INCLUDE part\n")
    store = ZoneStore(tmp_path)
    store.load()
    (tmp_path / "part").write_text("x 60 A 192.0.2.9\ny 60 A 192.0.2.9\n")
    assert store.reload().loaded == ["a.test."]


def test_chins_json_becomes_a_zone_with_relative_names_and_wildcards():
    text = json.dumps({
        "$origin": "example.test.", "$ttl": 3600,
        "soa": {"mname": "ns1.example.test.", "rname": "admin.example.test.", "serial": "{time}", "refresh": 3600, "retry": 600, "expire": 604800, "minimum": 86400},
        "ns": [{"host": "ns1.example.test."}, {"host": "ns2"}], "a": [{"name": "@", "ttl": 400, "value": "192.0.2.1"}, {"name": "*", "value": "192.0.2.2"}],
        "txt": [{"name": "t", "value": 'say "hi"'}], "mx": [{"name": "@", "preference": 10, "host": "mail"}],
    })  # fmt: skip
    zone = from_chins(text)
    lines = zone.to_text()
    assert "example.test. 400 IN A 192.0.2.1" in lines and "*.example.test. 3600 IN A 192.0.2.2" in lines
    assert 't.example.test. 3600 IN TXT "say \\"hi\\""' in lines and "MX 10 mail.example.test." in lines
    assert zone.serial > 1_600_000_000
    assert dns.Zone.from_text(lines).digest() == zone.digest()


@pytest.mark.parametrize("text", ["nonsense", "[]", '{"soa": {}}', '{"origin": "a.", "a": [{"name": "x"}]}', '{"origin": "a.", "frob": []}',
                                  '{"origin": "a.", "a": "x"}', '{"origin": "a.", "ttl": "x"}', '{"origin": "a.", "a": [{"name": "x\\n$INCLUDE y", "value": "1.2.3.4"}]}'])  # fmt: skip
def test_broken_chins_json_is_refused_with_the_key(text):
    with pytest.raises(FormatError):
        from_chins(text)


def test_start_serves_a_folder_in_one_call(tmp_path):
    from toolips_udp import StartError, request

    write(tmp_path, "a.test")
    with dns.serve(tmp_path, "127.0.0.1:0") as server:
        reply = dns.Message.parse(request(dns.ask("www.a.test", "A", id=5).encode(), server.address))
        assert reply.texts()["answer"] == ["www.a.test. 60 IN A 192.0.2.2"]
    (tmp_path / "a.test.zone").write_text("broken")
    with pytest.raises(StartError, match=r"a\.test\.zone"):
        dns.serve(tmp_path)
