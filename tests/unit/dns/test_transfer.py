"""Transfers, NOTIFY and TSIG (spec 3.4), with dnspython at the other end."""

# ruff: noqa: E501

import asyncio
import base64
import hmac
import random

import dns.message
import dns.query
import dns.tsig
import dns.tsigkeyring
import dns.xfr
import dns.zone
import pytest

from toolips_udp import TCP, UDP
from toolips_udp import dns as ours
from toolips_udp.address import Address
from toolips_udp.dns import names, rrtypes, transfer
from toolips_udp.dns.message import Message, ask
from toolips_udp.dns.secondary import tsig_place
from toolips_udp.dns.tsig import Keys
from toolips_udp.errors import FormatError, StartError

SECRET = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
KEYS = {"xfr.": ("hmac-sha256", SECRET)}
RING = dns.tsigkeyring.from_text({"xfr.": ("hmac-sha256", SECRET)})
NOW = 1_700_000_000


def text(serial, extra=""):
    return f"$ORIGIN e.test.\n@ 60 SOA ns h {serial} 7200 900 1209600 60\n@ 60 NS ns\nns 60 A 192.0.2.1\nsub 60 NS ns.sub\nns.sub 60 A 192.0.2.2\ndeep.sub 60 TXT occluded\n{extra}"


def big(serial=1):
    return ours.Zone.from_text(
        text(serial, "".join(f"h{i} 60 A 10.{i >> 8 & 255}.{i & 255}.1\n" for i in range(3000)))
    )


def service_of(zone, *, key="xfr", address="127.0.0.0/8", keys=KEYS):
    transfers = ours.Transfers(Keys(keys))
    transfers.allow("e.test", [(address, key)])
    made = ours.Service(zone, transfers=transfers)
    made.wall = lambda: NOW
    return made


def replies(service, packet, transport="tcp", host="127.0.0.1"):
    async def gather():
        return [each async for each in service.replies(packet, Address(host, 1), transport)]

    return asyncio.run(gather())


@pytest.mark.parametrize("keyed", [False, True])
def test_x2_axfr_over_tcp_gives_dnspython_the_whole_zone(server, keyed):
    zone = big()
    service = service_of(zone, key="xfr" if keyed else None)
    del service.wall
    import time

    service.wall = time.time
    running = server(service, mode=(UDP, TCP))
    got = dns.zone.Zone("e.test", relativize=False)
    query, _ = dns.xfr.make_query(got, keyring=RING if keyed else None)
    dns.query.inbound_xfr(running.address.host, got, query, port=running.address.port, timeout=5, lifetime=20)
    found = {
        (n.to_wire().lower(), s.rdtype, d.to_wire()) for n, node in got.nodes.items() for s in node for d in s
    }
    assert found == {(o.lower(), t, d) for o, t, _, d in zone.records()}
    assert (names.from_text("deep.sub.e.test."), rrtypes.TXT) in {(o, t) for o, t, _ in found}


def test_x1_transfers_are_refused_without_rule_address_or_key():
    packet = ask("e.test", "AXFR", rd=False, size=0).encode()
    for service, host in [
        (ours.Service(big()), "127.0.0.1"),
        (service_of(big()), "127.0.0.1"),
        (service_of(big(), key=None), "192.0.2.1"),
    ]:
        for transport in ("udp", "tcp", "tls", "https"):
            reply = Message.parse(replies(service, packet, transport, host)[0])
            assert (reply.rcode, reply.answer) == (rrtypes.REFUSED, []), transport
    assert Message.parse(replies(service_of(big(), key=None), packet, "https")[0]).rcode == rrtypes.REFUSED
    assert Message.parse(replies(service_of(big(), key=None), packet, "udp")[0]).rcode == rrtypes.FORMERR


def test_x2_messages_are_filled_and_begin_and_end_with_the_soa():
    found = replies(service_of(big(), key=None), ask("e.test", "AXFR", rd=False, size=0).encode())
    assert 3 < len(found) < 10 and all(16_000 < len(m) < 17_000 for m in found[:-1])
    parsed = [Message.parse(m) for m in found]
    assert parsed[0].answer[0].type == parsed[-1].answer[-1].type == rrtypes.SOA
    assert all(m.aa for m in parsed) and parsed[0].question and not parsed[1].question


