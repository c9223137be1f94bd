"""Service: steps in order, Python handlers, and what their values mean (spec section 10)."""

import asyncio

import dnslib
import dnslib.server
import pytest

from toolips_udp import dns
from toolips_udp.address import Address
from toolips_udp.dns import edns
from toolips_udp.dns.message import Message, ask
from toolips_udp.errors import StartError
from toolips_udp.typed import Malformed

ZONE = """$ORIGIN example.test.
$TTL 60
@ SOA ns h 1 2 3 4 30
@ NS ns
ns A 127.0.0.1
www A 192.0.2.1
time A 192.0.2.2
big TXT BIG
""".replace("BIG", " ".join(['"' + "x" * 200 + '"'] * 8))
CLIENT = Address("192.0.2.99", 5353)


def replies(service, name, qtype="A", transport="udp", client=CLIENT, **kw):
    packet = kw.pop("packet", None) or ask(name, qtype, id=7, **kw).encode()
    data = asyncio.run(service.reply(packet, client, transport))
    return None if data is None else Message.parse(data)


def zone():
    return dns.Zone.from_text(ZONE)


def test_a_handler_answers_its_name_and_the_zone_everything_else():
    service = dns.Service(zone())

    @service.answers("time.example.test", "TXT")
    def now(q):
        assert (q.name, q.labels, q.type) == ("time.example.test.", ("time", "example", "test"), "TXT")
        assert q.client is CLIENT and q.transport == "udp" and not q.verified
        return dns.TXT("noon", ttl=0)

    reply = replies(service, "TIME.example.test", "TXT")
    assert reply.answer[0].text == 'TIME.example.test. 0 IN TXT "noon"' and reply.aa
    assert replies(service, "www.example.test").texts()["answer"] == ["www.example.test. 60 IN A 192.0.2.1"]
    assert replies(service, "time.example.test").answer[0].data == bytes((192, 0, 2, 2))  # the zone has the A


def test_a_name_that_only_a_handler_has_exists_for_other_types_too():
    service = dns.Service(zone())

    @service.answers("only.example.test", "TXT")
    def only(q):
        return dns.TXT("x")

    reply = replies(service, "only.example.test", "AAAA")
    assert reply.rcode == 0 and reply.answer == [] and reply.authority[0].name == zone().origin


def test_a_wildcard_takes_names_below_it_and_the_most_specific_pattern_wins():
    service = dns.Service()

    @service.answers("*.example.test", "A")
    def wide(q):
        return dns.A("192.0.2.1")

    @service.answers("*.sum.example.test", "A")
    def add(q):
        digits = q.labels[:-3]
        if not all(d.isdigit() for d in digits):
            return dns.NXDOMAIN
        return dns.Answer(dns.A(f"127.0.0.{sum(map(int, digits)) % 256}", ttl=60), share=True)

    assert replies(service, "3.4.sum.example.test").answer[0].data == bytes((127, 0, 0, 7))
    assert replies(service, "a.b.example.test").answer[0].data == bytes((192, 0, 2, 1))
    negative = replies(service, "x.sum.example.test")
    assert negative.rcode == 3 and negative.authority[0].type == 6
    assert replies(service, "example.test").rcode == 5


@pytest.mark.parametrize(
    ("value", "rcode", "count"),
    [
        (dns.NXDOMAIN, 3, 0), (dns.NODATA, 0, 0), (dns.REFUSED, 5, 0), (dns.PASS, 5, 0), (dns.DROP, None, 0),
        (dns.A("192.0.2.1"), 0, 1), ([dns.A("192.0.2.1"), dns.A("192.0.2.2")], 0, 2), (None, 2, 0), ("1.2.3.4", 2, 0),
        ([], 2, 0), (dns.Answer(rcode="servfail", ede=(22, "no")), 2, 0), (ZeroDivisionError(), 2, 0),
    ],
)  # fmt: skip
def test_what_a_handler_returns_becomes_the_reply(value, rcode, count):
    service = dns.Service()

    @service.answers("a.test", "A")
    def fn(q):
        if isinstance(value, Exception):
            raise value
        return value

    reply = replies(service, "a.test")
    assert (reply and reply.rcode) == rcode
    if reply:
        assert len(reply.answer) == count
        assert bool(reply.authority) == (rcode in (0, 3) and not count)


def test_an_async_handler_waits_without_holding_others_and_its_time_is_bounded():
    service = dns.Service()

    @service.answers("slow.test", "A", timeout=0.02)
    async def slow(q):
        await asyncio.sleep(5)

    @service.answers("quick.test", "A")
    async def quick(q):
        await asyncio.sleep(0)
        return dns.A("192.0.2.1")

    assert replies(service, "quick.test").answer
    failed = replies(service, "slow.test")
    assert failed.rcode == 2 and failed.options[edns.EDE] == b"\0\0"


def test_at_most_bounds_what_waits_and_the_next_one_gets_servfail():
    service = dns.Service()

    @service.answers("slow.test", "A", timeout=1, at_most=2)
    async def slow(q):
        await gate.wait()
        return dns.A("192.0.2.1")

    async def scene():
        nonlocal gate
        gate = asyncio.Event()
        packet = ask("slow.test", "A").encode()
        waiting = [asyncio.ensure_future(service.reply(packet, CLIENT)) for _ in range(3)]
        await asyncio.sleep(0)
        assert [task.done() for task in waiting] == [False, False, True]
        gate.set()
        return [Message.parse(data).rcode for data in await asyncio.gather(*waiting)]

    gate = None
    assert asyncio.run(scene()) == [0, 0, 2]


