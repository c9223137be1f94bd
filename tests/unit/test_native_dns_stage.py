"""What the native stage answers alone and what it passes on (spec 4.4), without a socket."""

import dns.edns
import dns.flags
import dns.message
import dns.name
import pytest

from toolips_udp._native import dns as native

SOA = (b"\7example\0", 6, 300, [b"\0\0" + b"\0\0\0\1" * 5])
A = (b"\3www\7example\0", 1, 60, [bytes([192, 0, 2, 1])])
ZONES = native.Zones([native.build_image(b"\7example\0", [SOA, A])])
SERVER = native.Server(id=b"ns1", secrets=(bytes(16),))
WORD_MALFORMED, WORD_DENIED, WORD_LIMITED = -8, -5, -6
MAPPED = bytes(10) + b"\xff\xff"


def query(name="www.example.", rtype="A", flags=dns.flags.RD, **more):
    return dns.message.make_query(name, rtype, flags=flags, **more)


def stage(**view):
    made = native.Stage(SERVER)
    made.set_view(0, **view)
    return made


def ask(made, message, **more):
    got = made.answer(message if isinstance(message, bytes) else message.to_wire(), **more)
    return dns.message.from_wire(got) if isinstance(got, bytes) else got


def test_zones_are_answered_and_the_rest_is_passed():
    made = stage(zones=ZONES)
    assert ask(made, query()).answer and ask(made, query("no.example.")).rcode() == 3
    assert ask(made, query("other.")) is None
    assert made.counters["sources"]["zone"] == 2 and made.counters["passed"] == 1
    assert made.counters["rcodes"] == {0: 1, 3: 1}


def test_a_final_view_refuses_what_it_does_not_hold():
    reply = ask(stage(zones=ZONES, final=True), query("other.", use_edns=0))
    assert reply.rcode() == 5 and reply.options[0].code == 20


def test_garbage_is_dropped_and_errors_are_answered_without_python():
    made = stage()
    assert ask(made, b"") == WORD_MALFORMED and ask(made, b"\0" * 11) == WORD_MALFORMED
    assert ask(made, b"\0\1\x80\0" + bytes(8)) == WORD_MALFORMED
    assert ask(made, b"\0\1\x78\0" + bytes(8)).rcode() == 4
    assert ask(made, b"\0\1\0\0" + bytes(8)).rcode() == 1


def test_transfers_notifies_and_signed_questions_are_passed():
    made = stage(zones=ZONES, final=True)
    notify = query(rtype="SOA")
    notify.set_opcode(4)
    tsig = b"\3key\0\0\xfa\0\xff\0\0\0\0\0\0"
    signed = bytearray(query().to_wire() + tsig)
    signed[11] = 1
    for message in (query("example.", "AXFR"), query("example.", "IXFR"), notify, bytes(signed)):
        assert ask(made, message) is None


def test_the_id_is_told_in_chaos_class():
    message = query("id.server.", "TXT")
    message.question[0].rdclass = 3
    assert str(ask(stage(), message).answer[0][0]) == '"ns1"'
    hidden = native.Stage(native.Server())
    hidden.set_view(0)
    assert ask(hidden, message).rcode() == 5


def test_a_closed_view_shows_python_every_question():
    assert ask(stage(zones=ZONES, closed=True), query()) is None


def test_names_that_python_answers_are_passed_before_the_zone():
    python = native.Rules([(b"\3www\7example\0", native.EXACT, native.ASK_PYTHON, 0)])
    made = stage(zones=ZONES, python=python)
    assert ask(made, query()) is None and ask(made, query("x.www.example.")).rcode() == 3


def test_lists_come_before_the_data_and_may_be_noted():
    block = native.Rules(
        [(b"\7example\0", native.SUBTREE, native.NXDOMAIN, 0), (b"\1d\0", 3, native.DROP_IT, 0)]
    )
    lists = [[(block, native.NXDOMAIN, 15)]]
    made = stage(zones=ZONES, lists=lists)
    assert ask(made, query()).rcode() == 3 and ask(made, query("d.")) == WORD_DENIED
    assert made.counters["sources"]["policy"] == 1
    assert ask(stage(zones=ZONES, lists=lists, note_blocked=True), query()) is None
    assert ask(stage(zones=ZONES, lists=lists, zones_first=True), query()).answer


def test_p1_within_one_blocklist_an_allow_rule_of_any_file_wins_and_the_answer_is_the_groups():
    block = native.Rules([(b"\7example\0", native.SUBTREE, native.NXDOMAIN, 0)])
    allow = native.Rules([(b"\3www\7example\0", native.EXACT, native.ALLOW, 0)])
    ask_python = native.Rules([(b"\7example\0", native.EXACT, native.ASK_PYTHON, 0)])
    one = [(allow, native.ZERO, 15), (block, native.ZERO, 15)]
    made = stage(zones=ZONES, lists=[one])
    assert str(ask(made, query()).answer[0][0]) == "192.0.2.1"
    zero = ask(made, query("ads.example.", use_edns=0))
    assert str(zero.answer[0][0]) == "0.0.0.0" and zero.options[0].code == 15
    other = stage(zones=ZONES, lists=[one, [(block, native.REFUSED, 16)]])
    assert ask(other, query()).rcode() == 5
    assert ask(stage(zones=ZONES, lists=[[(ask_python, native.ZERO, 15)]]), query("example.")) is None


