"""DNS as clients see it: dig, kdig, dnspython, raw packets, over UDP and TCP."""

from __future__ import annotations

import random
import re
import shutil
import socket
import struct
import subprocess
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from tests.conftest import free_port
from toolips_udp import TCP, UDP
from toolips_udp import dns as ours

EXAMPLE = Path(__file__).parents[2] / "examples/dns/answers.py"
BIG = " ".join(['"' + "x" * 200 + '"'] * 9)
ZONE = f"$ORIGIN example.test.\n@ 60 SOA ns h 1 2 3 4 30\n@ NS ns\nns A 127.0.0.1\nwww 77 A 192.0.2.1\nbig TXT {BIG}\n"

dig = pytest.mark.skipif(shutil.which("dig") is None, reason="dig is not installed (Debian: bind9-dnsutils)")
kdig = pytest.mark.skipif(
    shutil.which("kdig") is None, reason="kdig is not installed (Debian: knot-dnsutils)"
)


@pytest.fixture
def running(server):
    service = ours.Service(ours.Zone.from_text(ZONE), id="ns1")
    return server(service, mode=(UDP, TCP))


def asked(running, name, rtype, tcp=False, **kw):
    query = dns.message.make_query(name, rtype, **kw)
    ask = dns.query.tcp if tcp else dns.query.udp
    return query, ask(query, running.address.host, port=running.address.port, timeout=3)


@pytest.mark.parametrize("number", [0xC3A9, 0xFFFE])
@pytest.mark.parametrize("tcp", [False, True])
def test_a_ns1_id_and_question_are_echoed_and_the_answer_is_right(running, number, tcp):
    query, reply = asked(running, "WWW.example.test", "A", tcp, id=number)
    assert reply.id == number and reply.question == query.question
    assert reply.flags & dns.flags.QR and reply.flags & dns.flags.AA
    assert [str(rrset) for rrset in reply.answer] == ["WWW.example.test. 77 IN A 192.0.2.1"]


def test_a_ns2_nodata_nxdomain_and_refused(running):
    _, reply = asked(running, "www.example.test", "AAAA")
    assert reply.rcode() == 0 and not reply.answer and reply.authority[0].rdtype == dns.rdatatype.SOA
    _, reply = asked(running, "nx.example.test", "A")
    assert reply.rcode() == dns.rcode.NXDOMAIN and reply.authority[0].rdtype == dns.rdatatype.SOA
    _, reply = asked(running, "www.example.org", "A")
    assert reply.rcode() == dns.rcode.REFUSED


def strange(rng, good):
    """Octets at random, a good question with one bit flipped, or one cut short."""
    kind = rng.randrange(3)
    if kind == 0:
        return rng.randbytes(rng.randrange(60))
    if kind == 1:
        data = bytearray(good)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        return bytes(data)
    return good[: rng.randrange(len(good))]


def test_a_ns3_random_packets_are_dropped_or_answered_and_the_server_goes_on(running, peer):
    packets = 100_000
    rng = random.Random(3)
    client = peer(running.address)
    good = dns.message.make_query("www.example.test", "A").to_wire()
    for round_ in range(packets // 500):
        for _ in range(500):
            client.send(strange(rng, good))
        _, reply = asked(running, "www.example.test", "A")
        assert reply.answer, round_
    assert running.counters["received"] >= packets
    broken = peer(running.address)
    assert broken.ask(struct.pack("!HHHHHH", 1, 0x7800, 1, 0, 0, 0)) == struct.pack(
        "!HHHHHH", 1, 0xF804, 0, 0, 0, 0
    )
    assert broken.ask(struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 0) + b"\xff")[3] & 15 == 1  # a broken body
    broken.send(b"short")
    assert broken.hears_nothing()


