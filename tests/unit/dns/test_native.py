"""The native stage and its Python twin say the same, and the stage follows the service."""

# ruff: noqa: E501

import gzip
import json
import random
import struct
from pathlib import Path

import pytest

from toolips_udp import TCP, UDP
from toolips_udp import dns as ours
from toolips_udp.address import Address
from toolips_udp.dns import lookup, reply
from toolips_udp.dns.lookup import Zones
from toolips_udp.dns.message import Message, ask
from toolips_udp.dns.query import parse_query
from toolips_udp.dns.rrtypes import TYPES

module = pytest.importorskip("toolips_udp._native.dns", reason="the native DNS is not built")
DATA = Path(__file__).parents[3].parent / "shared/data/ferret/cases.jsonl.gz"


def compiled(service):
    (stage,) = service.stages()
    return service.half, stage


def parts(octets):
    message = Message.parse(octets)
    sections = [
        frozenset((r.name.lower(), r.type, r.ttl, r.data.lower()) for r in s)
        for s in (message.answer, message.authority, message.additional)
    ]
    return message.rcode, message.flags & 0xFFB0, message.udp_size, message.do, sections


def python(zones, packet):
    query = parse_query(packet)
    if query.rcode >= 0:
        return reply.encode_error(query)
    result = lookup.answer(zones, query.name, query.qtype, do=query.do)
    return reply.encode_reply(query, result, reply.limit_of(query, False))


@pytest.mark.skipif(not DATA.exists(), reason=f"the Ferret cases are not at {DATA}")
def test_c_and_python_answer_every_ferret_case_alike():
    wrong = []
    with gzip.open(DATA, "rt") as lines:
        for line in lines:
            case = json.loads(line)
            zone = ours.Zone.from_text(case["zone"], case["origin"])
            stage = module.Stage(module.Server(secrets=()))
            stage.set_view(0, zones=module.Zones([module.build_image(zone.origin, zone.rrsets())]))
            for size in (0, 1232):
                packet = ask(case["name"], case["type"], rd=False, size=size).encode()
                if parts(stage.answer(packet)) != parts(python(Zones([zone]), packet)):
                    wrong.append(case["id"])
    assert wrong == []


def random_zone(rng):
    labels = ["a", "b", "c", "*", "Mixed"]
    lines = ["@ 60 SOA ns h 1 2 3 4 50", "@ 60 NS ns", "ns 60 A 192.0.2.53"]
    for _ in range(rng.randrange(5, 25)):
        owner = ".".join(rng.choice(labels) for _ in range(rng.randrange(1, 4)))
        kind = rng.choice(["A", "AAAA", "TXT", "NS", "CNAME", "DNAME", "MX", "HTTPS"])
        target = ".".join(rng.choice(labels[:3]) for _ in range(rng.randrange(1, 3)))
        data = {"A": f"192.0.2.{rng.randrange(9)}", "AAAA": "2001:db8::1", "TXT": f'"{"x" * rng.randrange(200)}"', "MX": f"10 {target}",
                "HTTPS": f"{rng.randrange(2)} {target}"}.get(kind, target)  # fmt: skip
        lines.append(f"{owner} {rng.choice([60, 60, 30])} {kind} {data}")
    return "\n".join(lines)


def test_c_and_python_answer_random_zones_alike():
    rng = random.Random(11)
    compared = 0
    while compared < 4000:
        try:
            zone = ours.Zone.from_text(random_zone(rng), "z.test")
        except ours.ZoneError:
            continue
        stage = module.Stage(module.Server(secrets=()))
        stage.set_view(0, zones=module.Zones([module.build_image(zone.origin, zone.rrsets())]), final=True)
        for _ in range(40):
            name = ".".join(
                [
                    *(rng.choice(["a", "b", "c", "x", "*", "mixed", "ns"]) for _ in range(rng.randrange(4))),
                    rng.choice(["z.test"] * 9 + ["other"]),
                ]
            )
            packet = ask(
                name,
                rng.choice(
                    ["A", "AAAA", "TXT", "NS", "SOA", "CNAME", "DNAME", "DS", "MX", "HTTPS", "ANY", 1000]
                ),
                size=rng.choice([0, 512, 1232]),
            ).encode()
            compared += 1
            assert parts(stage.answer(packet)) == parts(python(Zones([zone]), packet)), (zone.to_text(), name)


