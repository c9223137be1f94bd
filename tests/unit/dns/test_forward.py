"""The forwarder: cache, coalescing, failover, hedging, and which datagram is the reply (spec 4.3, 5)."""

# ruff: noqa: E501

import random

import pytest

from toolips_udp import dns
from toolips_udp.dns import edns, names, rrtypes
from toolips_udp.dns.exchange import Exchange, randomized
from toolips_udp.dns.message import Message, Record
from toolips_udp.dns.upstream import Group, HedgeBudget, Upstream
from toolips_udp.errors import FormatError

WWW = names.from_text("www.example.org")


def message_to(packet, **changes):
    """A good reply to a question, to be spoiled."""
    query = Message.parse(packet)
    reply = Message(id=query.id, flags=0x8180, question=list(query.question), udp_size=1232)
    reply.answer.append(Record(query.question[0][0], 1, 1, 60, bytes((192, 0, 2, 1))))
    for key, value in changes.items():
        setattr(reply, key, value)
    return reply.encode()


def test_a_cached_answer_ages_and_is_asked_again(dns_net, clock):
    upstream = dns_net.authority("example.org", "www 60 A 192.0.2.1")
    client = dns_net.serve(dns.Service(dns.Forward(upstream)))
    assert client.ask("www.example.org", "A").ttl == 60
    clock.advance(59)
    assert client.ask("www.example.org", "A").ttl == 1 and upstream.asked == 1
    clock.advance(2)
    assert client.ask("www.example.org", "A").ttl == 60 and upstream.asked == 2


def test_c3_negative_answers_live_as_their_soa_says(dns_net, clock):
    upstream = dns_net.authority("example.org")
    client = dns_net.serve(dns.Service(dns.Forward(upstream)))
    assert client.ask("nx.example.org").rcode == "NXDOMAIN"
    clock.advance(59)
    assert client.ask("NX.example.org").message.authority[0].ttl == 1 and upstream.asked == 1
    clock.advance(2)
    client.ask("nx.example.org")
    assert upstream.asked == 2


def test_c3_failures_are_kept_for_five_seconds_then_doubling(dns_net, clock):
    upstream = dns_net.authority("example.org")
    upstream.refusing = True
    client = dns_net.serve(dns.Service(dns.Forward(upstream)))
    first = client.ask("a.example.org")
    assert first.rcode == "SERVFAIL" and first.ede == 22
    assert client.ask("a.example.org").rcode == "SERVFAIL"
    upstream.refusing = False
    clock.advance(4)
    assert client.ask("a.example.org").message.options[edns.EDE]
    assert upstream.asked == 0
    clock.advance(2)
    assert client.ask("a.example.org").rcode == "NXDOMAIN"


def test_the_cache_never_mixes_do_cd_or_case(dns_net):
    upstream = dns_net.authority("example.org", "www 60 A 192.0.2.1")
    client = dns_net.serve(dns.Service(dns.Forward(upstream)))
    for wanted, kw in enumerate([{}, {"do": True}, {"flags": 0x0110}], 1):
        if "flags" in kw:
            packet = bytearray(dns.ask("www.example.org", "A").encode())
            packet[3] |= 0x10
            client.exchange(bytes(packet))
        else:
            client.ask("www.example.org", "A", **kw)
        assert upstream.asked == wanted
    reply = client.ask("WWW.Example.ORG", "A", size=0)
    assert upstream.asked == 3 and reply.message.udp_size == 0
    assert names.to_text(reply.message.question[0][0]) == "WWW.Example.ORG."


def test_c11_identical_questions_in_flight_are_one_question(dns_net):
    upstream = dns_net.authority("example.org", "www 60 A 192.0.2.1")
    upstream.delay = 0.1
    client = dns_net.serve(dns.Service(dns.Forward(upstream)))
    replies = client.ask_all([("www.example.org", "A")] * 1000)
    assert upstream.asked == 1 and len(replies) == 1000 and len({r.message.id for r in replies}) == 1000
    assert all(r.data == ["192.0.2.1"] for r in replies)


def test_c11_an_answer_that_was_held_back_leaves_in_no_burst_but_for_who_showed_that_they_asked(
    dns_net, monkeypatch
):
    upstream = dns_net.authority("example.org", "*.a 60 A 192.0.2.1")
    forward = dns.Forward(upstream)
    client = dns_net.serve(dns.Service(forward))
    monkeypatch.setattr(type(forward.group.upstreams[0]), "timeout", 4.0)  # it is slow, and waited for
    upstream.delay = 1.85
    assert len(client.ask_all([(f"{i}.a.example.org", "A") for i in range(100)])) == 100
    upstream.delay = 1.95
    assert client.ask_all([(f"{i}.b.a.example.org", "A") for i in range(1000)]) == []
    assert client.ask("1.b.a.example.org").data == ["192.0.2.1"]  # it is kept
    assert client.ask("c.a.example.org", transport="tcp").data == ["192.0.2.1"]