def test_a_ns4_truncated_over_udp_and_whole_over_tcp(running):
    _, reply = asked(running, "big.example.test", "TXT", use_edns=0, payload=4096)
    assert reply.flags & dns.flags.TC and len(reply.to_wire()) <= 1232
    _, reply = asked(running, "big.example.test", "TXT", tcp=True)
    assert not reply.flags & dns.flags.TC and len(reply.answer[0][0].strings) == 9


def test_questions_on_one_connection_are_answered_as_they_are_ready(server):
    import asyncio

    service = ours.Service()

    @service.answers("slow.test", "A")
    async def slow(q):
        await asyncio.sleep(0.2)
        return ours.A("192.0.2.1")

    @service.answers("quick.test", "A")
    def quick(q):
        return ours.A("192.0.2.2")

    running = server(service, mode=(UDP, TCP))
    with socket.create_connection(tuple(running.address), timeout=3) as stream:
        queries = [dns.message.make_query(name, "A") for name in ("slow.test", "quick.test")]
        octets = b"".join(len(q.to_wire()).to_bytes(2, "big") + q.to_wire() for q in queries)
        for octet in octets[:7]:  # any split point
            stream.sendall(bytes((octet,)))
        stream.sendall(octets[7:])
        replies = [dns.query.receive_tcp(stream, expiration=None)[0] for _ in queries]
    assert [str(r.question[0].name) for r in replies] == ["quick.test.", "slow.test."]


@pytest.mark.parametrize("octets", [b"\0\0", b"\0\x05hello", b"\xff\xff"])
def test_a_broken_length_closes_the_connection(running, octets):
    with socket.create_connection(tuple(running.address), timeout=8) as stream:
        stream.sendall(octets)
        stream.shutdown(socket.SHUT_WR)
        assert stream.recv(10) == b""
    assert asked(running, "www.example.test", "A")[1].answer


def test_two_thousand_questions_that_wait_are_all_answered(server, peer, eventually):
    import asyncio

    service = ours.Service()

    @service.answers("*.slow.test", "A", timeout=5, at_most=5000)
    async def slow(q):
        waiting.append(q.name)
        while len(waiting) < 2000:
            await asyncio.sleep(0.01)
        return ours.A("192.0.2.1", ttl=0)

    waiting = []
    running = server(service)
    clients = [peer(running.address, timeout=5) for _ in range(20)]
    for number, client in enumerate(clients):
        for i in range(100):
            client.send(dns.message.make_query(f"{number}.{i}.slow.test", "A", id=i).to_wire())
        eventually(lambda sent=100 * number + 100: running.counters["received"] == sent)
    for client in clients:
        assert len({int.from_bytes(client.recv(512)[:2], "big") for _ in range(100)}) == 100


def test_a_failed_handler_is_servfail_and_counted(server, peer, eventually):
    service = ours.Service()

    @service.answers("bad.test", "A")
    def bad(q):
        raise ZeroDivisionError

    running = server(service)
    reply = dns.message.from_wire(
        peer(running.address).ask(dns.message.make_query("bad.test", "A").to_wire())
    )
    assert reply.rcode() == dns.rcode.SERVFAIL
    eventually(lambda: running.counters["handler_failed"] == 1)


