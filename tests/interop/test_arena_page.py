"""Browser, Godot, Python client and bots in one Arena match: headless Chromium over its debugging port."""

import asyncio
import json
import math
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from examples.game import bots, rules

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
GODOT = shutil.which("godot3-server") or shutil.which("godot3-headless")
KEY = "the key of who started it"
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not CHROMIUM, reason="needs chromium"),
    pytest.mark.timeout(120),
]


@pytest.fixture
def arena():
    """The server over UDP and HTTP: both addresses."""
    pytest.importorskip("htpy", reason="needs the extra http: pip install 'toolips_udp[http]'")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "ARENA_KEY": KEY}
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


def opened(browser, address):
    """A connection to the debugger of a new page."""
    from websockets.asyncio.client import connect

    where = urllib.parse.quote(address, safe=":/?=&")
    request = urllib.request.Request(f"http://{browser}/json/new?{where}", method="PUT")
    with urllib.request.urlopen(request) as answer:
        target = json.load(answer)
    return connect(target["webSocketDebuggerUrl"], max_size=1 << 24)


async def play(arena, browser):
    udp, http = arena
    playing = asyncio.create_task(bots.main(3, udp, 12.0))
    async with opened(browser, f"http://{http}/") as socket:
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


class Homing(bots.Bot):
    """A Python client that flies to the middle and notes whom it sees on the way."""

    def __init__(self, number, clock, room="arena:1"):
        super().__init__(number, clock, room)
        self.names, self.seen, self.leads = {}, set(), []

    def hello(self, send):
        send(bots.Hello("python"))
        send(bots.Go(self.room))

    def take(self, data):
        super().take(data)
        if data[:1] == b"\x0a":
            self.names = json.loads(data[1:])["players"]
        elif self.replica.latest is not None:
            self.leads.append(self.replica.latest.lead)
            ships = (id for id, e in self.replica.latest.entities.items() if not e["kind"])
            self.seen |= {self.names[str(id)] for id in ships if str(id) in self.names}

    def steer(self, latest):
        own = latest.entities.get(latest.own)
        if own is None:
            return {}
        want = math.atan2(-own["y"], -own["x"]) * rules.TURNS / math.tau
        off = (want - own["turn"] + rules.TURNS / 2) % rules.TURNS - rules.TURNS / 2
        far = math.hypot(own["x"], own["y"]) > 10 * rules.UNIT
        return {"left": off < -10, "right": off > 10, "thrust": far and abs(off) < 100}


HOMING_PAGE = """
window.seen = new Set();
setInterval(() => {
  const held = arena.held, state = arena.state, latest = arena.latest;
  if (!state || !latest) return;
  const [x, y, turn] = state, want = Math.atan2(-y, -x) * 1024 / (2 * Math.PI);
  const off = ((want - turn + 512) % 1024 + 1024) % 1024 - 512;
  held.left = off < -10 ? 1 : 0; held.right = off > 10 ? 1 : 0;
  held.thrust = Math.hypot(x, y) > 1280 && Math.abs(off) < 100 ? 1 : 0;
  for (const [id, e] of latest.frame) if (!e.kind && arena.names[id]) seen.add(arena.names[id]);
}, 16);
"""
EVERYBODY = {"browser", "godot", "python"}


async def godot(address, home, everybody):
    """Godot's automatic player; ends when it has seen everybody. Its last line."""
    process = await asyncio.create_subprocess_exec(
        GODOT, "--path", str(ROOT / "examples/game/godot3"), "-s", "player.gd", stdout=subprocess.PIPE,
        env={**os.environ, "ARENA": address, "HOME": str(home), "XDG_DATA_HOME": str(home)},
    )  # fmt: skip
    seen, told = set(), {}
    try:
        async for line in process.stdout:
            if line.startswith(b"{"):
                told = json.loads(line)
                seen |= set(told["sees"])
                if seen >= EVERYBODY:
                    await everybody.wait()
                    return told
    finally:
        process.kill()
        await process.wait()
    raise AssertionError(f"Godot ended; it had seen {seen}, {told}")