def test_c11_of_more_than_a_thousand_that_wait_for_one_answer_the_oldest_is_let_go(dns_net):
    upstream = dns_net.authority("example.org", "www 60 A 192.0.2.1")
    upstream.delay = 0.1
    client = dns_net.serve(dns.Service(dns.Forward(upstream)))
    replies = client.ask_all([("www.example.org", "A")] * 1005)
    assert upstream.asked == 1 and [r.rcode for r in replies] == ["SERVFAIL"] * 5 + ["NOERROR"] * 1000


@pytest.mark.parametrize("octets", [600, 1200, 1240, 1500, 2047, 2048, 2049, 4096, 9000])
def test_f5_a_reply_longer_than_we_take_is_asked_again_by_tcp(dns_net, octets):
    upstream = dns_net.authority("example.org", "www 60 A 192.0.2.1")

    def long(packet, transport):
        reply = Message.parse(packet)
        reply.flags, reply.options = 0x8180, {}
        answer = Record(reply.question[0][0], 1, 1, 60, bytes((192, 0, 2, 66 if transport == "udp" else 7)))
        reply.answer = [answer]
        reply.options = {edns.PADDING: bytes(octets - len(reply.encode()) - 4)}
        return [reply.encode()]

    upstream.respond = long
    client = dns_net.serve(dns.Service(dns.Forward(upstream)))
    assert client.ask("www.example.org").data == ["192.0.2.66" if octets <= 1232 else "192.0.2.7"]
    assert [transport for transport, _ in upstream.seen] == (["udp"] if octets <= 1232 else ["udp", "tcp"])


def test_c9_a_popular_answer_is_refreshed_before_it_ends(dns_net, clock):
    upstream = dns_net.authority("example.org", "www 100 A 192.0.2.1")
    client = dns_net.serve(dns.Service(dns.Forward(upstream)))
    for _ in range(3):
        client.ask("www.example.org")
    clock.advance(95)
    assert client.ask("www.example.org").ttl == 5
    dns_net.settle()
    assert upstream.asked == 2
    assert client.ask("www.example.org").ttl == 100 and upstream.asked == 2


def test_c10_stale_data_are_served_when_the_refresh_fails(dns_net, clock):
    upstream = dns_net.authority("example.org", "www 60 A 192.0.2.1")
    client = dns_net.serve(dns.Service(dns.Forward(upstream)))
    client.ask("www.example.org")
    clock.advance(100)
    upstream.silent = True
    before = clock()
    stale = client.ask("www.example.org")
    assert stale.ttl == 30 and stale.ede == 3 and stale.data == ["192.0.2.1"]
    assert clock() - before <= 1.9
    upstream.silent = False
    clock.advance(10)
    dns_net.settle()
    clock.advance(31)
    assert client.ask("www.example.org").ttl == 60
    clock.advance(90_000)
    upstream.refusing = True
    assert client.ask("www.example.org").rcode == "SERVFAIL"


def test_ttl_zero_is_shared_with_those_who_wait_but_never_stored(dns_net):
    upstream = dns_net.authority("example.org", "www 0 A 192.0.2.1")
    client = dns_net.serve(dns.Service(dns.Forward(upstream)))
    client.ask_all([("www.example.org", "A")] * 5)
    client.ask("www.example.org")
    assert upstream.asked == 2


def test_a_silent_upstream_is_left_for_the_next_and_down_after_three_failures(dns_net, clock):
    first = dns_net.authority("example.org", "*.a 60 A 192.0.2.1")
    second = dns_net.authority("example.org", "*.a 60 A 192.0.2.2")
    first.silent = True
    forward = dns.Forward(first, second, policy="ordered", hedge=10)
    client = dns_net.serve(dns.Service(forward))
    for i in range(5):
        assert client.ask(f"{i}.a.example.org").data == ["192.0.2.2"]
    assert forward.group.upstreams[0].down and first.asked == 3
    first.silent = False
    for i in range(5, 12):
        clock.advance(1.1)
        client.ask(f"{i}.a.example.org")
    assert not forward.group.upstreams[0].down  # two good probes brought it back
    assert client.ask("99.a.example.org").data == ["192.0.2.1"]


