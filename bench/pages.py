"""How old is an update when it reaches a page, at 20 updates a second to 100 pages?

A server with a Session changes one element of every open page 20 times a second. 100
pages, in a process of their own, note when each update arrives. The age is the time
from before the change to after it was read, on one clock.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness as h

RATE, PAGES = 20, 100


def serve() -> None:
    """The server's process."""
    from types import SimpleNamespace

    from toolips_udp import HTTP, Session, on, route, start

    session = Session()

    @route("/")
    def home(c):
        on(c, "go", "click", lambda page: None)
        c.write(Markup("<p id='go'></p>"))

    class Markup(str):
        def __html__(self) -> str:
            return str(self)

    def tick() -> None:
        with session.everyone() as page:
            page.text("out", time.monotonic())

    module = SimpleNamespace(home=home, session=session)
    server = start(HTTP, module, "127.0.0.1:0", max_connections=1000, control=False)
    server.every(1 / RATE, tick)
    print(f"ready {server.address.port}", flush=True)


async def watch(port: int, seconds: float) -> list[float]:
    """Ages in milliseconds, of all updates to all pages."""
    from websockets.asyncio.client import connect

    ages: list[float] = []
    end = time.monotonic() + seconds + 2
    begin = time.monotonic() + 2  # all pages are open by then

    async def page() -> None:
        with await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{port}/") as answer:
            key = re.search(rb'data-key="([^"]+)"', answer.read())[1].decode()
            cookie = answer.headers["set-cookie"].partition(";")[0]
        place = f"ws://127.0.0.1:{port}/_toolips_udp/page"
        async with connect(place, additional_headers={"cookie": cookie}, compression=None) as sock:
            await sock.send(json.dumps({"key": key}))
            await sock.recv()
            while time.monotonic() < end:
                [[_, _, sent]] = json.loads(await sock.recv())
                now = time.monotonic()
                if now >= begin:
                    ages.append((now - float(sent)) * 1e3)

    await asyncio.gather(*(page() for _ in range(PAGES)))
    return ages


def main() -> None:
    options = h.arguments(__doc__).parse_args()
    h.quiet_warning()
    server = h.Contender("pages", (sys.executable, __file__, "serve"))
    worst, late, count, middle = [], 0, 0, []
    for _ in range(options.rounds):
        with h.Served(server) as served:
            command = [sys.executable, __file__, "watch", str(served.port), str(options.seconds)]
            done = subprocess.run(
                h.pinned(h.CLIENT_CORE, command), capture_output=True, text=True, env=h.environment()
            )
        if done.returncode:
            raise SystemExit(done.stderr)
        ages = json.loads(done.stdout)
        worst.append(max(ages))
        middle.append(statistics.median(ages))
        late += sum(age > 100 for age in ages)
        count += len(ages)
    spread = h.Spread.of(worst)
    table = [
        [
            f"{RATE} Hz to {PAGES} pages",
            "updates",
            "median age, ms",
            "oldest, ms",
            "older than 100 ms",
            "target",
        ],
        ["`session.everyone()`", f"{count:,}", f"{h.Spread.of(middle)}", f"{spread}", str(late), "0"],
    ]
    if options.dry:
        print(h.markdown(table))
    else:
        h.save(
            "pages", "Page updates", table, {"oldest": worst, "median": middle}, {"rounds": options.rounds}
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve()
    elif sys.argv[1:2] == ["watch"]:
        print(json.dumps(asyncio.run(watch(int(sys.argv[2]), float(sys.argv[3])))))
    else:
        main()
