"""Master files: syntax of RFC 1035 section 5 and later, findings with their place (spec 3.3)."""

# ruff: noqa: E501

import dns.zone
import pytest

from toolips_udp.dns import names
from toolips_udp.dns.zone import Zone, ZoneError

HEAD = "$ORIGIN example.org.\n$TTL 1h\n@ SOA ns1 hostmaster ( 1 ; serial\n 2h 15m\n 1w 300 )\n  NS ns1\nns1 A 192.0.2.1\n"


def texts(zone):
    return {line for rrset in zone.rrsets() for line in rrset.texts()}


def test_a_zone_with_every_syntax_reads_as_dnspython_reads_it():
    text = HEAD + (
        "  AAAA 2001:db8::1\n"
        "mail 60 IN A 192.0.2.3\n"
        "IN 60 A 192.0.2.4\n"
        'two IN 5 TXT "a;b" (\n "c" ; comment )\n d )\n'
        "esc\\.aped\\032x A 192.0.2.5\n"
        "\tA 192.0.2.6\n"
        "$GENERATE 1-9/4 h$ A 10.0.0.$\n"
        "$GENERATE 1-2 h${100,5,d} CNAME h$\n"
        "x TYPE1000 \\# 3 01 0203\n"
        "y CLASS1 TYPE1 192.0.2.7\n"
        "*.wild MX 10 @\n"
    )
    zone = Zone.from_text(text, "example.org")
    judge = dns.zone.from_text(text, "example.org", relativize=False, check_origin=True)
    wanted = {
        (name.to_wire().lower(), rdataset.rdtype, rdataset.ttl, data.to_wire())
        for name, node in judge.nodes.items()
        for rdataset in node
        for data in rdataset
    }
    assert {(o.lower(), t, ttl, d) for o, t, ttl, d in zone.records()} == wanted


def test_the_text_of_a_zone_reads_back_as_the_same_zone():
    zone = Zone.from_text(HEAD + 'a TXT "x y" "\\"" \\255\nb.c.d A 192.0.2.1\n')
    assert Zone.from_text(zone.to_text()).digest() == zone.digest()
    assert names.from_text("c.d.example.org.") in zone.nodes  # an empty non-terminal


def test_a_missing_ttl_is_the_default_else_the_last_one_written():
    zone = Zone.from_text("@ 50 SOA a b 1 2 3 4 5\n@ NS a\na 70 A 192.0.2.1\nb A 192.0.2.2\n", "e.org")
    assert "b.e.org. 70 IN A 192.0.2.2" in texts(zone)
    assert "e.org. 50 IN NS a.e.org." in texts(zone)


def test_all_records_of_an_rrset_get_the_lowest_ttl_and_a_warning():
    zone = Zone.from_text(HEAD + "a 60 A 192.0.2.1\na 50 A 192.0.2.2\n")
    assert {"a.example.org. 50 IN A 192.0.2.1", "a.example.org. 50 IN A 192.0.2.2"} <= texts(zone)
    assert "TTLs" in str(zone.warnings[0])


@pytest.mark.parametrize(
    ("line", "place", "said"),
    [
        ("www A 1.2.3", "8:7", "192.0.2.1"), ("www 60 IN FROB x", "8:11", "unknown RR type"), ("www 1x A 1.2.3.4", "8:5", "not a time"),
        ("www MX ( 10\n  foo bar )", "9:7", "more than"), ("www TXT \"abc", "8:1", "quote"), ("www TXT ( abc", "8:1", "not closed"),
        ("www A 1.2.3.4 )", "8:1", "without '('"), ("$FOO bar", "8:1", "unknown directive"), ("$GENERATE 3-1 a A 1.2.3.4", "8:1", "range"),
        ("$GENERATE 0-99999 a$ A 1.2.3.4", "8:1", "65536"), ("$INCLUDE /etc/passwd", "8:1", "INCLUDE"), ("a..b A 1.2.3.4", "8:1", "empty label"),
        ("www CH A 1.2.3.4", "8:5", "only IN"), ("www ANY x", "8:1", "question type"), ("www", "8:1", "type is missing"),
    ],
)  # fmt: skip
def test_an_error_says_line_column_and_what_was_expected(line, place, said):
    with pytest.raises(ZoneError) as caught:
        Zone.from_text(HEAD + line + "\nok A 192.0.2.9\n")
    assert any(str(p).startswith(place + ":") and said in str(p) for p in caught.value.problems), str(
        caught.value
    )


