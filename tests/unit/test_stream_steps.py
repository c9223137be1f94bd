"""A handler that is resumed in place behaves as one that its task resumes: native steps and plain `await` alike."""

import asyncio
import contextvars
from types import SimpleNamespace

import pytest

from toolips_udp._native import streams as native
from toolips_udp.connections import streaming

TURNS = 6  # of the loop, more than anything here takes


@pytest.fixture(params=["native", "plain", "python"])
def run(request):
    """Runs `handler(wake, told)` as a task below a coroutine, and what is `done` to it, a turn of the loop apart."""
    wake_class = streaming.Wake if request.param == "python" else native.Wake
    stepped = native.Steps if request.param == "native" else lambda coro: coro

    async def outer(handler, wake, told):
        try:
            return await stepped(handler(wake, told))
        finally:
            told.append("outer")

    async def play(handler, done):
        loop = asyncio.get_running_loop()
        wake, told = wake_class(loop), []
        task = loop.create_task(outer(handler, wake, told))
        it = SimpleNamespace(loop=loop, wake=wake, task=task, told=told)
        for action in (lambda it: None, *done):
            loop.call_soon(action, it)
            for _ in range(TURNS):
                await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        it.outcome = "cancelled" if task.cancelled() else task.exception() or task.result()
        return it

    return lambda handler, *done: asyncio.run(play(handler, done))


def bytes_come(it):
    it.wake.now()


def test_it_is_resumed_at_once_as_its_own_task_in_its_own_context(run):
    who = contextvars.ContextVar("who")

    async def handler(wake, told):
        task = asyncio.current_task()
        who.set("me")
        for number in range(3):
            await wake
            told.append((number, asyncio.current_task() is task, who.get()))
        return "done"

    def come(it):
        before = len(it.told)
        it.wake.now()
        assert len(it.told) > before and asyncio.current_task() is None

    it = run(handler, come, come, come)
    assert it.told == [(0, True, "me"), (1, True, "me"), (2, True, "me"), "outer"]
    assert it.outcome == "done"


def test_it_may_wait_for_something_else_in_between(run):
    async def handler(wake, told):
        future = asyncio.get_running_loop().create_future()
        await wake
        asyncio.get_running_loop().call_soon(future.set_result, "later")
        told.append(await future)
        await asyncio.sleep(0)
        await wake
        return "again"

    it = run(handler, bytes_come, bytes_come)
    assert it.told == ["later", "outer"] and it.outcome == "again"


def test_what_it_raises_comes_out_where_it_is_awaited(run):
    async def handler(wake, told):
        await wake
        await wake
        raise KeyError("mine")

    it = run(handler, bytes_come, bytes_come)
    assert isinstance(it.outcome, KeyError) and it.told == ["outer"]


def test_cancelling_it_while_it_waits_raises_inside(run):
    async def handler(wake, told):
        await wake
        try:
            await wake
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    it = run(handler, bytes_come, lambda it: it.task.cancel())
    assert it.told == ["cancelled", "outer"] and it.outcome == "cancelled"


def test_bytes_after_a_cancellation_do_not_undo_it(run):
    async def handler(wake, told):
        await wake
        told.append("bytes")

    def cancel_then_bytes(it):
        it.task.cancel()
        it.wake.now()

    it = run(handler, cancel_then_bytes)
    assert it.told == ["outer"] and it.outcome == "cancelled"


@pytest.mark.parametrize("then", ["client", "future", "turn"])
def test_one_that_cancels_itself_is_cancelled_at_its_next_wait(run, then):
    async def handler(wake, told):
        await wake
        asyncio.current_task().cancel()
        try:
            if then == "client":
                await wake
            elif then == "turn":
                await asyncio.sleep(0)
            else:
                future = asyncio.get_running_loop().create_future()
                try:
                    await future
                finally:
                    told.append(future.cancelled())
        except asyncio.CancelledError:
            told.append("cancelled")
            await wake  # and it may go on
            told.append("went on")
            return "alive"

    it = run(handler, bytes_come, bytes_come)
    assert it.told == [*([True] if then == "future" else []), "cancelled", "went on", "outer"]
    assert it.outcome == "alive"


def test_a_timeout_around_a_wait_ends_the_wait_and_only_the_wait(run):
    async def handler(wake, told):
        await wake
        try:
            async with asyncio.timeout(0):
                await wake
        except TimeoutError:
            told.append("timeout")
        await wake
        return asyncio.current_task().cancelling()

    it = run(handler, bytes_come, lambda it: None, bytes_come)
    assert it.told == ["timeout", "outer"] and it.outcome == 0


def test_a_task_of_its_own_may_read_for_it(run):
    async def handler(wake, told):
        async def read():
            await wake
            told.append(asyncio.current_task().get_name())

        await wake
        await asyncio.create_task(read(), name="child")
        await wake
        return "both"

    it = run(handler, bytes_come, bytes_come, bytes_come)
    assert it.told == ["child", "outer"] and it.outcome == "both"


def test_a_second_reader_is_refused_and_the_first_goes_on(run):
    async def handler(wake, told):
        async def read():
            with pytest.raises(RuntimeError, match="two reads at once"):
                await wake
            told.append("refused")

        child = asyncio.create_task(read())
        await wake
        await child
        return "first"

    it = run(handler, bytes_come)
    assert it.told == ["refused", "outer"] and it.outcome == "first"
