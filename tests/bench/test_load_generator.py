"""The load generator as a program, against the C echo: what every benchmark rests on."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler; apt install gcc")


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    import importlib.util

    spec = importlib.util.spec_from_file_location("bench_harness", ROOT / "bench/harness.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_harness"] = module
    spec.loader.exec_module(module)
    module.BUILD = tmp_path_factory.mktemp("bench_build")
    module.build()
    return module


def test_a_closed_loop_gets_every_answer_and_reads_the_servers_cpu(harness):
    with harness.Served(harness.peer_c()) as served:
        sample = harness.load(served, "--sockets 4 --in-flight 4 --size 64 --warmup 0.05 --seconds 0.2")
    assert sample["sent"] == sample["answered"] > 100
    assert sample["lost"] == sample["wrong"] == sample["repeated"] == 0
    assert 0.1 < sample["server_cpu_us_per_reply"] < 1000
    assert 0 < harness.latency(sample, "p50") <= harness.latency(sample, "max")


def test_many_sources_speak_through_one_socket(harness):
    with harness.Served(harness.peer_c()) as served:
        sample = harness.load(served, "--sockets 1 --addresses 1000 --in-flight 100 --warmup 0 --seconds 1")
    assert sample["sent"] == sample["answered"] > 1000
    assert sample["wrong"] == 0


@pytest.mark.parametrize("mode", [(), ("gso",)])
def test_an_open_loop_keeps_its_rate_and_loses_nothing_below_the_peak(harness, mode):
    with harness.Served(harness.peer_c(*mode)) as served:
        sample = harness.load(served, "--sockets 2 --rate 2000 --warmup 0 --seconds 0.5 --timeout 3")
    assert 1500 < sample["offered"] < 2500
    assert sample["sent"] == sample["answered"] and sample["wrong"] == 0


def test_a_job_that_makes_no_sense_is_a_usage_error(harness):
    done = subprocess.run(
        [harness.BUILD / "load", "127.0.0.1:1", "--size", "3"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "size must be 16 to 65,507" in done.stderr


def test_no_winner_is_named_inside_the_noise(harness):
    assert harness.verdict(harness.Spread(0.99, 0.9, 1.1), None) == "inside the noise"
    assert harness.verdict(harness.Spread(0.79, 0.75, 0.81), 0.80) == "inside the noise"
    assert harness.verdict(harness.Spread(0.70, 0.65, 0.75), 0.80) == "met"
    assert harness.verdict(harness.Spread(0.90, 0.85, 0.95), 0.80) == "missed"
    samples = [{"server_cpu_us_per_reply": v} for v in (2.0, 3.0, 4.0)]
    others = [{"server_cpu_us_per_reply": v} for v in (4.0, 6.0, 8.0)]
    assert harness.ratio(samples, others) == harness.Spread(0.5, 0.5, 0.5)


def test_rounds_are_compared_while_the_cores_stay_where_they_are(harness):
    near, far, moved = [50, 55], [330, 340], [50, 340]
    ours = [{"server_cpu_us_per_reply": v, "cores_ns": c} for v, c in ((2.0, near), (4.0, far), (3.0, moved))]
    theirs = [{"server_cpu_us_per_reply": v, "cores_ns": near} for v in (4.0, 4.0, 4.0)]
    assert harness.ratio(ours, theirs) == harness.Spread(0.5, 0.5, 0.5)
    assert harness.ratio(ours[1:], theirs[1:]) == harness.Spread(0.875, 0.75, 1.0)  # none is alike: all
    unknown = [{**one, "cores_ns": [0, 0]} for one in ours]
    assert harness.ratio(unknown, theirs) == harness.Spread(0.75, 0.5, 1.0)
    assert harness.distance() >= 0


def test_names_become_dns_questions(harness, tmp_path):
    """A resolver that only turns the question round is enough to be matched."""
    names = tmp_path / "names.txt"
    names.write_text("example.test A\nwww.example.test AAAA\n# no question\nother.test TYPE65\n")
    server = tmp_path / "turn.py"
    server.write_text(
        "import socket\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.bind(('127.0.0.1', 0))\n"
        "print('ready', s.getsockname()[1], flush=True)\n"
        "while True:\n"
        "    data, who = s.recvfrom(512)\n"
        "    s.sendto(data[:2] + b'\\x81\\x83' + data[4:], who)\n"
    )
    contender = harness.Contender("turn", (sys.executable, str(server)))
    with harness.Served(contender) as served:
        closed = harness.load(served, f"--names {names} --sockets 2 --in-flight 4 --warmup 0 --seconds 0.2")
        opened = harness.load(
            served, f"--names {names} --sockets 2 --rate 1000 --warmup 0 --seconds 0.2 --timeout 3"
        )
    for sample in (closed, opened):
        assert sample["sent"] == sample["answered"] > 50
        assert sample["wrong"] == 0
        assert sample["rcodes"][3] > 0 and sum(sample["rcodes"]) == sample["rcodes"][3]
    assert json.dumps(closed)


def test_every_benchmark_is_run_and_described():
    scripts = {path.stem for path in (ROOT / "bench").glob("*.py")} - {"harness", "table", "numbered"}
    run = re.search(r"^BENCHES = (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert run and set(run[1].split()) == scripts
    described = set(re.findall(r"^\| `(\w+)\.py` \|", (ROOT / "bench/README.md").read_text(), re.M))
    assert described == scripts


def test_the_tables_of_the_readmes_are_those_of_the_last_results():
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench/table.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
