"""The answering rules on zones made by symbolic execution, with the answers of four servers.

All 6,424 cases and 453 invalid zones. The data lies beside the repository;
without it the tests say so and are skipped.
"""

import gzip
import json
from pathlib import Path

import pytest

from toolips_udp.dns import lookup, names, reply, rrtypes
from toolips_udp.dns.lookup import Zones
from toolips_udp.dns.message import Message, ask
from toolips_udp.dns.query import parse_query
from toolips_udp.dns.zone import Zone, ZoneError

DATA = Path(__file__).parents[3].parent / "shared/data/ferret"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"the Ferret cases are not at {DATA}")


def cases(file):
    with gzip.open(DATA / file, "rt") as lines:
        return [json.loads(line) for line in lines]


def rrsets(lines):
    found = {}
    for line in lines:
        owner, _, _, rtype, data = line.split(None, 4)
        found.setdefault((owner.lower(), rtype), set()).add(data if rtype == "TXT" else data.lower())
    return found


def answered(zones, name, rtype):
    query = parse_query(ask(name, rtype, rd=False, size=0).encode())
    result = lookup.answer(zones, query.name, query.qtype)
    return result, Message.parse(reply.encode_reply(query, result, 512))


def same(message, wanted):
    if message.tc and wanted["tc"]:  # what a truncated reply still holds is each server's own affair
        return (rrtypes.rcode_name(message.rcode), message.aa) == (wanted["rcode"], wanted["aa"])
    found = {section: rrsets(lines) for section, lines in message.texts().items()}
    right = {section: rrsets(wanted[section]) for section in found}
    return (
        (rrtypes.rcode_name(message.rcode), message.aa, message.tc)
        == (wanted["rcode"], wanted["aa"], wanted["tc"])
        and found["answer"] == right["answer"]
        and found["additional"] == right["additional"]
        and (found["authority"] == right["authority"] or bool(found["answer"] and right["answer"]))
    )


def check_valid():
    wrong = []
    for case in cases("cases.jsonl.gz"):
        _, message = answered(
            Zones([Zone.from_text(case["zone"], case["origin"])]), case["name"], case["type"]
        )
        if not any(same(message, wanted) for wanted in case["expected"]):
            wrong.append(case["id"])
    assert wrong == []


def loops(result):
    """Whether a DNAME of the answer nests with its own target, so that it leads to itself again.

    There the servers differ among themselves in how long they follow it; we follow
    what gets shorter 16 times, and what grows once.
    """
    pairs = [(r.owner.lower(), r.rdatas[0].lower()) for r in result.answer if r.type == rrtypes.DNAME]
    return any(names.encloses(owner, target) or names.encloses(target, owner) for owner, target in pairs)


def check_invalid():
    wrong = []
    for case in cases("invalid.jsonl.gz"):
        accepted = case["accepted"] or {}
        try:
            zone = Zone.from_text(case["zone"], case["origin"])
        except ZoneError as error:
            assert not (accepted and all(accepted.values())), case["id"]
            assert str(error)
            continue
        assert case["origin"] is not None and (not accepted or any(accepted.values())), case["id"]
        for query in case["queries"]:
            result, message = answered(Zones([zone]), query["name"], query["type"])
            if not any(same(message, wanted) for wanted in query["expected"]) and not loops(result):
                wrong.append((case["id"], query["name"], query["type"]))
    assert wrong == []


def test_every_case_is_answered_as_the_reference_servers_answer():
    check_valid()


def test_every_invalid_zone_is_refused_or_answered_as_some_server_answers():
    check_invalid()
