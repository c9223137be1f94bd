"""The answering rules on zones made by symbolic execution, with the answers of four servers.

All 6,424 cases and 453 invalid zones. The data lies beside the repository;
without it the tests say so and are skipped.
"""

import gzip
import json
import re
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


LOOPING = {"1/67", "1/97", "3/11", "3/58", "3/64", "3/83", "3/84", "3/85", "8/83", "8/88", "9/14", "9/84"}
"""Invalid zones that are served and have a DNAME which nests with its own target; docs/reference/dns.md lists them."""


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


def number(case):
    """`1/67` for InvalidZoneFileTests/FalseCond_1/ZoneFiles/67.txt."""
    return "/".join(re.findall(r"\d+", case["id"]))


def check_invalid():
    wrong, looping = [], set()
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
            if any(same(message, wanted) for wanted in query["expected"]):
                continue
            if number(case) not in LOOPING or not loops(result):
                wrong.append((case["id"], query["name"], query["type"]))
            looping.add(number(case))
    assert wrong == []
    assert looping == LOOPING, "a zone that needs no excuse any more is to be taken from the list"


def test_every_case_is_answered_as_the_reference_servers_answer():
    check_valid()


def test_the_zones_answered_like_no_server_are_those_the_docs_list():
    text = (Path(__file__).parents[3] / "docs/reference/dns.md").read_text()
    listed = re.search(r"These zones: ([\d/, \n]+)\.", text)
    assert listed and set(re.split(r",\s+", listed[1])) == LOOPING


def test_every_invalid_zone_is_refused_or_answered_as_some_server_answers():
    check_invalid()