# RFC 8906: name, dig options, what must be in the header and what in the rest. "-x" must be absent.
TABLE = [
    ("+noedns soa", "NOERROR", {"qr", "aa"}, "SOA", None),
    ("+noedns type1000", "NOERROR", {"qr", "aa"}, "-ANSWER SECTION", None),
    ("+noedns +cd soa", "NOERROR", {"qr", "aa"}, "SOA", None),
    ("+noedns +ad soa", "NOERROR", {"qr", "aa"}, "SOA", None),
    ("+noedns +zflag soa", "NOERROR", {"qr", "aa"}, "SOA", None),
    ("+noedns +rec soa", "NOERROR", {"qr", "aa", "rd"}, "SOA", None),
    ("+noedns +opcode=15 +header-only", "NOTIMP", {"qr"}, "-SOA", None),
    ("+nocookie +edns=0 soa", "NOERROR", {"qr", "aa"}, "SOA", 0),
    ("+nocookie +edns=1 +noednsneg soa", "BADVERS", {"qr"}, "-SOA\t", 0),
    ("+nocookie +edns=0 +ednsopt=100 soa", "NOERROR", {"qr", "aa"}, "-OPT=100", 0),
    ("+nocookie +edns=0 +ednsflags=0x40 soa", "NOERROR", {"qr", "aa"}, "-MBZ", 0),
    ("+nocookie +edns=1 +noednsneg +ednsflags=0x40 soa", "BADVERS", {"qr"}, "-MBZ", 0),
    ("+nocookie +edns=1 +noednsneg +ednsopt=100 soa", "BADVERS", {"qr"}, "-OPT=100", 0),
    ("+nocookie +edns=0 +dnssec soa", "NOERROR", {"qr", "aa"}, "flags: do", 0),
    ("+nocookie +edns=1 +noednsneg +dnssec soa", "BADVERS", {"qr"}, "-SOA\t", 0),
    ("+edns=0 +cookie +nsid +expire +subnet=0.0.0.0/0 soa", "NOERROR", {"qr", "aa"}, "SOA", 0),
    ("+nocookie +dnssec +bufsize=512 +ignore dnskey", "NOERROR", {"qr", "aa"}, "SOA", 0),
]


@pytest.fixture(params=[True, False], ids=["c", "python"])
def either(server, request):
    """A server that answers from C, and one that does so in Python."""
    return server(ours.Service(ours.Zone.from_text(ZONE), id="ns1", native=request.param), mode=(UDP, TCP))


@dig
@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize(
    ("options", "rcode", "flags", "text", "version"), TABLE, ids=[row[0] for row in TABLE]
)
def test_rfc_8906_every_query_gets_the_expected_reply(either, options, rcode, flags, text, version, tcp):
    words = options.split()
    command = ["dig", "@127.0.0.1", "-p", str(either.address.port), "+tries=1", "+time=3", "+norec", "+noad"]
    if words[-1].startswith("+"):
        words.append("soa")
    command += ["example.test", words[-1], *words[:-1], "+tcp" if tcp else "+notcp"]
    out = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
    assert f"status: {rcode}" in out, out
    assert set(re.search(r"^;; flags: ([a-z ]*);", out, re.M)[1].split()) == flags, out
    assert "MBZ" not in re.search(r"^;; flags: .*", out, re.M)[0]
    if version is None:
        assert "EDNS" not in out
    else:
        assert f"EDNS: version: {version}" in out
    if text.startswith("-"):
        assert text[1:] not in out, out
    else:
        assert text in out, out


@dig
def test_rfc_8906_every_query_gets_the_expected_reply_over_tls(server, certificate):
    port = free_port()
    chain, key = map(str, certificate)
    server(
        ours.Service(
            ours.Zone.from_text(ZONE), id="ns1", listen=[f"tls://127.0.0.1:{port}"], tls=(chain, key)
        )
    )
    for options, rcode, flags, text, version in TABLE:
        words = options.split()
        if words[-1].startswith("+"):
            words.append("soa")
        command = ["dig", "@127.0.0.1", "-p", str(port), "+tls", "+tries=1", "+time=5", "+norec", "+noad"]
        out = subprocess.run(
            [*command, "example.test", words[-1], *words[:-1]], capture_output=True, text=True, timeout=10
        ).stdout
        found = set(re.search(r"^;; flags: ([a-z ]*);", out, re.M)[1].split())
        assert f"status: {rcode}" in out and found == flags and "(TLS)" in out, (options, out)
        assert ("EDNS" in out) == (version is not None) and "MBZ" not in out, (options, out)
        assert (text[1:] not in out) if text.startswith("-") else (text in out), (options, out)