def test_every_error_of_a_file_is_reported_not_only_the_first(tmp_path):
    path = tmp_path / "example.org.zone"
    path.write_text(HEAD + "a A 1\nb A 2\nc AAAA 3\n")
    with pytest.raises(ZoneError) as caught:
        Zone.load(path)
    assert [p.line for p in caught.value.problems] == [8, 9, 10]
    assert str(caught.value).startswith(f"{path}:8:5: '1' is not an IPv4 address")


def test_include_reads_files_below_the_folder_with_their_own_origin(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/hosts").write_text("www A 192.0.2.8\n")
    path = tmp_path / "example.org.zone"
    path.write_text(HEAD + "$INCLUDE sub/hosts deep\nafter A 192.0.2.9\n")
    zone = Zone.load(path)
    assert {"www.deep.example.org. 3600 IN A 192.0.2.8", "after.example.org. 3600 IN A 192.0.2.9"} <= texts(
        zone
    )
    assert [p.name for p in zone.files] == ["example.org.zone", "hosts"]


def test_include_never_leaves_the_folder_and_never_loops(tmp_path):
    (tmp_path / "z").mkdir()
    (tmp_path / "secret").write_text("x A 192.0.2.1\n")
    path = tmp_path / "z/e.zone"
    path.write_text(HEAD + "$INCLUDE ../secret\n$INCLUDE e.zone\n")
    with pytest.raises(ZoneError) as caught:
        Zone.load(path, "example.org")
    found = "\n".join(map(str, caught.value.problems))
    assert "outside the zone's folder" in found and "deeper than 8" in found


def test_the_origin_comes_from_the_soa_else_from_the_file_name(tmp_path):
    path = tmp_path / "named.example.zone"
    path.write_text("@ 60 SOA a b 1 2 3 4 5\n")
    assert Zone.load(path).name == "named.example."
    path.write_text("$ORIGIN org.\nexample 60 SOA a b 1 2 3 4 5\n")
    assert Zone.load(path).name == "example.org."


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("a CNAME b\na A 192.0.2.1\n", "CNAME at a.example.org. beside A"), ("a CNAME b\na CNAME c\n", "2 CNAME"),
        ("@ SOA a b 2 2 2 2 2\n", "2 different SOA"), ("a DNAME b.\na DNAME c.\n", "2 DNAME"),
        ("a DNAME b.\na NS c.\n", "DNAME beside NS"), ("a SOA b c 1 2 3 4 5\n", "not the apex"),
        ("d DNAME x.\nb.a.d TXT a\n", r"TXT at b\.a\.d\.example\.org\. lies below the DNAME d\.example\.org\. "),
    ],
)  # fmt: skip
def test_a_zone_that_breaks_a_rule_is_refused_and_the_record_named(lines, said):
    with pytest.raises(ZoneError, match=said):
        Zone.from_text(HEAD + lines)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("other.net. A 192.0.2.1\n", "outside the zone"), ("sub NS ns.sub\n", "no address"), ("sub NS x.\na.sub TXT a\n", "below the delegation"),
        ("ns1 A 192.0.2.1\n", "stands twice"),
    ],
)  # fmt: skip
def test_an_odd_zone_is_served_with_a_warning_and_refused_when_strict(lines, said):
    zone = Zone.from_text(HEAD + lines)
    assert any(said in str(p) for p in zone.warnings)
    with pytest.raises(ZoneError, match=said):
        Zone.from_text(HEAD + lines, strict=True)


def test_e4_an_rrset_that_no_message_can_hold_is_told_when_it_is_read():
    long = " ".join(['"' + "x" * 250 + '"'] * 30)
    for records, told in ((8, False), (9, True)):
        zone = Zone.from_text(HEAD + "".join(f'big TXT "{n}" {long}\n' for n in range(records)))
        assert any("more than a message holds" in str(p) for p in zone.warnings) == told


def test_a_long_record_over_many_lines_is_read_without_squares():
    many = "\n".join(f' "{i:05d}"' for i in range(5000))
    zone = Zone.from_text(HEAD + f"long TXT (\n{many}\n)\nafter A 192.0.2.1\n")
    assert len(zone.nodes[names.from_text("long.example.org.")][16].rdatas[0]) == 30000
    assert names.from_text("after.example.org.") in zone.nodes


def test_a_record_over_the_line_limit_is_refused():
    many = "\n".join(f' "{i:05d}"' for i in range(9000))
    with pytest.raises(ZoneError, match="65535"):
        Zone.from_text(HEAD + f"long TXT (\n{many}\n)\n")
