"""Arena, the example: its own tests, and bots over real UDP against the server as users start it."""

import asyncio
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from examples.game import bots, rules
from examples.game.test_arena import *  # noqa: F403

ROOT = Path(__file__).parents[2]


@pytest.fixture
def arena(tmp_path):
    """The server in a process of its own: its address."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "ARENA_RECORDS": str(tmp_path),
    }
    command = [sys.executable, "-m", "toolips_udp", "run", "examples/game/server.py", "--udp", "127.0.0.1:0"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    found = None
    while found is None:
        line = process.stdout.readline()
        assert line, "Arena ended before it served"
        found = re.search(r"UDP (127\.0\.0\.1:\d+)", line)
    yield found[1]
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out


def test_bots_play_a_match_over_real_udp_and_its_record_replays(arena, tmp_path):
    played = asyncio.run(bots.main(8, arena, 3.0))
    assert len(played) == 8
    for bot in played:
        assert bot.snapshots > 20 and bot.replica.refused == 0
        assert -2 <= bot.replica.latest.lead <= 12
    (record,) = tmp_path.glob("*.rec")
    done = subprocess.run(
        [sys.executable, "-m", "examples.game.recorded", str(record)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0 and re.search(r"tick \d+, state [0-9a-f]{64}", done.stdout), done.stderr


@pytest.mark.skipif(not shutil.which("node"), reason="needs node to run the page's JavaScript")
def test_the_page_moves_ships_as_the_server_does(tmp_path):
    """rules.js against rules.py, a thousand ticks of random inputs."""
    dice = random.Random(1)
    inputs = [{name: dice.randrange(2) for name in ("left", "right", "thrust", "brake")} for _ in range(1000)]

    class Input:
        def __init__(self, values):
            self.__dict__.update(values)

    ship, expected = (0, 0, 0, 0, 0), []
    for values in inputs:
        ship = rules.steer(ship, Input(values))
        expected.append(list(ship))
    script = tmp_path / "run.mjs"
    script.write_text(
        f"import {{ steer }} from {json.dumps((ROOT / 'examples/game/page/rules.js').as_uri())};\n"
        f"let ship = [0, 0, 0, 0, 0]; const out = [];\n"
        f"for (const i of {json.dumps(inputs)}) out.push(ship = steer(ship, i));\n"
        f"console.log(JSON.stringify(out));\n"
    )
    shutil.copy(ROOT / "examples/game/page/rules.js", tmp_path / "rules.mjs")
    script.write_text(
        script.read_text().replace((ROOT / "examples/game/page/rules.js").as_uri(), "./rules.mjs")
    )
    done = subprocess.run(["node", str(script)], capture_output=True, text=True, timeout=30)
    assert json.loads(done.stdout) == expected, done.stderr


@pytest.mark.skipif(not shutil.which("node"), reason="needs node to run the page's JavaScript")
def test_the_page_reads_snapshots_as_python_does(tmp_path, server):
    """snapshot.js against replica.py on the snapshots of a match with loss."""
    from examples.game.test_arena import Match
    from toolips_udp.game import simulate

    got, expected = [], []

    class Watched(Match):
        """Keeps what the first player is sent, from its first snapshot on: later ones are built on it."""

        def take(self, bot, message):
            before = bot.snapshots
            super().take(bot, message)
            if bot.number == 0 and message.data[:1] == b"\xf1":
                got.append(message.data.hex())
                if bot.snapshots > before:
                    latest = bot.replica.latest
                    expected.append([latest.tick, {str(id): e for id, e in sorted(latest.entities.items())}])

    with simulate.World(seed=3, latency=0.05, loss=0.1) as world:
        match = Watched(world, server, 3)
        match.play(5.0)
        assert match.players[0].bot.replica.refused == 0
    assert len(expected) > 80
    shutil.copy(ROOT / "examples/game/page/snapshot.js", tmp_path / "snapshot.mjs")
    script = tmp_path / "run.mjs"
    script.write_text(
        "import { Replica } from './snapshot.mjs';\n"
        f"const replica = new Replica(), out = [];\n"
        f"for (const hex of {json.dumps(got)}) {{\n"
        "  const made = replica.receive(Uint8Array.from(hex.match(/../g), h => parseInt(h, 16)));\n"
        "  if (made) out.push([made.tick, Object.fromEntries(made.frame)]);\n"
        "}\nconsole.log(JSON.stringify(out));\n"
    )
    done = subprocess.run(["node", str(script)], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(json.dumps(expected))


def test_the_picture_has_the_same_bytes_each_time_and_is_below_a_megabyte(tmp_path):
    pytest.importorskip("PIL", reason="the picture needs Pillow, of the extra test")
    from examples.game import picture

    first = [path.read_bytes() for path in picture.write(tmp_path / "one")]
    second = [path.read_bytes() for path in picture.write(tmp_path / "two")]
    assert first == second
    assert first[0][:4] == b"\x89PNG" and first[1][:4] == b"GIF8"
    assert all(1000 < len(data) < 1_000_000 for data in first)


def test_the_terminal_client_plays_in_a_log_and_exports_a_picture(arena, tmp_path):
    command = [
        sys.executable,
        "-m",
        "examples.game.terminal",
        arena,
        "--seconds",
        "2",
        "--svg",
        str(tmp_path / "a.svg"),
    ]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"score \d+ +hp \d+ +tick \d+", done.stdout)
    assert (tmp_path / "a.svg").read_text().startswith("<svg")


@pytest.mark.parametrize("program", ["bots", "terminal"])
def test_a_client_without_a_server_says_how_to_start_one(program):
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        words = ["1", address] if program == "bots" else [address, "--seconds", "1"]
        done = subprocess.run(
            [sys.executable, "-m", f"examples.game.{program}", *words],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip
    assert done.returncode == 1
    assert f"\n{address} does not answer. Start Arena first: " in done.stderr
    assert "Traceback" not in done.stderr


def test_bots_end_without_a_trace_on_ctrl_c(arena):
    bots = subprocess.Popen(
        [sys.executable, "-m", "examples.game.bots", "3", arena],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert bots.stderr.readline() == f"playing on {arena}; Ctrl-C ends it\n"
    bots.send_signal(signal.SIGINT)
    _, err = bots.communicate(timeout=20)
    assert bots.returncode == 0 and "Traceback" not in err