# what a resolver says otherwise: RD is copied where the question is, AA is not set, RA where it answers
RESOLVER = [
    (
        options.replace("soa", "+rec soa"),
        rcode,
        {"qr", "rd", "ra"} if rcode == "NOERROR" else flags | {"rd"},
        text,
        version,
    )
    for options, rcode, flags, text, version in TABLE
    if "opcode" not in options
    and "+rec" not in options
    and "dnskey" not in options
    and "type1000" not in options
]


@dig
@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_rfc_8906_a_forwarder_gives_every_query_the_expected_reply(server, tcp):
    zone = ours.Zone.from_text(ZONE)
    upstream = server(ours.Service(zone), mode=(UDP, TCP))
    forwarder = server(
        ours.Service(ours.Forward(f"127.0.0.1:{upstream.address.port}"), id="ns1"), mode=(UDP, TCP)
    )
    for _ in range(2):  # the second time from the cache
        for options, rcode, flags, text, version in RESOLVER:
            words = options.split()
            command = ["dig", "@127.0.0.1", "-p", str(forwarder.address.port), "+tries=1", "+time=5", "+noad"]
            command += ["example.test", words[-1], *words[:-1], "+tcp" if tcp else "+notcp"]
            out = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
            found = set(re.search(r"^;; flags: ([a-z ]*);", out, re.M)[1].split())
            assert f"status: {rcode}" in out and found - {"cd"} == flags, (options, out)
            assert ("EDNS" in out) == (version is not None) and "MBZ" not in out, (options, out)
            assert (text[1:] not in out) if text.startswith("-") else (text in out), (options, out)


