"""Is any request lost or answered wrongly while the module is reloaded again and again?

Two workers, numbered requests at a steady rate, reloads one after the other; each
fifth time the module is broken and the old one must serve on. Knob: the number of
reloads. Every request is matched with its reply.

    python bench/reload.py [reloads] [requests per second]
"""

from __future__ import annotations

import sys
import time

import harness as h
import numbered

BROKEN = ("def f(:\n", "raise RuntimeError('broken')\n", "x = 1\n", "import nothing_of_that_name\n")


def main() -> None:
    reloads = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    server = numbered.Supervised(2)
    rate = float(sys.argv[2]) if len(sys.argv) > 2 else 0.5 * numbered.peak(server.port)
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
    lost, total = len(client.lost()), len(client.sent)
    processes = len({pid for _, pid in client.replies.values()})
    client.close()
    table = [
        ["what", "found", "target", ""],
        ["reloads (and broken ones refused)", f"{good} ({refused})", "100", ""],
        ["requests", f"{total:,}", ">= 1,000,000", ""],
        ["lost", str(lost), "0", "met" if lost == 0 else "missed"],
        ["wrong or doubled", str(client.wrong), "0", "met" if client.wrong == 0 else "missed"],
        ["processes that answered", str(processes), "", ""],
        ["seconds per reload", str(h.Spread.of(times)), "", ""],
    ]
    print(f"{rate:,.0f} requests/s; server's own count: received {counters['received']:,}")
    h.save("reload", "reload under load", table, {"lost": lost, "total": total}, {"rate": rate})


if __name__ == "__main__":
    numbered.pin_here()
    main()
