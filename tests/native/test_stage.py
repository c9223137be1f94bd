"""Native stages from outside: a user's own, built with the shipped headers, runs a whole peer protocol."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from toolips_udp import Address, Extension, StartError, get_include, handler
from toolips_udp.address import Address as _Address

CLIENT, OTHER = Address("192.0.2.7", 4000), Address("192.0.2.8", 4000)
HERE = Path(__file__).parent

SETUP = """
from setuptools import Extension, setup
from Cython.Build import cythonize
import toolips_udp
setup(name="toy", ext_modules=cythonize([Extension("toy_peers", ["toy_peers.pyx"],
      include_dirs=[toolips_udp.get_include()])], language_level=3, quiet=True))
"""


@pytest.fixture(scope="module")
def toy_module(tmp_path_factory):
    """The user's module, built as a user builds it: in a folder of its own."""
    folder = tmp_path_factory.mktemp("toy")
    shutil.copy(HERE / "toy/toy_peers.pyx", folder)
    (folder / "setup.py").write_text(SETUP)
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    [built] = folder.glob("toy_peers*.so")
    spec = importlib.util.spec_from_file_location("toy_peers", built)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def toy(toy_module, wired):
    stage = toy_module.Toy()
    w = wired(handler(lambda c: c.respond(b"python")), stages=[stage])
    w.toy = stage

    def say(data, peer=CLIENT):
        w.wire.push(data, peer)
        w.endpoint.turn()
        return w.wire.collect()

    def wait(seconds):
        """Time passes, and the endpoint is woken whenever it asked to be."""
        end, heard = w.wire.now + seconds, []
        while (when := w.wire.deadline) is not None and when <= end:
            w.wire.now = when
            w.endpoint.on_timer()
            heard += w.wire.collect()
        w.wire.now = end
        return heard

    w.say, w.wait = say, wait
    return w


def test_the_headers_lie_where_get_include_says():
    assert (Path(get_include()) / "tudp.h").exists() and _Address is Address


def test_a_stage_answers_drops_and_passes_on(toy):
    assert toy.say(b"J") == [(b"ok", CLIENT)]
    assert toy.say(b"M lost", OTHER) == [] and toy.say(b"X") == []
    assert toy.say(b"?") == [(b"python", CLIENT)]
    assert (
        toy.counters["denied"] == 1 and toy.counters["malformed"] == 1 and toy.counters["native_answers"] == 1
    )


def test_held_packets_become_events_in_python_and_are_counted_by_the_stage(toy):
    toy.say(b"J")
    toy.wire.push(b"Mone", CLIENT)
    toy.wire.push(b"Mtwo", CLIENT)
    toy.endpoint.turn()
    assert toy.toy.log == [("J", 0, b""), ("M", 0, b"one"), ("M", 0, b"two")]
    assert toy.counters["handled"] == 3 == toy.counters["received"]


def test_an_exception_in_an_event_costs_its_packet_only(toy):
    def broken(peer, data):
        raise ValueError("no " + data.decode())

    toy.toy.on_message = broken
    toy.say(b"J")
    toy.say(b"Mthis")
    assert toy.toy.log[-1] == ("failed", "no this") and toy.counters["handler_failed"] == 1
    assert toy.say(b"?") == [(b"python", CLIENT)]


def test_a_message_is_sent_again_on_the_timer_until_it_is_acked(toy):
    toy.say(b"J")
    toy.toy.on_message = lambda peer, data: toy.toy.send(peer, b"answer to " + data)
    assert toy.say(b"Mhello") == [(b"R\x01answer to hello", CLIENT)]
    assert toy.wait(0.17) == [(b"R\x01answer to hello", CLIENT)] * 3
    assert toy.say(b"A\x01") == [] and toy.wait(0.5) == []
    assert toy.say(b"Mnext") == [(b"R\x02answer to next", CLIENT)]


def test_a_broadcast_is_one_copy_of_the_payload_with_a_head_per_peer(toy):
    toy.say(b"J")
    toy.say(b"J", OTHER)
    toy.toy.broadcast(b" news of the day")
    toy.endpoint.pulse()
    assert toy.wire.collect() == [(b"B\0 news of the day", CLIENT), (b"B\x01 news of the day", OTHER)]
    assert toy.counters["sent"] == 4


def test_silence_ends_a_peer_by_timer_and_python_hears_of_it(toy):
    toy.say(b"J")
    toy.say(b"J", OTHER)
    toy.wait(0.6)
    toy.say(b"Mstill here", OTHER)
    toy.wait(0.6)
    assert ("L", 0, b"") in toy.toy.log and ("L", 1, b"") not in toy.toy.log
    toy.wait(1)
    assert ("L", 1, b"") in toy.toy.log
    assert toy.wire.deadline is None


def test_a_stage_of_another_abi_is_refused_with_the_fix(wired, toy_module):
    import ctypes

    toy = toy_module.Toy()
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    ctypes.c_uint32.from_address(pointer(toy.__tudp_stage__(), b"toolips_udp.stage")).value = 99
    with pytest.raises(StartError, match=r"ABI 99.*Fix: build it again"):
        wired(handler(lambda c: None), stages=[toy])


def test_a_stage_runs_under_a_real_server_and_its_timer_wakes_the_loop(server, peer, toy_module, eventually):
    toy = toy_module.Toy()

    class Toys(Extension):
        answers = True

        def stages(self):
            return [toy]

    toy.on_message = lambda who, data: toy.send(who, data)
    client = peer(server(Toys()).address)
    assert client.ask(b"J") == b"ok"
    assert client.ask(b"Mhey") == b"R\x01hey"
    assert client.recv(100) == b"R\x01hey"  # again, for nobody acked
    client.send(b"A\x01")
    eventually(lambda: ("L", 0, b"") in toy.log)
