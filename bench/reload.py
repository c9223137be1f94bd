"""Is any request lost or answered wrongly while the module is reloaded again and again?

Two workers, numbered requests at a steady rate, reloads one after the other; each
fifth time the module is broken and the old one must serve on. 125 of them, so that 100 are
good, take two minutes on a quiet machine. Every request is matched with its reply.

    python bench/reload.py [reloads] [requests per second]
"""

from __future__ import annotations

import sys
import time

import harness as h
import numbered

BROKEN = ("def f(:\n", "raise RuntimeError('broken')\n", "x = 1\n", "import nothing_of_that_name\n")


def run(reloads: int, rate: float = 0.0) -> dict[str, object]:
    """What was reloaded, refused, asked, lost and wrong; at `rate` requests a second, 0: half of the peak."""
    server = numbered.Supervised(2)
    rate = rate or 0.5 * numbered.peak(server.port)
    client = numbered.Client(server.port, rate)
    client.start()
    good = refused = 0
    times = []
    try:
        for at in range(reloads):
            broken = at % 5 == 4
            server.module.write_text(BROKEN[at // 5 % len(BROKEN)] if broken else numbered.MODULE)
            began = time.monotonic()
            told = server.ask("reload")
            times.append(time.monotonic() - began)
            assert told["ok"] is not broken, told
            good, refused = good + (not broken), refused + broken
        server.module.write_text(numbered.MODULE)
        client.stop(3.0)
        counters = server.ask()
    finally:
        server.close()
    client.close()
    return {
        "good": good,
        "refused": refused,
        "times": times,
        "rate": rate,
        "total": len(client.sent),
        "lost": len(client.lost()),
        "wrong": client.wrong,
        "processes": len(set(client.by) - {0}),
        "received": counters["received"],
    }


def enough(number: int, wanted: int) -> str:
    return "met" if number >= wanted else "too few for the promise"


def main() -> None:
    rate = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    found = run(int(sys.argv[1]) if len(sys.argv) > 1 else 125, rate)
    lost, total, wrong = found["lost"], found["total"], found["wrong"]
    table = [
        ["what", "found", "target", ""],
        [
            "reloads (and broken ones refused)",
            f"{found['good']} ({found['refused']})",
            "100",
            enough(found["good"], 100),
        ],
        ["requests", f"{total:,}", ">= 1,000,000", enough(total, 1_000_000)],
        ["lost", str(lost), "0", "met" if lost == 0 else "missed"],
        ["wrong or doubled", str(wrong), "0", "met" if wrong == 0 else "missed"],
        ["processes that answered", str(found["processes"]), "", ""],
        ["seconds per reload", str(h.Spread.of(found["times"])), "", ""],
    ]
    print(f"{found['rate']:,.0f} requests/s; server's own count: received {found['received']:,}")
    h.save("reload", "reload under load", table, found, {"rate": found["rate"]})


if __name__ == "__main__":
    numbered.pin_here()
    main()
