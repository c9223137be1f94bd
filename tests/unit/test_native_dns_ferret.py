"""The zone image answers the Ferret cases as the reference servers did (RFC 1034, 4592, 6672)."""

import gzip
import json
import re
from pathlib import Path

import dns.message
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rrset
import pytest

from toolips_udp._native import dns as native
from toolips_udp.dns import names
from toolips_udp.dns.zone import Zone, ZoneError

FERRET = Path(__file__).parents[3] / "shared/data/ferret"
SERVER = native.Server(secrets=())


def cases(name):
    if not (FERRET / name).exists():
        pytest.skip(f"{FERRET / name} is not on this machine")
    with gzip.open(FERRET / name, "rt") as lines:
        return [json.loads(line) for line in lines]


def section(rrsets):
    return {(r.name.canonicalize(), r.rdtype): frozenset(d.to_digestable() for d in r) for r in rrsets}


def expected_section(lines):
    found = {}
    for line in lines:
        owner, ttl, _, rtype, *data = line.split(None, 4)
        rrset = dns.rrset.from_text(owner, int(ttl), "IN", rtype, *data)
        key = (rrset.name.canonicalize(), rrset.rdtype)
        found[key] = found.get(key, frozenset()) | {rrset[0].to_digestable()}
    return found


def shape(rcode, aa, tc, answer, authority, additional):
    return (rcode, aa, tc, answer, None if answer else authority, additional)


def shape_of(entry):
    return shape(
        entry["rcode"],
        entry["aa"],
        entry["tc"],
        *(expected_section(entry[s]) for s in ("answer", "authority", "additional")),
    )


def ask(zones, name, rtype):
    query = dns.message.make_query(name, rtype, flags=0)
    q = native.Question.parse(SERVER, query.to_wire())
    assert q.verdict == 0
    reply = dns.message.from_wire(zones.answer(q), one_rr_per_rrset=False)
    assert reply.question == query.question and reply.id == query.id
    return shape(
        dns.rcode.to_text(reply.rcode()),
        bool(reply.flags & 0x0400),
        bool(reply.flags & 0x0200),
        *(section(s) for s in (reply.answer, reply.authority, reply.additional)),
    )


def test_every_valid_case_is_answered_as_the_servers_do():
    agreed, split, wrong = 0, 0, []
    for case in cases("cases.jsonl.gz"):
        zone = Zone.from_text(case["zone"], case["origin"])
        zones = native.Zones([native.build_image(zone.origin, zone.rrsets())])
        got = ask(zones, case["name"], case["type"])
        if got not in [shape_of(e) for e in case["expected"]]:
            wrong.append((case["id"], case["name"], case["type"], got, case["expected"]))
        elif len(case["expected"]) == 1:
            agreed += 1
        else:
            split += 1
    assert not wrong, (len(wrong), wrong[0])
    assert (agreed, split) == (5107, 1317)


LOOPING = {"1/67", "1/97", "3/11", "3/58", "3/64", "3/83", "3/84", "3/85", "8/83", "8/88", "9/14", "9/84"}
"""Invalid zones that are served and have a DNAME which nests with its own target; docs/reference/dns.md lists them."""


def explained(got):
    """A reply that follows such a DNAME: each server stops somewhere else, or truncates."""
    return got[2] or any(rtype == dns.rdatatype.DNAME for _, rtype in got[3])


def test_invalid_zones_that_load_are_answered_like_one_server_and_none_crashes():
    equal, other = 0, set()
    for case in cases("invalid.jsonl.gz"):
        try:
            zone = Zone.from_text(case["zone"], case["origin"])
        except ZoneError:
            continue
        zones = native.Zones([native.build_image(zone.origin, zone.rrsets())])
        for query in case["queries"]:
            got = ask(zones, query["name"], query["type"])
            if got in [shape_of(e) for e in query["expected"]]:
                equal += 1
            else:
                assert explained(got), (case["id"], query["name"], query["type"], got)
                other.add("/".join(re.findall(r"\d+", case["id"])))
    assert other == LOOPING and equal > 10_000


def test_zones_that_the_reader_refuses_never_crash_the_builder():
    """What a transfer may carry: the rules broken, without the reader's check in front."""
    for case in cases("invalid.jsonl.gz"):
        rrsets = []
        for line in case["zone"].splitlines():
            parts = [p for p in line.split() if p != "IN"]
            if not parts:
                continue
            owner, rest = parts[0], parts[1:]
            ttl = int(rest.pop(0)) if rest[0].isdigit() else 300
            try:
                rdata = dns.rdata.from_text("IN", rest[0], " ".join(rest[1:]))
            except Exception:
                continue
            rrsets.append((names.from_text(owner), int(rdata.rdtype), ttl, [rdata.to_wire()]))
        origin = names.from_text(case["origin"] or (rrsets[0][0] and names.to_text(rrsets[0][0])))
        try:
            zones = native.Zones([native.build_image(origin, rrsets)])
        except native.FormatError:
            continue
        for query in case["queries"]:
            ask(zones, query["name"], query["type"])
