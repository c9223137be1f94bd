"""Workers of kind "cluster", on a real Dask scheduler with two workers, each in a process of its own."""

from __future__ import annotations

import operator
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.conftest import free_port
from toolips_udp.errors import JobError, WorkerError
from toolips_udp.jobs import Worker, assign, distribute, everywhere, new_job, processes, put, shared, waitfor

pytest.importorskip("distributed", reason="no Dask here. Fix: pip install 'toolips_udp[dask]'")
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]


def dask(*args):
    quiet = subprocess.DEVNULL
    return subprocess.Popen([sys.executable, "-m", *args], stdin=quiet, stdout=quiet, stderr=quiet)


class Cluster:
    def __init__(self):
        self.address = f"tcp://127.0.0.1:{free_port()}"
        port = self.address.rsplit(":", 1)[1]
        self.children = [
            dask("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")
        ]
        self.wait_for(int(port))
        for _ in range(2):
            self.add()

    def wait_for(self, port):
        """A scheduler takes seconds to begin, and on a busy machine many."""
        end = time.monotonic() + 90
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port), timeout=5).close()
            except OSError:
                assert self.children[0].poll() is None, "the scheduler ended"
                assert time.monotonic() < end, "the scheduler does not listen"
                time.sleep(0.1)

    def add(self):
        worker = "distributed.cli.dask_worker"
        flags = ["--no-nanny", "--no-dashboard", "--nthreads", "2", "--host", "127.0.0.1"]
        self.children.append(dask(worker, self.address, *flags))

    def close(self):
        for child in reversed(self.children):
            child.kill()
            child.wait()


@pytest.fixture(scope="module")
def cluster():
    made = Cluster()
    yield made
    made.close()


@pytest.fixture
def manager(cluster):
    with processes(2, "cluster", address=cluster.address) as pm:
        end = time.monotonic() + 60
        while len({pid for [pid] in (assign(pm, i, new_job(os.getpid), sync=True) for i in (1, 2))}) < 2:
            assert time.monotonic() < end, "the cluster has no two workers"
            time.sleep(0.2)
            pm[1]._lane.engine._there = None
        yield pm


def test_the_same_verbs_run_jobs_on_a_cluster(manager):
    assert assign(manager, 1, new_job(operator.add, 2000, 5), sync=True) == [2005]
    assert waitfor(manager, *distribute(manager, *[new_job(operator.neg, n) for n in range(20)])) == [
        -n for n in range(20)
    ]
    with pytest.raises(JobError, match="raised ValueError") as caught:
        assign(manager, 2, new_job(int, "x"), sync=True)
    assert isinstance(caught.value.__cause__, ValueError)


def test_values_and_functions_reach_the_workers_of_a_cluster(manager):
    put(manager, greeting="hello ")
    everywhere(manager, "colorsys")
    late = manager.push(Worker("late", "cluster", address=manager._workers[1]._options["address"]))
    for id in (1, 2, late.id):
        assert assign(manager, id, new_job(operator.getitem, shared, "greeting"), sync=True) == ["hello "]
        there = new_job(eval, "'colorsys' in __import__('sys').modules")
        assert assign(manager, id, there, sync=True) == [True]


def test_a_killed_cluster_worker_fails_its_job_and_the_next_ones_run_elsewhere(cluster, manager):
    pids = [assign(manager, i, new_job(os.getpid), sync=True)[0] for i in (1, 2)]
    put(manager, greeting="hello ")
    [lost] = assign(manager, 1, new_job(time.sleep, 60))
    other = assign(manager, 2, new_job(operator.add, 1, 1))
    while not lost.running():
        time.sleep(0.01)
    time.sleep(0.3)
    os.kill(pids[0], signal.SIGKILL)
    with pytest.raises(WorkerError, match="gone while it ran the job"):
        lost.result(20)
    assert waitfor(manager, *other) == [2]
    assert assign(manager, 1, new_job(os.getpid), sync=True) == [pids[1]]
    assert assign(manager, 1, new_job(operator.getitem, shared, "greeting"), sync=True) == ["hello "]
    cluster.add()


def test_an_unreachable_scheduler_is_told_with_the_commands_that_start_one(monkeypatch):
    monkeypatch.setattr("toolips_udp.jobs.dask.AWAY", 0.5)
    with pytest.raises(WorkerError, match="dask scheduler"):
        processes(1, "cluster", address=f"tcp://127.0.0.1:{free_port()}")
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    with pytest.raises(WorkerError, match="need the address"):
        processes(1, "cluster")


def test_without_dask_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"pip install 'toolips_udp\[dask\]'"):
        processes(1, "cluster", address="tcp://127.0.0.1:1")
