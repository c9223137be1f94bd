"""What reading a message costs: a DNS question in C, its Python twin and dnslib; a typed packet."""

import dnslib
import msgspec
import pytest

from toolips_udp._native import dns as native
from toolips_udp.dns.query import parse_query
from toolips_udp.typed import decoder_for

QUESTION = dnslib.DNSRecord.question("www.example.test", "AAAA").pack()


class Move(msgspec.Struct):
    player: str
    x: int
    y: int


@pytest.mark.benchmark(group="parse: a DNS question")
@pytest.mark.parametrize("by", ["C", "Python", "dnslib"])
def test_dns_question(benchmark, by):
    server = native.Server()
    work = {
        "C": lambda: native.Question.parse(server, QUESTION),
        "Python": lambda: parse_query(QUESTION),
        "dnslib": lambda: dnslib.DNSRecord.parse(QUESTION),
    }
    assert benchmark(work[by])


@pytest.mark.benchmark(group="parse: a Struct")
@pytest.mark.parametrize("form", ["json", "msgpack"])
def test_struct(benchmark, form):
    data = getattr(msgspec, form).encode(Move("ada", 1, 2))
    assert benchmark(decoder_for(Move, "bench"), data) == Move("ada", 1, 2)