def ixfr(serial, **kw):
    message = ask("e.test", "IXFR", rd=False, **{"size": 0, **kw})
    soa = ours.Zone.from_text(text(serial)).soa
    message.add(message.authority, [soa])
    return message.encode()


def test_x3_ixfr_gives_changes_one_soa_or_everything():
    old, new = (
        ours.Zone.from_text(text(1, "a 60 A 192.0.2.9\n")),
        ours.Zone.from_text(text(3, "b 60 A 192.0.2.9\n")),
    )
    service = service_of(new, key=None)
    service.transfers.changed(new, old)
    for transport in ("udp", "tcp"):
        reply = Message.parse(replies(service, ixfr(1), transport)[0])
        assert [(r.type, names.to_text(r.name)) for r in reply.answer] == [
            (6, "e.test."),
            (6, "e.test."),
            (1, "a.e.test."),
            (6, "e.test."),
            (1, "b.e.test."),
            (6, "e.test."),
        ]
        for serial in (3, 4):
            assert len(Message.parse(replies(service, ixfr(serial), transport)[0]).answer) == 1
    whole = Message.parse(replies(service, ixfr(2), "tcp")[0])
    assert len(whole.answer) == len(new) + 1
    assert len(Message.parse(replies(service, ixfr(2), "udp")[0]).answer) == 1
    assert (
        Message.parse(replies(service, ask("e.test", "IXFR", rd=False, size=0).encode())[0]).rcode
        == rrtypes.FORMERR
    )


def test_serials_are_compared_in_their_circle():
    assert (
        transfer.newer(2, 1)
        and transfer.newer(0, 0xFFFFFFFF)
        and not transfer.newer(1, 2)
        and not transfer.newer(5, 5)
    )
    assert not transfer.newer(0x80000001, 1)


def receive(zone_messages, have=None, number=7):
    incoming = transfer.Incoming(names.from_text("e.test."), have)
    done = False
    for data in zone_messages:
        done = incoming.take(Message.parse(data), number)
    assert done
    return incoming


def test_a_thousand_random_changes_through_ixfr_end_in_equal_zones():
    rng = random.Random(5)
    journal = transfer.Journal()
    records = {f"n{i}": f"192.0.2.{i}" for i in range(50)}
    primary = mirror = ours.Zone.from_text(text(1, "".join(f"{n} 60 A {a}\n" for n, a in records.items())))
    for serial in range(2, 202):
        for _ in range(5):
            name = f"n{rng.randrange(80)}.{rng.choice('ab')}"
            if rng.random() < 0.5:
                records.pop(name, None)
            else:
                records[name] = f"10.0.{rng.randrange(256)}.{rng.randrange(256)}"
        fresh = ours.Zone.from_text(text(serial, "".join(f"{n} 60 A {a}\n" for n, a in records.items())))
        journal.note(primary, fresh)
        primary = fresh
        if rng.random() < 0.4:
            deltas = journal.since(mirror.serial)
            assert deltas is not None
            question = (names.from_text("e.test."), rrtypes.IXFR, 1)
            incoming = receive(
                transfer.messages(
                    7, question, transfer.incremental(primary, deltas), fill=rng.choice((60, 500, 16384))
                ),
                mirror,
            )
            assert incoming.kind == "ixfr"
            mirror = incoming.zone
            assert mirror.digest() == primary.digest() and set(mirror.nodes) == set(primary.nodes)


def test_x3_a_removed_record_is_found_whatever_the_letter_case_of_its_names():
    """Compression takes a name in the letter case in which it stood in the message before (RFC 1035 4.1.4)."""
    zone = ours.Zone.from_text(text(1, "m 60 MX 5 Mail\nt 60 TXT Mail\n"))
    owner = {label: names.from_text(f"{label}.e.test.") for label in "mt"}
    assert not zone.add(owner["m"], rrtypes.MX, 60, b"\0\5\4MAIL\1E\4test\0")
    assert not zone.remove(owner["m"], rrtypes.MX, b"\0\5\4Mall\1e\4test\0")
    assert zone.remove(owner["m"], rrtypes.MX, b"\0\5\4mAIL\1E\4test\0")
    assert not zone.remove(owner["t"], rrtypes.TYPES["TXT"], b"\4mail")