def test_c_and_python_treat_broken_queries_alike():
    rng = random.Random(12)
    stage = module.Stage(module.Server(secrets=()))
    stage.set_view(0, final=True)
    good = [
        ask("www.example.test", t, size=s, do=d).encode()
        for t in ("A", "IXFR", "OPT")
        for s in (0, 1232)
        for d in (False, True)
        if s or not d
    ]
    for _ in range(20_000):
        data = bytearray(rng.choice(good))
        for _ in range(rng.randrange(1, 4)):
            if rng.random() < 0.7:
                data[rng.randrange(len(data))] = rng.randrange(256)
            elif rng.random() < 0.5:
                del data[rng.randrange(len(data)) :]
                data = data or bytearray(b"x")
            else:
                data += rng.randbytes(rng.randrange(1, 5))
        packet = bytes(data)
        query = parse_query(packet)
        given = stage.answer(packet)
        if query.drop:
            assert isinstance(given, int) and given < 0, packet.hex()
        elif query.rcode >= 0:
            assert given is not None and parts(given)[:4] == parts(reply.encode_error(query))[:4], (
                packet.hex()
            )
            assert len(given) == len(reply.encode_error(query)), packet.hex()


def test_names_of_handlers_go_to_python_and_the_rest_of_the_zone_is_answered_by_c():
    service = ours.Service(
        ours.Zone.from_text("@ 60 SOA a b 1 2 3 4 5\n@ NS a\nwww 60 A 192.0.2.1\n", "z.test")
    )

    @service.answers("time.z.test", "TXT")
    def now(q): ...

    @service.answers("*.wild.z.test", "A")
    def wild(q): ...

    _, stage = compiled(service)
    for name, passed in [
        ("time.z.test", True),
        ("x.time.z.test", False),
        ("a.wild.z.test", True),
        ("wild.z.test", False),
        ("www.z.test", False),
    ]:
        assert (stage.answer(ask(name, "TXT").encode()) is None) == passed, name
    assert Message.parse(stage.answer(ask("q.other", "A").encode())).rcode == 5


def test_steps_in_front_of_the_zones_keep_them_in_python():
    zone = ours.Zone.from_text("@ 60 SOA a b 1 2 3 4 5\n@ NS a\n", "z.test")
    for service in (
        ours.Service(ours.Rebinding(), zone),
        ours.Service(ours.Local(), ours.View("v", steps=[zone])),
    ):
        assert compiled(service)[1].answer(ask("z.test", "SOA").encode()) is None
    assert ours.Service(zone, native=False).stages() == []
    half, stage = compiled(ours.Service(zone, ours.Forward("192.0.2.1")))
    assert half.cache is not None
    assert (
        stage.answer(ask("z.test", "SOA").encode()) and stage.answer(ask("other.test", "A").encode()) is None
    )


def test_access_lists_become_ranges():
    service = ours.Service(
        ours.Zone.from_text("@ 60 SOA a b 1 2 3 4 5\n@ NS a\n", "z.test"),
        access={"query": ["10.0.0.0/8", "2001:db8::/32"]},
    )
    _, stage = compiled(service)
    packet = ask("z.test", "SOA").encode()
    for ip, rcode in [
        (bytes((10, 1, 1, 1)), 0),
        (bytes((11, 0, 0, 0)), 5),
        (bytes((9, 255, 255, 255)), 5),
        (b"\x20\x01\x0d\xb8" + bytes(12), 0),
        (b"\x20\x01\x0d\xb9" + bytes(12), 5),
    ]:
        assert Message.parse(stage.answer(packet, ip)).rcode == rcode


def test_zones_are_answered_by_c_and_a_reload_reaches_it(server, peer, tmp_path, eventually):
    path = tmp_path / "z.test.zone"
    path.write_text("@ 60 SOA a b 1 2 3 4 5\n@ 60 NS a\nwww 60 A 192.0.2.1\n")
    store = ours.ZoneStore(tmp_path)
    store.load()
    service = ours.Service(store)
    running = server(service, mode=(UDP, TCP))
    client = peer(running.address)

    def address():
        return Message.parse(client.ask(ask("www.z.test", "A").encode())).answer[0].data[-1]

    assert address() == 1
    path.write_text("@ 60 SOA a b 2 2 3 4 5\n@ 60 NS a\nwww 60 A 192.0.2.200\n")
    assert service.reload() == {}
    eventually(lambda: address() == 200)
    if service.half is not None:
        assert running.counters["native_answers"] >= 2


