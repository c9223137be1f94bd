"""Bytes that nobody should send, before and after a login of messages, driven without sockets.

    python tests/fuzz_messages.py --messages 10_000_000     so many before the login, and so many after
    python tests/fuzz_messages.py --minutes 10

Three targets. `messages_before`: random and changed hellos and proofs against the server's protocol. `messages_after`:
genuine frames of a logged-in client with nonsense in them, and nonsense that is not genuine, against both protocols.
`messages_user`: the same against a whole server with operations and listeners, which must only ever see what their
hints say. Nothing may raise, no stranger may get more than it sent, and resident memory may grow by 8 MiB after the
warm-up. Each target adds a line to the ledger.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolips_udp.messages import Messages, frames, tokens
from toolips_udp.messages.carriers.link import Link
from toolips_udp.messages.login import ClientLogin, Terms
from toolips_udp.messages.protocol import ClientProtocol, ServerProtocol
from toolips_udp.messages.throttle import Throttle

MOST = 100_000
KEY = tokens.key_of("test")
GROWTH = 8 << 20
STEP = 50_000
"""Messages between two looks at memory and clock."""
MARKS = (0x91, 0x9F, 0xDC, 0xDD, 0xDE, 0xDF, 0xC6, 0xDB, 0xC9, 0xD9)
SAMPLES = [
    frames.Operation(1, "echo", {"text": "abc", "n": [1, 2.5, None, True, b"x"]}),
    frames.Text(7, "hello", {"deep": {"er": [1]}}, 3),
    frames.Result(1, "x"), frames.Done(2), frames.Failed(3, 6, "text", "id", "path"), frames.Ping(1), frames.Pong(2),
]  # fmt: skip


# -- two sides without a carrier ------------------------------------------------------------------


def server(throttle: Throttle | None = None, custom: bool = False, secure: bool = False) -> ServerProtocol:
    return ServerProtocol(
        Terms("1.0", None, secure), 0.0, MOST, Counter(), token=KEY, custom=custom, address="a", source="a",
        throttle=Throttle() if throttle is None else throttle, random=os.urandom,
    )  # fmt: skip


def client(token: str = "test") -> ClientProtocol:
    return ClientProtocol(
        Terms("1.0"), 0.0, MOST, Counter(), token=token, may_send=True, instance=bytes(16), resumes=False,
        random=os.urandom,
    )  # fmt: skip


def pump(one: Any, other: Any) -> list[Any]:
    """Carry what one says to the other; the events there."""
    out, one.out[:] = list(one.out), []
    return [event for event in (other.receive(data, 0.0) for data in out) if event is not None]


def logged_in(**more: Any) -> tuple[ServerProtocol, ClientProtocol]:
    theirs, ours = server(**more), client()
    ours.begin()
    for _ in range(2):
        events = pump(ours, theirs)
        pump(theirs, ours)
    assert [event[0] for event in events] == ["login"] and ours.open and theirs.open
    return theirs, ours


# -- what nobody should send ----------------------------------------------------------------------


def mutate(dice: random.Random, data: bytes) -> bytes:
    """A frame with something changed."""
    raw = bytearray(data)
    pick = dice.random
    for _ in range(int(pick() * 4) + 1):
        how = int(pick() * 5)
        at = int(pick() * (len(raw) + 1))
        if how == 0 and raw:
            raw[at % len(raw)] = int(pick() * 256)
        elif how == 1:
            del raw[at : at + 1 + int(pick() * 16)]
        elif how == 2:
            raw[at:at] = dice.randbytes(1 + int(pick() * 16))
        elif how == 3:
            raw[at:at] = raw[:32]
        else:
            raw[at : at + 1] = bytes((MARKS[int(pick() * len(MARKS))],))
    return bytes(raw)


def check_before(data: bytes, custom: bool, secure: bool) -> None:
    theirs = server(custom=custom, secure=secure)
    event = theirs.receive(data, 0.0)
    assert event is None or event[0] == "end", event
    assert sum(map(len, theirs.out)) <= max(len(data), 2), "an answer longer than its question"
    assert theirs.session is None


def hello_of() -> tuple[ClientLogin, bytes]:
    login = ClientLogin("wrong", Terms("1.0"), True, bytes(16), False, os.urandom)
    return login, login.hello()


def run_before(count: int, seed: int) -> None:
    dice = random.Random(seed)
    throttle = Throttle()
    login, hello = hello_of()
    for n in range(count):
        custom, secure = bool(n & 1), n % 256 == 64 + 2  # X25519 costs more than all the rest
        if n % 16 == 0:
            login, hello = hello_of()
        kind = n % 4
        if kind == 0:
            check_before(dice.randbytes(int(dice.random() * 300)), custom, secure)
        elif kind == 1:
            check_before(mutate(dice, hello), custom, secure)
        else:
            theirs = server(throttle, custom, secure)
            theirs.receive(hello, 0.0)
            if kind == 2:
                data = mutate(dice, bytes((3,)) + dice.randbytes(83) + b"\0\4test")
            else:
                data = mutate(dice, login.answer(theirs.out[0]))
            event = theirs.receive(data, float(n * 60))
            assert event is None or event[0] == "end" or (event[0] == "judge" and event[1] is not None), event
            assert theirs.session is None and sum(map(len, theirs.out[1:])) <= 2
    assert len(throttle) <= 1


def bodies_of(dice: random.Random, samples: list[bytes], n: int) -> bytes:
    if n % 3:
        return mutate(dice, samples[int(dice.random() * len(samples))])
    return dice.randbytes(int(dice.random() * 120))


def run_after(count: int, seed: int, secure: bool) -> None:
    """Genuine frames with nonsense in them, and nonsense that is not genuine."""
    dice = random.Random(seed)
    theirs, ours = logged_in(secure=secure)
    bodies = [frames.write(frame) for frame in SAMPLES]
    bodies += [frames.together(bodies[:5]), frames.together(bodies[:1])]
    for n in range(count):
        data = ours.close(bodies_of(dice, bodies, n), 0.0)
        if n % 4 == 0:
            data = mutate(dice, data)
        for receiver in (theirs,) if n % 8 else (theirs, ours):
            event = receiver.receive(data, 0.0)
            assert event is None or event.__class__ is not tuple or event[0] in ("frame", "bad"), event
            assert sum(map(len, receiver.out)) <= len(data) + 64
            receiver.out.clear()
    assert theirs.open and ours.open


# -- a whole server, with user code ---------------------------------------------------------------


class _Wire(Link):
    """A link that keeps the last thing said."""

    address = host = "fuzz"

    def __init__(self) -> None:
        super().__init__()
        self.said: list[bytes] = []

    def send(self, data: bytes) -> bool:
        self.said.append(data)
        return True

    def close(self) -> None:
        self.ended("closed")


class User:
    """A server whose operations and listeners count what is not what their hints say."""

    def __init__(self) -> None:
        self.wrong: list[Any] = []
        self.ran = 0
        self.server = house = Messages("test", log_level=logging.CRITICAL + 1, history=64)

        @house.operation()
        async def echo(text: str, n: list[float | bool | bytes | None] | None = None) -> str:
            self.check(isinstance(text, str) and (n is None or isinstance(n, list)), text, n)
            return text

        @house.operation()
        async def whole(payload: dict[str, int]) -> dict[str, int]:
            self.check(all(isinstance(value, int) for value in payload.values()), payload)
            return payload

        @house.receive("hello", parameter={"deep": dict})
        async def hello(message: Any, data: Any) -> None:
            self.check(isinstance(data["deep"], dict), data)
            await message.reply("hi", data)

        @house.receive()
        async def every(message: Any) -> None:
            self.check(isinstance(message.content, str) and message.id > 0, message)

    def check(self, right: bool, *what: Any) -> None:
        self.ran += 1
        if not right:
            self.wrong.append(what)

    def begin(self) -> tuple[_Wire, ClientProtocol]:
        """Serve on the running loop, with one client that is logged in."""
        house = self.server
        house.open_doors(30.0)
        wire, ours = _Wire(), client()
        house.accept(wire)
        ours.begin()
        for _ in range(2):
            for data in ours.out:
                wire.on_message(data)
            ours.out.clear()
            for data in wire.said:
                ours.receive(data, 0.0)
            wire.said.clear()
        assert ours.open and len(house.clients) == 1
        return wire, ours


async def run_user(count: int, seed: int, user: User) -> None:
    """Genuine frames with nonsense in them, to operations and listeners."""
    dice = random.Random(seed)
    house = user.server
    house.rate = 1 << 60
    wire, ours = user.begin()
    samples = [
        frames.write(frame)
        for frame in (
            frames.Operation(1, "echo", {"text": "abc", "n": [1, 2.5, None, True, b"x"]}),
            frames.Operation(2, "whole", {"a": 1, "b": -5}),
            frames.Text(3, "hello", {"deep": {"er": [1]}}),
            frames.Text(4, "hello", {"deep": {}}, 1),
        )
    ]
    samples += [frames.together(samples), frames.together(samples[:2])]
    before = user.ran
    for n in range(count):
        wire.on_message(ours.close(bodies_of(dice, samples, n), 0.0))
        wire.said.clear()
    assert house.work is not None
    await house.work.finish(5.0)
    assert not user.wrong, f"user code saw {user.wrong[:3]!r}"
    assert user.ran > before, "nothing reached the user's code, so nothing was tested"
    assert len(house.history) <= 64 and not len(house.executions) and len(house.clients) == 1
    for remote in list(house.clients.values()):
        remote.kill("stopping")
    house.close_doors()
    await house.work.close()


# -- the long run ---------------------------------------------------------------------------------


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def targets() -> dict[str, Callable[[int, int], Any]]:
    user = User()
    return {
        "messages_before": run_before,
        "messages_after": lambda count, seed: run_after(count, seed, seed % 4 == 3),
        "messages_user": lambda count, seed: asyncio.run(run_user(count, seed, user)),
    }


def fuzz(run: Callable[[int, int], Any], total: int, seconds: float, seed: int) -> dict[str, object]:
    """Run until `total` messages (0: any number) or `seconds` (0: any time) are over."""
    done, first, result = 0, 0, "ok"
    begin = time.monotonic()
    until = begin + seconds if seconds else float("inf")
    while (not total or done < total) and time.monotonic() < until:
        try:
            run(STEP, seed + done // STEP)
        except Exception as error:
            result = f"{type(error).__name__} with seed {seed + done // STEP}: {error}"[:200]
            break
        done += STEP
        if done >= max(total // 10, 2 * STEP):
            gc.collect()
            first = first or resident()
            if resident() - first > GROWTH:
                result = f"memory grew by {resident() - first:,} bytes after {done:,} messages"
                break
    return {
        "kind": "fuzz", "executions": done, "seconds": round(time.monotonic() - begin), "seed": seed, "result": result,
        "grown": max(0, resident() - first) if first else 0,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--messages", type=lambda text: int(text.replace("_", "")), default=0, help="of each target"
    )
    parser.add_argument("--minutes", type=float, default=0, help="for all targets together")
    parser.add_argument("--target", choices=list(targets()), help="only this one")
    parser.add_argument("--dry", action="store_true", help="add nothing to the ledger")
    options = parser.parse_args()
    if not options.messages and not options.minutes:
        parser.error("say --messages N or --minutes M")
    logging.disable(logging.CRITICAL)
    import ledger

    chosen = {name: run for name, run in targets().items() if options.target in (None, name)}
    worst = 0
    for name, run in chosen.items():
        seed = random.SystemRandom().randrange(1 << 32)
        line = fuzz(run, options.messages, options.minutes * 60 / len(chosen), seed)
        print(f"{name:16} {line['executions']:>12,} messages  {line['result']}", flush=True)
        worst |= line["result"] != "ok"
        if not options.dry:
            ledger.add({**line, "target": name})
    return worst


if __name__ == "__main__":
    sys.exit(main())
