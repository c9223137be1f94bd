"""RDATA of every type: text to wire and back, with dnspython as the judge."""

# ruff: noqa: E501

import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest

from toolips_udp.dns import rdata, rrtypes
from toolips_udp.dns.fields import pack_bitmap, unpack_bitmap
from toolips_udp.errors import FormatError

SAMPLES = {
    "A": ["192.0.2.1"], "AAAA": ["2001:db8::1", "::", "::ffff:192.0.2.1"], "NS": ["ns1.Example.org."],
    "CNAME": ["a.b."], "PTR": ["x.y."], "DNAME": ["d.e."], "MX": ["10 mail.example.org."],
    "SOA": ["ns1.a. host.a. 2024010101 7200 3600 1209600 300"],
    "TXT": ['"hello" "two words"', '"quo\\"te" "\\000\\255"', '""'], "SPF": ['"v=spf1 -all"'],
    "HINFO": ['"PC" "Linux"'], "RP": ["m.x. t.x."], "AFSDB": ["1 a.b."], "X25": ['"311061700956"'],
    "ISDN": ['"150862028003217" "004"', '"15"'], "RT": ["10 a."], "NSAP": ["0x47000580005a0000000001e133ffffff00016100"],
    "NSAP-PTR": ["foo."], "PX": ["10 a.b. c.d."], "GPOS": ["-32.6882 116.8652 10.0"],
    "LOC": ["52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000.00m 10.00m", "60 9 0.000 S 24 39 0.000 W 10.00m 20.00m 2000.00m 20.00m"],
    "SRV": ["0 5 5060 sip.example.org."], "NAPTR": ['100 10 "u" "sip+E2U" "!^.*$!sip:a@b!" .'], "KX": ["10 a."],
    "CERT": ["PKIX 65534 8 AQIDBA=="], "APL": ["1:192.168.32.0/21 !1:192.168.38.0/28", "2:ff00::/8"],
    "DS": ["12345 13 2 " + "AB" * 32], "CDS": ["12345 13 2 " + "AB" * 32], "DLV": ["12345 13 2 " + "AB" * 32],
    "SSHFP": ["1 1 " + "AB" * 20], "DHCID": ["AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA="],
    "IPSECKEY": ["10 1 2 192.0.2.38 AQNR", "10 0 2 . AQNR", "10 3 2 gw.example. AQNR", "10 2 2 2001:db8::1 AQNR"],
    "RRSIG": ["A 5 3 86400 20300322173103 20030220173103 2642 example.com. oJB1W6WNGv8="],
    "NSEC": ["host.example.com. A MX RRSIG NSEC TYPE1234"], "DNSKEY": ["257 3 13 AQPSKmynfzW4"],
    "CDNSKEY": ["257 3 13 AQPSKmynfzW4"],
    "NSEC3": ["1 1 12 AABBCCDD 2T7B4G4VSA5SMI47K61MV5BV1A22BOJR A RRSIG", "1 0 0 - 2T7B4G4VSA5SMI47K61MV5BV1A22BOJR"],
    "NSEC3PARAM": ["1 0 12 AABBCCDD", "1 0 0 -"], "TLSA": ["3 1 1 " + "AB" * 32], "SMIMEA": ["3 1 1 " + "CD" * 32],
    "HIP": ["2 200100107B1A74DF365639CC39F1D578 AwEAAbdx rvs1.example.com. rvs2.example.com."],
    "NINFO": ['"x"'], "OPENPGPKEY": ["AQNR"], "CSYNC": ["66 3 A NS AAAA"], "ZONEMD": ["2018031500 1 1 " + "AB" * 48],
    "SVCB": ["1 foo.example.com. port=53", '0 bar.', '16 foo.example.org. mandatory="alpn,ipv4hint" alpn="h2,h3-19" ipv4hint="192.0.2.1"',
             '1 . alpn="f\\\\\\\\oo\\\\,bar,h2"', "1 foo. key667=hello", 'alpn'[:0] + '1 foo. ipv6hint="2001:db8::1,2001:db8::53:1"'],
    "HTTPS": ["1 . alpn=h2,h3 no-default-alpn port=8443", "0 x."], "NID": ["10 0014:4fff:ff20:ee64"], "L32": ["10 10.1.2.0"],
    "L64": ["10 2001:0db8:1140:1000"], "LP": ["10 l64.example."], "EUI48": ["00-00-5e-00-53-2a"],
    "EUI64": ["00-00-5e-ef-10-00-00-2a"], "URI": ['10 1 "ftp://ftp.example.com/public"'],
    "CAA": ['0 issue "ca.example.net"', '128 tbs "Unknown"'], "AVC": ['"app"'], "AMTRELAY": ["10 0 1 203.0.113.15", "0 1 3 relay.a.", "0 0 0 ."],
    "RESINFO": ['"qnamemin"'], "WALLET": ['"BTC" "x"'], "KEY": ["512 255 1 AQNR"], "HHIT": ["AQNR"], "BRID": ["AQNR"],
    "DSYNC": ["CDS NOTIFY 5300 a.b."], "WKS": ["10.0.0.1 6 25 80"],
    "SIG": ["A 5 3 86400 20300322173103 20030220173103 2642 example.com. oJB1W6WNGv8="],
}  # fmt: skip
CASES = [(name, text) for name, texts in SAMPLES.items() for text in texts]


