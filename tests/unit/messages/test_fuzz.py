"""Bytes that nobody should send, before and after the login: nothing raises, nothing grows, nothing runs."""

from __future__ import annotations

import os
import random
from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolips_udp.messages import frames, tokens
from toolips_udp.messages.errors import BadAction, BadFrame
from toolips_udp.messages.login import HELLO_SIZE, ClientLogin, Terms
from toolips_udp.messages.protocol import ClientProtocol, ServerProtocol
from toolips_udp.messages.sealing import HEAD
from toolips_udp.messages.throttle import Throttle

MOST = 100_000
KEY = tokens.key_of("test")
COUNT = int(os.environ.get("MESSAGES_FUZZ", "3000"))
"""How many messages of each kind; the long run sets 10,000,000."""


def server(throttle=None, custom=False, secure=False):
    return ServerProtocol(
        Terms("1.0", None, secure), 0.0, MOST, Counter(), token=KEY, custom=custom, address="a", source="a",
        throttle=Throttle() if throttle is None else throttle, random=os.urandom,
    )  # fmt: skip


def client(token="test"):
    return ClientProtocol(
        Terms("1.0"), 0.0, MOST, Counter(), token=token, may_send=True, instance=bytes(16), resumes=False,
        random=os.urandom,
    )  # fmt: skip


def pump(one, other):
    """Carry what one says to the other; the events there."""
    out, one.out[:] = list(one.out), []
    return [event for event in (other.receive(data, 0.0) for data in out) if event is not None]


def logged_in(**more):
    theirs, ours = server(**more), client()
    ours.begin()
    for _ in range(2):
        events = pump(ours, theirs)
        pump(theirs, ours)
    assert [event[0] for event in events] == ["login"] and ours.open and theirs.open
    return theirs, ours


def mutate(rng, data):
    """A frame with something changed."""
    raw = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        how = rng.randrange(5)
        at = rng.randrange(len(raw) + 1)
        if how == 0 and raw:
            raw[at % len(raw)] = rng.randrange(256)
        elif how == 1:
            del raw[at : at + rng.randint(1, 16)]
        elif how == 2:
            raw[at:at] = rng.randbytes(rng.randint(1, 16))
        elif how == 3:
            raw[at:at] = raw[:32]
        else:
            raw[at : at + 1] = bytes(
                (rng.choice((0x91, 0x9F, 0xDC, 0xDD, 0xDE, 0xDF, 0xC6, 0xDB, 0xC9, 0xD9)),)
            )
    return bytes(raw)


SAMPLES = [
    frames.Operation(1, "echo", {"text": "abc", "n": [1, 2.5, None, True, b"x"]}),
    frames.Text(7, "hello", {"deep": {"er": [1]}}, 3),
    frames.Result(1, "x"), frames.Done(2), frames.Failed(3, 6, "text", "id", "path"), frames.Ping(1), frames.Pong(2),
]  # fmt: skip


def check_before(data, custom, secure):
    theirs = server(custom=custom, secure=secure)
    event = theirs.receive(data, 0.0)
    assert event is None or event[0] == "end"
    assert sum(map(len, theirs.out)) <= max(len(data), 2), "an answer longer than its question"
    assert theirs.session is None


def hello_of():
    login = ClientLogin("wrong", Terms("1.0"), True, bytes(16), False, os.urandom)
    return login, login.hello()


def run_before(count, seed):
    rng = random.Random(seed)
    throttle = Throttle()
    login, hello = hello_of()
    for n in range(count):
        custom, secure = bool(n & 1), bool(n & 64)
        if n % 16 == 0:
            login, hello = hello_of()
        kind = n % 4
        if kind == 0:
            check_before(rng.randbytes(rng.randrange(300)), custom, secure)
        elif kind == 1:
            check_before(mutate(rng, hello), custom, secure)
        else:
            theirs = server(throttle, custom, secure)
            theirs.receive(hello, 0.0)
            if kind == 2:
                data = mutate(rng, bytes((3,)) + rng.randbytes(83) + b"\0\4test")
            else:
                data = mutate(rng, login.answer(theirs.out[0]))
            event = theirs.receive(data, float(n * 60))
            assert event is None or event[0] == "end" or (event[0] == "judge" and event[1] is not None)
            assert theirs.session is None and sum(map(len, theirs.out[1:])) <= 2
    assert len(throttle) <= 1


def run_after(count, seed, secure):
    """Genuine frames with nonsense in them, and nonsense that is not genuine."""
    rng = random.Random(seed)
    theirs, ours = logged_in(secure=secure)
    bodies = [frames.write(frame) for frame in SAMPLES]
    for n in range(count):
        body = mutate(rng, rng.choice(bodies)) if n % 3 else rng.randbytes(rng.randrange(120))
        data = ours.close(body, 0.0)
        if n % 4 == 0:
            data = mutate(rng, data)
        for receiver in (theirs,) if n % 8 else (theirs, ours):
            event = receiver.receive(data, 0.0)
            assert event is None or event[0] in ("frame", "bad"), event
            assert sum(map(len, receiver.out)) <= len(data) + 64
            receiver.out.clear()
    assert theirs.open and ours.open


@pytest.mark.parametrize("seed", range(3))
def test_nothing_before_the_login_raises_or_gets_more_than_it_sent(seed):
    run_before(COUNT, seed)


@pytest.mark.parametrize("secure", [False, True])
def test_nothing_after_the_login_raises(secure):
    run_after(COUNT, 1, secure)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_ten_million_messages_before_and_after_the_login_leave_nothing_behind():
    """10,000,000 messages (MESSAGES_FUZZ sets another number): half before the login, half after."""
    import tracemalloc

    total = int(os.environ.get("MESSAGES_FUZZ", "10_000_000"))
    step = max(total // 20, 1000)
    tracemalloc.start()
    first = 0
    for part in range(max(total // step, 2)):
        run_before(step // 2, part)
        run_after(step // 2, part, bool(part & 1))
        now, _ = tracemalloc.get_traced_memory()
        first = first or now
        assert now - first < 2_000_000, f"memory grew by {now - first:,} bytes after {part * step:,} messages"
    tracemalloc.stop()


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
    import asyncio

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
                client._send(msgspec.msgpack.encode(nonsense(rng)))
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
    assert len(server._history) == 0 and not len(server.executions)
    assert len(caplog.records) < 200, "nonsense fills no log"
    raised = [r.getMessage() for r in caplog.records if "Traceback" in r.getMessage()]
    assert all("unsupported operand" in each or "can only concatenate" in each for each in raised), raised[:1]
