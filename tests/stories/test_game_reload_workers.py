"""A game reloaded in mid-match with worker processes: new processes, the same connections."""

import asyncio

import pytest

from tests.stories.test_game_reload import MODULE, ask, run
from toolips_udp.game import Client


@pytest.fixture
def sharded(server, tmp_path):
    """The same in two worker processes."""
    path = tmp_path / "match_of_workers.py"

    def write(version, settings="resume=15.0, sharded=True"):
        path.write_text(MODULE.format(version=version, settings=settings))

    write(1)
    running = server(module=str(path), workers=2)

    async def change(version, **settings):
        write(version, **settings)
        return await asyncio.to_thread(running.reload)

    return running, change


@pytest.mark.timeout(120)
def test_a_reload_of_workers_keeps_every_connection_with_what_is_under_way(sharded):
    running, change = sharded

    async def story():
        players = [await Client(running.address).__aenter__() for _ in range(8)]
        first = {me: (await ask(me, b"x")).split()[1] for me in players}
        texts = {me: [] for me in players}
        going = True

        async def talk(me):
            while going:
                size = 8000 if len(texts[me]) % 20 == 7 else 8  # some are cut into fragments
                texts[me].append(b"%d" % len(texts[me]) + b"." * size)
                me.send(texts[me][-1])
                await asyncio.sleep(0.002)

        talks = [asyncio.ensure_future(talk(me)) for me in players]
        for version in (2, 3, 4):
            await asyncio.sleep(0.1)
            assert await change(version) == []
        going = False
        await asyncio.gather(*talks)
        for me in players:
            answers = [(await me.receive(20)).data.split() for _ in texts[me]]
            assert [a[4] for a in answers] == texts[me], "exactly once and in order, across the reloads"
            assert {a[1] for a in answers} == {first[me]} and {a[2] for a in answers} == {b"1"}
            assert answers[0][0] == b"1" and (await ask(me, b"last")).split()[0] == b"4"
            assert me.leave is None
        for me in players:
            await me.close()

    run(story, 90)


def test_a_token_opens_in_the_worker_that_comes_after(sharded):
    running, change = sharded

    async def story():
        ann = await Client(running.address).__aenter__()
        number = (await ask(ann, b"x")).split()[1]
        while ann.token is None:
            await asyncio.sleep(0.01)
        await change(2)
        token = ann.token
        for _ in range(40):  # until the kernel gives a port of the same worker
            async with Client(running.address, token=token) as again:
                answer = (await ask(again, b"x")).split()
                if answer[2] == b"1":  # a stranger is first seen by version 2
                    break
        assert answer[2] == b"1" and answer[1] == number
        ann.abandon()

    run(story, 60)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("core", ["native", "pure"])
def test_connections_that_another_process_cannot_take_are_told(core, monkeypatch, request):
    """Another dialect; or the Python twin, whose connections stay in their process."""
    if core == "pure":
        monkeypatch.setenv("TOOLIPS_UDP_PURE", "1")
    settings = "dialect='godot3', sharded=True" if core == "native" else "sharded=True"
    running, change = request.getfixturevalue("sharded")

    async def story():
        async with Client(running.address) as ann:
            await ask(ann, b"x")
            await change(2, settings=settings)
            while ann.leave is None:
                await asyncio.sleep(0.01)
            assert ann.leave.word == "stopping"

    run(story)
