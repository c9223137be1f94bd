"""A forwarder before upstreams that answer, lie, are silent or speak TCP: what C does alone, what it gives back."""

import contextlib
import socket
import struct
import threading
import time
from types import SimpleNamespace

import dns.edns
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

import toolips_udp
from tests.conftest import free_port
from toolips_udp import dns as ours


class Upstream:
    """A name server in a thread: `says(query, tcp)` gives the replies (bytes or messages) to each question."""

    def __init__(self, says):
        self.says = says
        self.asked, self.asked_by_tcp, self.ports = [], [], set()
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.port = free_port()
        self.udp.bind(("127.0.0.1", self.port))
        self.tcp = socket.create_server(("127.0.0.1", self.port))
        self.threads = [threading.Thread(target=run, daemon=True) for run in (self.serve_udp, self.serve_tcp)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.udp.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self.tcp.shutdown(socket.SHUT_RDWR)
        self.udp.close()
        self.tcp.close()
        for thread in self.threads:
            thread.join(5)

    def serve_udp(self):
        with contextlib.suppress(OSError):
            while True:
                packet, peer = self.udp.recvfrom(4096)
                if not packet:
                    return
                query = dns.message.from_wire(packet)
                if b"toolips-udp-loop" in packet:
                    continue  # a server that starts looks whether it would ask itself
                self.asked.append(query)
                self.ports.add(peer[1])
                for reply in self.says(query, False):
                    self.udp.sendto(reply if isinstance(reply, bytes) else reply.to_wire(), peer)

    def serve_tcp(self):
        with contextlib.suppress(OSError):
            while True:
                stream, _ = self.tcp.accept()
                with stream, contextlib.suppress(OSError, struct.error):
                    stream.settimeout(2)
                    size = struct.unpack("!H", stream.recv(2, socket.MSG_WAITALL))[0]
                    query = dns.message.from_wire(stream.recv(size, socket.MSG_WAITALL))
                    self.asked_by_tcp.append(query)
                    for reply in self.says(query, True):
                        wire = reply.to_wire()
                        stream.sendall(struct.pack("!H", len(wire)) + wire)


def answer(query, *records, rcode=0, flags=0, authority=()):
    reply = dns.message.make_response(query)
    reply.set_rcode(rcode)
    reply.flags |= flags
    for section, lines in ((reply.answer, records), (reply.authority, authority)):
        for line in lines:
            name, ttl, rtype, data = line.split(None, 3)
            section.append(dns.rrset.from_text(name, int(ttl), "IN", rtype, data))
    return reply


def plain(query, tcp):
    return [answer(query, f"{query.question[0].name} 60 A 192.0.2.1")]


def silent(query, tcp):
    return []


@contextlib.contextmanager
def forwarding(*upstreams, before=(), patience=20, **options):
    """A server that forwards to these, once C is ready to. With patience, a busy machine is no silent upstream."""
    step = ours.Forward(*(f"127.0.0.1:{u.port}" for u in upstreams), **{"policy": "ordered", **options})
    service = ours.Service(*before, step)
    with toolips_udp.start(("UDP", "TCP"), SimpleNamespace(service=service), "127.0.0.1:0") as server:
        until = time.monotonic() + 5
        while service.half.stage.endpoint is None and time.monotonic() < until:
            time.sleep(0.01)
        service.half.forwarders.numbered[0].native.patience = patience
        if patience > 1:
            for upstream in step.group.upstreams:
                upstream.rtt, upstream.variance = 0.5, 0.0
        yield service, server


def ask(server, name, rtype="A", timeout=20, **more):
    query = dns.message.make_query(name, rtype, **more)
    return dns.query.udp(query, server.address.host, port=server.address.port, timeout=timeout)


def data(reply):
    return [str(record) for rrset in reply.answer for record in rrset]


def native(service):
    return service.half.stage.counters["sources"]["forward"]


def settled(server):
    """Every question has its word: none is lost, none is still on its way."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if server.in_flight == 0 and server.counters["received"] == server.counters["handled"]:
            return True
        time.sleep(0.01)
    return False


def test_a_cold_question_is_answered_without_python_and_then_from_the_cache():
    with Upstream(plain) as upstream, forwarding(upstream) as (service, server):
        for _ in range(3):
            reply = ask(server, "Www.Example.test", use_edns=0)
            assert (
                data(reply) == ["192.0.2.1"] and reply.flags & dns.flags.RA and not reply.flags & dns.flags.AA
            )
            assert reply.answer[0].name.to_text() == "Www.Example.test."
        assert native(service) == 1 and len(upstream.asked) == 1
        assert server.counters["native_answers"] == 3 and settled(server)
        query = upstream.asked[0]
        assert query.flags & dns.flags.RD and query.payload == 1232 and not query.ednsflags
        assert [option.otype for option in query.options] == [dns.edns.OptionType.COOKIE]


def test_c11_equal_questions_on_their_way_are_one_question_and_each_client_gets_its_own_reply():
    hold = threading.Event()

    def slow(query, tcp):
        hold.wait(5)
        return plain(query, tcp)

    with Upstream(slow) as upstream, forwarding(upstream) as (service, server):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.connect(tuple(server.address))
            spelled = ["one.test.", "ONE.test.", "oNe.TEST."]
            for number in range(60):
                client.send(dns.message.make_query(spelled[number % 3], "A", id=number).to_wire())
            until = time.monotonic() + 5
            while server.in_flight < 60 and time.monotonic() < until:
                time.sleep(0.01)
            hold.set()
            replies = {r.id: r for r in (dns.message.from_wire(client.recv(512)) for _ in range(60))}
        assert len(upstream.asked) == 1 and sorted(replies) == list(range(60))
        assert all(r.question[0].name.to_text() == spelled[n % 3] for n, r in replies.items())
        assert settled(server) and native(service) + service.half.cache.counters["hits"] == 60


def test_f8_ids_ports_and_letters_are_random():
    with Upstream(plain) as upstream, forwarding(upstream) as (service, server):
        for number in range(200):
            assert data(ask(server, f"abcdefghijklmnop{number}.test"))
        assert len(upstream.ports) >= 5 and min(upstream.ports) >= 1024
        assert len({query.id for query in upstream.asked}) > 190
        letters = [q.question[0].name.to_text()[:16] for q in upstream.asked]
        assert all(word.lower() == "abcdefghijklmnop" for word in letters) and len(set(letters)) > 190
        for place in range(16):
            assert 50 < sum(word[place].isupper() for word in letters) < 150
        assert native(service) == 200


def test_f9_a_port_asks_at_most_128_questions():
    with Upstream(plain) as upstream, forwarding(upstream) as (_, server):
        for number in range(1100):
            assert data(ask(server, f"n{number}.test"))
        assert len(upstream.ports) > 8


@pytest.mark.parametrize("field", ["id", "case", "name", "type"])
def test_a_forged_reply_is_not_taken_and_the_question_goes_out_by_tcp(field):
    def forge(query, tcp):
        if tcp:
            return plain(query, tcp)
        reply = answer(query, f"{query.question[0].name} 60 A 192.0.2.66")
        wire = bytearray(reply.to_wire())
        if field == "id":
            wire[0] ^= 1
        elif field == "case":
            wire[13] ^= 0x20
        elif field == "name":
            wire[13] = ord("x")
        else:
            wire[12 + len(query.question[0].name.to_wire()) + 1] = 28
        return [bytes(wire)]

    with Upstream(forge) as upstream, forwarding(upstream) as (service, server):
        assert data(ask(server, "victim.test")) == ["192.0.2.1"]
        assert upstream.asked_by_tcp and native(service) == 0 and settled(server)
        assert data(ask(server, "victim.test")) == ["192.0.2.1"]


def test_a_right_reply_behind_garbage_is_taken():
    def noisy(query, tcp):
        good = plain(query, tcp)
        return good if tcp else [b"", b"x", b"\0" * 11, query.to_wire(), *good]

    with Upstream(noisy) as upstream, forwarding(upstream) as (service, server):
        assert data(ask(server, "a.test")) == ["192.0.2.1"]
        assert native(service) == 1 and not upstream.asked_by_tcp


def test_a_truncated_reply_is_asked_again_by_tcp():
    def large(query, tcp):
        if not tcp:
            return [answer(query, flags=dns.flags.TC)]
        return [answer(query, *(f"{query.question[0].name} 60 A 192.0.2.{n}" for n in range(1, 30)))]

    with Upstream(large) as upstream, forwarding(upstream) as (service, server):
        assert len(data(ask(server, "a.test", use_edns=0))) == 29
        assert len(upstream.asked) == 1 and len(upstream.asked_by_tcp) == 1
        assert native(service) == 0 and settled(server)


@pytest.mark.parametrize("fault", ["silent", "servfail", "closed"])
def test_the_next_upstream_answers_for_one_that_does_not(fault):
    def failing(query, tcp):
        return [answer(query, rcode=dns.rcode.SERVFAIL)] if fault == "servfail" else []

    with Upstream(failing) as bad, Upstream(plain) as good:
        if fault == "closed":
            bad.__exit__()
        with forwarding(bad, good, hedge=5, patience=1) as (service, server):
            for number in range(50):
                assert data(ask(server, f"n{number}.test")) == ["192.0.2.1"]
                if number > 3 and (fault == "servfail" or native(service)):
                    break
            assert settled(server)
            if fault != "servfail":
                assert native(service)  # the one that fails is not asked any more, the other one from C


def test_f4_the_next_upstream_is_asked_when_the_first_takes_long():
    with Upstream(silent) as slow, Upstream(plain) as quick:
        with forwarding(slow, quick, hedge=0.02) as (service, server):
            assert data(ask(server, "a.test")) == ["192.0.2.1"]
            assert native(service) == 1  # long before the first one's time was over
            assert len(slow.asked) == len(quick.asked) == 1
            assert slow.asked[0].id != quick.asked[0].id or slow.asked[0].question != quick.asked[0].question


def test_records_that_nobody_asked_for_reach_neither_client_nor_cache():
    def poison(query, tcp):
        name = query.question[0].name.to_text()
        if name.lower() != "a.test.":
            return plain(query, tcp)
        lines = [f"{name} 60 CNAME b.test.", "b.test. 60 A 192.0.2.7"]
        reply = answer(query, *lines, authority=["test. 60 NS evil.test.", "bank.test. 60 A 192.0.2.66"])
        reply.additional.append(dns.rrset.from_text("bank.test.", 60, "IN", "A", "192.0.2.66"))
        return [reply]

    def odd(query, tcp):
        name = query.question[0].name.to_text()
        if name.lower() == "bank.test.":
            return plain(query, tcp)
        return [answer(query, f"{name} 60 A 192.0.2.7", "bank.test. 60 A 192.0.2.66")]

    for says, answered in ((poison, ["b.test.", "192.0.2.7"]), (odd, ["192.0.2.7"])):
        with Upstream(says) as upstream, forwarding(upstream) as (_, server):
            reply = ask(server, "a.test")
            assert data(reply) == answered and not reply.authority and not reply.additional
            assert data(ask(server, "bank.test")) == ["192.0.2.1"]


def test_a_zone_bounds_what_its_upstream_can_say():
    def away(query, tcp):
        return [
            answer(
                query, f"{query.question[0].name} 60 CNAME www.bank.test.", "www.bank.test. 60 A 192.0.2.66"
            )
        ]

    with Upstream(away) as inner, forwarding(inner, zone="corp.test") as (_, server):
        assert "192.0.2.66" not in data(ask(server, "a.corp.test"))
        assert ask(server, "www.bank.test").rcode() == dns.rcode.REFUSED and len(inner.asked) >= 1


def test_a_name_behind_a_cname_is_looked_up_in_the_lists(tmp_path):
    (tmp_path / "ads.txt").write_text("0.0.0.0 tracker.test\n")

    def cloaked(query, tcp):
        name = query.question[0].name.to_text()
        return [answer(query, f"{name} 60 CNAME tracker.test.", "tracker.test. 60 A 192.0.2.9")]

    blocking = ours.Blocklist(str(tmp_path / "ads.txt"), answer="nxdomain")
    with Upstream(cloaked) as upstream, forwarding(upstream, before=[blocking]) as (service, server):
        assert ask(server, "shop.test").rcode() == dns.rcode.NXDOMAIN and native(service) == 0


def test_negative_answers_are_kept_for_their_time_and_ttl_0_for_nobody():
    def says(query, tcp):
        name = query.question[0].name.to_text()
        if name.startswith(("n", "N")):
            return [answer(query, rcode=3, authority=["test. 60 SOA a.test. b.test. 1 2 3 4 30"])]
        return [answer(query, f"{name} 0 A 192.0.2.1")]

    with Upstream(says) as upstream, forwarding(upstream) as (service, server):
        for _ in range(2):
            reply = ask(server, "none.test")
            assert reply.rcode() == dns.rcode.NXDOMAIN and reply.authority[0].rdtype == dns.rdatatype.SOA
        assert len(upstream.asked) == 1
        for _ in range(2):
            reply = ask(server, "zero.test")
            assert data(reply) == ["192.0.2.1"] and reply.answer[0].ttl == 0
        assert len(upstream.asked) == 3 and native(service) == 3


def test_an_expired_answer_is_served_when_nobody_answers():
    alive = threading.Event()
    alive.set()

    def dying(query, tcp):
        if not alive.is_set():
            return []
        return [answer(query, f"{query.question[0].name} 1 A 192.0.2.1")]

    with Upstream(dying) as upstream, forwarding(upstream, patience=1) as (_, server):
        assert data(ask(server, "a.test")) == ["192.0.2.1"]
        alive.clear()
        time.sleep(1.1)
        reply = ask(server, "a.test", use_edns=0)
        assert data(reply) == ["192.0.2.1"] and reply.answer[0].ttl == 30
        assert [option.code for option in reply.options] == [3]


def test_a_server_that_stops_gives_every_question_its_word():
    with Upstream(silent) as upstream, forwarding(upstream) as (_, server):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(tuple(server.address))
            for number in range(10):
                client.send(dns.message.make_query(f"n{number}.test", "A").to_wire())
            until = time.monotonic() + 5
            while server.in_flight < 10 and time.monotonic() < until:
                time.sleep(0.01)
        server.stop()
        counters = dict(server.counters)
        assert counters["received"] == 10 == counters["handled"] + counters["stopping"]


def test_what_c_asked_shows_in_the_upstreams_and_the_metrics():
    from toolips_udp.dns import told
    from toolips_udp.dns.control import upstreams
    from toolips_udp.dns.metrics import Metrics

    with Upstream(plain) as upstream, forwarding(upstream) as (service, server):
        for number in range(5):
            ask(server, f"n{number}.test")
        until = time.monotonic() + 5
        while service.steps[-1].group.upstreams[0].asked < 5 and time.monotonic() < until:
            time.sleep(0.02)
        (line,) = told.upstreams([upstreams(service)])
        assert (
            " up, " in line and "5 asked, 0 failed" in line and service.steps[-1].group.upstreams[0].rtt < 1
        )
        text = Metrics(service).text()
        assert 'toolips_dns_answers_total{rcode="NOERROR",source="forward"} 5' in text
        assert any(
            line.startswith("toolips_dns_queries_total") and line.endswith(" 5") for line in text.split("\n")
        )


@pytest.mark.parametrize("zone", [".", "corp.test"])
@pytest.mark.parametrize("native", [True, False], ids=["c", "python"])
def test_f7_a_server_that_would_ask_itself_finds_out_at_its_start(zone, native, caplog):
    port = free_port()
    with Upstream(plain) as upstream:
        step = ours.Forward(f"127.0.0.1:{port}", f"127.0.0.1:{upstream.port}", policy="ordered", zone=zone)
        service = ours.Service(step, native=native)
        with toolips_udp.start(
            ("UDP", "TCP"), SimpleNamespace(service=service), f"127.0.0.1:{port}"
        ) as server:
            until = time.monotonic() + 10
            while not step.group.upstreams[0].looped and time.monotonic() < until:
                time.sleep(0.01)
            assert data(ask(server, "www.corp.test")) == ["192.0.2.1"]
            assert [each.looped for each in step.group.upstreams] == [True, False]
            assert "leads back to this server" in caplog.text
            step.group.upstreams[0].release()
            assert step.group.upstreams[0].down  # an operator cannot bring it back
    alone = ours.Service(ours.Forward(f"127.0.0.1:{port}", zone=zone), native=native)
    with toolips_udp.start("UDP", SimpleNamespace(service=alone), f"127.0.0.1:{port}") as server:
        until = time.monotonic() + 10
        while not alone.steps[0].group.upstreams[0].looped and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.3)  # C looks at its upstreams now and then
        assert ask(server, "www.corp.test").rcode() == dns.rcode.SERVFAIL


def test_f1_the_most_specific_of_forwarders_side_by_side_is_asked():
    def says(text):
        return lambda query, tcp: [answer(query, f"{query.question[0].name} 60 A {text}")]

    with Upstream(says("192.0.2.1")) as world, Upstream(says("192.0.2.2")) as corp:
        steps = [
            ours.Forward(f"127.0.0.1:{world.port}"),
            ours.Forward(f"127.0.0.1:{corp.port}", zone="corp.test"),
        ]
        service = ours.Service(*steps)
        with toolips_udp.start("UDP", SimpleNamespace(service=service), "127.0.0.1:0") as server:
            assert data(ask(server, "www.corp.test")) == ["192.0.2.2"]
            assert data(ask(server, "www.test")) == ["192.0.2.1"]
