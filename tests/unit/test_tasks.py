"""Stepper: first steps in place, a task only for what waits."""

import asyncio
import contextvars

import pytest

from toolips_udp.runners.tasks import Stepper, Stopped

variable = contextvars.ContextVar("variable", default=0)


def run(program):
    async def whole():
        stepper = Stepper(asyncio.get_running_loop(), most=2)
        try:
            return await program(stepper)
        finally:
            await stepper.close()
            assert asyncio.all_tasks() == {asyncio.current_task()}

    return asyncio.run(whole())


def go(stepper, coro, timeout=None):
    """What an endpoint does with an async handler: a future of its end."""
    ends = asyncio.get_running_loop().create_future()
    try:
        yielded = stepper.step(coro)
    except StopIteration:
        ends.set_result("in place")
        return ends
    stepper.suspended(coro, yielded, ends.set_result, timeout)
    return ends


def test_a_coroutine_that_does_not_wait_ends_in_place_and_the_outer_task_comes_back():
    async def program(stepper):
        outer = asyncio.current_task()
        inner = []

        async def handler():
            inner.append(asyncio.current_task())

        assert await go(stepper, handler()) == "in place"
        assert asyncio.current_task() is outer and inner[0] not in (None, outer)

    run(program)


def test_the_task_is_the_same_before_and_after_the_first_wait():
    async def program(stepper):
        tasks = []

        async def handler():
            for _ in range(3):
                tasks.append(asyncio.current_task())
                await asyncio.sleep(0)

        assert await go(stepper, handler()) is None
        assert len(set(tasks)) == 1

    run(program)


def test_a_raise_after_a_wait_is_reported_once():
    async def program(stepper):
        async def handler():
            await asyncio.sleep(0)
            raise KeyError("late")

        assert isinstance(await go(stepper, handler()), KeyError)
        assert not stepper.waiting

    run(program)


def test_variables_of_one_handler_never_reach_another():
    async def program(stepper):
        seen = []

        async def handler(wait):
            seen.append(variable.get())
            variable.set(7)
            if wait:
                await asyncio.sleep(0)
                seen.append(variable.get())

        await asyncio.gather(
            go(stepper, handler(False)), go(stepper, handler(True)), go(stepper, handler(False))
        )
        assert seen == [0, 0, 0, 7]
        assert variable.get() == 0

    run(program)


def test_a_deadline_ends_it_with_a_timeout_error_and_cancels_it():
    async def program(stepper):
        cancelled = []

        async def handler():
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        assert isinstance(await go(stepper, handler(), 0.01), TimeoutError)
        await asyncio.sleep(0.01)
        assert cancelled == [True]

    run(program)


def test_a_cancel_between_the_first_step_and_the_task_cancels_what_is_awaited():
    async def program(stepper):
        await asyncio.sleep(0)  # the spare has taken its place
        future = asyncio.get_running_loop().create_future()

        async def handler():
            asyncio.current_task().cancel()
            await future

        assert isinstance(await go(stepper, handler()), asyncio.CancelledError)
        assert future.cancelled()

    run(program)


def test_a_spare_that_never_ran_still_reports_when_it_is_cancelled():
    async def program(stepper):
        async def waits():
            await asyncio.sleep(0)

        async def cancels():
            asyncio.current_task().cancel()
            await asyncio.sleep(1)

        first, second = go(stepper, waits()), go(stepper, cancels())  # the second spare has not run yet
        assert await first is None
        assert isinstance(await second, asyncio.CancelledError)

    run(program)


def test_two_handlers_await_one_future():
    async def program(stepper):
        future = asyncio.get_running_loop().create_future()
        got = []

        async def handler():
            got.append(await future)

        ends = [go(stepper, handler()), go(stepper, handler())]
        assert stepper.full
        future.set_result("both")
        assert await asyncio.gather(*ends) == [None, None]
        assert got == ["both", "both"] and not stepper.full

    run(program)


def test_timeout_groups_and_shields_work_from_the_first_step():
    async def program(stepper):
        async def times_out():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await asyncio.sleep(60)

        async def groups():
            async with asyncio.TaskGroup() as group:
                found = [group.create_task(asyncio.sleep(0, n)) for n in range(3)]
            assert [task.result() for task in found] == [0, 1, 2]

        async def shields():
            assert await asyncio.shield(asyncio.sleep(0.001, "kept")) == "kept"

        assert await asyncio.gather(*(go(stepper, f()) for f in (times_out, groups, shields))) == [None] * 3

    run(program)


def test_what_waits_when_the_server_stops_ends_with_stopped():
    async def program(stepper):
        end = go(stepper, asyncio.sleep(60))
        stepper.abandon()
        assert isinstance(await end, Stopped)

    run(program)
