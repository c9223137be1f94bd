"""X8: a thousand random changes through IXFR, beside Debian's knot, nsd and bind9 in both directions.

Every version carries a ZONEMD of its own (RFC 8976), so that each transfer is checked on the way: by us as
secondary, by Knot as secondary. In the end both sides hold the same records and the same digest.
"""

from __future__ import annotations

import logging
import os
import random
import time

import dns.query
import dns.tsigkeyring
import dns.xfr
import dns.zone
import pytest

from tests.interop.test_dns_peers import KEYS, PEERS, SECRET, Bind, Knot, Nsd, peer_of
from toolips_udp import TCP, UDP
from toolips_udp import dns as ours
from toolips_udp.dns import names, rdata, zonemd
from toolips_udp.dns.tsig import Keys

__all__ = ["peer_of"]
pytestmark = pytest.mark.peers

CHANGES, VERSIONS = 1000, 20
RING = dns.tsigkeyring.from_text({"xfr.": ("hmac-sha256", SECRET)})


def some_data(rng: random.Random) -> str:
    """TTL, type and RDATA of one RRset; names come in every letter case, as compression makes them."""
    octet, word = rng.randrange(256), rng.choice(("ns", "NS", "n1", "x.Other.test.", "N2.e.TEST."))
    return rng.choice(
        (
            f"60 A 10.0.0.{octet}",
            f"{rng.choice((1, 300, 86400))} AAAA 2001:db8::{octet:x}",
            f'60 TXT "{octet}" "a\\;b \\"{word}\\" \\007"',
            f"60 MX {octet} {word}",
            f"60 CNAME {word}",
            f"60 DNAME {word}",
            f"60 NS x{octet}.Other.test.",
            f"60 SRV 1 2 {octet} {word}",
            f'60 NAPTR 1 2 "u" "x" "!a!b!" {word}',
            f'60 CAA 0 issue "ca{octet}.test"',
            f"60 HTTPS 1 . alpn=h2 port={octet + 1}",
            f"60 TLSA 3 1 1 {octet:02x}{'00' * 31}",
            f"60 TYPE65400 \\# 2 {octet:02x}00",
            f"60 PTR {word}",
        )
    )


def owner(number: int) -> str:
    """The name of this number: some with empty non-terminals above, some wildcards."""
    return f"{'*.' if number % 7 == 0 else ''}n{number}{('', '.A', '.b.c')[number % 3]}"


def changed(held: dict[str, str], rng: random.Random, changes: int) -> dict[str, str]:
    """So many names with other data, with data where there were none, or without the data they had."""
    fresh = dict(held)
    for number in rng.sample(range(10, 400), changes):
        if owner(number) in fresh and rng.random() < 0.4:
            del fresh[owner(number)]
        else:
            data = some_data(rng)
            while owner(number)[0] == "*" and data[3:].startswith(("NS", "DNAME")):  # which BIND refuses
                data = some_data(rng)
            fresh[owner(number)] = data
    return fresh


def version(serial: int, held: dict[str, str]) -> str:
    """The file of a version, with its own digest in it."""
    lines = "".join(f"{name} {data}\n" for name, data in sorted(held.items()))
    text = f"$ORIGIN e.test.\n@ 60 SOA ns h {serial} 2 1 1000 60\n@ 60 NS ns\nns 60 A 127.0.0.1\n{lines}"
    digest = zonemd.record(ours.Zone.from_text(text))[6:].hex()
    return f"{text}@ 60 ZONEMD {serial} 1 1 {digest}\n"