@pytest.mark.parametrize(
    "spoil",
    [lambda e: e[1:], lambda e: [*e, e[1]], lambda e: [*e[:-1], (names.from_text("x.other."), 1, 60, bytes(4)), e[-1]],
     lambda e: [*e[:-1], (e[0][0], 6, 60, e[0][3][:-4] + bytes(4))], lambda e: [e[1], *e]],
)  # fmt: skip
def test_x4_a_bad_transfer_is_refused(spoil):
    zone = ours.Zone.from_text(text(5))
    entries = spoil(list(transfer.full(zone)))
    with pytest.raises(FormatError):
        receive(transfer.messages(7, (zone.origin, rrtypes.AXFR, 1), entries))


def test_a_transfer_that_says_no_or_is_anothers_is_refused():
    zone = ours.Zone.from_text(text(5))
    good = list(transfer.messages(7, (zone.origin, rrtypes.AXFR, 1), transfer.full(zone)))
    with pytest.raises(FormatError, match="another"):
        receive(good, number=8)
    with pytest.raises(FormatError, match="REFUSED"):
        receive([Message(id=7, flags=0x8000, rcode=5).encode()])


def test_x4_x5_a_secondary_follows_its_primary_by_notify_and_ixfr(server, eventually, tmp_path):
    import time

    first = ours.Zone.from_text(text(1, "a 60 A 192.0.2.9\n"))
    store = ours.ZoneStore(tmp_path / "primary")
    (tmp_path / "primary").mkdir()
    store.save(first)
    out = ours.Transfers(Keys(KEYS))
    out.allow("e.test", [("127.0.0.1", "xfr")])
    store.changed.append(out.changed)
    primary = server(ours.Service(store, transfers=out), mode=(UDP, TCP))
    into = ours.Transfers(Keys(KEYS))
    copy = into.secondary("e.test", [(str(primary.address), "xfr")], tmp_path / "copy.zone")
    secondary = server(ours.Service(*into.steps(), transfers=into), mode=(UDP, TCP))
    eventually(lambda: copy.zone.serial == 1)
    out.notify("e.test", str(secondary.address))
    time.sleep(1.1)
    store.save(ours.Zone.from_text(text(2, "b 60 A 192.0.2.10\n")))
    eventually(lambda: copy.zone.serial == 2, within=6)
    assert copy.counters["ixfr"] == 1 and copy.counters["axfr"] == 1
    assert copy.zone.digest() == store.get("e.test").digest()
    assert ours.Zone.load(tmp_path / "copy.zone").serial == 2
    query = dns.message.make_query("b.e.test", "A")
    reply = dns.query.udp(query, secondary.address.host, port=secondary.address.port, timeout=2)
    assert "192.0.2.10" in reply.answer[0].to_text()
    eventually(lambda: out.counters["notified"] == 1)


def test_x4_a_secondary_without_contact_expires_and_says_so(dns_net, clock):
    into = ours.Transfers()
    copy = into.secondary("e.test", [("127.0.0.1:1", None)])
    client = dns_net.serve(ours.Service(*into.steps(), transfers=into))
    reply = client.ask("ns.e.test")
    assert (reply.rcode, reply.ede, reply.message.aa) == ("SERVFAIL", 24, False)
    copy._serve(ours.Zone.from_text(text(1)))
    assert client.ask("ns.e.test").data == ["192.0.2.1"]
    assert client.ask("e.test", "SOA", options={9: b""}).message.options[9] == (1209600).to_bytes(4, "big")


def test_x5_notify_is_believed_only_from_primaries():
    into = ours.Transfers(Keys(KEYS))
    copy = into.secondary("e.test", [("192.0.2.53", "xfr")])
    service = ours.Service(*into.steps(), transfers=into)
    service.wall = lambda: NOW
    packet = transfer.notify(names.from_text("e.test."), 9)
    assert Message.parse(replies(service, packet, "udp", "192.0.2.99")[0]).rcode == rrtypes.REFUSED
    assert not copy.hurry.is_set()
    good = Message.parse(replies(service, packet, "udp", "192.0.2.53")[0])
    assert good.rcode == 0 and good.aa and good.opcode == 4 and copy.hurry.is_set()