def test_f4_a_slow_upstream_is_hedged_and_the_first_answer_wins(dns_net, clock):
    slow = dns_net.authority("example.org", "www 60 A 192.0.2.1")
    quick = dns_net.authority("example.org", "www 60 A 192.0.2.2")
    slow.delay = 0.3
    client = dns_net.serve(dns.Service(dns.Forward(slow, quick, policy="ordered", hedge=0.01)))
    before = clock()
    assert client.ask("www.example.org").data == ["192.0.2.2"]
    assert 0.009 < clock() - before < 0.02


def test_f4_at_most_one_question_in_twenty_is_hedged():
    budget = HedgeBudget()
    taken = 0
    for i in range(1000):
        budget.asked(i / 1000)
        taken += budget.take()
    assert 0 < taken <= 51


def test_f5_a_truncated_reply_is_asked_again_over_tcp(dns_net):
    upstream = dns_net.authority("example.org", "big 60 TXT " + " ".join(['"' + "x" * 250 + '"'] * 8))
    client = dns_net.serve(dns.Service(dns.Forward(upstream)))
    reply = client.ask("big.example.org", "TXT", transport="tcp")
    assert len(reply.message.answer[0].data) == 8 * 251
    assert [transport for transport, _ in upstream.seen] == ["udp", "tcp"]


def test_f5_a_server_without_edns_is_asked_without_it_for_a_while(dns_net, clock):
    upstream = dns_net.authority("example.org", "*.a 60 A 192.0.2.1")

    def old(packet, transport):
        query = Message.parse(packet)
        if query.udp_size:
            return [Message(id=query.id, flags=0x8000, rcode=1).encode()]
        return upstream.answer(packet, transport)

    upstream.respond = old
    client = dns_net.serve(dns.Service(dns.Forward(upstream)))
    assert client.ask("1.a.example.org").data == ["192.0.2.1"]
    assert client.ask("2.a.example.org").data == ["192.0.2.1"]
    assert upstream.asked == 3
    clock.advance(901)
    client.ask("3.a.example.org")
    assert upstream.asked == 5


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: message_to(p, id=(Message.parse(p).id + 1) & 0xFFFF), lambda p: message_to(p, question=[(WWW, 28, 1)]),
        lambda p: message_to(p, question=[(names.from_text("other."), 1, 1)]), lambda p: message_to(p, question=[(Message.parse(p).question[0][0].swapcase(), 1, 1)]),
        lambda p: message_to(p, question=[(Message.parse(p).question[0][0], 1, 3)]),
    ],
)  # fmt: skip
def test_s_a_wrong_reply_is_not_believed_and_the_question_goes_out_by_tcp(dns_net, spoil):
    upstream = dns_net.authority("example.org", "www 60 A 192.0.2.77")
    upstream.respond = lambda packet, transport: (
        [spoil(packet)] if transport == "udp" else upstream.answer(packet, transport)
    )
    client = dns_net.serve(dns.Service(dns.Forward(upstream)))
    assert client.ask("www.example.org").data == ["192.0.2.77"]
    assert [transport for transport, _ in upstream.seen] == ["udp", "tcp"]


@pytest.mark.parametrize("garbage", [b"", b"x" * 11, bytes(12), b"\xff" * 40])
def test_s_garbage_before_the_reply_does_not_stop_the_wait(dns_net, garbage):
    upstream = dns_net.authority("example.org", "www 60 A 192.0.2.1")

    def noisy(packet, transport):
        unreadable = message_to(packet)[:-3]
        return [
            garbage[:2] and packet[:2] + garbage[2:],
            unreadable,
            packet,
            *upstream.answer(packet, transport),
        ]

    upstream.respond = noisy
    client = dns_net.serve(dns.Service(dns.Forward(upstream)))
    assert client.ask("www.example.org").data == ["192.0.2.1"]


def test_s_a_late_good_reply_still_wins_over_the_forged_one(dns_net):
    upstream = dns_net.authority("example.org", "www 60 A 192.0.2.1")
    upstream.respond = lambda packet, transport: (
        [message_to(packet, id=1 ^ Message.parse(packet).id), *upstream.answer(packet)]
        if transport == "udp"
        else []
    )
    client = dns_net.serve(dns.Service(dns.Forward(upstream)))
    assert client.ask("www.example.org").data == ["192.0.2.1"]


