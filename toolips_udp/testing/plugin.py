"""The pytest plugin: servers that close, a clock that waits, a network that is bad.

Every pytest run of the environment loads this module, so it imports nothing of
ours until a fixture is used.

    def test_it_answers(server):
        running = server(module)                     # a port of its own on loopback
        ...

Fixtures: `server`, `clock`, `bad_network`, `world`, `dns_net`.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture
def clock() -> Any:
    """A `FakeClock`: time that moves only when told to."""
    from .clock import FakeClock

    return FakeClock()


@pytest.fixture
def server() -> Iterator[Callable[..., Any]]:
    """`server(module, mode=UDP, **settings)` starts a server on a free port of 127.0.0.1.

    After the test every server made is stopped; the test fails when a thread or a
    descriptor is left, or when a ledger does not close.
    """
    from ..modes import UDP
    from ..starting import start
    from .hosting import check_ledgers

    made: list[Any] = []
    # Loops and codecs open descriptors at their first use: only what grows from here on is a leak.
    threads, files = set(threading.enumerate()), _descriptors()

    def make(module: Any, mode: Any = UDP, ip: Any = "127.0.0.1:0", **settings: Any) -> Any:
        running = start(mode, module, ip, **settings)
        made.append(running)
        return running

    yield make
    for running in reversed(made):
        running.stop()
    problems = []
    for running in made:
        try:
            check_ledgers(running.counters, running.in_flight)
        except AssertionError as error:
            problems.append(f"{running!r}: {error}")
    made.clear()
    problems += _left(threads, files)
    if problems:
        pytest.fail("after the test: " + "; ".join(problems), pytrace=False)


@pytest.fixture
def bad_network() -> Iterator[Callable[..., Any]]:
    """`bad_network(seed=7, loss=0.1)` is a `BadNetwork`; with `to=address`, a `Proxy` in front of it."""
    proxies: list[Any] = []

    def make(to: Any = None, seed: int | str = 0, **knobs: Any) -> Any:
        if to is None:
            from .network import BadNetwork

            return BadNetwork(seed, **knobs)
        from .proxy import Proxy

        proxy = Proxy(to, seed=seed, **knobs)
        proxy.__enter__()
        proxies.append(proxy)
        return proxy

    yield make
    for proxy in reversed(proxies):
        proxy.__exit__(None, None, None)


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """`world(seed=7, loss=0.1)` is a `World` that closes; a failing test tells the seed that repeats it."""
    worlds: list[Any] = []

    def make(seed: int | str = 0, *args: Any, **knobs: Any) -> Any:
        from .world import World

        made = World(seed, *args, **knobs)
        worlds.append(made)
        request.node.user_properties.append(("seed", str(seed)))
        return made

    yield make
    for made in reversed(worlds):
        made.close()


@pytest.fixture
def dns_net(clock: Any) -> Iterator[Any]:
    """A `DnsNet`: DNS services and authorities in this process, without sockets, under `clock`."""
    from .dns import DnsNet

    made = DnsNet(clock)
    yield made
    made.stop()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A failing random test says how to repeat it."""
    if report.failed and report.when == "call":
        seeds = [value for name, value in report.user_properties if name == "seed"]
        if seeds:
            again = f"seed {', '.join(map(str, seeds))}; repeat with: python -m pytest {report.nodeid!r}"
            report.sections.append(("how to repeat it", again))


def _descriptors() -> set[str]:
    """What is open, as `number target`; nothing where the system does not say."""
    found: set[str] = set()
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return found
    for name in names:
        try:
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except OSError:
            continue  # the descriptor of the listing itself
    return found


def _left(threads: set[threading.Thread], files: set[str]) -> list[str]:
    """Threads and sockets that were not there before; they get a moment to end."""
    new_threads: list[str] = []
    new_files: set[str] = set()
    gc.collect()
    for _ in range(40):
        new_threads = [t.name for t in threading.enumerate() if t not in threads and t.is_alive()]
        new_files = {f for f in _descriptors() - files if "socket:" in f or "anon_inode:" in f}
        if not new_threads and not new_files:
            return []
        time.sleep(0.01)
    left = [f"thread {name!r} is left" for name in new_threads]
    return left + [f"descriptor {name} is left" for name in sorted(new_files)]