def test_a_forwarded_answer_comes_from_c_the_second_time(server, peer):
    zone = ours.Zone.from_text("@ 60 SOA a b 1 2 3 4 5\n@ NS a\nwww 60 A 192.0.2.1\n", "z.test")
    authority = server(ours.Service(zone), mode=(UDP, TCP))
    service = ours.Service(ours.Forward(f"udp://{authority.address}"))
    running = server(service, mode=(UDP, TCP))
    client = peer(running.address)
    packet = ask("www.z.test", "A").encode()
    replies = [Message.parse(client.ask(packet)) for _ in range(3)]
    assert all(r.answer[0].data == bytes((192, 0, 2, 1)) and r.ra and not r.aa for r in replies)
    if service.half is not None:
        assert service.half.stage.counters["sources"]["cache"] == 2
    assert TYPES["A"] == 1


def test_the_stage_takes_the_cookies_of_yesterday_for_their_hour():
    midnight = 86_400 * 20_000
    service = ours.Service(
        ours.Zone.from_text("@ 60 SOA a b 1 2 3 4 5\n@ 60 NS ns\nns 60 A 192.0.2.1", "example.org")
    )
    wall = midnight - 600
    service.wall = lambda: wall
    half = service._native_half()
    half.watch()

    def cookie_for(cookie):
        packet = ask("ns.example.org", "A", size=1232).encode()
        option = struct.pack("!HH", 10, len(cookie)) + cookie
        packet = packet[:-2] + struct.pack("!H", len(option)) + option
        reply = half.answer(packet, Address("192.0.2.9", 1000), "tcp")
        return reply[reply.index(bytes((0, 10, 0, 24)) + cookie[:8]) + 4 :][:24]

    def good():
        return half.stage.counters["cookies"]["good"]

    cookie = cookie_for(b"clientme")
    assert good() == 0
    wall = midnight + 300
    half.watch()
    assert cookie_for(cookie)[:8] == b"clientme" and good() == 1
    wall = midnight + 86_400 + 300
    half.watch()
    cookie_for(cookie)
    assert good() == 1  # over an hour old
    wall, late = midnight - 600, ours.Service(ours.Zone.from_text("@ 60 SOA a b 1 2 3 4 5\n@ 60 NS ns", "x"))
    late.cookies.adopt(b"another master", wall)
    assert not late.cookies.check(cookie, "192.0.2.9", wall)


def zone_of(address, name="example.org"):
    return ours.Zone.from_text(f"@ 60 SOA a b 1 2 3 4 5\n@ 60 NS ns\nns 60 A {address}", name)


def test_views_are_answered_by_the_stage_each_client_from_its_own():
    office, world = zone_of("10.0.0.1"), zone_of("192.0.2.1")
    blocking = ours.Blocklist()
    service = ours.Service(
        ours.View("office", clients=["10.0.0.0/8", "2001:db8::/32"], steps=[blocking, office]),
        ours.View(
            "world",
            clients=["192.0.2.0/24", "10.1.0.0/16"],
            steps=[world, zone_of("192.0.2.9", "other.test")],
        ),
    )
    half = service._native_half()

    def said(host, name="ns.example.org"):
        answer = half.answer(ask(name, "A", size=1232).encode(), Address(host, 1000), "tcp")
        message = Message.parse(answer)
        return [record.rsplit(" ", 1)[1] for record in message.texts()["answer"]] or message.rcode

    for host, address in (
        ("10.0.0.7", "10.0.0.1"),
        ("10.1.0.7", "10.0.0.1"),
        ("2001:db8::1", "10.0.0.1"),
        ("192.0.2.77", "192.0.2.1"),
    ):
        assert said(host) == [address], host
    assert said("10.0.0.7", "ns.other.test") == 5 and said("192.0.2.77", "ns.other.test") == ["192.0.2.9"]
    assert said("198.51.100.1") == 5  # no view is for it
    office.add(b"\2ns\7example\3org\0", 1, 60, bytes((10, 0, 0, 2)))
    half.refresh()
    assert len(said("10.0.0.7")) == 2 and said("192.0.2.77") == ["192.0.2.1"]


def test_views_by_transport_or_beside_other_steps_are_asked_in_python():
    zone = zone_of("10.0.0.1")
    for steps in ([ours.View("tls", transports=["tls"], steps=[zone])], [ours.View("v", steps=[zone]), zone]):
        half = ours.Service(*steps)._native_half()
        assert half.answer(ask("ns.example.org", "A").encode(), Address("10.0.0.7", 1000), "tcp") is None