def test_x5_a_notify_that_nobody_answers_is_sent_five_times_ever_more_slowly(monkeypatch):
    from toolips_udp.dns import secondary

    waits, packets = [], set()

    async def nobody(packet, to, timeout):
        waits.append(timeout)
        packets.add(packet)

    monkeypatch.setattr(secondary, "exchange", nobody)
    out = ours.Transfers()
    asyncio.run(out._notify(ours.Zone.from_text(text(1)), Address("192.0.2.53", 53)))
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0] and len(packets) == 1 and out.counters["notified"] == 0


def test_x4_a_zone_that_does_not_fit_its_own_digest_is_not_taken(server, eventually):
    from toolips_udp.dns import zonemd

    def version(serial, digest=b""):
        zone = ours.Zone.from_text(text(serial, f"v 60 TXT {serial}\n"))
        data = zonemd.record(zone)
        zone.add(zone.origin, zonemd.ZONEMD, 60, data[:6] + (digest or data[6:]))
        return zone

    out, into = ours.Transfers(), ours.Transfers()
    out.allow("e.test", [("127.0.0.1", None)])
    served = ours.Service(version(1), transfers=out)
    primary = server(served, mode=(UDP, TCP))
    copy = into.secondary("e.test", [(f"127.0.0.1:{primary.address.port}", None)])
    server(ours.Service(*into.steps(), transfers=into), mode=(UDP, TCP))
    eventually(lambda: copy.zone.serial == 1, within=10)

    def now_serves(zone):
        before = served.steps[0].zones
        served.steps[0].zones = type(before)([zone])
        out.changed(zone, next(iter(before)))
        if served.half is not None:
            served.half.refresh()
        copy.check_soon()

    now_serves(version(2, b"x" * 48))
    eventually(lambda: copy.counters["failed"] >= 1, within=10)
    assert "ZONEMD" in copy.last_error and copy.zone.serial == 1
    now_serves(version(3))
    eventually(lambda: copy.zone.serial == 3, within=10)


# -- TSIG


def signed_query(now=NOW, secret=SECRET, name="xfr.", qtype="SOA", algorithm="hmac-sha256"):
    query = dns.message.make_query("e.test", qtype)
    query.use_tsig(dns.tsig.Key(name, secret, algorithm + "."))
    import time
    from unittest import mock

    with mock.patch.object(time, "time", lambda: now):
        return query, query.to_wire()


def test_x6_a_signed_question_gets_a_signed_answer_that_dnspython_accepts():
    import time
    from unittest import mock

    query, wire = signed_query()
    reply = replies(service_of(big()), wire, "udp")[0]
    with mock.patch.object(time, "time", lambda: NOW):
        parsed = dns.message.from_wire(reply, keyring=RING, request_mac=query.mac)
    assert parsed.had_tsig and parsed.answer


@pytest.mark.parametrize(
    ("kw", "error"),
    [({"name": "other."}, rrtypes.BADKEY), ({"secret": base64.b64encode(b"x" * 32).decode()}, rrtypes.BADSIG), ({"now": NOW - 301}, rrtypes.BADTIME),
     ({"now": NOW + 301}, rrtypes.BADTIME), ({"algorithm": "hmac-sha512"}, rrtypes.BADKEY)],
)  # fmt: skip
def test_x6_what_is_wrong_with_a_signature_is_said_with_notauth(kw, error):
    reply = replies(service_of(big()), signed_query(**kw)[1], "udp")[0]
    message = Message.parse(reply)
    from toolips_udp.dns.tsig import Tsig

    tsig = Tsig.parse(reply, tsig_place(reply))
    assert message.rcode == rrtypes.NOTAUTH and not message.answer and tsig.error == error
    assert bool(tsig.mac) == (error == rrtypes.BADTIME)
    if error == rrtypes.BADTIME:
        assert int.from_bytes(tsig.other, "big") == NOW


@pytest.mark.parametrize(
    ("octets", "rcode", "error"),
    [
        (32, 0, 0),
        (31, 9, rrtypes.BADTRUNC),
        (16, 9, rrtypes.BADTRUNC),
        (15, 1, None),
        (0, 1, None),
        (33, 1, None),
        (64, 1, None),
    ],
)
def test_x6_a_mac_that_is_cut_is_badtrunc_and_one_too_short_or_too_long_a_format_error(octets, rcode, error):
    """RFC 8945 section 5.2.2.1: between half of the hash and all of it; local policy takes all of it only."""
    from toolips_udp.dns.tsig import Tsig

    _, wire = signed_query()
    packet = cut(wire, octets)
    assert octets != 32 or packet == wire
    reply = replies(service_of(big()), packet, "udp")[0]
    message = Message.parse(reply)
    assert message.rcode == rcode and bool(message.answer) == (rcode == 0)
    if error is not None:
        told = Tsig.parse(reply, tsig_place(reply))
        assert told.error == error and len(told.mac) == 32
    else:
        assert tsig_place(reply) == 0


