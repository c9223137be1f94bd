"""The acceptance scenarios of jobs and workers."""

from __future__ import annotations

import asyncio
import operator
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from toolips_udp.errors import JobError, WorkerError
from toolips_udp.jobs import (
    Engine,
    ProcessManager,
    Worker,
    assign,
    assign_open,
    distribute,
    distribute_open,
    everywhere,
    get_return,
    new_job,
    processes,
    put,
    register_kind,
    shared,
    waitfor,
)

ROOT = str(Path(__file__).parents[3])
KINDS = ("thread", "process", "async")


def add(n, by=5):
    return n + by


def test_a_pp1_workers_are_found_by_name_and_id_and_leave_when_removed():
    with ProcessManager(Worker("1"), Worker("one more")) as pm:
        assert pm["1"] is pm[1]
        assert pm["one more"] is pm[2]
        with pytest.raises(KeyError, match=r"no worker 'nobody'.*1 \(1\)"):
            pm["nobody"]
        with pytest.raises(KeyError):
            pm[3]
        pm.remove(1)
        pm.remove("one more")
        assert len(pm) == 0
        assert list(pm) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_pp2_close_leaves_no_worker_thread_or_process(kind):
    before = set(threading.enumerate())
    pm = processes(1, kind)
    pm.add_workers(1, kind, ["example"])
    assert pm.ids() == [1, 2]
    assert pm["example"].id == 2
    pids = [w.pid for w in pm if w.pid]
    assert len(pids) == (2 if kind == "process" else 0)
    pm.close()
    pm.close()
    assert len(pm) == 0
    assert set(threading.enumerate()) <= before
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pp3_a_worker_is_active_from_assign_until_its_result_is_there(kind):
    with processes(1, kind) as pm:
        gate = new_job(time.sleep, 0.02)
        job = new_job(operator.add, 2000, 5)
        assign(pm, 1, gate, job)
        assert pm[1].active
        assert waitfor(pm, 1, timeout=30) == [None, 2005]
        assert not pm[1].active
        assert get_return(pm, 1) == [2005]
        assert waitfor(pm, 1) == []  # claimed