def test_b1_records_that_were_not_asked_for_are_dropped(dns_net):
    upstream = dns_net.authority("example.org")

    def poisoned(packet, transport):
        query = Message.parse(packet)
        reply = Message(id=query.id, flags=0x8180, question=list(query.question), udp_size=1232)
        evil = names.from_text("bank.example.com")
        reply.answer = [
            Record(evil, 1, 1, 60, bytes(4)), Record(query.question[0][0], 5, 1, 60, names.from_text("b.example.org")),
            Record(names.from_text("b.example.org"), 1, 1, 60, bytes((192, 0, 2, 5))),
        ]  # fmt: skip
        reply.authority = [
            Record(names.from_text("com"), 2, 1, 60, evil),
            Record(names.from_text("example.org"), 2, 1, 60, evil),
        ]
        reply.additional = [Record(evil, 1, 1, 60, bytes(4))]
        return [reply.encode()]

    upstream.respond = poisoned
    client = dns_net.serve(dns.Service(dns.Forward(upstream)))
    message = client.ask("www.example.org").message
    assert [r.type for r in message.answer] == [5, 1] and message.authority == message.additional == []


def test_a_forward_zone_says_nothing_about_names_outside_it(dns_net):
    corp = dns_net.authority("example", "a.corp 60 CNAME www.bank.com.\nb.corp 60 A 192.0.2.1")
    world = dns_net.authority("com", "www.bank 60 A 192.0.2.2")
    client = dns_net.serve(dns.Service(dns.Forward(corp, zone="corp.example"), dns.Forward(world)))
    assert client.ask("b.corp.example").data == ["192.0.2.1"]
    assert client.ask("www.bank.com").data == ["192.0.2.2"] and corp.asked == 1
    assert client.ask("a.corp.example").data == ["www.bank.com."]


def test_clients_that_may_not_recurse_are_refused_and_others_cannot_snoop(dns_net):
    upstream = dns_net.authority("example.org", "www 60 A 192.0.2.1")
    service = dns.Service(dns.Forward(upstream))
    client = dns_net.serve(service)
    stranger = dns_net.serve(service, "192.0.2.200")
    assert stranger.ask("www.example.org").rcode == "REFUSED"
    assert client.ask("www.example.org", rd=False).rcode == "REFUSED" and upstream.asked == 0
    reply = client.ask("www.example.org")
    assert reply.message.ra and not reply.message.aa and not reply.message.ad
    assert client.ask("www.example.org", rd=False).data == ["192.0.2.1"]


def test_f8_ids_and_letter_case_are_random():
    rng = random.Random(7)
    seen = set()
    for _ in range(200):
        exchange = Exchange(WWW, 1, [Upstream("192.0.2.1")], rng)
        attempt = exchange.start(0.0)[0]
        seen.add((attempt.id, attempt.name))
        assert attempt.name.lower() == WWW
    assert len(seen) == 200 and len({name for _, name in seen}) > 150
    assert randomized(b"\0", rng) == b"\0"


