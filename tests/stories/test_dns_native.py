"""A DNS server whose native half answers: the same questions over UDP and TCP, with and without it."""

import asyncio
import contextlib
import socket
import threading
import time
from types import SimpleNamespace

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

import toolips_udp
from toolips_udp import dns as ours

ZONE = "@ 300 SOA ns1 admin 7 3600 600 86400 60\n@ 300 NS ns1\nns1 300 A 192.0.2.53\nwww 60 CNAME ns1\n*.w 60 TXT hi\n"


def serve(*steps, handlers=(), **more):
    service = ours.Service(*steps, **more)
    for pattern, rtype, fn in handlers:
        service.answers(pattern, rtype)(fn)
    return service, toolips_udp.start(("UDP", "TCP"), SimpleNamespace(service=service), "127.0.0.1:0")


def ask(server, name, rtype="A", *, tcp=False, flags=0, **more):
    query = dns.message.make_query(name, rtype, flags=flags, **more)
    send = dns.query.tcp if tcp else dns.query.udp
    return send(query, server.address.host, port=server.address.port, timeout=2)


def settled_as(server, **words):
    """Whether these counters come to these numbers soon."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if {word: server.counters[word] for word in words} == words:
            return True
        time.sleep(0.01)
    return False


def settled(server, seconds=5):
    """Whether every packet is handled soon: a reply leaves before its handler has ended and is counted."""
    until = time.monotonic() + seconds
    while server.counters["received"] != server.counters["handled"]:
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("tcp", [True, False])
def test_zones_answer_alike_with_and_without_the_native_half(native, tcp):
    zone = ours.Zone.from_text(ZONE, "example.org")
    _, server = serve(zone, native=native)
    with server:
        assert [len(r) for r in ask(server, "www.example.org.", tcp=tcp).answer] == [1, 1]
        assert ask(server, "no.example.org.", tcp=tcp).rcode() == dns.rcode.NXDOMAIN
        assert str(ask(server, "a.w.example.org.", "TXT", tcp=tcp).answer[0][0]) == '"hi"'
        refused = ask(server, "other.", tcp=tcp, use_edns=0)
        assert refused.rcode() == dns.rcode.REFUSED and refused.options[0].code == 20
        assert (server.counters["native_answers"] > 0) == (native and not tcp)
        assert tcp or settled(server), dict(server.counters)


def test_plain_functions_answer_what_is_theirs_and_pass_the_rest_on():
    seen = []

    def add(q):
        seen.append((q.name, q.labels[0], q.type, q.transport, q.client.host, q.wants_dnssec))
        return ours.A("192.0.2.1", ttl=7)

    async def later(q):
        return [ours.TXT("one"), ours.TXT("two")]

    def broken(q):
        raise RuntimeError("no")

    _, server = serve(
        ours.Zone.from_text(ZONE, "example.org"),
        handlers=[
            ("*.py.test", "A", add),
            ("later.py.test", "TXT", later),
            ("ns1.example.org", "A", lambda q: ours.PASS),
            ("gone.test", "A", lambda q: ours.NXDOMAIN),
            ("drop.test", "A", lambda q: ours.DROP),
            ("broken.test", "A", broken),
            ("many.test", "A", lambda q: [ours.A(f"192.0.2.{i}") for i in range(90)]),
        ],
    )
    with server:
        reply = ask(server, "X.py.test.", want_dnssec=True)
        assert (
            reply.answer[0].ttl == 7
            and str(reply.answer[0].name) == "X.py.test."
            and reply.flags & dns.flags.AA
        )
        assert seen == [("x.py.test.", "x", "A", "udp", "127.0.0.1", True)]
        assert len(ask(server, "later.py.test.", "TXT").answer[0]) == 2
        assert ask(server, "x.py.test.", "MX").rcode() == 0
        assert ask(server, "ns1.example.org.").answer and ask(server, "ns1.example.org.", "TXT").rcode() == 0
        assert ask(server, "gone.test.").rcode() == dns.rcode.NXDOMAIN
        failed = ask(server, "broken.test.", use_edns=0)
        assert failed.rcode() == dns.rcode.SERVFAIL and failed.options[0].code == 0
        assert server.counters["handler_failed"] == 1
        assert ask(server, "many.test.", use_edns=-1).flags & dns.flags.TC
        assert len(ask(server, "many.test.", tcp=True).answer[0]) == 90
        with pytest.raises(dns.exception.Timeout):
            query = dns.message.make_query("drop.test.", "A")
            dns.query.udp(query, server.address.host, port=server.address.port, timeout=0.2)
        assert ask(server, "a.py.test.", tcp=True).answer[0].ttl == 7


def test_a_question_that_is_kept_stays_what_it_was():
    kept = []

    def keep(q):
        kept.append(q)
        return ours.A("192.0.2.1")

    _, server = serve(handlers=[("*.keep.test", "A", keep)])
    with server:
        for i in range(5):
            ask(server, f"n{i}.keep.test.")
        assert [q.name for q in kept] == [f"n{i}.keep.test." for i in range(5)]
        assert all(q.client.host == "127.0.0.1" and q.message.q.qtype == 1 for q in kept)


def test_a_handler_that_awaits_answers_as_one_that_does_not():
    ended, kept = [], []
    service = ours.Service()

    @service.answers("*.wait.test", "A", timeout=0.1)
    async def wait(q):
        kept.append(q)
        word = q.labels[0]
        try:
            await asyncio.sleep(30 if word == "late" else 0.01)
        except asyncio.CancelledError:
            ended.append(word)
            raise
        if word == "broken":
            raise ZeroDivisionError
        known = {
            "none": ours.NXDOMAIN,
            "several": [ours.A("192.0.2.1"), ours.A("192.0.2.2")],
        }
        return known.get(word, ours.A("192.0.2.9", ttl=5))

    @service.answers("pass.wait.test", "A")
    async def second(q):
        await asyncio.sleep(0)
        return ours.PASS

    server = toolips_udp.start(("UDP", "TCP"), SimpleNamespace(service=service), "127.0.0.1:0")
    with server:
        for tcp in (False, True):
            reply = ask(server, "one.wait.test.", tcp=tcp)
            assert reply.answer[0].ttl == 5 and reply.flags & dns.flags.AA
            assert len(ask(server, "several.wait.test.", tcp=tcp).answer[0]) == 2
            assert str(ask(server, "pass.wait.test.", tcp=tcp).answer[0][0]) == "192.0.2.9"
            assert ask(server, "none.wait.test.", tcp=tcp).rcode() == dns.rcode.NXDOMAIN
            for word in ("broken", "late"):
                failed = ask(server, f"{word}.wait.test.", use_edns=0, tcp=tcp)
                assert failed.rcode() == dns.rcode.SERVFAIL and failed.options[0].code == 0
        assert ended == ["late", "late"] and kept[0].name == "one.wait.test."
        assert server.counters["handler_failed"] == 2
        assert [handler.in_flight for handler in service.handlers.wild[b"\4wait\4test\0"]] == [0]


def test_of_questions_that_wait_for_a_handler_at_most_so_many_do():
    service = ours.Service()
    gate = threading.Event()

    @service.answers("*.wait.test", "A", timeout=5, at_most=2)
    async def wait(q):
        while not gate.is_set():
            await asyncio.sleep(0.01)
        return ours.A("192.0.2.9")

    server = toolips_udp.start("UDP", SimpleNamespace(service=service), "127.0.0.1:0")
    with server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect(tuple(server.address))
        for number in range(3):
            sock.send(dns.message.make_query(f"n{number}.wait.test.", "A").to_wire())
        assert dns.message.from_wire(sock.recv(512)).rcode() == dns.rcode.SERVFAIL
        gate.set()
        assert [dns.message.from_wire(sock.recv(512)).rcode() for _ in range(2)] == [0, 0]
        assert settled_as(server, handled=2, handler_failed=1)


def test_a_reload_swaps_the_image_and_a_bad_file_keeps_the_old(tmp_path):
    path = tmp_path / "example.org.zone"
    path.write_text("$ORIGIN example.org.\n" + ZONE)
    store = ours.ZoneStore(tmp_path)
    store.load()
    service, server = serve(store)
    with server:
        for i in range(1, 6):
            path.write_text("$ORIGIN example.org.\n" + ZONE + f"v 60 TXT {'x' * i}\n")
            assert service.reload() == {}
            assert str(ask(server, "v.example.org.", "TXT").answer[0][0]) == f'"{"x" * i}"'
        path.write_text("$ORIGIN example.org.\nv 60 TXT broken (\n")
        assert service.reload()
        assert ask(server, "v.example.org.", "TXT").answer
        assert server.counters["native_answers"] == 6


def test_whoever_watches_answers_sees_them_all():
    service, server = serve(ours.Zone.from_text(ZONE, "example.org"))
    seen = []
    with server:
        ask(server, "ns1.example.org.")
        service.watchers.append(lambda q, result: seen.append(q.name))
        service.half.refresh()
        ask(server, "ns1.example.org.")
        assert seen == ["ns1.example.org."]


def test_4_4_native_false_shows_python_every_question_and_the_log_says_so(caplog):
    caplog.set_level("INFO", "toolips_udp.dns")
    seen = []
    service = ours.Service(ours.Zone.from_text(ZONE, "example.org"), native=False)
    service.watchers.append(lambda q, result: seen.append(q.name))
    with toolips_udp.start("UDP", SimpleNamespace(service=service), "127.0.0.1:0") as server:
        assert ask(server, "ns1.example.org.").answer and ask(server, "ns1.example.org.").answer
        assert seen == ["ns1.example.org."] * 2 and server.counters["native_answers"] == 0
    assert "Python is asked every question" in caplog.text


def test_access_is_kept_in_c():
    _, server = serve(ours.Zone.from_text(ZONE, "example.org"), access={"query": ["192.0.2.0/24"]})
    with server:
        refused = ask(server, "ns1.example.org.", use_edns=0)
        assert refused.rcode() == dns.rcode.REFUSED and refused.options[0].code == 18
        assert server.counters["native_answers"] == 1


def hits(service):
    return service.half.stage.counters["sources"]["cache"]


def test_a_forwarders_answers_are_given_from_c_until_they_are_flushed_or_old():
    upstream_zone = ours.Zone.from_text(ZONE + "short 1 A 192.0.2.9\n", "example.org")
    _, upstream = serve(upstream_zone)
    with upstream:
        forward = ours.Forward(f"udp://127.0.0.1:{upstream.address.port}")
        service, server = serve(forward)
        with server:
            for name in ("ns1.example.org.", "no.example.org."):
                first, second = (ask(server, name, flags=dns.flags.RD) for _ in range(2))
                assert first.rcode() == second.rcode() and first.answer == second.answer
                assert second.flags & dns.flags.RA and not second.flags & dns.flags.AA
            assert hits(service) == 2
            ask(server, "ns1.example.org.", flags=dns.flags.RD, want_dnssec=True)
            ask(server, "ns1.example.org.", "AAAA", flags=dns.flags.RD)
            assert hits(service) == 2
            assert ask(server, "Ns1.example.org.", flags=dns.flags.RD, tcp=True).answer
            asked = upstream.counters["received"]
            forward.cache.flush()
            service.half.flush()
            assert ask(server, "ns1.example.org.", flags=dns.flags.RD).answer
            assert upstream.counters["received"] == asked + 1 and hits(service) == 3


def test_metrics_count_what_c_answered():
    from toolips_udp.dns.metrics import Metrics

    service, server = serve(ours.Zone.from_text(ZONE, "example.org"))
    metrics = Metrics(service)
    with server:
        service.half.refresh()
        for _ in range(3):
            ask(server, "ns1.example.org.")
        ask(server, "no.example.org.", tcp=True)
        assert server.counters["native_answers"] == 3
        text = metrics.text()
        assert 'toolips_dns_answers_total{rcode="NOERROR",source="zone"} 3' in text
        assert 'toolips_dns_answers_total{rcode="NXDOMAIN",source="zone"} 1' in text
        assert 'toolips_dns_queries_total{transport="tcp",opcode="QUERY"} 1' in text


def test_a_blocklist_is_kept_in_c_in_front_of_zones_and_behind_them(tmp_path):
    ads = tmp_path / "ads.txt"
    ads.write_text(
        "||ads.example.org^\n||w.example.org^\n@@||ok.w.example.org^\n||typed.w.example.org^$dnstype=MX\n"
    )
    zone = ours.Zone.from_text(ZONE, "example.org")
    blocklist = ours.Blocklist(str(ads), answer="nxdomain", allow=["b.w.example.org"])
    for steps, blocked in (((blocklist, zone), True), ((zone, blocklist), False)):
        service, server = serve(*steps)
        with server:
            assert (ask(server, "a.w.example.org.", "TXT").rcode() == 3) == blocked
            assert (
                ask(server, "b.w.example.org.", "TXT").answer
                and ask(server, "ok.w.example.org.", "TXT").answer
            )
            assert ask(server, "ns1.example.org.").answer
            assert server.counters["native_answers"] == 4
    service, server = serve(blocklist, zone)
    with server:
        reply = ask(server, "x.ads.example.org.", use_edns=0)
        assert reply.rcode() == 3 and reply.options[0].code == 15
        native = server.counters["native_answers"]
        assert ask(server, "typed.w.example.org.", "MX").rcode() == 3
        assert ask(server, "typed.w.example.org.", "TXT").rcode() == 3
        assert server.counters["native_answers"] == native
        ads.write_text("||ns1.example.org^\n")
        assert service.reload() == {}
        assert ask(server, "ns1.example.org.").rcode() == 3 and ask(server, "x.ads.example.org.").rcode() == 3
        assert ask(server, "a.w.example.org.", "TXT").answer
        heard = []
        service.on_blocked(lambda q, rule: heard.append((q.name, rule.line)))
        service.half.refresh()
        assert ask(server, "ns1.example.org.").rcode() == 3 and heard == [("ns1.example.org.", 1)]


def answers_over(stream):
    """Whether a query over an open connection is answered before it is closed."""
    try:
        dns.query.send_tcp(stream, dns.message.make_query("www.example.org.", "A"))
        return dns.query.receive_tcp(stream, time.time() + 2)[0].rcode() == dns.rcode.NOERROR
    except (OSError, EOFError, dns.exception.DNSException):
        return False


def test_a_dns_server_takes_150_connections_and_no_more_unless_told_otherwise():
    _, server = serve(ours.Zone.from_text(ZONE, "example.org"))
    with server, contextlib.ExitStack() as streams:
        address = server.address.host, server.address.port
        for _ in range(150):
            stream = streams.enter_context(socket.create_connection(address, timeout=2))
        assert answers_over(stream)  # loopback is exempt from the 8 of one address
        assert not answers_over(streams.enter_context(socket.create_connection(address, timeout=2)))
        assert ask(server, "www.example.org.").answer
    service = ours.Service(ours.Zone.from_text(ZONE, "example.org"))
    told = toolips_udp.start(
        ("UDP", "TCP"), SimpleNamespace(service=service), "127.0.0.1:0", max_connections=2
    )
    with told, contextlib.ExitStack() as streams:
        address = told.address.host, told.address.port
        found = [
            answers_over(streams.enter_context(socket.create_connection(address, timeout=2))) for _ in "123"
        ]
        assert found == [True, True, False]
