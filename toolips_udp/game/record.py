"""Record and replay: what went into each tick, and the proof that it gives the same again.

Game floor: imports the errors and msgspec. A record is a file of msgpack
values, one after another: a head [name, format, rules version, seed], then for each tick
with something in it [tick, [[player, what, bytes], ...]], and now and then [tick, hash].
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec

from ..errors import FormatError, ToolipsError

NAME = "toolips_udp record"
FORMAT = 1

Event = tuple[int, str, bytes]
"""Who, what (`join`, `leave`, `input` ...), and its bytes."""


class ReplayDiffers(ToolipsError):
    """A replay came to another state than the match that was recorded."""

    code = "replay-differs"


class Simulation(Protocol):
    """What can be recorded: rules whose state follows from the seed and the events alone."""

    version: str
    seed: int

    def step(self, tick: int, events: list[Event]) -> None:
        """Run one tick."""
        ...

    def hash(self) -> str:
        """A digest of the whole state."""
        ...


class Recorder:
    """Writes a record. Buffered; `close` when the match ends.

    >>> with open("match.rec", "wb") as file:
    ...     recorder = Recorder(file, rules.version, seed)
    ...     recorder.tick(tick, events)
    """

    def __init__(self, file: BinaryIO, version: str, seed: int):
        self._file = file
        self._encode = msgspec.msgpack.Encoder().encode
        self.bytes = 0
        self._write([NAME, FORMAT, version, seed])

    def tick(self, number: int, events: list[Event]) -> None:
        """What went into this tick. Nothing is written for a tick without events."""
        if events:
            self._write([number, events])

    def check(self, number: int, digest: str) -> None:
        """The state's hash after this tick; once a second is often enough."""
        self._write([number, digest])

    def _write(self, value: Any) -> None:
        data = self._encode(value)
        self._file.write(len(data).to_bytes(4, "big") + data)
        self.bytes += 4 + len(data)


def read(path: str | Path) -> tuple[str, int, list[tuple[int, list[Event] | str]]]:
    """The rules version, the seed and the lines of a record. `FormatError` when it is none.

    A record that ends in the middle of a line (the server was killed) is read up to there.
    """
    lines = list(_lines(Path(path).read_bytes()))
    if not lines or not isinstance(lines[0], list) or lines[0][:2] != [NAME, FORMAT]:
        raise FormatError(f"{path} is not a record of format {FORMAT}: it begins with {str(lines[:1])[:60]}")
    _, _, version, seed = lines[0]
    rest: list[tuple[int, list[Event] | str]] = []
    for line in lines[1:]:
        number, what = line
        rest.append((number, what if isinstance(what, str) else [(p, w, bytes(d)) for p, w, d in what]))
    return version, seed, rest


def replay(path: str | Path, simulation: Simulation, to_tick: int | None = None) -> int:
    """Run a record through fresh rules, to its end or to a tick; the last tick run.

    Raises `ReplayDiffers` when a hash on the way is another one, or the rules are
    another version than those recorded.
    """
    version, seed, lines = read(path)
    if version != simulation.version or seed != simulation.seed:
        raise ReplayDiffers(
            f"{path} was recorded by rules {version} with seed {seed}; "
            f"these are {simulation.version} with seed {simulation.seed}"
        )
    done = -1
    for number, what in lines:
        if to_tick is not None and number > to_tick:
            break
        events: list[Event] = [] if isinstance(what, str) else what
        last = number if isinstance(what, str) else number - 1
        while done < last:
            done += 1
            simulation.step(done, [])
        if isinstance(what, str):
            if simulation.hash() != what:
                raise ReplayDiffers(
                    f"{path}: after tick {number} the state is {simulation.hash()}, was {what}"
                )
        else:
            done += 1
            simulation.step(done, events)
    while to_tick is not None and done < to_tick:
        done += 1
        simulation.step(done, [])
    return done


def _lines(data: bytes) -> Iterator[Any]:
    at = 0
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if at + 4 + size > len(data):
            return
        try:
            yield msgspec.msgpack.decode(data[at + 4 : at + 4 + size])
        except msgspec.DecodeError:
            return
        at += 4 + size
