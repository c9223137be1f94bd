"""Login, seals, versions, tokens and the throttle, sans-io: no clock, no socket, no sleep."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from toolips_udp.messages import login, tokens, versions
from toolips_udp.messages.errors import LoginError, VersionError
from toolips_udp.messages.login import ClientLogin, ServerLogin, Terms
from toolips_udp.messages.protocol import LOGIN_DEADLINE, ClientProtocol, ServerProtocol
from toolips_udp.messages.sealing import WINDOW, Opener, Seal, Window
from toolips_udp.messages.throttle import FREE, MOST, Throttle, source_of

KEY = tokens.key_of("test")


def sides(token="test", *, ours=None, theirs=None, custom=False, may_send=True, address="1.2.3.4:5"):
    server = ServerLogin(KEY, theirs or Terms("1.0"), custom, address, os.urandom)
    client = ClientLogin(token, ours or Terms("1.0"), may_send, bytes(16), False, os.urandom)
    return client, server


def shake(client, server, change=lambda data: data):
    proof = client.answer(change(server.begin(client.hello())))
    return server.prove(proof), proof


@pytest.mark.parametrize("secure", [False, True])
def test_both_sides_have_the_same_session_and_each_knows_the_other(secure):
    client, server = sides(ours=Terms("1.0", None, secure))
    right, _ = shake(client, server)
    welcome, theirs = server.accept(1000)
    ours = client.finish(welcome)
    assert right is True and client.max_message == 1000
    for one, other in ((ours, theirs), (theirs, ours)):
        for n in range(3):
            sealed = one.seal.close(b"body %d" % n)
            assert (b"body" in sealed) is not secure
            assert other.opener.open(sealed) == b"body %d" % n
            assert one.opener.open(sealed) == "denied", "a message comes back to who sent it"


def test_no_two_sessions_share_a_key_even_with_one_token():
    def session():
        client, server = sides()
        shake(client, server)
        welcome, theirs = server.accept(1000)
        return client.finish(welcome), theirs

    (one, _), (_, other) = session(), session()
    assert other.opener.open(one.seal.close(b"x")) == "denied"


@pytest.mark.parametrize("at", [1, 2, 20, 33, 40, 66, 69, 70, 75])
def test_a_challenge_that_was_changed_on_the_way_proves_nothing(at):
    def change(data):
        return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]

    client, server = sides()
    try:
        right, _ = shake(client, server, change)
    except LoginError:
        return
    assert right is False


def test_a_proof_is_good_for_one_address_only():
    client, server = sides(address="1.2.3.4:5")
    hello = client.hello()
    challenge = server.begin(hello)
    proof = client.answer(challenge)
    elsewhere = ServerLogin(KEY, Terms("1.0"), False, "6.7.8.9:5", lambda n: challenge[2:34])
    elsewhere.begin(hello)
    assert elsewhere.prove(proof) is False and server.prove(proof) is True


def test_a_server_that_does_not_know_the_token_is_found_out():
    client, server = sides("theirs")
    shake(client, server)
    welcome, _ = server.accept(1000)
    with pytest.raises(LoginError, match="does not know"):
        client.finish(welcome)


def test_a_welcome_whose_limit_was_changed_is_refused():
    client, server = sides()
    shake(client, server)
    welcome, _ = server.accept(1000)
    with pytest.raises(LoginError):
        client.finish(welcome[:-1] + b"\0")


def test_a_client_that_wants_seals_takes_nothing_less():
    client, server = sides(ours=Terms("1.0", None, True))

    def without(data):
        return data[:1] + b"\0" + data[2:]

    with pytest.raises(LoginError, match="seal"):
        shake(client, server, without)


def test_a_custom_login_is_sent_the_token_only_where_it_may_be():
    client, server = sides(custom=True)
    right, proof = shake(client, server)
    assert right is None and server.sent_token == "test" and b"test" in proof
    client, server = sides(custom=True, ours=Terms("1.0", None, True))
    right, proof = shake(client, server)
    assert right is None and server.sent_token == "test" and b"test" not in proof
    client, server = sides(custom=True, may_send=False)
    with pytest.raises(LoginError, match="send_token"):
        shake(client, server)
    client, server = sides("x" * 5000, custom=True)
    with pytest.raises(LoginError, match="5,000"):
        shake(client, server)


def test_versions_are_checked_after_the_proof_and_both_are_named():
    client, server = sides(theirs=Terms("1.10", "1.10"), ours=Terms("1.9"))
    right, _ = shake(client, server)
    assert right is True
    with pytest.raises(VersionError, match=r"1\.9.*1\.10"):
        client.finish(server.accept(1000))
    client, server = sides(theirs=Terms("1.9"), ours=Terms("1.10", "1.10"))
    shake(client, server)
    with pytest.raises(VersionError, match=r"1\.9.*1\.10"):
        client.finish(server.accept(1000)[0])


@pytest.mark.parametrize(
    ("version", "minimum", "older"),
    [
        ("1.9", "1.10", True), ("1.10", "1.9", False), ("1.0", "1", False), ("1", "1.0.0", False), ("2", "1.9", False),
        ("0.1.0", "0.1.1", True), ("1.0rc1", "1.0", False), ("new", "1", True), ("", "1", True), ("1" * 40, "1", True),
        ("1..2", "1", True), ("-1", "0", True), ("1.2\n", "1", True), ("\u0661", "1", True),
    ],
)  # fmt: skip
def test_versions_compare_number_by_number_and_garbage_is_old(version, minimum, older):
    assert versions.is_older(version, minimum) is older


def test_tokens_of_every_kind_become_keys_of_one_length():
    keys = {tokens.key_of(token) for token in ("", "a", "é", "\ud800", "x" * 10**6, "a\0")}
    assert len(keys) == 6 and {len(key) for key in keys} == {32}


def test_the_window_takes_each_number_once_and_none_that_is_too_old():
    window = Window()
    for number in (1, 2, 5, 4, 3, 300, 299, 45):
        assert window.is_fresh(number), number
        window.take(number)
    for number in (0, 1, 2, 5, 299, 300, 300 - WINDOW, 45):
        assert not window.is_fresh(number), number
    assert window.is_fresh(300 - WINDOW + 2) and window.is_fresh(301) and window.is_fresh(2**64 - 1)
    window.take(2**64 - 1)
    assert not window.is_fresh(300)


@pytest.mark.parametrize("secure", [False, True])
def test_a_seal_is_opened_once_in_any_order_and_every_changed_bit_is_seen(secure):
    key = os.urandom(32)
    seal, opener = Seal(key, secure), Opener(key, secure)
    sealed = [seal.close(b"%d" % n) for n in range(300)]
    assert opener.open(sealed[1]) == b"1" and opener.open(sealed[0]) == b"0"
    assert opener.open(sealed[0]) == "replayed"
    assert opener.open(sealed[299]) == b"299"
    assert opener.open(sealed[299 - WINDOW]) == "replayed" and opener.open(sealed[299 - WINDOW + 1]) == b"44"
    for bit in range(8 * len(sealed[100])):
        raw = bytearray(sealed[100])
        raw[bit // 8] ^= 1 << bit % 8
        assert opener.open(bytes(raw)) == "denied"
    assert opener.open(sealed[100]) == b"100"
    for size in range(24):
        assert opener.open(sealed[101][:size]) == "denied"


def test_numbers_never_start_again():
    seal = Seal(bytes(32), False)
    seal.number = 2**64 - 1
    with pytest.raises(OverflowError):
        seal.close(b"")


def test_ten_failures_a_minute_are_free_then_each_waits_its_turn():
    throttle = Throttle()
    for n in range(FREE):
        assert throttle.wait("a", n * 0.1) == 0
        throttle.failed("a", n * 0.1)
    assert [throttle.wait("a", 1.0) for _ in range(5)] == [1.0, 2.0, 3.0, 4.0, None]
    assert throttle.wait("b", 1.0) == 0
    assert throttle.wait("a", 61.5) == 0, "a minute later all is forgotten"


def test_the_throttle_remembers_a_bounded_number_of_networks():
    throttle = Throttle()
    for n in range(MOST + 50):
        throttle.failed(f"10.0.{n >> 8}.{n & 255}", 0.0)
    assert len(throttle) == MOST
    assert source_of("2001:db8::1") == source_of("2001:db8::2:3") != source_of("2001:db8:0:1::1")
    assert source_of("::1%lo") == source_of("::1") and source_of("127.0.0.1") == "127.0.0.1"


def protocols(token="test", throttle=None, **more):
    theirs = ServerProtocol(
        Terms("1.0"), 0.0, 1000, Counter(), token=KEY, custom=False, address="a", source="a",
        throttle=Throttle() if throttle is None else throttle, random=os.urandom, **more,
    )  # fmt: skip
    ours = ClientProtocol(
        Terms("1.0"), 0.0, 1000, Counter(), token=token, may_send=True, instance=bytes(16), resumes=False,
        random=os.urandom,
    )  # fmt: skip
    ours.begin()
    return theirs, ours


def carry(one, other, now):
    out, one.out[:] = list(one.out), []
    return [event for event in (other.receive(data, now) for data in out) if event]


def test_a_login_ends_at_its_deadline_and_says_nothing():
    theirs, _ours = protocols()
    assert theirs.tick(LOGIN_DEADLINE - 0.1) is None
    assert theirs.tick(LOGIN_DEADLINE) == ("end", "late", None)
    assert theirs.out == [] and theirs.receive(bytes(100), 6.0) is None


def test_a_right_token_is_let_in_after_wrong_ones_a_little_later():
    throttle = Throttle()
    for _ in range(FREE):
        theirs, ours = protocols("wrong", throttle)
        carry(ours, theirs, 0.0), carry(theirs, ours, 0.0)
        assert carry(ours, theirs, 0.0) == [("end", "login", None)]
    theirs, ours = protocols("test", throttle)
    carry(ours, theirs, 0.0), carry(theirs, ours, 0.0)
    assert carry(ours, theirs, 0.0) == [] and theirs.out == []
    assert theirs.tick(0.9) is None
    assert theirs.tick(1.0)[0] == "login"
    assert carry(theirs, ours, 1.0)[0][0] == "login"


def test_a_second_proof_on_one_connection_ends_it():
    theirs, ours = protocols("wrong", throttle := Throttle())
    for _ in range(FREE):
        throttle.failed("a", 0.0)
    carry(ours, theirs, 0.0), carry(theirs, ours, 0.0)
    proof = ours.out[0]
    theirs.receive(proof, 0.0)
    assert theirs.receive(proof, 0.0) == ("end", "login", None)
    assert theirs.tick(10.0) is None


def test_a_probe_is_answered_a_few_times_and_never_longer_than_it():
    theirs, _ = protocols()
    for _ in range(10):
        theirs.receive(login.probe(), 0.0)
    assert len(theirs.out) == 4 and all(len(data) <= len(login.probe()) for data in theirs.out)
    assert login.read_probed(theirs.out[0]) == "1.0"
    for bad in (b"", b"\7", b"\7\xff", b"\1abc"):
        assert not login.read_probed(bad)


def test_silence_is_asked_about_and_then_ends():
    theirs, ours = protocols()
    carry(ours, theirs, 0.0), carry(theirs, ours, 0.0), carry(ours, theirs, 0.0), carry(theirs, ours, 0.0)
    assert ours.keep_alive(4.9, 5.0, 15.0) is None and ours.out == []
    assert ours.keep_alive(5.0, 5.0, 15.0) is None and len(ours.out) == 1
    assert carry(ours, theirs, 5.0) == [] and len(theirs.out) == 1
    assert carry(theirs, ours, 5.1) == [] and ours.heard == 5.1
    assert ours.keep_alive(20.0, 5.0, 15.0) is None
    assert ours.keep_alive(20.1, 5.0, 15.0) == ("end", "lost", None)


@pytest.mark.parametrize("public", [bytes(32), b"\1" + bytes(31)])
def test_a_public_key_of_low_order_is_a_failed_login(public):
    client, server = sides(ours=Terms("1.0", None, True))
    proof = client.answer(server.begin(client.hello()))
    assert server.prove(proof[:50] + public + proof[82:]) is False
