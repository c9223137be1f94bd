"""Pre-signed zones: answers for DO questions are those of nsd (`apt install nsd ldnsutils`), from C and from Python."""

from __future__ import annotations

import random
import shutil
import subprocess

import dns.flags
import dns.message
import dns.query
import dns.rdatatype
import pytest

from toolips_udp import UDP
from toolips_udp import dns as ours

from .test_dns_peers import Nsd

NEEDED = ("ldns-keygen", "ldns-signzone", "nsd")
pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(
        any(shutil.which(program) is None for program in NEEDED),
        reason="needs ldns-keygen, ldns-signzone and nsd (apt install ldnsutils nsd)",
    ),
]
ZONE = """$ORIGIN e.test.
@ 300 SOA ns h 1 3600 600 86400 60
@ 300 NS ns
@ 300 MX 10 mail
ns 300 A 127.0.0.1
mail 300 A 192.0.2.1
a.b.c 300 TXT "below empty names"
*.w 300 A 192.0.2.2
x.w 300 TXT "beside the wildcard"
*.cw 300 CNAME mail
alias 300 CNAME a.b.c
out 300 CNAME www.other.
d 300 DNAME c
sub 300 NS ns.sub
ns.sub 300 A 192.0.2.3
signed 300 NS ns.signed
signed 300 DS 12345 13 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
ns.signed 300 A 192.0.2.4
deep.er.sub2 300 NS ns
"""
NAMES = """@ ns mail a.b.c b.c c q.c *.w w y.w z.y.w x.w q.x.w *.cw l.cw alias out d b.d a.b.d sub q.sub ns.sub signed
    h.signed nx zz.nx a 0 er.sub2 sub2 deep.er.sub2 q.deep.er.sub2 _x""".split()
TYPES = ["A", "TXT", "NS", "DS", "SOA", "CNAME", "DNSKEY", "MX", "NSEC", "ANY"]


def signed(folder, *options):
    """The zone, signed; its text."""
    (folder / "plain").write_text(ZONE)
    made = subprocess.run(
        ["ldns-keygen", "-a", "ECDSAP256SHA256", "-r", "/dev/urandom", "e.test"],
        cwd=folder, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    subprocess.run(
        ["ldns-signzone", "-f", "signed", *options, "plain", made.stdout.strip()],
        cwd=folder, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    return (folder / "signed").read_text()


def parts(message):
    """What must be equal: RCODE, flags, and each section as a set of records without RRSIG's own octets."""
    sections = []
    for section in (message.answer, message.authority, message.additional):
        sections.append(
            {
                (str(r.name).lower(), r.rdtype, r.covers, tuple(sorted(d.to_text().lower() for d in r)))
                for r in section
                if r.rdtype != dns.rdatatype.OPT
            }
        )
    return message.rcode(), message.flags, sections


def kind(record):
    """The type of a record or of what it signs; nsd adds the apex NS to positive answers, which we leave out."""
    name, rtype, covers, _ = record
    found = dns.rdatatype.to_text(covers or rtype)
    return "apex NS" if name == "e.test." and found == "NS" else found


@pytest.mark.parametrize(
    "options",
    [(), ("-n",), ("-n", "-p"), ("-n", "-t", "5", "-s", "aabb")],
    ids=["nsec", "nsec3", "optout", "salt"],
)
@pytest.mark.parametrize("native", [True, False], ids=["c", "python"])
def test_signed_zones_are_answered_as_nsd_answers(options, native, server, tmp_path):
    text = signed(tmp_path, *options)
    zone = ours.Zone.from_text(text, "e.test")
    running = server(ours.Service(zone, native=native), mode=UDP)
    (tmp_path / "peer").mkdir()
    nsd = Nsd(tmp_path / "peer", zone=text)
    wrong = []
    try:
        questions = [(name, rtype) for name in NAMES for rtype in TYPES]
        random.Random(1).shuffle(questions)
        for name, rtype in questions:
            full = "e.test." if name == "@" else f"{name}.e.test."
            if rtype == "ANY" or (rtype == "NSEC" and options):
                continue
            query = dns.message.make_query(full, rtype, want_dnssec=True, payload=4096, flags=0)
            ports = (running.address.port, nsd.port)
            mine, theirs = (dns.query.udp(query, "127.0.0.1", port=port, timeout=3) for port in ports)
            if mine.flags & dns.flags.TC or theirs.flags & dns.flags.TC:
                continue
            left, right = parts(mine), parts(theirs)
            more = {kind(r) for r in right[2][1] - left[2][1]} - {"apex NS"}
            if name.startswith("*"):
                more -= {"NSEC3"}  # asked for the wildcard itself, nsd also proves what it need not
            if left[:2] != right[:2] or left[2][0] != right[2][0] or left[2][1] - right[2][1] or more:
                wrong.append((name, rtype, left[:2] == right[:2], left[2][0] == right[2][0], more))
    finally:
        nsd.stop()
    assert wrong == [], f"{len(wrong)} of {len(questions)}: {wrong[:3]}"