@dig
@pytest.mark.parametrize("native", [True, False], ids=["c", "python"])
def test_rfc_8906_a_key_that_is_too_long_is_truncated_at_the_size_of_the_client(server, native):
    keys = "".join(f"@ 60 DNSKEY 257 3 13 {'A' * 80}{i}{'A' * 7}\n" for i in range(9))
    running = server(ours.Service(ours.Zone.from_text(ZONE + keys), native=native), mode=(UDP, TCP))

    def ask(*words):
        command = [
            "dig",
            "@127.0.0.1",
            "-p",
            str(running.address.port),
            "+norec",
            "+noad",
            "+nocookie",
            "+dnssec",
        ]
        command += ["+bufsize=512", "+ignore", *words, "example.test", "dnskey"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout

    out = ask()
    assert re.search(r"flags: qr aa tc;", out) and "EDNS: version: 0" in out
    assert int(re.search(r"MSG SIZE  rcvd: (\d+)", out)[1]) <= 512
    whole = ask("+tcp")
    assert "flags: qr aa;" in whole and whole.count("257 3 13") == 9


@kdig
@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_kdig_gets_answers_from_the_zone_and_from_a_handler(server, tcp):
    running = server(module=str(EXAMPLE), mode=(UDP, TCP))
    for question, wanted in [(["www.example.test"], "192.0.2.10"), (["time.example.test", "TXT"], ":")]:
        command = ["kdig", "@127.0.0.1", "-p", str(running.address.port), *question, "+short", "+time=3"]
        out = subprocess.run(command + ["+tcp"] * tcp, capture_output=True, text=True, timeout=10).stdout
        assert wanted in out


@pytest.mark.skipif(shutil.which("dnsperf") is None, reason="dnsperf is not installed")
@pytest.mark.parametrize("mode", ["udp", "tcp"])
def test_dnsperf_loses_nothing(server, tmp_path, mode):
    running = server(module=str(EXAMPLE), mode=(UDP, TCP))
    questions = tmp_path / "questions"
    questions.write_text(
        "".join(
            f"node{i}.example.test A\ntime.example.test TXT\nnx{i}.example.test A\n" for i in range(1, 21)
        )
    )
    command = [
        "dnsperf",
        "-s",
        "127.0.0.1",
        "-p",
        str(running.address.port),
        "-d",
        str(questions),
        "-n",
        "20",
        "-m",
        mode,
        "-e",
    ]
    out = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout
    assert "Queries completed:    1200 (100.00%)" in out, out


def test_an_update_is_refused_politely(running, peer):
    import dns.update

    update = dns.update.Update("example.test")
    update.add("new", 60, "A", "192.0.2.1")
    reply = dns.message.from_wire(peer(running.address).ask(update.to_wire()))
    assert reply.rcode() == dns.rcode.REFUSED and str(reply.sections[0][0].name) == "example.test."


def tool(name, package):
    return pytest.mark.skipif(
        shutil.which(name) is None, reason=f"{name} is not installed (Debian: {package})"
    )


@tool("drill", "ldnsutils")
@pytest.mark.parametrize("flag", ["-u", "-t"], ids=["udp", "tcp"])
def test_drill_gets_an_answer_and_the_extended_error(running, flag):
    def drill(*words):
        command = ["drill", flag, "-p", str(running.address.port), *words, "@127.0.0.1"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout

    out = drill("www.example.test", "A")
    assert "rcode: NOERROR" in out and "192.0.2.1" in out and "aa" in out
    assert "rcode: NXDOMAIN" in drill("nx.example.test", "A")
    assert "rcode: REFUSED" in drill("www.example.org", "A")


@tool("delv", "bind9-dnsutils")
def test_delv_takes_the_answers_of_a_forwarder_as_they_are(running, server):
    resolver = server(ours.Service(ours.Forward(f"udp://{running.address}")), mode=(UDP, TCP))
    command = ["delv", "+noroot", "@127.0.0.1", "-p", str(resolver.address.port), "-i"]
    found = subprocess.run([*command, "www.example.test", "A"], capture_output=True, text=True, timeout=15)
    assert "192.0.2.1" in found.stdout, found.stdout + found.stderr
    found = subprocess.run([*command, "nx.example.test", "A"], capture_output=True, text=True, timeout=15)
    assert "ncache nxdomain" in found.stdout + found.stderr


@tool("nsupdate", "bind9-dnsutils")
@pytest.mark.parametrize("flag", [None, "-v"], ids=["udp", "tcp"])
def test_x7_nsupdate_is_refused_politely(running, flag):
    update = "zone example.test.\nupdate add new.example.test. 60 A 192.0.2.9\nsend\n"
    script = f"server 127.0.0.1 {running.address.port}\n{update}"
    command = ["nsupdate", *([flag] if flag else [])]
    found = subprocess.run(command, input=script, capture_output=True, text=True, timeout=15)
    assert found.returncode != 0 and "REFUSED" in found.stdout + found.stderr
    _, reply = asked(running, "new.example.test", "A")
    assert reply.rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize("native", [True, False], ids=["c", "python"])
def test_a_ns5_reloads_good_and_bad_under_load_lose_no_query(server, peer, tmp_path, native):
    import threading

    path = tmp_path / "example.test.zone"
    path.write_text(ZONE)
    store = ours.ZoneStore(tmp_path)
    store.load()
    service = ours.Service(store, native=native)
    running = server(service)
    client = peer(running.address)
    over = threading.Event()
    problems = []

    def reloading():
        for i in range(30):
            bad = i % 5 == 4
            path.write_text(ZONE.replace("192.0.2.1", "nonsense" if bad else f"192.0.2.{i + 10}"))
            problems.append(bool(service.reload()) == bad)
        over.set()

    threading.Thread(target=reloading).start()
    asked, seen = 0, set()
    while not over.is_set() or asked < 2000:
        query = dns.message.make_query("www.example.test", "A", id=asked & 0xFFFF)
        reply = dns.message.from_wire(client.ask(query.to_wire()))
        assert reply.id == query.id and reply.rcode() == 0
        seen.add(reply.answer[0][0].address)
        asked += 1
    assert problems == [True] * 30
    assert len(seen) > 3 and seen <= {"192.0.2.1", *(f"192.0.2.{i + 10}" for i in range(30))}