def versions() -> list[str]:
    """The first one and one for every fifty changes; the serial passes its largest value on the way."""
    rng = random.Random(8)
    held = {owner(number): f"60 A 192.0.2.{number}" for number in range(10, 200)}
    made = [version(2**32 - 10, held)]
    for step in range(1, VERSIONS + 1):
        held = changed(held, rng, CHANGES // VERSIONS)
        made.append(version((2**32 - 10 + step) % 2**32 + (step >= 10), held))
    return made


def held_by(port: int) -> ours.Zone:
    """The zone of the server at this port, by a whole transfer that dnspython reads."""
    zone = dns.zone.Zone("e.test", relativize=False)
    query, _ = dns.xfr.make_query(zone, keyring=RING)
    dns.query.inbound_xfr("127.0.0.1", zone, query, port=port, timeout=5, lifetime=20)
    return ours.Zone.from_text(zone.to_text(relativize=False, want_origin=True))


def same(zone: ours.Zone, text: str) -> bool:
    """Whether the zone is that version: every record, and the digest that it carries holds."""
    wanted = ours.Zone.from_text(text)
    found = [
        {(names.fold(o), t, ttl, rdata.canonical(t, data)) for o, t, ttl, data in z.records()}
        for z in (zone, wanted)
    ]
    assert found[0] == found[1], f"too much {found[0] - found[1]}, too little {found[1] - found[0]}"
    return zonemd.check(zone) is True and zonemd.digest(zone) == zonemd.digest(wanted)


class ManyKnot(Knot):
    """Knot that checks the digest of what it takes, and makes deltas of its files."""

    def configuration(self, ours_at, primary):
        text = super().configuration(ours_at, primary).replace("acl: tell\n", "acl: [tell, allow]\n")
        return text + "    zonemd-verify: on\n"


class ManyNsd(Nsd):
    """NSD that makes deltas of its files, and gives its zone to whoever has the key."""

    def configuration(self, ours_at, primary):
        more = "    store-ixfr: yes\n    create-ixfr: yes\n    ixfr-number: 50\n" if primary else ""
        return (
            super().configuration(ours_at, primary)
            + more
            + "    provide-xfr: 127.0.0.0/8 xfr.\n" * (not primary)
        )


class ManyBind(Bind):
    """BIND that does not object to what random data are."""

    def command(self):
        return [word.replace("-f", "-g") for word in super().command()]

    def configuration(self, ours_at, primary):
        text = super().configuration(ours_at, primary)
        easy = "check-integrity no; check-names ignore; max-ixfr-ratio unlimited; max-journal-size 10m;"
        text = text.replace("type primary;", f"type primary; {easy}")
        return text.replace("type secondary;", "type secondary; allow-transfer { key xfr.; };")


MANY = {Knot: ManyKnot, Nsd: ManyNsd, Bind: ManyBind}


@pytest.mark.parametrize("kind", PEERS)
def test_x8_a_thousand_changes_at_the_peer_end_in_equal_zones_here(kind, peer_of, server, eventually):
    texts = versions()
    into = ours.Transfers(Keys(KEYS))
    primary = peer_of(MANY[kind], zone=texts[0])
    copy = into.secondary("e.test", [(f"127.0.0.1:{primary.port}", "xfr.")])
    server(ours.Service(*into.steps(), transfers=into), mode=(UDP, TCP))
    eventually(lambda: copy.zone.serial == 2**32 - 10, within=10)
    start = time.time()
    for number, text in enumerate(texts[1:], 1):
        serial = ours.Zone.from_text(text).serial
        primary.file.write_text(text)
        os.utime(primary.file, (start + number, start + number))  # peers look at whole seconds
        primary.reload()
        eventually(lambda serial=serial: primary.serial() == serial, within=20)
        if number % 3 and number < VERSIONS:
            continue  # the next look brings several versions at once
        copy.check_soon()
        eventually(lambda serial=serial: copy.zone.serial == serial, within=20)
        assert same(copy.zone, text)
    assert same(held_by(primary.port), texts[-1])
    assert copy.counters["axfr"] == 1 and copy.counters["ixfr"] == VERSIONS // 3 + 1, copy.counters


@pytest.mark.parametrize("kind", PEERS)
def test_x8_a_thousand_changes_here_end_in_equal_zones_at_the_peer(
    kind, peer_of, server, eventually, tmp_path, caplog
):
    caplog.set_level(logging.INFO, "toolips_udp.dns.transfer")
    texts = versions()
    (tmp_path / "zones").mkdir()
    store = ours.ZoneStore(tmp_path / "zones")
    store.save(ours.Zone.from_text(texts[0]))
    out = ours.Transfers(Keys(KEYS))
    out.allow("e.test", [("127.0.0.0/8", "xfr.")])
    store.changed.append(out.changed)
    running = server(ours.Service(store, transfers=out), mode=(UDP, TCP))
    follower = peer_of(MANY[kind], ours_at=running.address.port)
    eventually(lambda: follower.serial() == 2**32 - 10, within=20)
    out.notify("e.test", f"127.0.0.1:{follower.port}")
    for number, text in enumerate(texts[1:], 1):
        store.save(ours.Zone.from_text(text))
        serial = ours.Zone.from_text(text).serial
        # NSD takes the zone whole when a version comes before it has made the last one its own
        if number % 3 == 0 or number == VERSIONS or kind is Nsd:
            eventually(lambda serial=serial: follower.serial() == serial, within=20)
    given = [
        record.getMessage().split()[0] for record in caplog.records if " goes to " in record.getMessage()
    ]
    assert same(held_by(follower.port), texts[-1]) and same(held_by(running.address.port), texts[-1])
    assert given.count("AXFR") == 1 and given.count("IXFR") >= VERSIONS // 3, given
