"""The same signed zones in NSD and in our images, thousands of questions, every section compared.

Needs Debian's nsd and bind9-utils (dnssec-signzone); without them the tests say so.
"""

import random
import shutil
import socket
import subprocess
import time

import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rdatatype
import dns.zone
import pytest

from tests.conftest import free_port
from toolips_udp._native import dns as native

NSD, SIGN, KEYGEN = (shutil.which(tool) for tool in ("nsd", "dnssec-signzone", "dnssec-keygen"))
SERVER = native.Server(secrets=())
pytestmark = pytest.mark.peers
ZONE = """$ORIGIN signed.test.
$TTL 300
@ SOA ns1 admin 7 3600 600 86400 60
@ NS ns1
@ NS ns2.sub
@ MX 10 mail
@ A 192.0.2.10
ns1 A 192.0.2.1
mail A 192.0.2.2
mail AAAA 2001:db8::2
www CNAME mail
far CNAME www
out CNAME www.elsewhere.
gone CNAME nothing
a.b.c.ent TXT deep
* 60 TXT wild
*.w A 192.0.2.3
real.w A 192.0.2.4
cw CNAME x.w
d DNAME w
dd DNAME d
sub NS ns1.sub
sub NS ns2.sub
ns1.sub A 192.0.2.5
ns2.sub AAAA 2001:db8::5
safe NS ns1.safe
safe DS 12345 13 2 1111111111111111111111111111111111111111111111111111111111111111
ns1.safe A 192.0.2.6
other NS ns.elsewhere.
"""
LABELS = ["www", "far", "out", "gone", "a", "b", "c", "ent", "w", "real", "cw", "d", "dd", "sub", "ns1", "ns2",
          "safe", "other", "mail", "*", "x", "zzz", "aaa"]  # fmt: skip
TYPES = ["A", "AAAA", "TXT", "MX", "NS", "DS", "CNAME", "DNAME", "SOA", "DNSKEY", "NSEC3PARAM"]


@pytest.fixture(params=["nsec", "nsec3", "optout"])
def peers(request, tmp_path):
    """NSD serving a signed zone, and the same zone as our image."""
    if not (NSD and SIGN and KEYGEN):
        pytest.skip("nsd and bind9-utils are not installed")
    (tmp_path / "zone").write_text(ZONE)
    keys = ["-a", "ECDSAP256SHA256", "-K", str(tmp_path)]
    for extra in ([], ["-f", "KSK"]):
        subprocess.run([KEYGEN, *keys, *extra, "signed.test"], check=True, capture_output=True)
    denial = {"nsec": [], "nsec3": ["-3", "-"], "optout": ["-3", "ab", "-H", "3", "-A"]}[request.param]
    subprocess.run(
        [SIGN, "-S", "-K", str(tmp_path), *denial, "-o", "signed.test", "-f", "signed", "-d", str(tmp_path), "zone"],
        check=True, capture_output=True, cwd=tmp_path,
    )  # fmt: skip
    port = free_port()
    (tmp_path / "nsd.conf").write_text(
        f'server:\n  ip-address: 127.0.0.1@{port}\n  username: ""\n  chroot: ""\n  zonesdir: "{tmp_path}"\n'
        f'  pidfile: "{tmp_path}/pid"\n  xfrdfile: "{tmp_path}/xfrd"\n  zonelistfile: "{tmp_path}/list"\n'
        f"  server-count: 1\n  rrl-ratelimit: 0\n  minimal-responses: yes\nremote-control:\n  control-enable: no\n"
        f"zone:\n  name: signed.test\n  zonefile: signed\n"
    )
    server = subprocess.Popen([NSD, "-d", "-c", str(tmp_path / "nsd.conf")], stderr=subprocess.DEVNULL)
    zone = dns.zone.from_file(str(tmp_path / "signed"), "signed.test.", relativize=False)
    rrsets = [
        (name.to_wire(), int(rds.rdtype), rds.ttl, [r.to_wire() for r in rds])
        for name, rds in zone.iterate_rdatasets()
    ]
    image = native.build_image(dns.name.from_text("signed.test.").to_wire(), rrsets)
    assert image.signed == ("nsec" if request.param == "nsec" else "nsec3")
    for _ in range(600):  # NSD takes its time on a busy machine
        try:
            dns.query.udp(dns.message.make_query("signed.test.", "SOA"), "127.0.0.1", port=port, timeout=0.2)
            break
        except (dns.exception.Timeout, OSError):
            time.sleep(0.05)
    yield port, native.Zones([image])
    server.terminate()
    server.wait(10)


def records(section):
    return {(r.name.canonicalize(), r.rdtype, d.to_digestable()) for r in section for d in r}


def difference(ours, theirs):
    if (ours.rcode(), ours.flags & dns.flags.AA) != (theirs.rcode(), theirs.flags & dns.flags.AA):
        return f"rcode and AA {ours.rcode()} {ours.flags:x}, NSD {theirs.rcode()} {theirs.flags:x}"
    for name in ("answer", "authority"):
        mine, other = (records(getattr(m, name)) for m in (ours, theirs))
        if name == "authority" and ours.answer:
            # NSD may add the zone's NS records to a positive answer
            other = {r for r in other if r in mine or r[1] not in (dns.rdatatype.NS, dns.rdatatype.RRSIG)}
        if mine != other:
            return f"{name}: only ours {mine - other}, only NSD's {other - mine}"
    return None


def explained(query, ours):
    """Where NSD is not followed: behind a DNAME it proves a wildcard with the NSEC before `w`, which does not
    cover the name; for a literal `*` it adds the proof of an expansion that did not take place.
    """
    behind_dname = any(r.rdtype == dns.rdatatype.DNAME for r in ours.answer)
    return bool(query.ednsflags & 0x8000) and (behind_dname or query.question[0].name.labels[0] == b"*")


def test_every_answer_with_its_proofs_equals_that_of_nsd(peers):
    port, zones = peers
    rng = random.Random(4)
    wrong = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect(("127.0.0.1", port))
        for _ in range(3000):
            name = ".".join([*rng.choices(LABELS, k=rng.randrange(4)), "signed.test."])
            query = dns.message.make_query(
                name, rng.choice(TYPES), want_dnssec=rng.random() < 0.7, payload=4096, flags=0
            )
            sock.send(query.to_wire())
            theirs = dns.message.from_wire(sock.recv(65535))
            q = native.Question.parse(SERVER, query.to_wire(), stream=True)
            ours = dns.message.from_wire(zones.answer(q))
            found = difference(ours, theirs)
            if found and not explained(query, ours):
                wrong.append((str(query.question[0]), query.ednsflags & 0x8000, found))
    assert not wrong, (len(wrong), *wrong[:3])