def test_a_flood_of_random_names_leaves_the_popular_ones_in_the_cache(dns_net):
    upstream = dns_net.authority("example.org", "*.a 600 A 192.0.2.1")
    forward = dns.Forward(upstream, size=100_000)
    client = dns_net.serve(dns.Service(forward))
    hot = [f"hot{i}.a.example.org" for i in range(20)]
    for _ in range(3):
        for name in hot:
            client.ask(name)
    for i in range(2000):
        client.ask(f"r{i}.a.example.org")
        if i % 20 == 0:
            client.ask(hot[i // 20 % 20])
    before = upstream.asked
    for name in hot:
        client.ask(name)
    assert upstream.asked - before <= 1
    assert forward.cache.used <= 100_000
    assert forward.cache.flush(names.from_text("a.example.org"), tree=True) > 0 and len(forward.cache) == 0


def test_a_whole_question_takes_at_most_five_seconds(dns_net, clock):
    upstream = dns_net.authority("example.org")
    upstream.silent = True
    client = dns_net.serve(dns.Service(dns.Forward(upstream)))
    before = clock()
    assert client.ask("www.example.org").rcode == "SERVFAIL"
    assert clock() - before <= 5.0 and upstream.asked <= 3


@pytest.mark.parametrize("url", ["http://192.0.2.1", "udp://", "nonsense name", "tls://dns.example#x"])
def test_an_upstream_that_cannot_be_asked_is_an_error(url):
    with pytest.raises(FormatError):
        Upstream(url)


def test_policies_order_the_upstreams():
    rng = random.Random(1)
    ups = [Upstream(f"192.0.2.{i}") for i in range(1, 4)]
    ups[0].answered(0.1)
    ups[1].answered(0.01)
    ups[2].answered(0.05)
    first = [Group(ups, "fastest").order(WWW, rng)[0] for _ in range(1000)]
    assert first.count(ups[1]) > 930 and len(set(first)) == 3  # 5 % exploration
    assert Group(ups, "ordered").order(WWW, rng) == ups
    turns = Group(ups, "round-robin")
    assert len({turns.order(WWW, rng)[0] for _ in range(3)}) == 3
    hashed = Group(ups, "hash")
    assert hashed.order(WWW, rng) == hashed.order(WWW, rng)
    with pytest.raises(FormatError):
        Group(ups, "best")
    assert rrtypes.A == 1


def test_ede_22_names_the_server_in_23_and_13_says_that_it_is_remembered(dns_net):
    upstream = dns_net.authority("example.org")
    upstream.refusing = True
    client = dns_net.serve(dns.Service(dns.Forward(upstream)))
    said = client.ask("a.example.org").octets
    assert b"\0\x0f\0\2\0\x16" in said and b"\0\x17" + str(upstream).encode() in said
    assert b"\0\x0f\0\2\0\x0d" in client.ask("a.example.org").octets


def test_f3_timeouts_follow_the_round_trip_and_a_question_is_sent_three_times(dns_net, clock):
    upstream = Upstream("192.0.2.1")
    for rtt, least, most in ((0.001, 0.05, 0.05), (0.1, 0.2, 0.41), (3.0, 1.0, 1.0)):
        upstream.rtt = None
        for _ in range(100):
            upstream.answered(rtt)
        assert least <= upstream.timeout <= most
    silent = dns_net.authority("example.org")
    silent.silent = True
    client = dns_net.serve(dns.Service(dns.Forward(silent)))
    assert client.ask("www.example.org").rcode == "SERVFAIL"
    assert [transport for transport, _ in silent.seen] == ["udp"] * 3


def test_f6_a_server_that_wants_a_cookie_gets_it_and_else_is_asked_over_tcp(dns_net):
    upstream = dns_net.authority("example.org", "*.a 60 A 192.0.2.1")
    rolled = [b"S" * 16]

    def wants(packet, transport):
        query = Message.parse(packet)
        cookie = query.options.get(edns.COOKIE, b"")
        if transport == "tcp" or cookie[8:] == rolled[0]:
            return upstream.answer(packet, transport)
        reply = Message(
            id=query.id, flags=0x8000, rcode=rrtypes.BADCOOKIE, question=list(query.question), udp_size=1232
        )
        reply.options = {edns.COOKIE: cookie[:8] + rolled[0]}
        return [reply.encode()]

    upstream.respond = wants
    client = dns_net.serve(dns.Service(dns.Forward(upstream)))
    assert client.ask("1.a.example.org").data == ["192.0.2.1"]
    assert client.ask("2.a.example.org").data == ["192.0.2.1"]
    assert [transport for transport, _ in upstream.seen] == ["udp"] * 3  # with the cookie from the second on
    mine = {Message.parse(packet).options[edns.COOKIE][:8] for _, packet in upstream.seen}
    assert len(mine) == 1
    other = dns_net.authority("example.org", "*.a 60 A 192.0.2.1")
    upstream.respond = lambda packet, transport: upstream.answer(packet, transport)
    other.respond = lambda packet, transport: (
        other.answer(packet, transport)
        if transport == "tcp"
        else [
            Message(
                id=Message.parse(packet).id, flags=0x8000, rcode=rrtypes.BADCOOKIE,
                question=list(Message.parse(packet).question), udp_size=1232,
            ).encode()
        ]
    )  # fmt: skip
    stubborn = dns_net.serve(dns.Service(dns.Forward(other)))
    assert stubborn.ask("3.a.example.org").data == ["192.0.2.1"]
    assert [transport for transport, _ in other.seen] == ["udp", "udp", "tcp"]
    assert Message.parse(other.seen[0][1]).options[edns.COOKIE] not in mine  # one for each server


def test_f7_a_clients_subnet_is_never_passed_on(dns_net):
    upstream = dns_net.authority("example.org", "www 60 A 192.0.2.1")
    for ecs in (False, True):
        client = dns_net.serve(dns.Service(dns.Forward(upstream), ecs=ecs))
        option = b"\0\1\x18\0\xc0\0\2"
        assert client.ask("www.example.org", options={edns.ECS: option, 65001: b"x"}).data == ["192.0.2.1"]
    assert [set(Message.parse(packet).options) for _, packet in upstream.seen] == [{edns.COOKIE}] * 2
