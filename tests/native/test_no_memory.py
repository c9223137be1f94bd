"""L10: no allocation succeeds from the n-th on, or just the n-th fails, for every n that a turn comes to."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from types import SimpleNamespace
import _testcapi
from toolips_udp import Address, MultiHandler, handler
from toolips_udp.counters import DROPS
from toolips_udp.manifest import read
from toolips_udp.pipeline import Pipeline
from toolips_udp.transports.native import Endpoint, MemoryWire, connection_class

kept = []

@handler
def main(c):
    c.session["n"] = 1
    if c.packet == b"second":
        c.set_handler("second")
    if c.packet[:4] == b"keep":
        kept.append((c.packet, c, c.view))
    c.respond(c.text.upper())

@handler("second")
def second(c):
    c.remove_handler()
    c.respond(c.view)

def say(*a):
    pass

wire = MemoryWire("192.0.2.1:53")
server = SimpleNamespace(journal=SimpleNamespace(event=say, say=say), data={})
module = SimpleNamespace(chooser=MultiHandler(main), main=main, second=second)
pipeline = Pipeline(read(module), server, with_stages=True)
pipeline.connection_class = connection_class
endpoint = pipeline.endpoint = Endpoint(wire, pipeline, server=server)
failed = raised = pushed = 0

def push(data, host):
    global pushed
    pushed += 1
    wire.push(data, Address(host, 4000))

for at in range(150):
    for data in (b"one", b"keep %d" % at, b"second", b"keep %d too" % at, b"two"):
        push(data, f"198.51.100.{at + 1}")
    try:
        _testcapi.set_nomemory(at, int(sys.argv[1]) and at + int(sys.argv[1]))
        try:
            endpoint.turn()
        finally:
            _testcapi.remove_mem_hooks()
    except MemoryError:
        raised += 1
    endpoint.turn()
    push(b"still here", "203.0.113.5")
    handled = endpoint.counters["handled"]
    endpoint.turn()
    c = dict(endpoint.counters)
    assert c["handled"] == handled + 1, f"dead after {at}"
    assert wire.collect()[-1][0] == b"STILL HERE"
    assert c["received"] == c["handled"] + sum(c[word] for word in DROPS) == pushed, (at, c)
    assert c["send_queued"] == c["sent"], (at, c)
    for data, connection, view in kept:  # never another client's bytes
        assert bytes(view) == data and connection.packet in (data, b""), (at, data, bytes(view), connection.packet)
print(c["handler_failed"], c["shed"], raised)
"""


@pytest.mark.parametrize("times", [1, 3, 0])
def test_l10_a_turn_without_memory_closes_its_ledger_and_the_next_packet_is_served(times):
    if importlib.util.find_spec("_testcapi") is None:
        pytest.skip("this Python has no _testcapi, which makes allocations fail")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(times)],
        env={**os.environ, "PYTHONMALLOC": "malloc"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    failed, shed, raised = map(int, done.stdout.split())
    assert failed > 5, "no allocation failed: nothing was tested"
    if times == 0:
        assert raised and shed, "nothing failed outside of a handler: give_up was not reached"