def test_a_threaded_handler_runs_in_a_thread():
    import threading

    service = dns.Service()

    @service.answers("block.test", "TXT", threaded=True)
    def block(q):
        return dns.TXT(str(threading.current_thread() is threading.main_thread()))

    assert b"False" in replies(service, "block.test", "TXT").answer[0].data


def test_without_an_answer_the_reply_is_refused_with_the_reason():
    reply = replies(dns.Service(zone()), "other.org")
    assert reply.rcode == 5 and not reply.aa and reply.options[edns.EDE][:2] == b"\0\x14"


def test_q_resolve_asks_the_steps_under_a_budget():
    service = dns.Service(zone())

    @service.answers("alias.test", "A")
    async def alias(q):
        result = await q.resolve("www.example.test", "A")
        return [dns.RR("A", data, ttl=5) for data in result.answer[0].rdatas]

    @service.answers("loop.test", "A")
    async def loop(q):
        await q.resolve("loop.test", "A")

    assert replies(service, "alias.test").answer[0].data == bytes((192, 0, 2, 1))
    assert replies(service, "loop.test").rcode == 2


def test_an_unmodified_dnslib_resolver_answers():
    class Old(dnslib.server.BaseResolver):
        def resolve(self, request, handler):
            assert handler.client_address == ("192.0.2.99", 5353) and handler.protocol == "udp"
            reply = request.reply()
            reply.add_answer(*dnslib.RR.fromZone("www.example.org. 60 A 192.0.2.7"))
            return reply

    for threaded in (False, True):
        reply = replies(dns.Service(dns.from_dnslib(Old(), threaded=threaded)), "www.example.org")
        assert reply.answer[0].data == bytes((192, 0, 2, 7)) and reply.udp_size == 1232


def test_the_message_of_a_question_is_made_for_dnslib_and_dnspython():
    service = dns.Service()
    seen = []

    @service.answers("m.test", "A")
    def fn(q):
        seen.append((str(q.message.q.qname), q.message_dnspython.question[0].name.to_text()))
        return dns.NODATA

    replies(service, "m.test")
    assert seen == [("m.test.", "m.test.")]


def test_a_server_id_is_told_only_to_those_who_ask():
    service = dns.Service(zone(), id="ns1")
    assert edns.NSID not in replies(service, "www.example.test").options
    assert replies(service, "www.example.test", options={edns.NSID: b""}).options[edns.NSID] == b"ns1"
    chaos = ask("id.server", "TXT")
    chaos.question[0] = (*chaos.question[0][:2], 3)
    assert replies(service, "", packet=chaos.encode()).answer[0].data == b"\3ns1"
    assert replies(dns.Service(), "", packet=chaos.encode()).rcode == 5


def test_a_cookie_comes_back_with_a_server_part_and_makes_the_client_verified():
    service = dns.Service(zone())
    seen = []

    @service.answers("v.test", "A")
    def fn(q):
        seen.append(q.verified)
        return dns.NODATA

    first = replies(service, "v.test", options={edns.COOKIE: b"abcdefgh"})
    cookie = first.options[edns.COOKIE]
    assert len(cookie) == 24 and cookie[:8] == b"abcdefgh"
    replies(service, "v.test", options={edns.COOKIE: cookie})
    replies(service, "v.test", options={edns.COOKIE: cookie}, client=Address("192.0.2.98", 5353))
    assert seen == [False, True, False]


def test_a_ns4_an_answer_above_the_limit_is_truncated_and_whole_over_tcp():
    service = dns.Service(zone())
    for size in (0, 512, 1232, 4096):
        reply = replies(service, "big.example.test", "TXT", size=size)
        assert reply.tc and not reply.answer
    whole = replies(service, "big.example.test", "TXT", transport="tcp")
    assert not whole.tc and len(whole.answer[0].data) == 8 * 201


def test_clients_outside_the_access_list_are_refused():
    service = dns.Service(zone(), access={"query": ["10.0.0.0/8"]})
    reply = replies(service, "www.example.test")
    assert reply.rcode == 5 and reply.options[edns.EDE][:2] == b"\0\x12"
    assert replies(service, "www.example.test", client=Address("::ffff:10.1.2.3", 1)).rcode == 0
    with pytest.raises(StartError, match="transfer"):
        dns.Service(access={"transfer": []})


def test_what_is_no_query_is_malformed_and_what_is_no_step_is_an_error():
    with pytest.raises(Malformed):
        replies(dns.Service(), "", packet=b"hello")
    with pytest.raises(StartError, match="Expected a Zone"):
        dns.Service("zone.txt")


def test_records_of_every_type_are_made_by_name():
    assert dns.MX("10 mail.example.org.").data == dns.MX(10, "mail.example.org.").data
    assert dns.CAA('0 issue "ca.test"').type == 257 and dns.NSAP_PTR("a.").type == 23
    with pytest.raises(AttributeError):
        dns.NOSUCH  # noqa: B018
    with pytest.raises(ValueError, match="255"):
        dns.TXT("x" * 256)