def test_q16_ranges_say_who_may_query_recurse_and_in_which_view():
    cache = native.Cache(65536)
    q = native.Question.parse(SERVER, query("cached.test.").to_wire())
    made = native.Stage(
        SERVER,
        [
            (bytes(16), 0),
            (MAPPED + bytes([10, 0, 0, 0]), native.MAY_QUERY | native.MAY_RECURSE | 1),
            (MAPPED + bytes([11, 0, 0, 0]), native.MAY_QUERY),
            (MAPPED + bytes([12, 0, 0, 0]), native.SILENT),
        ],
    )
    made.set_view(0, zones=ZONES, cache=cache, recursive=True)
    made.set_view(1, cache=cache, recursive=True)
    cache.put(q, native.write_answer(q, 0, 0, [native.Record(None, 1, 60, b"abcd")]), 0.0)
    cached = query("cached.test.")
    assert ask(made, cached, ip=bytes([10, 1, 2, 3])).flags & dns.flags.RA
    assert ask(made, query(), ip=bytes([10, 1, 2, 3])) is None
    assert (
        ask(made, cached, ip=bytes([11, 0, 0, 1])) is None
        and ask(made, query(), ip=bytes([11, 0, 0, 1])).answer
    )
    refused = ask(made, query(use_edns=0), ip=bytes([9, 255, 255, 255]))
    assert refused.rcode() == 5 and refused.options[0].code == 18
    assert ask(made, query(), ip=bytes([12, 0, 0, 1])) == WORD_DENIED
    assert ask(made, query(), ip=bytes(15) + b"\1").rcode() == 5


def test_c5_without_rd_nothing_is_given_from_the_cache():
    cache = native.Cache(65536)
    made = native.Stage(SERVER, [(bytes(16), native.MAY_QUERY | native.MAY_RECURSE)])
    made.set_view(0, cache=cache, recursive=True)
    q = native.Question.parse(SERVER, query().to_wire())
    cache.put(q, native.write_answer(q, 0, 0, [native.Record(None, 1, 60, b"abcd")]), 0.0)
    assert ask(made, query()).answer and ask(made, query(flags=0)) is None


def test_e8_over_the_limit_cookies_are_asked_for_and_verified_clients_pass():
    made = native.Stage(SERVER, limit=native.RateLimit(1, 1, slots=1024))
    made.set_view(0, zones=ZONES)
    first = ask(made, query(options=[dns.edns.GenericOption(10, b"12345678")]), wall=50)
    cookie = first.options[0].client + first.options[0].server
    over = [ask(made, query(), wall=50) for _ in range(4)]
    assert [r if isinstance(r, int) else bool(r.flags & dns.flags.TC) for r in over] == [
        WORD_LIMITED,
        True,
    ] * 2
    bad = ask(made, query(options=[dns.edns.GenericOption(10, b"12345678")]), wall=50)
    assert bad.rcode() == 23 and not bad.answer and len(bad.options[0].server) == 16
    for _ in range(5):
        assert ask(made, query(options=[dns.edns.GenericOption(10, cookie)]), wall=51).answer
    assert ask(made, query(), stream=True).answer
    assert made.counters["limited"] == 5 and made.counters["slipped"] == 2


def test_trusted_ranges_are_not_limited():
    made = native.Stage(
        SERVER, [(bytes(16), native.MAY_QUERY | native.TRUSTED)], native.RateLimit(1, 1, slots=64)
    )
    made.set_view(0, zones=ZONES)
    assert all(ask(made, query()).answer for _ in range(20))


def test_an_update_is_refused_politely_and_a_bare_cookie_gets_one():
    update = query("example.", "SOA")
    update.set_opcode(5)
    assert ask(stage(), update).rcode() == 5
    bare = b"\0\1\0\0\0\0\0\0\0\0\0\1\0\0\x29\4\xd0\0\0\0\0\0\x0c\0\x0a\0\x0812345678"
    assert len(ask(stage(), bare).options[0].server) == 16


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="sorted"):
        native.Stage(SERVER, [(b"\1" * 16, 0)])
    with pytest.raises(ValueError, match="view 64"):
        native.Stage(SERVER).set_view(64)
    with pytest.raises(ValueError, match="another key"):
        native.Stage(native.Server(key=b"k" * 16)).set_view(0, zones=ZONES)
