"""Choices of an operator and what they change: any, minimal, ecs, silent, limit, share; in C and in Python alike."""

import asyncio
import ipaddress

import pytest

from toolips_udp import TCP, UDP
from toolips_udp import dns as ours
from toolips_udp.address import Address
from toolips_udp.dns import edns
from toolips_udp.dns.message import Message, ask
from toolips_udp.errors import StartError

ZONE = """
@ 60 SOA a b 7 2 3 4 5
@ 60 NS a
@ 60 MX 1 mail
_x._udp 60 SRV 1 1 5 mail
mail 60 A 192.0.2.25
mail 60 TXT m
a 60 A 192.0.2.1
"""
HOME = Address("127.0.0.1", 4000)
BOTH = pytest.mark.parametrize("native", [True, False], ids=["c", "python"])


def service(*steps, native=True, **settings):
    made = ours.Service(*(steps or (ours.Zone.from_text(ZONE, "z.test"),)), native=native, **settings)
    made.stages()  # the native half, where there is one
    made.clock = lambda: 100.0
    return made


def exchange(made, name, rtype, client=HOME, transport="udp", options=b"", **kw):
    packet = ask(name, rtype, rd=False, **kw).encode()
    if options:
        packet = packet[:-2] + len(options).to_bytes(2, "big") + options
    half = made.half
    octets = half.answer(packet, client, transport) if half is not None else None
    if octets is None:
        octets = asyncio.run(made.reply(packet, client, transport))
    elif isinstance(octets, int):
        octets = None
    return None if octets is None else Message.parse(octets)


@BOTH
def test_e9_any_is_one_rrset_or_with_any_all_everything_over_streams(native):
    small = service(native=native)
    assert len({r.type for r in exchange(small, "z.test", "ANY").answer}) == 1
    whole = service(native=native, any="all")
    over_udp = exchange(whole, "mail.z.test", "ANY")
    assert over_udp.tc and not over_udp.answer and over_udp.aa
    over_tcp = exchange(whole, "mail.z.test", "ANY", transport="tcp")
    assert not over_tcp.tc and {r.type for r in over_tcp.answer} == {1, 16}
    assert exchange(whole, "other.test", "ANY").rcode == 5
    assert exchange(whole, "mail.z.test", "A").answer
    with pytest.raises(StartError, match='"minimal" or "all"'):
        ours.Service(any="some")


@BOTH
def test_a6_mx_and_srv_bring_addresses_only_when_not_minimal(native):
    for minimal in (True, False):
        made = service(native=native, minimal=minimal)
        for name, rtype in (("z.test", "MX"), ("_x._udp.z.test", "SRV")):
            reply = exchange(made, name, rtype)
            assert len(reply.answer) == 1 and len(reply.additional) == (0 if minimal else 1)