async def python_client(address, everybody):
    """The Python client, until all three have seen everybody."""
    bot = Homing(0, time.monotonic)
    async with bots.Client(address) as client:
        client.replica = bot.replica
        bot.hello(client.send)

        async def listen():
            async for message in client:
                bot.take(message.data)

        listening = asyncio.create_task(listen())
        while not (bot.seen >= EVERYBODY and everybody.is_set()):
            bot.play(client)
            await client.sleep(1 / rules.HZ)
        listening.cancel()
    return bot


async def meet(arena, browser, home):
    """All three in arena:1, until each has seen the others in its snapshots."""
    udp, http = arena
    everybody = asyncio.Event()
    async with (
        asyncio.timeout(60),
        asyncio.TaskGroup() as group,
        opened(browser, f"http://{http}/") as socket,
    ):
        others = [
            group.create_task(godot(udp, home, everybody)),
            group.create_task(python_client(udp, everybody)),
        ]
        page = Page(socket)
        await page.until("document.getElementById('rooms')?.children.length == 3")
        await page.run("document.getElementById('name').value = 'browser'")
        await page.run("document.getElementById('name').dispatchEvent(new Event('change'))")
        await page.run(
            "[...document.querySelectorAll('#rooms button')].find(b => b.textContent == 'arena:1').click()"
        )
        await page.until("window.arena.latest?.own && window.arena.state")
        await page.run(HOMING_PAGE)
        await page.until("seen.size >= 3", 50.0)
        seen = set(await page.run("[...seen]"))
        everybody.set()
    return seen, others[0].result(), others[1].result()


@pytest.mark.skipif(not GODOT, reason="needs godot3-server")
def test_a_browser_a_godot_and_a_python_client_see_one_another_in_one_match(arena, browser, tmp_path):
    seen, told, bot = asyncio.run(meet(arena, browser, tmp_path))
    assert seen >= EVERYBODY and bot.seen >= EVERYBODY  # and Godot's has ended because it has, too
    assert told["refused"] == 0 and told["snapshots"] > 50 and told["own"]["hp"] > 0
    assert bot.replica.refused == 0 and -2 <= statistics.median(bot.leads) <= 12


PRESS_KICK = """
(() => {
  const item = [...document.querySelectorAll('#players li')].find(li => li.textContent.includes('victim'));
  const button = item?.querySelector('button');
  button?.click();
  return Boolean(button);
})()
"""


async def kick(arena, browser, key):
    """A page with this key looks for `victim` and kicks it if it may; the victim's client, and the page's list."""
    udp, http = arena
    address = f"http://{http}/" + (f"?{urllib.parse.urlencode({'key': key})}" if key else "")
    async with asyncio.timeout(60), bots.Client(udp) as victim, opened(browser, address) as socket:
        victim.send(bots.Hello("victim"))
        victim.send(bots.Go("arena:1"))
        page = Page(socket)
        await page.until("document.getElementById('rooms')?.children.length == 3")
        await page.run(
            "[...document.querySelectorAll('#rooms button')].find(b => b.textContent == 'arena:1').click()"
        )
        await page.until("document.querySelectorAll('#players li').length == 2")
        pressed = await page.run(PRESS_KICK)
        if key == KEY:
            await page.until("document.querySelectorAll('#players li').length == 1")
            async for _ in victim:  # ends when the connection does
                pass
        else:
            await asyncio.sleep(2.0)  # the list comes twice a second
        return pressed, victim.leave, await page.run("document.querySelectorAll('#players li').length")


def test_a_page_with_the_key_kicks_a_player(arena, browser):
    pressed, leave, left = asyncio.run(kick(arena, browser, KEY))
    assert pressed and (leave.code, leave.by) == (1, "server") and left == 1


@pytest.mark.parametrize("key", ["a wrong one", ""])
def test_a_page_without_the_key_kicks_nobody(arena, browser, key):
    pressed, leave, left = asyncio.run(kick(arena, browser, key))
    assert pressed == bool(key), "no button without a key"
    assert leave is None and left == 2
