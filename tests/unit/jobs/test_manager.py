"""What the manager promises beyond the scenarios: bounds, errors, cancelling, dead processes."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import operator
import os
import signal
import threading
import time

import pytest

from toolips_udp.errors import JobError, WorkerError
from toolips_udp.jobs import (
    ProcessManager,
    Worker,
    assign,
    assign_open,
    distribute,
    new_job,
    processes,
    waitfor,
)
from toolips_udp.jobs.worker import KEPT


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


class Gate:
    """A job that holds its worker until it is opened."""

    def __init__(self):
        self.begun = threading.Event()
        self.opened = threading.Event()
        self.job = new_job(self.wait)

    def wait(self):
        self.begun.set()
        assert self.opened.wait(30)


def test_names_are_as_many_as_workers_and_unique():
    with pytest.raises(ValueError, match="2 workers need 2 names or none, found 1"):
        processes(2, "thread", ["one"])
    with pytest.raises(ValueError, match="must differ"):
        processes(2, "thread", ["one", "one"])
    with ProcessManager(Worker("one")) as pm:
        with pytest.raises(ValueError, match="'one' already"):
            pm.push(Worker("one"))
        with pytest.raises(WorkerError, match="belongs to a manager"):
            ProcessManager(pm["one"])


def test_ids_are_not_used_twice():
    with processes(2) as pm:
        pm.remove(2)
        assert pm.add_workers(1)[0].id == 3


def test_a_full_queue_refuses_and_queues_none_of_the_jobs():
    gate = Gate()
    with processes(1, max_queue=4) as pm:
        try:
            assign(pm, 1, gate.job)
            gate.begun.wait(5)
            with pytest.raises(WorkerError, match=r"1 jobs waiting and takes at most 4; 4 more refused"):
                assign(pm, 1, *[new_job(int)] * 4)
            assert pm[1].waiting == 1
            assign(pm, 1, *[new_job(int)] * 3)
            with pytest.raises(WorkerError, match="refused"):
                assign(pm, 1, new_job(int))
        finally:
            gate.opened.set()
        assert waitfor(pm, timeout=5) == [None, 0, 0, 0]


def test_only_the_newest_thousand_unclaimed_results_are_kept():
    with processes(1) as pm:
        futures = assign(pm, 1, *[new_job(operator.neg, n) for n in range(KEPT + 500)])
        concurrent.futures.wait(futures)
        futures += assign(pm, 1, *[new_job(operator.neg, n) for n in range(KEPT + 500, 2 * KEPT)])
        concurrent.futures.wait(futures)
        kept = waitfor(pm, 1)
        assert len(kept) == KEPT
        assert kept[-1] == -(2 * KEPT - 1)


def test_a_waiting_job_can_be_cancelled_and_its_waiter_wakes():
    gate = Gate()
    with processes(1) as pm:
        try:
            [running, waiting] = assign(pm, 1, gate.job, new_job(int))
            gate.begun.wait(5)
            assert waiting.cancel()
            assert not running.cancel()
        finally:
            gate.opened.set()
        results = waitfor(pm, 1, timeout=5, return_exceptions=True)
        assert results[0] is None
        assert isinstance(results[1], concurrent.futures.CancelledError)
        assert assign(pm, 1, new_job(int), sync=True) == [0]


def test_a_running_async_job_can_be_cancelled_and_the_next_one_runs():
    began = threading.Event()

    async def forever():
        began.set()
        await asyncio.sleep(1000)

    with processes(1, "async") as pm:
        [future, after] = assign(pm, 1, new_job(forever), new_job(int))
        assert began.wait(5)
        assert future.cancel()
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(5)
        assert after.result(5) == 0


def test_assign_open_takes_the_first_idle_worker_and_passes_over_async_ones():
    gate = Gate()
    with ProcessManager(Worker("loop", "async"), Worker("a"), Worker("b")) as pm:
        try:
            [first] = assign_open(pm, gate.job)
            assert first.worker == 2
            [second] = assign_open(pm, new_job(int))
            assert second.worker == 3
            [asked] = assign_open(pm, new_job(int), kind="async")
            assert asked.worker == 1
            with pytest.raises(WorkerError, match="no worker of kind 'process'"):
                assign_open(pm, new_job(int), kind="process")
        finally:
            gate.opened.set()
    with processes(1, "async") as pm:
        assert assign_open(pm, new_job(int), sync=True) == [0]
    with ProcessManager() as pm, pytest.raises(WorkerError, match="no workers"):
        assign_open(pm, new_job(int))


def test_distribute_open_uses_idle_workers_and_all_when_none_is():
    gates = [Gate(), Gate()]
    with processes(3) as pm:
        try:
            assign(pm, 1, gates[0].job)
            futures = pm.distribute_open(*[new_job(int)] * 4)
            assert {f.worker for f in futures} == {2, 3}
            waitfor(pm, *futures)
            assign(pm, 2, gates[1].job)
            third = Gate()
            gates.append(third)
            assign(pm, 3, third.job)
            assert {f.worker for f in pm.distribute_open(*[new_job(int)] * 3)} == {1, 2, 3}
        finally:
            for gate in gates:
                gate.opened.set()


def test_waitfor_and_sync_on_a_loops_thread_name_await():
    async def main(pm):
        assign(pm, 1, new_job(int))
        with pytest.raises(RuntimeError, match="await"):
            waitfor(pm, 1)
        with pytest.raises(RuntimeError, match="await"):
            assign(pm, 1, new_job(int), sync=True)
        [future] = assign(pm, 1, new_job(operator.add, 1, 2))
        assert await future == 3
        [future] = assign(pm, 1, new_job(operator.add, 1, 2))
        assert await asyncio.wrap_future(future) == 3

    with processes(1) as pm:
        asyncio.run(main(pm))


def test_async_workers_made_inside_a_running_loop_use_that_loop():
    async def which():
        return asyncio.get_running_loop()

    async def main():
        with processes(1, "async") as pm:
            [future] = assign(pm, 1, new_job(which))
            assert await future is asyncio.get_running_loop()

    asyncio.run(main())


def test_callbacks_of_a_servers_jobs_run_on_its_loop():
    from types import SimpleNamespace

    async def main():
        with processes(1) as pm:
            ran = asyncio.get_running_loop().create_future()
            server = SimpleNamespace(processes=pm, loop=asyncio.get_running_loop())
            [future] = assign(server, 1, new_job(int))
            future.add_done_callback(lambda f: ran.set_result((f.result(), threading.get_ident())))
            assert await ran == (0, threading.get_ident())

    asyncio.run(main())


def test_then_is_called_with_the_results():
    seen = []
    with processes(1) as pm:
        assign(pm, 1, new_job(int, "7"))
        assert waitfor(pm, 1, then=seen.append) == [7]
    assert seen == [[7]]


def test_a_dead_worker_process_is_replaced_and_only_its_running_job_fails():
    with processes(1, "process") as pm:
        old = pm[1].pid
        first, lost, after = assign(pm, 1, new_job(int), new_job(os._exit, 3), new_job(os.getpid))
        assert first.result(30) == 0
        with pytest.raises(WorkerError, match=r"_exit.*ended while it ran the job \(exit status 3\)"):
            lost.result(30)
        assert after.result(30) == pm[1].pid != old


def test_a_worker_process_killed_while_idle_is_replaced_without_a_job():
    with processes(1, "process") as pm:
        assign(pm, 1, new_job(int), sync=True)
        old = pm[1].pid
        os.kill(old, signal.SIGKILL)
        until(lambda: pm[1].pid not in (old, None))
        assert assign(pm, 1, new_job(int), sync=True) == [0]


def test_closing_ends_a_process_that_does_not_end_by_itself():
    pm = processes(1, "process")
    [future] = assign(pm, 1, new_job(time.sleep, 1000))
    until(future.running)
    pid = pm[1].pid
    pm.close(timeout=0.1)
    assert isinstance(future.exception(5), WorkerError)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_forgotten_manager_stops_its_threads():
    before = set(threading.enumerate())
    processes(2)
    gc.collect()
    until(lambda: set(threading.enumerate()) <= before)


def test_what_a_process_cannot_send_back_is_a_job_error_and_the_worker_lives():
    with processes(1, "process") as pm:
        [future] = assign(pm, 1, new_job(eval, "(i for i in ())"))
        with pytest.raises(JobError, match="generator"):
            future.result(30)
        assert assign(pm, 1, new_job(int), sync=True) == [0]


def test_an_error_that_cannot_be_rebuilt_still_arrives():
    with processes(1, "process") as pm:
        [future] = assign(pm, 1, new_job(exec, "class E(Exception): pass\nraise E('odd')"))
        with pytest.raises(JobError, match="odd"):
            future.result(30)


def test_exit_calls_in_jobs_are_errors_of_the_job():
    import sys

    for kind in ("thread", "process", "async"):
        with processes(1, kind) as pm:
            [future] = assign(pm, 1, new_job(sys.exit, 2))
            assert isinstance(future.exception(30), JobError)
            assert assign(pm, 1, new_job(int), sync=True) == [0]


def test_a_large_argument_and_result_pass_through():
    with processes(1, "process") as pm:
        data = os.urandom(5_000_000)
        assert assign(pm, 1, new_job(bytes.upper, data), sync=True) == [data.upper()]


def test_the_table_tells_id_kind_name_and_state():
    with ProcessManager(Worker("parser"), Worker("", "async")) as pm:
        assert repr(pm).splitlines() == [
            "ProcessManager of 2 workers",
            "id  kind    name    state",
            "1   thread  parser  idle",
            "2   async   2       idle",
        ]


def test_jobs_assigned_from_many_threads_all_run_once():
    counts = []
    with processes(4) as pm:

        def feed():
            for n in range(200):
                distribute(pm, new_job(counts.append, n))

        threads = [threading.Thread(target=feed) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        waitfor(pm, timeout=10)
    assert sorted(counts) == sorted([*range(200)] * 4)


def test_workers_draw_different_random_numbers():
    draw = new_job(eval, "__import__('random').random()")
    with processes(2, "process") as pm:
        drawn = [assign(pm, i, draw, sync=True)[0] for i in (1, 2)]
    assert drawn[0] != drawn[1]
