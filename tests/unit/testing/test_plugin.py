"""The pytest plugin: fixtures that clean up and notice what is left."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

OTHERS = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:benchmark"]
SERVED = """
from toolips_udp import handler

@handler
def main(c):
    c.respond(b"re " + c.packet)
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Run a test file in a pytest of its own, with the plugin; its result."""

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))

    def run(text):
        pytester.makepyfile(served=SERVED)
        pytester.makepyfile(test_it=text)
        pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
        loaded = (
            [] if "toolips_udp.testing.plugin" in _entry_points() else ["-p", "toolips_udp.testing.plugin"]
        )
        return pytester.runpytest_subprocess(*loaded, "--import-mode=importlib", "-q", *OTHERS)

    return run


def _entry_points():
    from importlib.metadata import entry_points

    return {point.value for point in entry_points(group="pytest11")}


def test_the_plugin_imports_nothing_of_ours_until_a_fixture_is_used():
    code = (
        "import sys; import toolips_udp.testing.plugin; "
        "print(sorted(m for m in sys.modules if m.startswith('toolips_udp')), 'uvloop' in sys.modules)"
    )
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (
        got.stdout.split("]")[0] + "]"
        == "['toolips_udp', 'toolips_udp.testing', 'toolips_udp.testing.plugin']"
    )
    assert got.stdout.strip().endswith("False")


def test_the_fixtures_serve_and_close(run):
    result = run(
        """
        import socket, sys
        sys.path.insert(0, ".")
        import served

        def test_answers(server):
            running = server(served)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(5)
                sock.sendto(b"x", tuple(running.address))
                assert sock.recv(10) == b"re x"
                test_answers.port = running.address.port

        def test_is_gone():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(("127.0.0.1", test_answers.port))

        def test_behind_a_bad_network(server, bad_network):
            proxy = bad_network(server(served).address, seed=3, up="loss=1")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(0.2)
                sock.sendto(b"x", tuple(proxy.address))
                try:
                    assert not sock.recv(10)
                except TimeoutError:
                    pass
            assert proxy.network.trace.counts["lost"] == 1

        def test_clock(clock):
            clock.advance(2.5)
            assert clock() == 1002.5

        def test_network_alone(bad_network):
            assert bad_network(loss=1.0).link("a").up.push(0, b"x") == []

        def test_world(world):
            made = world(seed=3)
            made.serve(served)
            ann = made.client()
            ann.send(b"x")
            made.run(1.0)
            assert ann.received() == [b"re x"]
        """
    )
    result.assert_outcomes(passed=6)


def test_what_a_test_leaves_behind_fails_it(run):
    result = run(
        """
        import socket, threading, time
        import sys
        sys.path.insert(0, ".")
        import served
        kept = []

        def test_leaves_a_socket(server):
            server(served)
            kept.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))

        def test_leaves_a_thread(server):
            server(served)
            threading.Thread(target=time.sleep, args=(20,), name="forgotten", daemon=True).start()
        """
    )
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.fnmatch_lines(["*descriptor*socket:*is left*", "*thread 'forgotten' is left*"])


def test_a_ledger_that_does_not_close_fails_the_test(run):
    result = run(
        """
        import sys
        sys.path.insert(0, ".")
        import served

        def test_cheats(server):
            server(served).modes[0].endpoint.count("received", 3)
        """
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*3 datagrams received, 0 accounted for*"])


def test_a_failing_random_test_tells_its_seed_and_how_to_repeat_it(run):
    result = run(
        """
        def test_random(world):
            world(seed=4711)
            assert False
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*how to repeat it*", "*seed 4711*python -m pytest *test_random*"])
