"""A wrong token takes the same way as any other: one keyed hash, one comparison in constant time, one answer."""

from __future__ import annotations

import hmac
import os
import random
import statistics
import time
from collections import Counter
from pathlib import Path

import pytest

from toolips_udp.messages import login, tokens
from toolips_udp.messages.login import ClientLogin, Terms
from toolips_udp.messages.protocol import ServerProtocol
from toolips_udp.messages.throttle import Throttle

TOKEN = "correct horse battery staple"
LIKE = {
    "one letter wrong at the end": TOKEN[:-1] + "!",
    "one letter wrong at the front": "!" + TOKEN[1:],
    "right length, random": "x" * len(TOKEN),
    "short": "t",
    "long": "y" * 4000,
    "not ASCII": "tést",
}


def server():
    return ServerProtocol(
        Terms("1.0"), 0.0, 100_000, Counter(), token=tokens.key_of(TOKEN), custom=False, address="a", source="a",
        throttle=Throttle(), random=os.urandom,
    )  # fmt: skip


def attempt(token):
    """A server that waits for a proof, and the proof that this token gives."""
    theirs, ours = server(), ClientLogin(token, Terms("1.0"), True, bytes(16), False, os.urandom)
    theirs.receive(ours.hello(), 0.0)
    return theirs, ours.answer(theirs.out.pop())


def judged(monkeypatch, proof_of):
    """The calls of the functions that see the token's key, while a proof is judged."""
    seen = []
    theirs, proof = proof_of()
    with monkeypatch.context() as patch:
        for name in ("compare_digest", "digest"):

            def spy(*given, real=getattr(hmac, name), name=name):
                seen.append((name, tuple(len(each) for each in given if isinstance(each, bytes))))
                return real(*given)

            patch.setattr(login.hmac, name, spy)
        event = theirs.receive(proof, 0.0)
    return seen, event, list(theirs.out)


def test_every_wrong_token_makes_the_same_calls_with_the_same_lengths_and_gets_the_same_answer(monkeypatch):
    found = {what: judged(monkeypatch, lambda token=token: attempt(token)) for what, token in LIKE.items()}
    first_calls, first_event, first_out = found["right length, random"]
    assert first_calls == [("digest", (32, 6 + 32)), ("compare_digest", (32, 32))]
    for what, (calls, event, out) in found.items():
        assert calls == first_calls, what
        assert event == first_event == ("end", "login", None) and out == first_out == [login.refusal()], what


def test_macs_that_differ_in_the_first_or_in_the_last_byte_are_both_compared_whole(monkeypatch):
    def changed(at):
        theirs, proof = attempt(TOKEN)
        return theirs, proof[:at] + bytes((proof[at] ^ 1,)) + proof[at + 1 :]

    first, last = judged(monkeypatch, lambda: changed(1)), judged(monkeypatch, lambda: changed(32))
    assert first == last
    assert judged(monkeypatch, lambda: attempt(TOKEN))[0][:2] == first[0], (
        "the right one begins as the wrong ones"
    )
    assert login.hmac.compare_digest is hmac.compare_digest


def test_nothing_in_the_login_compares_bytes_in_another_way():
    text = Path(login.__file__).read_text()
    assert text.count("compare_digest") == 2  # each side once
    for line in text.splitlines():
        assert not ("mac" in line.split("=")[0] and "==" in line), line


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_time_of_a_wrong_token_does_not_tell_how_wrong_it_is():
    """Welch's t of each kind against random ones, on the fastest half of 20,000 attempts, in mixed order."""
    kinds = [
        "one letter wrong at the end",
        "one letter wrong at the front",
        "not ASCII",
        "right length, random",
    ]
    times = {kind: [] for kind in [*kinds, "again"]}
    order = [*kinds, "again"] * 4000
    random.Random(7).shuffle(order)
    clock = time.perf_counter_ns
    for kind in order:
        theirs, proof = attempt(LIKE["right length, random" if kind == "again" else kind])
        begin = clock()
        theirs.receive(proof, 0.0)
        times[kind].append(clock() - begin)
    half = {kind: sorted(found)[: len(found) // 2] for kind, found in times.items()}

    def t(a, b):
        spread = statistics.variance(a) / len(a) + statistics.variance(b) / len(b)
        return abs(statistics.fmean(a) - statistics.fmean(b)) / spread**0.5

    base = half["right length, random"]
    away = {kind: statistics.median(found) / statistics.median(base) - 1 for kind, found in half.items()}
    scores = {kind: t(found, base) for kind, found in half.items() if found is not base}
    noise = max(4.5, 3 * scores["again"])  # what two runs of the same kind differ by
    for kind, score in scores.items():
        assert score < noise or abs(away[kind]) < 0.02, (kind, score, away[kind])


def test_the_spies_above_would_see_a_shortcut(monkeypatch):
    monkeypatch.setattr(
        login.ServerLogin,
        "_is_right",
        lambda self: login.sign(self._token, b"client", self._said.digest()) == self._mac,
    )
    calls, _, _ = judged(monkeypatch, lambda: attempt("t"))
    assert "compare_digest" not in [name for name, _ in calls]
