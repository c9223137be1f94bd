"""The native answer cache; each test names the rule it proves. Time is an argument."""

import random

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from toolips_udp._native import dns as native
from toolips_udp.errors import FormatError

SERVER = native.Server(secrets=())


def question(
    name="www.example.", rtype="A", *, do=False, cd=False, edns=0, stream=False, size=1232, ident=None
):
    query = dns.message.make_query(name, rtype, use_edns=edns, want_dnssec=do, payload=size)
    if cd:
        query.flags |= dns.flags.CD
    if ident is not None:
        query.id = ident
    return native.Question.parse(SERVER, query.to_wire(), stream=stream)


def reply(
    name="www.example.",
    rtype="A",
    answer=("A 192.0.2.1",),
    *,
    ttl=300,
    rcode=0,
    soa=None,
    extra=(),
    flags=0,
    opt=True,
):
    message = dns.message.make_response(dns.message.make_query(name, rtype, use_edns=0 if opt else -1))
    message.flags |= flags
    message.set_rcode(rcode)
    for text in answer:
        kind, data = text.split(" ", 1)
        message.find_rrset(
            message.answer, dns.name.from_text(name), 1, dns.rdatatype.from_text(kind), create=True
        ).add(dns.rdata.from_text("IN", kind, data), ttl)
    if soa is not None:
        message.authority.append(dns.rrset.from_text("example.", soa, "IN", "SOA", f"a. b. 1 2 3 4 {soa}"))
    for text in extra:
        message.additional.append(dns.rrset.from_text(*text.split(" ", 4)))
    return message.to_wire(max_size=65535)


def get(cache, q=None, now=0.0, **more):
    wire, state, again = cache.get(q or question(), now, **more)
    return (None if wire is None else dns.message.from_wire(wire)), state, again


def test_c1_a_hit_carries_the_clients_id_case_and_edns_and_the_aged_ttl():
    cache = native.Cache()
    assert cache.put(question(), reply(), 1000.0) == "stored"
    for edns in (-1, 0):
        found, state, _ = get(cache, question("wWw.ExAmple.", edns=edns, ident=77), 1059.9, flags=0x0080)
        assert (state, found.id, found.edns, found.answer[0].ttl) == (native.HIT, 77, edns, 241)
        assert (
            str(found.question[0].name) == "wWw.ExAmple."
            and found.flags & dns.flags.RA
            and not found.flags & dns.flags.AA
        )


def test_the_key_is_name_type_do_cd_and_view():
    cache = native.Cache()
    cache.put(question(), reply(), 0)
    for other in (question("example."), question(rtype="AAAA"), question(do=True), question(cd=True)):
        assert get(cache, other)[1] == native.MISS
    assert get(cache, view=3)[1] == native.MISS
    assert get(cache, question(size=512, edns=-1))[1] == native.HIT


def test_c2_the_lowest_ttl_counts_and_zero_is_never_stored():
    cache = native.Cache()
    mixed = reply(extra=("ns.example. 20 IN A 192.0.2.9",))
    assert cache.put(question(), mixed, 0) == "stored"
    assert get(cache, now=19.9)[1] == native.HIT and get(cache, now=20.0)[0] is None
    assert cache.put(question(), reply(ttl=0), 0) == "ttl"
    cache.put(question("long.example."), reply("long.example.", ttl=10_000_000), 0)
    found, _, _ = get(cache, question("long.example."), 0)
    assert found.answer[0].ttl == 86_400
    assert get(cache, question("long.example."), 86_400.0)[1] != native.HIT
    wire = bytearray(reply("top.example."))
    at = wire.index(b"\0\0\x01\x2c")
    wire[at : at + 4] = b"\x80\0\0\1"
    assert cache.put(question("top.example."), bytes(wire), 0) == "stored"
    assert get(cache, question("top.example."), 50_000.0)[1] == native.HIT


def test_c3_negative_answers_live_by_their_soa_and_at_most_an_hour():
    cache = native.Cache()
    gone = question("no.example.")
    assert cache.put(gone, reply("no.example.", answer=(), rcode=3), 0) == "ttl"
    assert cache.put(gone, reply("no.example.", answer=(), rcode=3, soa=60), 0) == "stored"
    found, _, _ = get(cache, gone, 10.0)
    assert found.rcode() == 3 and found.authority[0].ttl == 50
    assert get(cache, gone, 60.0)[1] == native.STALE
    cache.put(gone, reply("no.example.", answer=(), soa=86_400), 0)
    assert get(cache, gone, 3599.0)[1] == native.HIT and get(cache, gone, 3600.0)[1] == native.STALE


