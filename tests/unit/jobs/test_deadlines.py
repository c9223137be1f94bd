"""Deadlines and attempts of jobs: what the waiter is told, and what becomes of the worker."""

import asyncio
import os
import threading
import time

import pytest

from toolips_udp.errors import JobError, WorkerError
from toolips_udp.jobs import assign, new_job, processes
from toolips_udp.jobs.deadlines import TIDY, Deadlines
from toolips_udp.jobs.worker import HELD_UP

LONG = 60.0


def die_once(path):
    if not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), 9)
    return "second time"


def die(path):
    with open(path, "a") as file:
        file.write("x")
    os.kill(os.getpid(), 9)


@pytest.fixture
def gate():
    gate = threading.Event()
    yield gate
    gate.set()


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def late(future):
    with pytest.raises(JobError, match="deadline") as caught:
        future.result(20)
    assert caught.value.code == "deadline"
    return str(caught.value)


def test_a_thread_job_past_its_deadline_fails_and_another_thread_serves_the_queue(gate):
    with processes(1) as manager:
        [stuck] = assign(manager, 1, new_job(gate.wait, LONG).limited(timeout=0.05))
        [after] = assign(manager, 1, new_job(threading.get_ident))
        assert "ran, and what it still returns is dropped" in late(stuck)
        assert after.result(10) != threading.get_ident()
        assert manager[1].late == 0
        gate.set()
        until(lambda: manager[1].late == 1)
        assert manager[1].result == after.result()
        assert not manager[1].active


def test_a_job_that_waits_past_its_deadline_never_begins(gate):
    begun = []
    with processes(1) as manager:
        assign(manager, 1, new_job(gate.wait, LONG))
        [waits] = assign(manager, 1, new_job(begun.append, 1).limited(timeout=0.05))
        assert "waited and was not begun" in late(waits)
        gate.set()
        until(lambda: not manager[1].active)
        assert begun == [] and waits.attempts == 0


def test_threads_that_hang_are_replaced_four_times_and_then_the_worker_waits(gate):
    with processes(1) as manager:
        stuck = [
            assign(manager, 1, new_job(gate.wait, LONG).limited(timeout=0.05))[0] for _ in range(HELD_UP + 1)
        ]
        for future in stuck:
            late(future)
        [after] = assign(manager, 1, new_job(int))
        with pytest.raises(TimeoutError):
            after.result(0.1)
        assert manager[1].active
        gate.set()
        assert after.result(10) == 0
        until(lambda: manager[1].late == HELD_UP + 1)


def test_values_put_on_a_worker_are_there_after_its_thread_was_replaced(gate):
    from toolips_udp.jobs import put, shared

    with processes(1) as manager:
        put(manager, greeting="hello")
        late(assign(manager, 1, new_job(gate.wait, LONG).limited(timeout=0.05))[0])
        assert assign(manager, 1, new_job(lambda: shared["greeting"]))[0].result(10) == "hello"


def test_a_process_past_its_deadline_is_killed_and_replaced():
    with processes(1, "process") as manager:
        first = assign(manager, 1, new_job(os.getpid))[0].result(20)
        [stuck] = assign(manager, 1, new_job(time.sleep, LONG).limited(timeout=0.2))
        [after] = assign(manager, 1, new_job(os.getpid))
        late(stuck)
        assert after.result(20) != first
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)


def test_a_task_past_its_deadline_is_cancelled_and_the_next_one_runs():
    ended = []

    async def hang():
        try:
            await asyncio.sleep(LONG)
        finally:
            ended.append(True)

    async def quick():
        return 7

    with processes(1, "async") as manager:
        [stuck] = assign(manager, 1, new_job(hang).limited(timeout=0.05))
        [after] = assign(manager, 1, new_job(quick))
        late(stuck)
        assert after.result(10) == 7 and ended == [True]


def test_a_job_in_time_is_not_touched_by_its_deadline():
    with processes(1) as manager:
        [future] = assign(manager, 1, new_job(int, "3").limited(timeout=0.2))
        assert future.result(10) == 3
        time.sleep(0.3)
        assert future.result() == 3 and manager[1].late == 0 and future.attempts == 1


def test_a_job_with_attempts_begins_again_when_its_worker_dies(tmp_path):
    with processes(1, "process") as manager:
        [future] = assign(manager, 1, new_job(die_once, str(tmp_path / "died")).limited(attempts=2))
        assert future.result(20) == "second time"
        assert future.attempts == 2


def test_a_job_without_attempts_left_fails_with_the_death_of_its_worker(tmp_path):
    with processes(1, "process") as manager:
        [once] = assign(manager, 1, new_job(die, str(tmp_path / "a")))
        [thrice] = assign(manager, 1, new_job(die, str(tmp_path / "b")).limited(attempts=3))
        for future in (once, thrice):
            with pytest.raises(WorkerError, match="ended while it ran the job"):
                future.result(30)
    assert (tmp_path / "a").read_text() == "x"
    assert (tmp_path / "b").read_text() == "xxx"


def test_job_ids_are_not_used_twice_and_futures_know_their_owner():
    with processes(2) as manager:
        futures = manager.distribute(*[new_job(int)] * 10)
        assert len({future.id for future in futures}) == 10
        assert {future.worker for future in futures} == {1, 2}


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"timeout": -1.0}, {"attempts": 0}])
def test_a_limit_that_no_job_can_keep_is_a_value_error(wrong):
    with pytest.raises(ValueError, match="Expected"):
        new_job(int).limited(**wrong)


def test_deadlines_of_jobs_that_have_ended_do_not_pile_up():
    class Done:
        def __init__(self, number):
            self.id = number

        def done(self):
            return True

    clock = Deadlines()
    for number in range(3 * TIDY):
        clock.watch(None, Done(number), LONG)
    assert len(clock._heap) <= TIDY
    clock.close()


def test_closing_a_manager_ends_the_thread_of_its_deadlines(gate):
    with processes(1) as manager:
        assign(manager, 1, new_job(int).limited(timeout=LONG))[0].result(10)
        assert any(thread.name == "toolips_udp-deadlines" for thread in threading.enumerate())
    assert not any(thread.name == "toolips_udp-deadlines" for thread in threading.enumerate())