@pytest.mark.parametrize(("name", "text"), CASES)
def test_rdata_text_becomes_the_octets_that_dnspython_makes(name, text):
    number = rrtypes.type_number(name)
    wire = rdata.from_text(number, text)
    judge = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.RdataType.make(number), text)
    assert wire == judge.to_wire()
    shown = rdata.show(number, wire)
    assert not shown.startswith("\\#"), shown
    assert rdata.from_text(number, shown) == wire
    assert dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.RdataType.make(number), shown) == judge
    rdata.check(number, wire)
    assert rdata.from_text(number, rdata.generic(wire)) == wire  # RFC 3597 form of a known type


def test_every_type_that_dnspython_knows_has_a_text_form_here():
    meta = {"OPT", "TSIG", "TKEY"}
    missing = []
    for number in dns.rdatatype.RdataType:
        cls = dns.rdata.get_rdata_class(dns.rdataclass.IN, number)
        name = number.name.replace("_", "-")
        if cls is not dns.rdata.GenericRdata and name not in rdata.TABLE and name not in meta:
            missing.append(name)
    assert missing == []


@pytest.mark.parametrize(("name", "text"), CASES)
def test_rdata_cut_or_lengthened_is_never_an_unexpected_error(name, text):
    number = rrtypes.type_number(name)
    wire = rdata.from_text(number, text)
    for end in range(len(wire)):
        try:
            rdata.check(number, wire[:end])
        except FormatError:
            pass
        rdata.show(number, wire[:end])
        try:
            rdata.read(number, wire, 0, end, [10])
        except FormatError:
            pass


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("A", "1.2.3", "IPv4"), ("A", "1.2.3.4 5", "more than"), ("MX", "mail.", "preference"), ("MX", "70000 a.", "65535"),
        ("TXT", '"' + "x" * 256 + '"', "255"), ("SOA", "a. b. 1 2 3", "missing"), ("DS", "1 8 2 xyz", "hexadecimal"),
        ("DNSKEY", "1 3 8 !!", "base64"), ("SVCB", "1 . port=99999", "port"), ("HTTPS", "1 . mandatory=alpn", "absent"),
        ("NSEC3", "1 0 0 zz AAAA A", "salt"), ("A", "\\# 3 010203", "cut short"), ("A", "\\# 4 0102", "says 4"),
    ],
)  # fmt: skip
def test_wrong_rdata_text_is_refused_and_the_error_names_the_field(name, text, said):
    with pytest.raises(FormatError, match=said):
        rdata.from_text(rrtypes.type_number(name), text)


def test_a_type_bitmap_survives_the_way_there_and_back():
    numbers = {1, 2, 255, 256, 1234, 65535}
    assert unpack_bitmap(pack_bitmap(numbers)) == sorted(numbers)