def test_c3_failures_are_kept_5_seconds_doubling_to_300():
    cache = native.Cache()
    now, kept = 0.0, []
    for _ in range(9):
        assert cache.put(question(), reply(answer=(), rcode=2), now) == "stored"
        found, _, _ = get(cache, now=now)
        assert found.rcode() == 2 and found.options[0].code == 13
        life = next(t for t in range(1, 400) if get(cache, now=now + t)[1] != native.HIT)
        kept.append(life)
        now += life
    assert kept == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    for rcode in (1, 4, 5):
        assert native.Cache().put(question(), reply(answer=(), rcode=rcode), 0) == "stored"


def test_a_failure_does_not_push_out_what_may_be_served_stale():
    cache = native.Cache()
    cache.put(question(), reply(ttl=10), 0)
    assert cache.fail(question(), 20.0) == "kept"
    assert get(cache, now=20.0, stale=True)[0].answer
    assert cache.fail(question(), 20.0, bogus=True) == "stored"


def test_c3_truncated_and_foreign_answers_are_never_stored():
    cache = native.Cache()
    assert cache.put(question(), reply(flags=dns.flags.TC), 0) == "truncated"
    assert cache.put(question(), reply("other.example."), 0) == "malformed"
    assert cache.put(question(), reply()[:-3], 0) == "malformed"
    assert cache.put(question(), b"", 0) == "malformed" and len(cache) == 0


def test_c9_an_answer_hit_twice_is_prefetched_once_in_the_last_tenth_of_its_life():
    cache = native.Cache()
    cache.put(question(), reply(ttl=100), 0)
    assert not get(cache, now=50.0)[2] and not get(cache, now=89.0)[2]
    assert get(cache, now=90.0)[2] and not get(cache, now=95.0)[2]
    cache.put(question("short.example."), reply("short.example.", ttl=9), 0)
    assert not any(get(cache, question("short.example."), 8.9)[2] for _ in range(3))


def test_c10_a_stale_answer_has_30_seconds_and_says_so_for_a_day():
    cache = native.Cache()
    cache.put(question(), reply(ttl=10), 0)
    cache.put(question("no.example."), reply("no.example.", answer=(), rcode=3, soa=10), 0)
    assert get(cache, now=11.0)[:2] == (None, native.STALE)
    found, state, _ = get(cache, now=11.0, stale=True)
    assert state == native.STALE and found.answer[0].ttl == 30 and found.options[0].code == 3
    assert get(cache, question("no.example."), 11.0, stale=True)[0].options[0].code == 19
    assert get(cache, now=86_409.0, stale=True)[1] == native.STALE
    assert get(cache, now=86_410.0, stale=True)[1] == native.MISS


def test_size_opt_and_truncation_are_applied_per_hit():
    cache = native.Cache()
    many = reply(
        rtype="TXT",
        answer=[f"TXT {'x' * 100}{i}" for i in range(8)],
        extra=("a.example. 300 IN A 192.0.2.1",),
    )
    cache.put(question(rtype="TXT"), many, 0)
    small, _, _ = get(cache, question(rtype="TXT", edns=-1))
    assert small.flags & dns.flags.TC and not small.answer
    assert len(get(cache, question(rtype="TXT"))[0].answer[0]) == 8
    exact = question(rtype="TXT", size=len(many) - 16 - 11 + 11)
    assert len(get(cache, exact)[0].answer[0]) == 8 and not get(cache, exact)[0].additional


def test_ad_is_given_for_validated_data_to_those_who_ask():
    cache = native.Cache()
    cache.put(question(), reply(), 0, secure=True)
    query = dns.message.make_query("www.example.", "A", flags=dns.flags.RD | dns.flags.AD)
    assert get(cache, native.Question.parse(SERVER, query.to_wire()))[0].flags & dns.flags.AD
    query.flags = dns.flags.RD
    assert not get(cache, native.Question.parse(SERVER, query.to_wire()))[0].flags & dns.flags.AD