@pytest.mark.parametrize("kind", KINDS)
def test_a_pp4_fifty_jobs_of_one_worker_come_back_in_order(kind):
    with processes(1, kind) as pm:
        futures = assign(pm, 1, *[new_job(operator.mul, n, 3) for n in range(50)])
        assert waitfor(pm, 1, timeout=30) == [n * 3 for n in range(50)]
        assert [f.result(0) for f in futures] == [n * 3 for n in range(50)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_pp5_an_error_reaches_the_waiter_and_the_worker_goes_on(kind):
    with processes(1, kind) as pm:
        assign(pm, 1, new_job(operator.add, 1, 1), new_job(int, "x"), new_job(operator.add, 2, 2))
        with pytest.raises(JobError, match=r"int\('x'\) on worker 1 .* raised ValueError") as caught:
            waitfor(pm, 1, timeout=30)
        assert isinstance(caught.value.__cause__, ValueError)
        assert "ValueError: invalid literal" in caught.value.remote_traceback
        assert waitfor(pm, 1, timeout=30) == [4]  # what came after the error was not lost
        assign(pm, 1, new_job(int, "y"))
        [error] = waitfor(pm, 1, timeout=30, return_exceptions=True)
        assert isinstance(error, JobError)
        assert pm[1].error is error


def test_a_pp6_a_job_reads_what_was_put():
    def greet():
        return shared["greeting"] + "world"

    with processes(2) as pm:
        put(pm, greeting="hello ")
        assert assign(pm, 1, new_job(greet), sync=True) == ["hello world"]
        put(pm, [2], greeting="bye ")
        assert [f.result(5) for f in (*assign(pm, 1, new_job(greet)), *assign(pm, 2, new_job(greet)))] == [
            "hello world",
            "bye world",
        ]
        [error] = waitfor(pm, *assign(pm, 1, new_job(lambda: shared["other"])), return_exceptions=True)
        assert "['greeting']" in str(error)
    with pytest.raises(KeyError, match="inside a job"):
        shared["greeting"]


def test_a_pp6_a_process_worker_reads_what_was_put_also_after_it_was_replaced():
    with processes(1, "process") as pm:
        put(pm, greeting="hello ")
        read = new_job(operator.getitem, shared, "greeting")
        assert assign(pm, 1, read, sync=True) == ["hello "]
        [lost] = assign(pm, 1, new_job(os._exit, 3))
        assert isinstance(lost.exception(30), WorkerError)
        assert assign(pm, 1, read, sync=True) == ["hello "]


@pytest.mark.alone
def test_a_pp7_waiting_burns_no_cpu_and_a_timeout_leaves_the_job_running():
    with processes(1) as pm:
        [future] = assign(pm, 1, new_job(time.sleep, 2))
        with pytest.raises(TimeoutError):
            waitfor(pm, 1, timeout=0.1)
        assert pm[1].active
        began, cpu = time.monotonic(), time.process_time()
        assert waitfor(pm, 1) == [None]
        assert time.process_time() - cpu <= 0.01 * (time.monotonic() - began)
        assert future.done()


def test_a_pp8_coroutine_functions_run_on_async_workers():
    async def double(n):
        await asyncio.sleep(0)
        return 2 * n

    with processes(2, "async") as pm:
        futures = distribute(pm, *[new_job(double, n) for n in range(20)])
        assert [f.result(5) for f in futures] == list(range(0, 40, 2))
        assign(pm, 1, new_job(double, 4))
        assert waitfor(pm, 1, timeout=5) == [8]


def test_a_pp8_a_coroutine_function_runs_on_a_thread_worker_too():
    async def double(n):
        await asyncio.sleep(0)
        return 2 * n

    with processes(1) as pm:
        assert assign(pm, 1, new_job(double, 4), sync=True) == [8]


@pytest.mark.parametrize("kind", KINDS)
def test_a_pp9_closing_one_worker_by_id_leaves_the_others_at_work(kind):
    with processes(3, kind) as pm:
        pm.close_workers(3)
        assert pm.ids() == [1, 2]
        futures = distribute(pm, *[new_job(operator.neg, n) for n in range(10)])
        assert waitfor(pm, *futures) == [-n for n in range(10)]


def test_a_pp10_a_later_worker_has_what_ran_everywhere():
    local = threading.local()

    def mark():
        local.marked = threading.current_thread().name

    with processes(1) as pm:
        [done] = everywhere(pm, mark)
        done.result(5)
        pm.add_workers(1)
        for id in (1, 2):
            [name] = assign(pm, id, new_job(lambda: local.marked), sync=True)
            assert name == f"toolips_udp-worker-{id}"


def test_a_pp10_a_module_imported_everywhere_is_in_late_process_workers():
    with processes(1, "process") as pm:
        everywhere(pm, "colorsys")
        pm.add_workers(1, "process")
        for id in (1, 2):
            [found] = assign(pm, id, new_job(eval, "'colorsys' in __import__('sys').modules"), sync=True)
            assert found


def test_a_pp11_uneven_parsing_on_two_workers_equals_the_serial_result():
    sets = [" ".join(f"word{i % (size // 3 + 1)}" for i in range(size)) for size in (3, 5000, 40, 900, 12)]

    def serial(text):
        return Counter(re.findall(r"\w+", text))

    with processes(2, "process") as pm:
        found = [f.result(30) for f in distribute(pm, *[new_job(re.findall, r"\w+", text) for text in sets])]
    assert [Counter(words) for words in found] == [serial(text) for text in sets]


def test_a_pp12_a_kind_of_the_user_works_with_the_same_verbs():
    ran = []

    class Loud(Engine):
        def __init__(self, sink):
            self.sink = sink

        def run(self, future):
            self.sink.append(future.job.name)
            return future.job()

        def close(self, timeout):
            self.sink.append("closed")

    register_kind("loud", Loud)
    with processes(2, "loud", sink=ran) as pm:
        assert assign(pm, 1, new_job(add, 1), sync=True) == [6]
        distribute(pm, *[new_job(add, n) for n in range(4)])
        assert sorted(waitfor(pm, timeout=5)) == [5, 6, 7, 8]
        assert pm.ids("loud") == [1, 2]
    assert ran.count("add") == 5
    assert ran.count("closed") == 2
    with pytest.raises(ValueError, match="exists already"):
        register_kind("loud", Loud)
    with pytest.raises(ValueError, match="Did you mean 'thread'"):
        processes(1, "threads")


def test_a_pp13_half_of_four_workers_runs_ten_jobs():
    with processes(4) as pm:
        futures = distribute(pm, *[new_job(add, n) for n in range(10)], share=0.5)
        assert waitfor(pm, *futures) == list(range(5, 15))
        assert len({f.worker for f in futures}) == 2
        named = distribute(pm, *[new_job(add, n) for n in range(6)], workers=[4, "2"])
        assert [f.worker for f in named] == [4, 2] * 3
        for wrong in (0, -1, 1.5):
            with pytest.raises(ValueError, match="share"):
                distribute(pm, new_job(add, 1), share=wrong)


@pytest.mark.parametrize("form", ["manager", "server", "connection"])
def test_a_pp14_verbs_accept_a_manager_a_server_or_a_connection(form):
    with processes(2) as pm:
        server = SimpleNamespace(processes=pm)
        target = {"manager": pm, "server": server, "connection": SimpleNamespace(server=server)}[form]
        assert assign(target, 2, new_job(add, 1), sync=True) == [6]
        assert assign_open(target, new_job(add, 2), sync=True) == [7]
        assert [f.result(5) for f in distribute(target, new_job(add, 3), new_job(add, 4))] == [8, 9]
        assert [f.result(5) for f in distribute_open(target, new_job(add, 5))] == [10]
        assign(target, 1, new_job(add, 6))
        assert waitfor(target, 1, timeout=5) == [11]
        assert get_return(target, 1) == [11]
        put(target, name="value")
        assert assign(target, 1, new_job(lambda: shared["name"]), sync=True) == ["value"]
        everywhere(target, "json")
    with pytest.raises(TypeError, match="found int"):
        assign(7, 1, new_job(add, 1))


def test_a_pp15_a_lambda_is_refused_for_a_process_and_runs_on_a_thread():
    with ProcessManager(Worker("child", "process"), Worker("here")) as pm:
        with pytest.raises(JobError, match=r"top level of a module.*kind 'thread'"):
            assign(pm, "child", new_job(lambda: 1))
        assert not pm["child"].active
        assert assign(pm, "here", new_job(lambda: 1), sync=True) == [1]


SCRIPT = """
import os
from toolips_udp.jobs import assign, new_job, processes, waitfor

class Point:
    def __init__(self, x):
        self.x = x

def move(point, by):
    return Point(point.x + by)

@new_job
def decorated():
    return "decorated", os.getpid()

print("top")
if __name__ == "__main__":
    with processes(2, "process") as manager:
        [moved] = assign(manager, 1, new_job(move, Point(1), by=4), sync=True)
        assert type(moved) is Point and moved.x == 5
        [(text, pid)] = assign(manager, 2, decorated, sync=True)
        assert text == "decorated" and pid == manager[2].pid != os.getpid()
    print("done")
"""


def run_script(tmp_path, text):
    path = tmp_path / "script.py"
    path.write_text(text)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([ROOT, os.environ.get("PYTHONPATH", "")])}
    return subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60, env=env)


def test_functions_and_classes_of_the_main_script_work_in_process_workers(tmp_path):
    ran = run_script(tmp_path, SCRIPT)
    assert ran.returncode == 0, ran.stderr
    # each of the two children imports the script, when its first job needs it
    assert sorted(ran.stdout.split()) == ["done", "top", "top", "top"]


def test_a_script_without_a_guard_is_told_so_instead_of_spawning_for_ever(tmp_path):
    ran = run_script(
        tmp_path,
        "from toolips_udp.jobs import assign, new_job, processes\n"
        "def f(): return 1\n"
        "print(assign(processes(1, 'process'), 1, new_job(f), sync=True))\n",
    )
    assert ran.returncode != 0
    assert 'if __name__ == "__main__"' in ran.stderr


def test_a_script_that_ends_without_closing_leaves_no_process(tmp_path):
    ran = run_script(
        tmp_path,
        "import os\nfrom toolips_udp.jobs import assign, new_job, processes\n"
        "if __name__ == '__main__':\n"
        "    pm = processes(1, 'process')\n    print(*assign(pm, 1, new_job(os.getpid), sync=True))\n",
    )
    assert ran.returncode == 0, ran.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(ran.stdout), 0)
