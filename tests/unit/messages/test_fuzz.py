"""Bytes that nobody should send, before and after the login: nothing raises, nothing grows, nothing runs."""

from __future__ import annotations

import asyncio
import mmap
import os
import random
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolips_udp.messages import frames
from toolips_udp.messages.errors import BadAction, BadFrame
from toolips_udp.messages.login import HELLO_SIZE
from toolips_udp.messages.sealing import HEAD

sys.path.insert(0, str(Path(__file__).parents[2]))
import fuzz_messages
from fuzz_messages import MOST, User, check_before, fuzz, logged_in, run_after, run_before, run_user, server

COUNT = int(os.environ.get("MESSAGES_FUZZ", "3000"))
"""How many messages of each kind; tests/fuzz_messages.py runs millions."""


@pytest.mark.parametrize("seed", range(3))
def test_nothing_before_the_login_raises_or_gets_more_than_it_sent(seed):
    run_before(COUNT, seed)


@pytest.mark.parametrize("secure", [False, True])
def test_nothing_after_the_login_raises(secure):
    run_after(COUNT, 1, secure)


def test_nonsense_of_a_logged_in_client_reaches_user_code_only_as_its_hints_say():
    asyncio.run(run_user(COUNT, 5, User()))


def test_the_long_run_counts_notices_growth_and_what_raises(monkeypatch):
    monkeypatch.setattr(fuzz_messages, "STEP", 100)
    assert fuzz(run_before, 300, 0, 1) | {"seconds": 0, "grown": 0} == {
        "kind": "fuzz", "executions": 300, "seconds": 0, "seed": 1, "result": "ok", "grown": 0,
    }  # fmt: skip
    kept = []

    def keeps(count, seed):  # in pages of its own: the heap may have room from tests before
        kept.append(mmap.mmap(-1, 1 << 21))
        kept[-1].write(b"\1" * (1 << 21))

    grown = fuzz(keeps, 3000, 0, 1)
    assert "memory grew" in grown["result"] and grown["executions"] < 3000

    def breaks(count, seed):
        raise KeyError(seed)

    assert "KeyError with seed 7" in fuzz(breaks, 300, 0, 7)["result"]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_a_frame_or_one_of_two_errors(data):
    try:
        frame = frames.read(data)
    except (BadFrame, BadAction):
        return
    assert isinstance(frame, frames.Frame)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers(-(2**63), 2**64 - 1), inner, max_size=4)
    ),
    max_leaves=30,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(values, max_size=6))
def test_any_array_is_a_frame_or_one_of_two_errors(items):
    test_any_bytes_are_a_frame_or_one_of_two_errors.hypothesis.inner_test(msgspec.msgpack.encode(items))


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=1, max_size=HELLO_SIZE + 50), st.booleans(), st.booleans())
def test_any_first_bytes_get_nothing_longer_back(data, custom, secure):
    check_before(data, custom, secure)


def test_a_depth_bomb_a_wide_map_and_number_keys_are_no_frames():
    deep = b"\x93\x01\x01" + b"\x91" * 60_000 + b"\xc0"
    wide = msgspec.msgpack.encode([1, 1, "x", {str(n): n for n in range(1025)}])
    numbers = msgspec.msgpack.encode([1, 1, "x", {n: n for n in range(100)}])
    long = b"\x94\x01\x01\xa1x\xdf\xff\xff\xff\xff"
    for data in (
        deep,
        wide,
        numbers,
        long,
        b"\x94\x01\x01\xdb\xff\xff\xff\xff",
        b"\x94\x01\x01\xa1x\xc7\x01\x05x",
    ):
        with pytest.raises(BadFrame):
            frames.read(data)
    ok = msgspec.msgpack.encode([1, 1, "x", {str(n): n for n in range(1024)}])
    assert frames.read(ok).name == "x"
    with pytest.raises(BadAction):
        frames.read(msgspec.msgpack.encode([99, 1]))


def test_a_frame_above_max_message_is_counted_and_not_read():
    theirs, _ours = logged_in()
    assert (
        theirs.receive(bytes(MOST + HEAD + 1), 0.0) is None and theirs.counts["too_long"] == 1 and theirs.open
    )
    stranger = server()
    assert stranger.receive(bytes(10_000), 0.0)[0] == "end"


def test_a_running_server_takes_nonsense_of_a_logged_in_client_and_goes_on(caplog):
    """Genuine frames of every kind, with names, ids and payloads that mean nothing."""
    from toolips_udp import messages

    def nonsense(rng):
        values = [
            None,
            1,
            -1,
            2**63,
            "x",
            b"\0",
            [],
            {},
            {"a": 1},
            {"a": "1"},
            {"a": None},
            [[[]]],
            1.5,
            {"n": {}},
        ]
        id = rng.choice([1, 2, 5, 2**63 - 1, 0, rng.randrange(1, 1000)])
        return [
            rng.choice([1, 1, 1, 3, 3, 2, 4, 5, 6, 7]), id, rng.choice(["add", "no", "", "hello", 7, "é" * 100]),
            rng.choice(values), rng.choice(values),
        ][: rng.randint(1, 5)]  # fmt: skip

    async def story(server):
        rng = random.Random(7)
        async with messages.connect("test", server) as client:
            for _ in range(2000):
                bodies = [msgspec.msgpack.encode(nonsense(rng)) for _ in range(rng.choice((1, 1, 3)))]
                body = bodies[0] if len(bodies) == 1 else frames.together(bodies)
                client._link.send(client._protocol.close(body, asyncio.get_running_loop().time()))
                if rng.random() < 0.05:
                    await asyncio.sleep(0)
            client._id = 10_000
            await client.message("hello", {"a": 1})
            assert await client.operation("add", a=1) == 2

    server = messages.Server("test")
    server.operation("add")(lambda a: a + 1)
    ran = []

    @server.receive("hello", parameter={"a": int})
    async def hello(message, data):
        ran.append(type(data["a"]))

    with server.start("127.0.0.1:0"):
        asyncio.run(asyncio.wait_for(story(server), 20))
    assert set(ran) == {int}
    assert len(server.history) == 0 and not len(server.executions)
    assert len(caplog.records) < 200, "nonsense fills no log"
    raised = [r.getMessage() for r in caplog.records if "Traceback" in r.getMessage()]
    assert all("unsupported operand" in each or "can only concatenate" in each for each in raised), raised[:1]
