"""A browser, a Python client and bots in one Arena match: headless Chromium over its debugging port."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from examples.game import bots

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not CHROMIUM, reason="needs chromium"),
    pytest.mark.timeout(120),
]


@pytest.fixture
def arena():
    """The server over UDP and HTTP: both addresses."""
    pytest.importorskip("htpy", reason="needs the extra http: pip install 'toolips_udp[http]'")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "toolips_udp", "run", "examples/game/server.py"]
    command += ["--udp", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    udp = http = None
    while not (udp and http):
        line = process.stdout.readline()
        assert line, "Arena ended before it served"
        udp = udp or re.search(r"UDP (127\.0\.0\.1:\d+)", line)
        http = http or re.search(r"HTTP (127\.0\.0\.1:\d+)", line)
    yield udp[1], http[1]
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=15)
    assert process.returncode == 0, out


@pytest.fixture
def browser(tmp_path):
    """Chromium's debugging address."""
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
        f"--user-data-dir={tmp_path}", "about:blank",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    found = None
    while found is None:
        line = process.stderr.readline()
        assert line, "chromium ended before it listened"
        found = re.search(r"ws://(127\.0\.0\.1:\d+)/", line)
    yield found[1]
    process.terminate()
    process.communicate(timeout=15)


class Page:
    """One page, by the debugging protocol."""

    def __init__(self, socket):
        self.socket, self.count = socket, 0

    async def run(self, script):
        """The value of an expression in the page."""
        self.count += 1
        call = {
            "id": self.count,
            "method": "Runtime.evaluate",
            "params": {"expression": script, "returnByValue": True},
        }
        await self.socket.send(json.dumps(call))
        while True:
            answer = json.loads(await self.socket.recv())
            if answer.get("id") == self.count:
                assert "exceptionDetails" not in answer["result"], answer
                return answer["result"]["result"].get("value")

    async def until(self, script, seconds=20.0):
        """Wait until it is true."""
        async with asyncio.timeout(seconds):
            while not (value := await self.run(script)):
                await asyncio.sleep(0.1)
        return value


async def play(arena, browser):
    from websockets.asyncio.client import connect

    udp, http = arena
    request = urllib.request.Request(f"http://{browser}/json/new?http://{http}/", method="PUT")
    with urllib.request.urlopen(request) as answer:
        target = json.load(answer)
    playing = asyncio.create_task(bots.main(3, udp, 12.0))
    async with connect(target["webSocketDebuggerUrl"], max_size=1 << 24) as socket:
        page = Page(socket)
        await page.until("document.getElementById('rooms')?.children.length == 3")
        await page.run(
            "[...document.querySelectorAll('#rooms button')].find(b => b.textContent == 'arena:1').click()"
        )
        await page.until("window.arena.latest?.own && window.arena.state")
        await page.run("window.arena.held.thrust = 1")
        await asyncio.sleep(2.5)
        await page.until("document.querySelectorAll('#players li').length == 4")  # all in one room
        seen = await page.run(
            "({others: [...arena.latest.frame].filter(([id, e]) => !e.kind).length, tick: arena.latest.tick,"
            " lead: arena.latest.lead, state: arena.state, corrections: arena.corrections,"
            " own: arena.latest.frame.get(arena.latest.own)})"
        )
    return seen, await playing


def test_a_browser_a_python_client_and_bots_play_one_match(arena, browser):
    seen, played = asyncio.run(play(arena, browser))
    assert seen["own"]["hp"] >= 0 and seen["tick"] > 60
    assert abs(seen["state"][3]) + abs(seen["state"][4]) > 0  # it flies where the page steers it
    assert all(bot.snapshots > 50 for bot in played)
