"""The login and the protocol step by step, sans-io: the very bytes, each limit at its edge, each wrong turn."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter

import pytest

from toolips_udp.messages import frames, login, tokens
from toolips_udp.messages.errors import BadFrame, LoginError, VersionError
from toolips_udp.messages.login import HELLO_SIZE, MAGIC, PROBE_SIZE, ClientLogin, ServerLogin, Terms
from toolips_udp.messages.protocol import LOGIN_DEADLINE, LONGEST_LOGIN, ClientProtocol, ServerProtocol
from toolips_udp.messages.sealing import HEAD
from toolips_udp.messages.throttle import FREE, LONGEST, Throttle

KEY = tokens.key_of("test")


def dice(name):
    """Random that is the same each time."""
    count = [0]

    def random(size):
        count[0] += 1
        return hashlib.shake_256(f"{name} {count[0]}".encode()).digest(size)

    return random


def sides(
    token="test", ours=None, theirs=None, *, custom=False, resumes=False, may_send=True, address="1.2.3.4:5"
):
    server = ServerLogin(KEY, theirs or Terms("1.0"), custom, address, dice("server"))
    client = ClientLogin(token, ours or Terms("1.0"), may_send, b"i" * 16, resumes, dice("client"))
    return client, server


def shake(client, server, change=lambda data: data):
    return server.prove(client.answer(change(server.begin(client.hello()))))


# ---- the bytes ----


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("custom", [False, True])
def test_a_login_says_the_bytes_that_the_wire_page_describes(secure, custom):
    client, server = sides(ours=Terms("1.2", None, secure), theirs=Terms("3.4"), custom=custom, resumes=True)
    random_c, random_s = dice("client"), dice("server")
    nonce_c, nonce_s = random_c(32), random_s(32)
    hello = client.hello()
    assert hello == (b"\1" + MAGIC + bytes((secure,)) + nonce_c + b"\x031.2").ljust(192, b"\0")
    challenge = server.begin(hello)
    public_s = login.Exchange(lambda n: random_s(n)).public if secure else bytes(32)
    flags = secure + 2 * custom
    assert challenge == bytes((2, flags)) + nonce_s + public_s + b"\x033.4" + b"\x091.2.3.4:5"
    proof = client.answer(challenge)
    private_c = login.Exchange(lambda n: random_c(n)) if secure else None
    public_c = private_c.public if private_c else bytes(32)
    shared = private_c.shared(public_s) if private_c else b""
    parts = (
        MAGIC,
        nonce_c,
        nonce_s,
        b"1.2",
        b"3.4",
        b"1.2.3.4:5",
        bytes((flags, 4)),
        public_c,
        public_s,
        b"i" * 16,
    )
    digest = hashlib.sha256(b"".join(len(part).to_bytes(2) + part for part in parts)).digest()

    def mac(key, what):
        return hmac.digest(key, what, "sha256")

    sent = b""
    if custom:
        sent = b"test"
        if secure:
            sent = login.cipher(mac(shared, b"token" + nonce_c + nonce_s)).encrypt(bytes(12), sent, None)
    want = b"\3" + mac(KEY, b"client" + digest) + b"i" * 16 + b"\4" + public_c
    assert proof == want + len(sent).to_bytes(2) + sent
    assert server.prove(proof) is (None if custom else True)
    assert server.sent_token == ("test" if custom else None)
    welcome, theirs = server.accept(70_000)
    most = (70_000).to_bytes(4)
    assert welcome == b"\4" + mac(KEY, b"server" + most + digest) + most
    ours = client.finish(welcome)
    master = mac(KEY, b"master" + digest + shared)
    for session, mine, other, version in (
        (ours, b"to server", b"to client", "3.4"),
        (theirs, b"to client", b"to server", "1.2"),
    ):
        assert session.seal.close(b"body") == login.Seal(mac(master, mine), secure).close(b"body")
        assert session.opener.open(login.Seal(mac(master, other), secure).close(b"body")) == b"body"
        assert (session.instance, session.resumes, session.version) == (b"i" * 16, True, version)
        assert session.secure is secure
    assert client.max_message == 70_000


def test_a_client_that_does_not_resume_says_so():
    client, server = sides()
    assert client.max_message == 0, "not known before the end"
    proof = client.answer(server.begin(client.hello()))
    assert proof[49] == 0 and server.prove(proof) is True
    welcome, theirs = server.accept(9)
    assert (theirs.resumes, client.finish(welcome).resumes, server.sent_token) == (False, False, None)


def test_a_text_of_the_login_is_at_most_64_bytes_and_what_cannot_be_written_is_a_question_mark():
    assert login.short("x" * 64) == b"\x40" + b"x" * 64 == login.short("x" * 65)
    assert login.short("1\ud8002") == b"\x031?2"
    client, server = sides(ours=Terms("1\ud800"), theirs=Terms("2\ud800"), address="\ud800:1")
    assert shake(client, server) is True
    _, session = server.accept(9)
    assert session.version == "1?"


def test_a_version_of_broken_bytes_is_read_all_the_same():
    assert login.read_probed(b"\7\2\xff1") == "\ufffd1"
    assert login.read_probed(b"\7\3ab") is None and login.read_probed(b"\6\1a") is None


def test_a_probe_and_its_answer_have_one_size_at_most():
    assert login.probe() == (b"\6" + MAGIC).ljust(PROBE_SIZE, b"\0")
    assert login.is_probe(login.probe()) and not login.is_probe(login.probe()[:-1])
    assert login.read_probed(login.probed("x" * 62)) == "x" * 62
    assert max(len(login.probed("x" * size)) for size in (62, 63, 64, 100)) == PROBE_SIZE
    assert all(login.read_probed(login.probed("x" * size)) == "x" * 62 for size in (63, 64, 100)), "cut, not broken"


# ---- wrong turns ----


@pytest.mark.parametrize(
    "change", [lambda h: h[:-1], lambda h: b"\2" + h[1:], lambda h: h[:3] + b"?" + h[4:]]
)
def test_a_hello_is_whole_of_its_kind_and_of_this_protocol(change):
    client, server = sides()
    with pytest.raises(LoginError, match="no hello"):
        server.begin(change(client.hello()))
    assert len(client.hello()) == HELLO_SIZE


def test_a_proof_before_the_challenge_or_of_another_kind_is_none():
    client, server = sides()
    _, other = sides()
    proof = client.answer(other.begin(client.hello()))
    with pytest.raises(LoginError, match="no proof"):
        server.prove(proof)
    with pytest.raises(LoginError, match="no proof"):
        other.prove(b"\4" + proof[1:])


def test_without_a_login_of_its_own_a_server_is_sent_no_token():
    client, server = sides(may_send=False)
    assert shake(client, server) is True and server.sent_token is None


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("size, right", [(4096, None), (4097, False)])
def test_a_sent_token_has_4_096_bytes_at_most(secure, size, right, monkeypatch):
    client, server = sides("x" * size, Terms("1", None, secure), custom=True)
    if right is None:
        assert shake(client, server) is None and server.sent_token == "x" * size
        return
    challenge = server.begin(client.hello())
    with pytest.raises(LoginError, match="4,097"):
        client.answer(challenge)
    client, server = sides("x" * size, Terms("1", None, secure), custom=True)
    challenge = server.begin(client.hello())
    monkeypatch.setattr(login, "LONGEST", 5000)
    proof = client.answer(challenge)
    monkeypatch.undo()
    assert server.prove(proof) is False, "a client that does not keep to it"


def test_a_sent_token_that_is_no_text_or_cannot_be_opened_or_was_not_proved_is_a_failed_login():
    client, server = sides("\ud800", custom=True)
    assert shake(client, server) is False, "a client writes it, a server does not read it"
    client, server = sides(ours=Terms("1", None, True), custom=True)
    proof = client.answer(server.begin(client.hello()))
    assert server.prove(proof[:-1] + bytes((proof[-1] ^ 1,))) is False
    client, server = sides(custom=True)
    proof = client.answer(server.begin(client.hello()))
    assert server.prove(proof[:-4] + b"tent") is False


def test_an_answer_of_nothing_is_a_refusal():
    client, server = sides()
    shake(client, server)
    with pytest.raises(LoginError, match="Is the token right"):
        client.finish(b"")
    with pytest.raises(LoginError, match="Is the token right"):
        client.finish(login.refusal())


@pytest.mark.parametrize(
    "ours, theirs, old", [("1.9", "1.10", True), ("1.10", "1.10", False), ("2", "1.10", False)]
)
def test_each_side_takes_the_oldest_version_it_names_and_none_older(ours, theirs, old):
    for ours_terms, theirs_terms in (
        (Terms(ours), Terms("9", theirs)),  # the server is asked
        (Terms("9", theirs), Terms(ours)),  # the client is
    ):
        client, server = sides(ours=ours_terms, theirs=theirs_terms)
        assert shake(client, server) is True
        accepted = server.accept(9)
        welcome = accepted if isinstance(accepted, bytes) else accepted[0]
        if old:
            with pytest.raises(VersionError, match="1.9"):
                client.finish(welcome)
        else:
            assert client.finish(welcome).instance == b"i" * 16


# ---- the protocol ----


def protocols(
    token="test", throttle=None, *, most=1000, ours=None, theirs=None, custom=False, now=100.0, counts=None
):
    server = ServerProtocol(
        theirs or Terms("1.0"), now, most, Counter() if counts is None else counts, token=KEY, custom=custom,
        address="a", source="a", throttle=Throttle() if throttle is None else throttle, random=dice("server"),
    )  # fmt: skip
    client = ClientProtocol(
        ours or Terms("1.0"), now, 5000, Counter(), token=token, may_send=True, instance=b"i" * 16, resumes=True,
        random=dice("client"),
    )  # fmt: skip
    client.begin()
    return server, client


def carry(one, other, now=100.0):
    out, one.out[:] = list(one.out), []
    return [event for event in (other.receive(data, now) for data in out) if event is not None]


def logged_in(now=100.0, **more):
    server, client = protocols(**more)
    carry(client, server, now), carry(server, client, now)
    (theirs,), (ours,) = carry(client, server, now), carry(server, client, now)
    assert theirs == ("login", server.session) and ours == ("login", client.session)
    return server, client


def tired(times=FREE, now=100.0):
    throttle = Throttle()
    for _ in range(times):
        throttle.failed("a", now)
    return throttle


def test_both_sides_know_who_the_other_is_once_they_are_logged_in():
    server, client = protocols(ours=Terms("1.2"), theirs=Terms("3.4"))
    for side, terms in ((server, Terms("3.4")), (client, Terms("1.2"))):
        assert (side.open, side.ended, side.held, side.terms) == (False, False, [], terms)
    assert server.deadline == 100 + LOGIN_DEADLINE
    carry(client, server, 101.0), carry(server, client, 101.0)
    carry(client, server, 102.0), carry(server, client, 103.0)
    assert server.open and client.open and server.deadline is None
    assert (server.session.version, client.session.version) == ("1.2", "3.4")
    assert (server.session.instance, server.session.resumes) == (b"i" * 16, True)
    assert (server.heard, server.said, client.heard, client.said) == (102.0, 102.0, 103.0, 103.0)
    assert server.tick(1e9) is None and not server.counts and not client.counts
    server.end("left")
    assert (server.open, server.ended) == (False, True)


def test_a_frame_is_as_long_as_the_shorter_limit_and_no_longer():
    server, client = logged_in(most=1000)
    assert len(client.close(b"x" * 1000, 1.0)) == 1000 + HEAD
    with pytest.raises(ValueError, match=r"1,001 bytes is more than max_message \(1,000\)"):
        client.close(b"x" * 1001, 1.0)
    assert client.said == 1.0
    assert server.receive(bytes(1000 + HEAD), 1.0) is None and server.counts == {"denied": 1}
    assert server.receive(bytes(1001 + HEAD), 1.0) is None
    assert server.receive(bytes(1001 + HEAD), 1.0) is None
    assert server.counts == {"denied": 1, "too_long": 2} and server.open
    server, client = logged_in(most=9000)
    with pytest.raises(ValueError, match=r"\(5,000\)"):
        client.close(b"x" * 5001, 1.0)
    assert client.receive(bytes(100_000), 1.0) is None and client.counts == {"denied": 1}


def test_a_frame_that_is_genuine_and_nonsense_is_told_and_counted_and_what_is_not_genuine_is_only_counted():
    server, client = logged_in()
    for n in (1, 2):
        event, error = server.receive(client.close(b"\xc1", 5.0), 6.0 + n)
        assert event == "bad" and type(error) is BadFrame
    assert server.counts == {"malformed": 2} and server.heard == 8.0
    good = client.write(frames.Text(1, "hi"), 9.0)
    assert server.receive(good, 9.0) == frames.Text(1, "hi")
    for _ in range(2):
        assert server.receive(good, 10.0) is None and server.heard == 9.0
    assert server.counts == {"malformed": 2, "replayed": 2}


def test_a_ping_is_answered_with_its_number():
    server, client = logged_in()
    assert server.receive(client.write(frames.Ping(7), 150.0), 150.0) is None
    assert server.said == 150.0
    (pong,) = server.out
    assert frames.read(client.session.opener.open(pong)) == frames.Pong(7)
    server.receive(client.write(frames.Pong(7), 151.0), 151.0)
    assert len(server.out) == 1 and server.heard == 151.0


def test_a_side_that_says_enough_asks_only_who_is_silent_and_once_a_beat():
    server, _ = logged_in()
    asked = []
    for tenth in range(1, 150):
        now = 100 + tenth / 10
        if tenth % 10 == 0:
            server.close(b"news", now)
        assert server.keep_alive(now, 5.0, 15.0) is None
        if server.out:
            asked.append(tenth / 10)
            server.out.clear()
    assert asked == [5.0, 10.0]
    assert server.keep_alive(115.0, 5.0, 15.0) == ("end", "lost", None)
    assert server.keep_alive(999.0, 5.0, 15.0) is None and server.out == []


def test_who_said_nothing_for_a_beat_speaks_and_who_just_spoke_and_heard_does_not():
    server, client = logged_in()
    server.receive(client.write(frames.Ping(1), 104.0), 104.0)
    assert (server.said, server.heard) == (104.0, 104.0)
    server.out.clear()
    assert server.keep_alive(105.0, 5.0, 15.0) is None and server.out == []
    client.heard = 104.5
    assert client.said == 104.0 and client.keep_alive(108.9, 5.0, 15.0) is None and client.out == []
    assert client.keep_alive(109.0, 5.0, 15.0) is None and len(client.out) == 1
    client.close(b"news", 109.4)
    assert client.keep_alive(109.5, 5.0, 15.0) is None and len(client.out) == 1, "asked half a second ago"


def test_a_client_that_only_speaks_asks_the_silent_server():
    _, client = logged_in()
    for second in range(1, 6):
        client.close(b"news", 100.0 + second)
        assert client.keep_alive(100.0 + second, 5.0, 15.0) is None
    assert len(client.out) == 1


def test_connections_of_one_server_count_together():
    counts = Counter()
    for _ in range(2):
        server, _ = protocols(counts=counts, most=100)
        server.receive(bytes(100 + HEAD + 1), 100.0)  # too_long
        server, _ = protocols(counts=counts)
        server.receive(b"nonsense", 100.0)  # malformed, login_failed
        server, _ = protocols(counts=counts)
        server.tick(105.0)  # login_late
        server, client = protocols(counts=counts, theirs=Terms("2", "2"))
        carry(client, server), carry(server, client), carry(client, server)  # bad_version
        server, client = protocols(counts=counts, throttle=tired())
        carry(client, server)
        server.receive(b"\3 nonsense", 100.0), server.tick(101.0)  # throttled, malformed, login_failed
        throttle = tired()
        for _ in range(4):
            throttle.wait("a", 100.0)
        server, client = protocols(counts=counts, throttle=throttle)
        carry(client, server), carry(server, client), carry(client, server)  # throttled
    assert counts == {
        "too_long": 2, "malformed": 4, "login_failed": 4, "login_late": 2, "bad_version": 2, "throttled": 4,
    }  # fmt: skip


def test_nobody_is_asked_before_the_login():
    server, client = protocols()
    client.out.clear()
    assert server.keep_alive(999.0, 5.0, 15.0) is None and client.keep_alive(999.0, 5.0, 15.0) is None
    assert server.out == [] and client.out == []


def test_a_frame_before_the_login_is_short():
    server, _ = protocols(most=100)
    assert server.receive(bytes(100 + HEAD + 1), 100.0) == ("end", "login", None)
    assert server.counts == {"too_long": 1} and server.out == []
    assert server.tick(1e9) is None and server.counts == {"too_long": 1}
    server, _ = protocols(most=100)
    server.receive(bytes(100 + HEAD), 100.0)
    assert server.counts == {"malformed": 1, "login_failed": 1}, "as long as it may be"
    server, client = protocols(most=100_000)
    hello = client.out[0].ljust(LONGEST_LOGIN + 1, b"\0")
    assert server.receive(hello, 100.0) == ("end", "login", None)
    assert server.counts == {"malformed": 1, "login_failed": 1}


@pytest.mark.parametrize("data", [b"", bytes(200), b"\1" * 200])
def test_nonsense_instead_of_a_hello_ends_it_without_a_word_and_counts_for_its_source(data):
    throttle = Throttle()
    for _ in range(FREE):
        assert throttle.wait("a", 100.0) == 0
        server, _ = protocols(throttle=throttle)
        assert server.receive(data, 100.0) == ("end", "login", None)
        assert server.out == [] and server.counts == {"malformed": 1, "login_failed": 1}
        assert server.receive(login.probe(), 100.0) is None and server.out == []
    assert throttle.wait("a", 100.0) == 1.0


def test_a_frame_of_a_login_may_have_8_192_bytes():
    server, client = protocols(most=100_000)
    assert server.receive(client.out[0].ljust(LONGEST_LOGIN, b"\0"), 100.0) is None
    assert len(server.out) == 1


def test_a_probe_after_the_hello_is_nonsense():
    server, client = protocols()
    carry(client, server)
    assert server.receive(login.probe(), 100.0) == ("end", "login", None)
    assert server.counts == {"malformed": 1, "login_failed": 1} and server.out[-1] == login.refusal()


def test_who_failed_often_waits_and_may_take_longer_than_a_login_usually_may():
    throttle = tired()
    server, client = protocols(throttle=throttle)
    carry(client, server), carry(server, client)
    assert [throttle.wait("a", 104.5) for _ in range(3)] == [1.0, 2.0, 3.0]
    assert server.receive(client.out[0], 104.5) is None
    assert server.counts == {"throttled": 1} and server.deadline == 104.5 + LONGEST + 1.0
    assert server.tick(105.0) is None and server.tick(108.4) is None
    assert server.tick(108.5)[0] == "login" and server.open and server.deadline is None
    assert server.heard == server.said == 108.5


def test_a_short_wait_leaves_the_usual_deadline():
    server, client = protocols(throttle=tired())
    carry(client, server), carry(server, client)
    carry(client, server)
    assert server.deadline == 100 + LOGIN_DEADLINE


def test_a_wrong_proof_that_waited_fails_when_it_is_judged():
    server, client = protocols("wrong", tired())
    carry(client, server), carry(server, client), carry(client, server)
    assert server.out == [] and server.tick(101.0) == ("end", "login", None)
    assert server.out == [login.refusal()] and server.counts == {"throttled": 1, "login_failed": 1}


def test_a_proof_of_nonsense_that_waited_fails_when_it_is_judged():
    server, client = protocols(throttle=(throttle := tired()))
    carry(client, server)
    server.out.clear()
    assert server.receive(b"\3 nonsense", 100.0) is None
    assert server.tick(101.0) == ("end", "login", None)
    assert throttle.wait("a", 160.5) == 0, "it alone is left of the failures, from when it was judged"
    assert server.out == [login.refusal()]
    assert server.counts == {"throttled": 1, "malformed": 1, "login_failed": 1}


def test_with_too_many_before_it_a_login_fails_at_once():
    throttle = tired()
    for _ in range(4):
        throttle.wait("a", 100.0)
    server, client = protocols(throttle=throttle)
    carry(client, server), carry(server, client)
    assert carry(client, server) == [("end", "login", None)]
    assert server.out == [login.refusal()] and server.counts == {"throttled": 1}


def test_a_failure_counts_for_the_network_and_at_its_time():
    throttle = tired(FREE - 1)
    server, client = protocols("wrong", throttle)
    carry(client, server, 120.0), carry(server, client, 120.0)
    assert carry(client, server, 120.0) == [("end", "login", None)]
    assert throttle.wait("a", 159.9) == 1.0 and throttle.wait("a", 160.0) == 0
    assert carry(server, client, 121.0)[0][1] == "login"


def test_a_login_of_its_own_judges_the_token_and_the_verdict_counts_once():
    for right in (True, False):
        server, client = protocols(custom=True)
        carry(client, server), carry(server, client)
        assert carry(client, server) == [("judge", "test")] and server.out == []
        event = server.decide(right, 101.0)
        assert event == (("login", server.session) if right else ("end", "login", None))
        assert server.counts == ({} if right else {"login_failed": 1})
        assert server.decide(True, 102.0) is None and len(server.out) == 1


def test_a_login_of_its_own_that_waited_is_judged_once():
    server, client = protocols(custom=True, throttle=tired())
    carry(client, server), carry(server, client), carry(client, server)
    assert server.tick(101.0) == ("judge", "test")
    assert server.tick(102.0) is None
    assert server.decide(True, 102.5)[0] == "login"


def test_a_login_that_is_judged_too_slowly_ends_late():
    server, client = protocols(custom=True)
    carry(client, server), carry(server, client), carry(client, server)
    assert server.tick(104.999) is None
    assert server.tick(105.0) == ("end", "late", None) and server.counts == {"login_late": 1}
    assert server.decide(True, 105.0) is None and server.out == []


def test_a_client_that_is_too_old_is_told_and_counted():
    server, client = protocols(theirs=Terms("2", "2"), ours=Terms("1"))
    carry(client, server), carry(server, client)
    assert carry(client, server) == [("end", "version", None)]
    assert server.counts == {"bad_version": 1} and not server.open and server.deadline is None
    ((kind, word, error),) = carry(server, client)
    assert (kind, word) == ("end", "login") and type(error) is VersionError and not client.open


def test_a_client_that_hears_nonsense_ends_with_the_reason():
    _, client = protocols()
    kind, word, error = client.receive(b"HTTP/1.1 400 Bad Request", 100.0)
    assert (kind, word) == ("end", "login") and "messages server" in str(error)
    assert client.receive(b"more", 101.0) is None and client.ended


def test_a_client_without_the_package_for_seals_ends_with_what_to_install(monkeypatch):
    def missing(random):
        raise ImportError("secure=True needs cryptography")

    for who in ("client", "server"):
        server, client = protocols(ours=Terms("1", None, True))
        if who == "server":
            monkeypatch.setattr(login, "Exchange", missing)
            assert carry(client, server) == [("end", "login", None)] and server.counts["malformed"] == 1
            continue
        carry(client, server)
        with monkeypatch.context() as patch:
            patch.setattr(login, "Exchange", missing)
            ((kind, word, error),) = carry(server, client)
        assert (kind, word, type(error)) == ("end", "login", LoginError) and "cryptography" in str(error)