def test_c12_generations_make_old_answers_miss_at_once():
    cache = native.Cache()
    cache.put(question(), reply(), 0, view=2, scope=9)
    cache.put(question(), reply(), 0, view=3, scope=8)
    cache.flush_scope(9)
    assert get(cache, view=2)[1] == native.MISS and get(cache, view=3)[1] == native.HIT
    cache.flush_view(3)
    assert get(cache, view=3)[1] == native.MISS


def test_c13_flush_by_name_tree_and_type():
    cache = native.Cache()
    names = ["a.example.", "b.a.example.", "ba.example.", "example."]
    for name in names:
        for rtype, data in (("A", "A 192.0.2.1"), ("TXT", "TXT x")):
            cache.put(question(name, rtype), reply(name, rtype, (data,)), 0)
    assert cache.flush(dns.name.from_text("a.example.").to_wire(), type=1) == 1
    assert cache.flush(dns.name.from_text("A.example.").to_wire(), tree=True) == 3
    assert (
        sorted(str(dns.name.from_wire(n, 0)[0]) for n, *_ in cache) == ["ba.example."] * 2 + ["example."] * 2
    )
    assert cache.flush() == 4 and get(cache, question("example."))[1] == native.MISS


def test_fixed_answers_keep_aa_and_do_not_age():
    cache = native.Cache()
    cache.put(question(), reply(flags=dns.flags.AA), 0, fixed=True, most=20)
    found, _, _ = get(cache, now=15.0)
    assert found.answer[0].ttl == 300 and found.flags & dns.flags.AA
    assert get(cache, now=20.0)[1] == native.MISS


def test_an_a_answer_costs_at_most_400_octets():
    cache = native.Cache(1 << 20)
    for i in range(1000):
        cache.put(question(f"host{i:04}.some.example."), reply(f"host{i:04}.some.example."), 0)
    assert len(cache) == 1000 and cache.used / 1000 <= 200


def test_c8_memory_is_bounded_and_a_flood_of_random_names_leaves_the_hot_set():
    cache = native.Cache(1 << 20)
    hot = [f"hot{i:03}.example." for i in range(500)]
    for name in hot:
        cache.put(question(name), reply(name), 0)
        for _ in range(2):
            assert get(cache, question(name))[1] == native.HIT
    template = reply("flood00000.example.")
    rng = random.Random(1)
    hits = asked = 0
    for i in range(40_000):
        name = f"flood{i % 100_000:05}"
        q = native.Question.parse(
            SERVER, b"\0\1\1\0\0\1\0\0\0\0\0\0\x0a" + name.encode() + b"\7example\0\0\1\0\1"
        )
        assert cache.put(q, template.replace(b"flood00000", name.encode()), 0) == "stored"
        if i % 4 == 0:
            asked += 1
            name = rng.choice(hot)
            found = get(cache, question(name))[1] == native.HIT
            hits += found
            if not found:
                cache.put(question(name), reply(name), 0)
    assert hits / asked >= 0.95, hits / asked
    assert cache.used <= cache.size <= (1 << 20) + 65536
    counts = cache.counters
    assert counts["evictions"] > 30_000 and len(cache) == sum(1 for _ in cache)


def test_answers_of_many_sizes_fill_the_rings_and_stay_whole():
    cache = native.Cache(65536)
    rng = random.Random(7)
    for i in range(3000):
        name = f"n{rng.randrange(200)}.example."
        records = [f"TXT {'x' * rng.randrange(1, 200)}" for _ in range(rng.randrange(1, 30))]
        cache.put(question(name, "TXT"), reply(name, "TXT", records), i / 10)
        found, state, _ = get(cache, question(f"n{rng.randrange(200)}.example.", "TXT", stream=True), i / 10)
        assert (found is not None) == (state == native.HIT)
    assert 0 < len(cache) == sum(1 for _ in cache)


def test_too_small_a_cache_is_refused():
    with pytest.raises(ValueError, match="65536"):
        native.Cache(1000)
    with pytest.raises(ValueError, match="view 256"):
        native.Cache().put(question(), reply(), 0, view=256)
    assert issubclass(FormatError, ValueError)
