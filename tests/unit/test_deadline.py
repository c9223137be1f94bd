"""`within` is `asyncio.timeout`, without a timer for work that never waits."""

import asyncio

import pytest

from toolips_udp.runners.deadline import within


class Timers:
    """Counts the timers that a loop is asked for."""

    def __init__(self, loop):
        self.number = 0
        made = loop.call_at

        def call_at(*args, **more):
            self.number += 1
            return made(*args, **more)

        loop.call_at = call_at


def run(main):
    async def counted():
        timers = Timers(asyncio.get_running_loop())
        return await main(), timers.number

    return asyncio.run(counted())


def test_work_that_never_waits_takes_no_timer():
    async def work():
        return "done"

    assert run(lambda: within(5, work())) == ("done", 0)


def test_work_that_waits_goes_on_where_it_was_and_takes_one_timer():
    async def work():
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, "later")
        first = await future
        await asyncio.sleep(0)
        return first

    assert run(lambda: within(5, work())) == ("later", 1)


@pytest.mark.parametrize("waits", [False, True])
def test_what_the_work_raises_comes_out(waits):
    async def work():
        if waits:
            await asyncio.sleep(0)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(lambda: within(5, work()))


def test_work_that_waits_too_long_is_cancelled_and_the_caller_goes_on():
    told = []

    async def work():
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    async def main():
        with pytest.raises(TimeoutError):
            await within(0, work())
        return asyncio.current_task().cancelling()

    assert run(main)[0] == 0 and told == ["cancelled"]


def test_a_timeout_inside_the_work_is_its_own():
    async def work():
        try:
            async with asyncio.timeout(0):
                await asyncio.get_running_loop().create_future()
        except TimeoutError:
            return "inner"

    assert run(lambda: within(5, work()))[0] == "inner"


def test_cancelling_the_caller_cancels_the_work():
    told = []

    async def work():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            told.append("ended")

    async def main():
        task = asyncio.ensure_future(within(5, work()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert run(main)[0] is True and told == ["ended"]


def test_an_awaitable_that_is_no_coroutine_is_waited_for_too():
    async def main():
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, 7)
        return await within(5, future)

    assert run(main)[0] == 7