def subnet(text, octets=None):
    network = ipaddress.ip_network(text)
    family = 1 if network.version == 4 else 2
    data = network.network_address.packed[: (network.prefixlen + 7) // 8] if octets is None else octets
    return edns.option(edns.ECS, family.to_bytes(2, "big") + bytes((network.prefixlen, 0)) + data)


@BOTH
def test_e6_client_subnets_are_ignored_unless_wanted_then_checked_and_given_back(native):
    good, bad = subnet("192.0.2.0/24"), subnet("192.0.2.0/24", b"\xc0\0\2\1")
    off = service(native=native)
    for option in (good, bad):
        reply = exchange(off, "a.z.test", "A", options=option)
        assert reply.answer and edns.ECS not in reply.options
    on = service(native=native, ecs=True)
    for text in ("192.0.2.0/24", "0.0.0.0/0", "2001:db8::/33"):
        reply = exchange(on, "a.z.test", "A", options=subnet(text))
        assert reply.answer and edns.option(edns.ECS, reply.options[edns.ECS]) == subnet(text)
    for option in (
        bad,
        subnet("192.0.2.0/25", b"\xc0\0\2\1"),
        edns.option(edns.ECS, b"\0\1"),
        edns.option(edns.ECS, b"\0\1\x18\1\xc0\0\2"),
    ):
        reply = exchange(on, "a.z.test", "A", options=option)
        assert reply.rcode == 1 and edns.ECS not in reply.options


@BOTH
def test_e6_a_handler_sees_the_subnet_and_says_for_which_prefix_its_answer_is(native):
    made = service(native=native, ecs=True)

    @made.answers("geo.test", "TXT")
    def geo(q):
        return ours.Answer(ours.TXT(str(q.subnet)), scope=16, share=True)

    if native:
        made.half.refresh()
    reply = exchange(made, "geo.test", "TXT", options=subnet("192.0.2.0/24"))
    assert str(reply.answer[0].text).endswith('"192.0.2.0/24"')
    assert reply.options[edns.ECS] == b"\0\1\x18\x10\xc0\0\2"
    plain = exchange(made, "geo.test", "TXT")
    assert str(plain.answer[0].text).endswith('"None"') and edns.ECS not in plain.options


@BOTH
def test_q16_who_may_not_ask_is_refused_or_not_answered(native):
    told = service(native=native, access={"query": ["10.0.0.0/8"]})
    assert exchange(told, "a.z.test", "A").rcode == 5
    silent = service(native=native, access={"query": ["10.0.0.0/8"]}, silent=True)
    assert exchange(silent, "a.z.test", "A") is None
    assert exchange(silent, "a.z.test", "A", Address("10.1.1.1", 9)).answer


@BOTH
def test_q1_a_packet_that_says_it_comes_from_ourselves_is_dropped(server, eventually, native):
    running = server(ours.Service(ours.Zone.from_text(ZONE, "z.test"), native=native), mode=(UDP, TCP))
    running.send(ask("a.z.test", "A").encode(), running.address)
    eventually(lambda: running.counters["denied"] == 1)


@BOTH
def test_7_2_strangers_are_limited_unless_told_otherwise_and_loopback_is_not(native):
    made = service(native=native)
    stranger = Address("198.51.100.7", 999)
    replies = [exchange(made, "a.z.test", "A", stranger) for _ in range(300)]
    assert all(r is not None and r.answer for r in replies[:100])
    assert sum(r is None for r in replies) > 50 and sum(r is not None and r.tc for r in replies) > 50
    assert all(exchange(made, "a.z.test", "A").answer for _ in range(300))
    assert all(exchange(made, "a.z.test", "A", stranger, "tcp").answer for _ in range(50))
    free = service(native=native, limit=None)
    assert all(exchange(free, "a.z.test", "A", stranger).answer for _ in range(300))


def test_7_2_a_limited_prefix_is_one_line_in_the_log_and_another_after_30_seconds(caplog):
    made = service()

    def flood(host):
        for _ in range(300):
            exchange(made, "a.z.test", "A", Address(host, 9))
        made.half.tell_limited()
        return [r.getMessage() for r in caplog.records if "rate limit" in r.getMessage()]

    assert len(flood("198.51.100.7")) == 1 and len(flood("198.51.100.8")) == 1
    assert len(flood("203.0.113.5")) == 2
    made.clock = lambda: 131.0
    assert len(flood("198.51.100.9")) == 3 and "198.51.100.0/24" in caplog.text


@BOTH
def test_7_2_clients_that_may_recurse_have_twenty_times_the_rate(native):
    client = Address("10.9.8.7", 999)
    made = service(
        ours.Zone.from_text(ZONE, "z.test"),
        ours.Forward("192.0.2.53"),
        native=native,
        access={"recursion": ["10.0.0.0/8"]},
    )
    assert all(exchange(made, "a.z.test", "A", client).answer for _ in range(2000))
    assert not all(exchange(made, "a.z.test", "A", Address("198.51.100.1", 9)) for _ in range(300))


def shared():
    made = service()
    asked = []

    @made.answers("*.sum.test", "A")
    def add(q):
        asked.append(q.name)
        return ours.Answer(ours.A(f"192.0.2.{len(asked)}", ttl=30), share=True)

    @made.answers("mine.test", "A")
    async def mine(q):
        asked.append(q.client.host)
        return ours.Answer(ours.A("192.0.2.9", ttl=30))

    made.half.refresh()
    return made, asked


@pytest.mark.parametrize("over", ["udp", "tcp"])
def test_share_gives_a_handlers_answer_to_others_from_c_until_it_is_old(over):
    made, asked = shared()
    first = exchange(made, "1.sum.test", "A", transport=over)
    again = exchange(made, "1.SUM.test", "A", Address("127.0.0.2", 7))
    assert first.answer[0].data == again.answer[0].data and again.aa and len(asked) == 1
    made.clock = lambda: 120.0
    assert exchange(made, "1.sum.test", "A").answer[0].ttl == 10
    assert exchange(made, "2.sum.test", "A").answer[0].data != first.answer[0].data
    made.clock = lambda: 131.0
    exchange(made, "1.sum.test", "A")
    assert len(asked) == 3
    for _ in range(3):
        exchange(made, "mine.test", "A")
    assert len(asked) == 6  # not shared: each is asked


def test_share_keeps_do_apart_and_a_flush_forgets_it():
    made, asked = shared()
    exchange(made, "1.sum.test", "A")
    exchange(made, "1.sum.test", "A", do=True)
    assert len(asked) == 2
    made.half.flush()
    exchange(made, "1.sum.test", "A")
    assert len(asked) == 3


def test_share_over_udp_answers_from_c(server, peer):
    made = ours.Service()

    @made.answers("*.sum.test", "A")
    def add(q):
        return ours.Answer(ours.A("192.0.2.1", ttl=30), share=True)

    running = server(made, mode=(UDP, TCP))
    client = peer(running.address)
    for number in range(5):
        assert Message.parse(client.ask(ask("1.sum.test", "A", id=number).encode())).answer
    assert running.counters["native_answers"] == 4
    assert made.half.stage.counters["answers"][0, "cache"] == 4
