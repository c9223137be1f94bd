"""BIND gets the packets of the ledger too: where it reacts otherwise, this file says why."""

from __future__ import annotations

import shutil
import socket

import pytest

from tests.interop.test_dns_peers import Bind
from tests.wire.test_dns_ledger import FAMILIES, ZONE
from toolips_udp.dns import rrtypes
from toolips_udp.dns.message import Message

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(shutil.which("named") is None, reason="named is not installed (apt install bind9)"),
]

DIFFERENT = {
    "opcodes that nobody serves (Q4)": "it parses the sections first, so noise behind the header is FORMERR there",
    "records where a question has none (Q7)": "it reads such records and answers; none of its parts uses them",
    "additional records other than one OPT and one signature (Q8)": "the same",
    "compressed question names (N4)": "it follows a pointer into the header; nothing was written there as a name",
    "types that are no question (Q14)": "type 0 is a type without data to it",
    "types that nobody knows are answered from the data (Q15)": "it takes 128 to 255 for meta types (RFC 6895 3.1)",
    "classes other than IN (Q13)": "it says NOTIMP or FORMERR for what we call REFUSED, and tells its version",
    "broken OPT records (Q11)": "it has no budget for options in one message",
    "octets behind the last record (Q10)": "it drops them and answers",
    "strange, and answered": "it checks options that it does not act on (LLQ, CHAIN, KEY-TAG, ECS)",
}


class BindHere(Bind):
    def configuration(self, ours_at, primary):
        return super().configuration(ours_at, primary).replace('"e.test"', '"example.test"')

    def serial(self):
        try:
            return len(self.ask("example.test", "SOA").answer) or None
        except Exception:  # not up yet
            return None


def reaction(port: int, packet: bytes, patience: float) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        client.settimeout(patience)
        client.send(packet)
        try:
            return rrtypes.rcode_name(Message.parse(client.recv(4096)).rcode)
        except TimeoutError:
            return "drop"


def test_bind_reacts_alike_but_where_the_ledger_says_why(tmp_path):
    bind = BindHere(tmp_path, zone=f"$ORIGIN example.test.\n{ZONE}")
    try:
        otherwise = set()
        for family, packets in FAMILIES.items():
            for packet in packets:
                expected = packet.reaction[0]
                if reaction(bind.port, packet.data, 0.05 if expected == "drop" else 5) != expected:
                    otherwise.add(family)
    finally:
        bind.stop()
    assert otherwise == set(DIFFERENT)
