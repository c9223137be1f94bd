"""Digests over zones: the examples of RFC 8976, and zones that came by transfer."""

import shutil
import subprocess

import pytest

from toolips_udp import dns
from toolips_udp.dns import zonemd

SIMPLE = """$ORIGIN example.
@ 86400 IN SOA ns1 admin 2018031900 1800 900 604800 86400
@ 86400 IN NS ns1
@ 86400 IN NS ns2
@ 86400 IN ZONEMD 2018031900 1 1 (
    c68090d90a7aed716bc459f9340e3d7c1370d4d24b7e2fc3a1ddc0b9a87153b9
    a9713b3c9ae5cc27777f98b8e730044c )
ns1 3600 IN A 203.0.113.63
ns2 3600 IN AAAA 2001:db8::63
"""


def test_the_example_of_the_rfc_has_the_digest_it_says():
    zone = dns.Zone.from_text(SIMPLE)
    assert zonemd.check(zone) is True
    assert zonemd.record(zone) == zone.nodes[zone.key][zonemd.ZONEMD].rdatas[0]


@pytest.mark.parametrize(
    "change", [("203.0.113.63", "203.0.113.64"), (" 3600 IN A ", " 3601 IN A "), ("c68090", "c68091")]
)
def test_any_change_breaks_the_digest(change):
    assert zonemd.check(dns.Zone.from_text(SIMPLE.replace(*change))) is False


def test_letter_case_of_names_and_order_of_records_do_not_count():
    text = SIMPLE.replace("SOA ns1 admin", "SOA NS1 Admin").replace("NS ns1\n", "NS NS1.Example.\n")
    assert zonemd.check(dns.Zone.from_text(text)) is True


def test_a_digest_for_another_serial_or_given_twice_is_no_digest():
    assert zonemd.check(dns.Zone.from_text(SIMPLE.replace("2018031900 1800", "2018031901 1800"))) is None
    assert (
        zonemd.check(dns.Zone.from_text(SIMPLE + "@ 86400 ZONEMD 2018031900 1 1 " + "00" * 48 + "\n")) is None
    )
    assert zonemd.check(dns.Zone.from_text("@ 60 SOA a b 1 2 3 4 5\n", "e.")) is None


@pytest.mark.skipif(
    shutil.which("ldns-signzone") is None, reason="ldns-signzone is not installed (apt install ldnsutils)"
)
def test_the_digest_of_a_zone_with_many_types_is_that_of_ldns(tmp_path):
    (tmp_path / "z").write_text(
        "$ORIGIN e.test.\n@ 60 SOA Ns h 1 2 3 4 5\n@ 60 NS Ns\nns 60 A 192.0.2.1\n@ 60 MX 10 Mail\nmail 60 TXT a b\n"
        "s 60 SRV 1 2 3 Mail\nn 60 NAPTR 1 2 u x y Mail\nsub 60 NS X.sub\nx.sub 60 AAAA ::1\n*.w 60 CNAME Mail\n"
    )
    key = subprocess.run(
        ["ldns-keygen", "-a", "ECDSAP256SHA256", "-r", "/dev/urandom", "e.test"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    subprocess.run(
        ["ldns-signzone", "-z", "1:sha384", "-f", "s", "z", key.stdout.strip()], cwd=tmp_path, check=True
    )
    zone = dns.Zone.load(tmp_path / "s", "e.test")
    assert zonemd.check(zone) is True