def cut(wire, octets, flip=0):
    """The signed message with so much of its MAC, and some bits of the first octet wrong."""
    from toolips_udp.dns.tsig import Tsig

    at = tsig_place(wire)
    good = Tsig.parse(wire, at)
    mac = bytearray((good.mac + bytes(64))[:octets])
    if flip:
        mac[0] ^= flip
    rdata = wire.index(good.mac) - 2
    rest = bytes(mac) + wire[rdata + 2 + 32 :]
    size = rdata - wire.index(b"\0\xfa\0\xff\0\0\0\0", at) - 10 + 2 + len(rest)
    head = wire[: wire.index(b"\0\xfa\0\xff\0\0\0\0", at) + 8]
    return head + size.to_bytes(2, "big") + wire[len(head) + 2 : rdata] + octets.to_bytes(2, "big") + rest


@pytest.mark.parametrize(
    ("octets", "flip", "late", "error"),
    [
        (16, 1, 0, rrtypes.BADSIG),
        (31, 128, 0, rrtypes.BADSIG),
        (16, 1, 301, rrtypes.BADSIG),
        (16, 0, 301, rrtypes.BADTIME),
        (16, 0, 300, rrtypes.BADTRUNC),
    ],
)
def test_x6_a_mac_that_is_cut_is_verified_before_it_is_found_too_short(octets, flip, late, error):
    """RFC 8945 section 5.2: key, MAC, time, and then the length; 5.3.2: the first two are answered unsigned."""
    from toolips_udp.dns.tsig import Tsig

    _, wire = signed_query(now=NOW - late)
    reply = replies(service_of(big()), cut(wire, octets, flip), "udp")[0]
    told = Tsig.parse(reply, tsig_place(reply))
    assert Message.parse(reply).rcode == rrtypes.NOTAUTH and told.error == error
    assert bool(told.mac) == (error != rrtypes.BADSIG)


def test_x6_the_reply_to_a_cut_mac_is_signed_over_the_mac_as_it_came():
    from toolips_udp.dns.tsig import Tsig

    _, wire = signed_query()
    packet = cut(wire, 20)
    reply = replies(service_of(big()), packet, "udp")[0]
    at = tsig_place(reply)
    told = Tsig.parse(reply, at)
    bare = reply[:10] + (int.from_bytes(reply[10:12], "big") - 1).to_bytes(2, "big") + reply[12:at]
    came = Tsig.parse(packet, tsig_place(packet)).mac
    times = told.time.to_bytes(6, "big") + told.fudge.to_bytes(2, "big")
    variables = b"\3xfr\0" + b"\0\xff" + bytes(4) + b"\x0bhmac-sha256\0" + times + b"\0\x16" + b"\0\0"
    digest = hmac.digest(base64.b64decode(SECRET), b"\0\x14" + came + bare + variables, "sha256")
    assert len(came) == 20 and told.error == 22 and told.mac == digest


def test_x6_every_flipped_bit_of_a_signed_transfer_is_refused():
    service = service_of(ours.Zone.from_text(text(1)))
    _, wire = signed_query(qtype="AXFR")
    assert len(Message.parse(replies(service, wire)[0]).answer) > 3
    for at in range(12, len(wire)):
        broken = bytearray(wire)
        broken[at] ^= 1 << at % 5  # not the bit of letter case, which does not count in a key's name
        for data in replies(service, bytes(broken)):
            assert Message.parse(data).answer == [], at


def test_x6_weak_algorithms_and_short_secrets_are_start_errors():
    for algorithm, secret in [
        ("hmac-md5", SECRET),
        ("hmac-sha1", SECRET),
        ("hmac-sha256", "c2hvcnQ="),
        ("hmac-sha256", "!!"),
    ]:
        with pytest.raises(StartError):
            Keys({"k.": (algorithm, secret)})
    Keys({"k.": ("hmac-sha1", SECRET)}, weak=True)
